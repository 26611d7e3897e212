/*-------------------------------------------------------------------------
 *
 * endpoint.c
 *	  Where events are posted to.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"

#include "event/consumer.h"
#include "money.h"
#include "order/batch.h"
#include "order/event.h"
#include "order/json_object.h"
#include "order/plan.h"
#include "order/typed_argument.h"
#include "payment.h"

PG_FUNCTION_INFO_V1(payment_set_webhook_endpoint);

#define MAX_SECRET_NAME 255

/* The columns of payment.webhook_endpoint that settings may hold. */
static const struct
{
	const char *key;
	int64		minimum;
	int64		maximum; /* 0: not a number */
} endpoint_settings[] = {
	{ "state", 0, 0 },
	{ "max_in_flight", 1, 64 },
	{ "connect_timeout_ms", 1, 60000 },
	{ "timeout_ms", 1, 60000 },
	{ "max_attempts", 1, 1000 },
	{ "backoff_base_ms", 1, 3600000 },
	{ "backoff_max_ms", 1, 86400000 },
};

static const EventPlace here = { 0, 0 };

static void
pg_attribute_noreturn() refuse_setting(const char *key, const char *wanted)
{
	ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
					errmsg("\"settings%s%s\" is not valid",
						   key[0] == '\0' ? "" : ".", key),
					errdetail("It must be %s.", wanted),
					errhint("The comments on the columns of "
							"payment.webhook_endpoint say what each is "
							"for.")));
}

static void
check_number(const JsonField *field, int64 minimum, int64 maximum)
{
	int64 number = 0;
	bool  overflow;
	bool  valid = field->value.type == jbvNumeric;

	if (valid)
	{
		char *text = jsonb_number_text(&field->value);

		valid = strchr(text, '.') == NULL &&
				money_parse(text, strlen(text), 0, &number, &overflow) &&
				number >= minimum && number <= maximum;
	}
	if (!valid)
		refuse_setting(field->key, psprintf("a whole number from " INT64_FORMAT
											" to " INT64_FORMAT,
											minimum, maximum));
}

static void
check_state(const JsonField *field)
{
	if (field->value.type != jbvString ||
		(strcmp(jsonb_string(&field->value), "active") != 0 &&
		 strcmp(jsonb_string(&field->value), "paused") != 0))
		refuse_setting(field->key, "\"active\" or \"paused\"");
}

static void
check_settings(Jsonb *settings)
{
	JsonField fields[lengthof(endpoint_settings)];

	if (!JB_ROOT_IS_OBJECT(settings))
		refuse_setting("", "a JSON object");
	for (int i = 0; i < (int) lengthof(fields); i++)
		fields[i].key = endpoint_settings[i].key;
	jsonb_read_object(&settings->root, fields, lengthof(fields), "settings");
	for (int i = 0; i < (int) lengthof(fields); i++)
	{
		if (!fields[i].present)
			continue;
		if (endpoint_settings[i].maximum == 0)
			check_state(&fields[i]);
		else
			check_number(&fields[i], endpoint_settings[i].minimum,
						 endpoint_settings[i].maximum);
	}
}

/* No credentials in it: this ends up in dumps. */
static void
check_url(const char *url)
{
	const char *host = NULL;
	bool		clean = true;

	event_check_text(&here, "url", url);
	if (url == NULL) /* refused, which static analysis cannot see */
		return;
	if (pg_strncasecmp(url, "https://", 8) == 0)
		host = url + 8;
	else if (pg_strncasecmp(url, "http://", 7) == 0)
		host = url + 7;
	for (const char *c = url; *c != '\0'; c++)
		clean = clean && *c > ' ' && *c < 0x7f &&
				strchr("\"<>\\^`{|}#@", *c) == NULL;
	if (host == NULL || !clean ||
		!(isalnum((unsigned char) *host) || *host == '['))
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
				 errmsg("\"url\" is no address to post events to"),
				 errdetail("It must begin with https:// or http:// and a "
						   "host, and hold no user, fragment or blank."),
				 errhint("Write something like "
						 "https://shop.example/payment-events.")));
}

static void
check_secret_name(const char *name)
{
	size_t length;

	event_check_text(&here, "secret_name", name);
	if (name == NULL) /* refused, which static analysis cannot see */
		return;
	length = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
						  "abcdefghijklmnopqrstuvwxyz0123456789._-");
	if (name[length] != '\0' || name[0] == '.' || length > MAX_SECRET_NAME)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
				 errmsg("\"secret_name\" is no plain file name"),
				 errdetail("It may hold letters, digits, dots, underscores "
						   "and hyphens, and does not begin with a dot."),
				 errhint("Pass the name of a file in payment.secrets_dir, "
						 "never the secret itself.")));
}

#define SETTING_SQL(key, default_value, type) \
	"coalesce(($4->>'" key "')::" type ", e." key ", " default_value ")"

static void
store_endpoint(const char *consumer, const char *url, const char *secret_name,
			   Jsonb *settings)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { TEXTOID, TEXTOID, TEXTOID, JSONBOID };
	Datum values[] = { CStringGetTextDatum(consumer), CStringGetTextDatum(url),
					   CStringGetTextDatum(secret_name),
					   JsonbPGetDatum(settings) };

	batch_run(
		plan_keep(
			&plan,
			"INSERT INTO payment.webhook_endpoint AS w (consumer, url,"
			" secret_name, state, max_in_flight, connect_timeout_ms,"
			" timeout_ms, max_attempts, backoff_base_ms,"
			" backoff_max_ms) SELECT $1, $2, $3,"
			" " SETTING_SQL(
				"state", "'active'",
				"text") ","
						" " SETTING_SQL(
							"max_in_flight", "8",
							"integer") ","
									   " " SETTING_SQL(
										   "connect_timeout_ms", "3000",
										   "integer") ","
													  " " SETTING_SQL(
														  "timeout_ms",
														  "10000",
														  "integer") ","
																	 " " SETTING_SQL(
																		 "max_"
																		 "atte"
																		 "mpt"
																		 "s",
																		 "60",
																		 "inte"
																		 "ger") ","
																				" " SETTING_SQL(
																					"backoff_base_ms",
																					"1000",
																					"integer") ","
																							   " " SETTING_SQL(
																								   "backoff_max_ms",
																								   "3600000",
																								   "integer") " FROM (SELECT) AS one LEFT JOIN payment.webhook_endpoint"
																											  " AS e ON e.consumer = $1"
																											  " ON CONFLICT (consumer) DO UPDATE SET url = excluded.url,"
																											  " secret_name = excluded.secret_name,"
																											  " state = excluded.state,"
																											  " max_in_flight = excluded.max_in_flight,"
																											  " connect_timeout_ms = excluded.connect_timeout_ms,"
																											  " timeout_ms = excluded.timeout_ms,"
																											  " max_attempts = excluded.max_attempts,"
																											  " backoff_base_ms = excluded.backoff_base_ms,"
																											  " backoff_max_ms = excluded.backoff_max_ms",
			lengthof(types), types),
		values, NULL);
}

/*
 * payment.set_webhook_endpoint(consumer, url, secret_name, types, settings)
 * -> boolean
 */
Datum
payment_set_webhook_endpoint(PG_FUNCTION_ARGS)
{
	char  *name = consumer_argument(fcinfo, 0, "consumer");
	char  *url = text_argument(fcinfo, 1, "url");
	char  *secret_name = text_argument(fcinfo, 2, "secret_name");
	Jsonb *settings = object_argument(fcinfo, 4, "settings");
	bool   all_types;
	Datum  types = event_types_argument(fcinfo, 3, &all_types);
	bool   made;
	int	   nest_level;

	check_url(url);
	check_secret_name(secret_name);
	check_settings(settings);
	nest_level = batch_begin();
	made = consumer_register(name, types, all_types, false);
	store_endpoint(name, url, secret_name, settings);
	payment_wake_dispatcher_at_commit();
	batch_end(nest_level);
	PG_RETURN_BOOL(made);
}
