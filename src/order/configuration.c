/*-------------------------------------------------------------------------
 *
 * configuration.c
 *	  PSPs.
 *
 * Everything is checked here, before the tables' own checks, so that an
 * administrator learns which setting is wrong and what it may be.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"

#include "errcodes.h"
#include "money.h"
#include "order/batch.h"
#include "order/event.h"
#include "order/fee.h"
#include "order/json_object.h"
#include "order/plan.h"
#include "order/transition.h"
#include "order/typed_argument.h"
#include "psp/psp.h"
#include "uuid7.h"

PG_FUNCTION_INFO_V1(payment_register_psp);

#define MAX_SECRET_NAME 255
#define MAX_WEBHOOK_SECRETS 8
#define DISPUTE_FEE_MAX INT64CONST(1000000000000)

typedef enum SettingKind
{
	SETTING_INTEGER,
	SETTING_BOOLEAN,
	SETTING_STATE,
	SETTING_FEES,
	SETTING_DISPUTE_FEES,
	SETTING_CONFIG
} SettingKind;

/* The columns of payment.psp that settings may hold. */
static const struct
{
	const char *key;
	SettingKind kind;
	int64		minimum;
	int64		maximum;
} psp_settings[] = {
	{ "state", SETTING_STATE, 0, 0 },
	{ "payouts", SETTING_BOOLEAN, 0, 0 },
	{ "max_in_flight", SETTING_INTEGER, 1, 1024 },
	{ "requests_per_second", SETTING_INTEGER, 1, 100000 },
	{ "connect_timeout_ms", SETTING_INTEGER, 1, 600000 },
	{ "timeout_ms", SETTING_INTEGER, 1, 600000 },
	{ "max_attempts", SETTING_INTEGER, 1, 1000 },
	{ "backoff_base_ms", SETTING_INTEGER, 1, 3600000 },
	{ "backoff_max_ms", SETTING_INTEGER, 1, 86400000 },
	{ "lookup_delay_ms", SETTING_INTEGER, 0, 3600000 },
	{ "poll_interval_ms", SETTING_INTEGER, 1, 86400000 },
	{ "key_lifetime_s", SETTING_INTEGER, 1, 7776000 },
	{ "retry_after_max_ms", SETTING_INTEGER, 0, 86400000 },
	{ "breaker_failures", SETTING_INTEGER, 0, 10000 },
	{ "breaker_failure_percent", SETTING_INTEGER, 1, 100 },
	{ "breaker_pause_ms", SETTING_INTEGER, 1, 3600000 },
	{ "breaker_pause_max_ms", SETTING_INTEGER, 1, 86400000 },
	{ "breaker_probes", SETTING_INTEGER, 1, 100 },
	{ "fee_tolerance", SETTING_INTEGER, 0, PG_INT64_MAX },
	{ "fees", SETTING_FEES, 0, 0 },
	{ "config", SETTING_CONFIG, 0, 0 },
	{ "dispute_fees", SETTING_DISPUTE_FEES, 0, 0 },
};

/* nothing is sent to it */
#define NO_ADAPTER "none"
#define DEFAULT_KEY_LIFETIME_S 82800

static const EventPlace here = { 0, 0 };

static void
pg_attribute_noreturn() refuse_setting(const char *path, const char *wanted)
{
	ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
					errmsg("\"%s\" is not valid", path),
					errdetail("It must be %s.", wanted),
					errhint("The comments on the columns of payment.psp say "
							"what each is for.")));
}

static int64
read_integer(const JsonbValue *value, const char *path, int64 minimum,
			 int64 maximum)
{
	char *wanted =
		psprintf("a whole number from " INT64_FORMAT " to " INT64_FORMAT,
				 minimum, maximum);
	char *text;
	int64 number;
	bool  overflow;

	if (value->type != jbvNumeric)
		refuse_setting(path, wanted);
	text = jsonb_number_text(value);
	if (strchr(text, '.') != NULL ||
		!money_parse(text, strlen(text), 0, &number, &overflow) ||
		number < minimum || number > maximum)
		refuse_setting(path, wanted);
	return number;
}

/* {"USD": {"fixed": 30, "basis_points": 290}, ...} */
static void
check_fees(const JsonbValue *fees, const char *path)
{
	const char	   *wanted = "an object of currencies, each with fixed (minor "
							 "units) and basis_points";
	JsonbContainer *object = jsonb_object_of(fees);
	JsonbIterator  *iterator;
	JsonbIteratorToken token;
	JsonbValue		   value;
	JsonField fields[] = { { .key = "fixed" }, { .key = "basis_points" } };

	if (object == NULL)
		refuse_setting(path, wanted);
	iterator = JsonbIteratorInit(object);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			char *currency = jsonb_string(&value);

			if (strlen(currency) != CURRENCY_CODE_LENGTH ||
				currency_exponent(currency) < 0)
				refuse_setting(path, wanted);
		}
		else if (token == WJB_VALUE)
		{
			if (jsonb_object_of(&value) == NULL)
				refuse_setting(path, wanted);
			jsonb_read_object(jsonb_object_of(&value), fields,
							  lengthof(fields), path);
			if (fields[0].present)
				(void) read_integer(&fields[0].value, path, 0, PG_INT64_MAX);
			if (fields[1].present)
				(void) read_integer(&fields[1].value, path, 0,
									FEE_MAX_BASIS_POINTS);
		}
	}
}

/* {"EUR": 1500, ...} */
static void
check_dispute_fees(const JsonbValue *fees, const char *path)
{
	const char		  *wanted = "an object of minor units by currency";
	JsonbContainer	  *object = jsonb_object_of(fees);
	JsonbIterator	  *iterator;
	JsonbIteratorToken token;
	JsonbValue		   value;

	if (object == NULL)
		refuse_setting(path, wanted);
	iterator = JsonbIteratorInit(object);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			char *currency = jsonb_string(&value);

			if (strlen(currency) != CURRENCY_CODE_LENGTH ||
				currency_exponent(currency) < 0)
				refuse_setting(path, wanted);
		}
		else if (token == WJB_VALUE)
			(void) read_integer(&value, path, 0, DISPUTE_FEE_MAX);
	}
}

static void
check_setting(int number, const JsonField *field)
{
	const JsonbValue *value = &field->value;
	char			 *path = psprintf("settings.%s", field->key);

	switch (psp_settings[number].kind)
	{
		case SETTING_INTEGER:
			(void) read_integer(value, path, psp_settings[number].minimum,
								psp_settings[number].maximum);
			break;
		case SETTING_BOOLEAN:
			if (value->type != jbvBool)
				refuse_setting(path, "true or false");
			break;
		case SETTING_STATE:
			if (value->type != jbvString ||
				(strcmp(jsonb_string(value), "active") != 0 &&
				 strcmp(jsonb_string(value), "paused") != 0))
				refuse_setting(path, "\"active\" or \"paused\"");
			break;
		case SETTING_FEES:
			check_fees(value, path);
			break;
		case SETTING_DISPUTE_FEES:
			check_dispute_fees(value, path);
			break;
		case SETTING_CONFIG:
			if (jsonb_object_of(value) == NULL)
				refuse_setting(path, "a JSON object");
			break;
	}
}

static void
check_settings(Jsonb *settings)
{
	JsonField fields[lengthof(psp_settings)];

	if (!JB_ROOT_IS_OBJECT(settings))
		refuse_setting("settings", "a JSON object");
	for (int i = 0; i < (int) lengthof(fields); i++)
		fields[i].key = psp_settings[i].key;
	jsonb_read_object(&settings->root, fields, lengthof(fields), "settings");
	for (int i = 0; i < (int) lengthof(fields); i++)
	{
		if (fields[i].present)
			check_setting(i, &fields[i]);
	}
}

static void
check_adapter(const char *adapter)
{
	event_check_text(&here, "adapter", adapter);
	if (psp_adapter(adapter) || strcmp(adapter, NO_ADAPTER) == 0)
		return;
	ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
					errmsg("\"adapter\" is unknown"),
					errdetail("There are %s, and none: for that the worker "
							  "sends nothing.",
							  psp_adapter_names()),
					errhint("The adapter is the protocol that the PSP "
							"speaks; the name is yours to choose.")));
}

/* No credentials in it: this ends up in dumps. */
static void
check_base_url(const char *url)
{
	const char *host = NULL;
	bool		clean = true;

	event_check_text(&here, "base_url", url);
	if (pg_strncasecmp(url, "https://", 8) == 0)
		host = url + 8;
	else if (pg_strncasecmp(url, "http://", 7) == 0)
		host = url + 7;
	for (const char *c = url; *c != '\0'; c++)
		clean = clean && *c > ' ' && *c < 0x7f &&
				strchr("\"<>\\^`{|}#?@", *c) == NULL;
	if (host == NULL || !clean || !isalnum((unsigned char) *host))
	{
		if (host == NULL || !clean || *host != '[')
			ereport(ERROR,
					(errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
					 errmsg("\"base_url\" is no address of a PSP"),
					 errdetail("It must begin with https:// or http:// and a "
							   "host, and hold no user, query, fragment or "
							   "blank."),
					 errhint("Write something like "
							 "https://api.stripe.com.")));
	}
}

static void
check_secret_name(const char *field, const char *name)
{
	size_t length;

	event_check_text(&here, field, name);
	length = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
						  "abcdefghijklmnopqrstuvwxyz0123456789._-");
	if (name[length] != '\0' || name[0] == '.' || length > MAX_SECRET_NAME)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
				 errmsg("\"%s\" is no plain file name", field),
				 errdetail("It may hold letters, digits, dots, underscores "
						   "and hyphens, and does not begin with a dot."),
				 errhint("Pass the name of a file in payment.secrets_dir, "
						 "never the secret itself.")));
}

/* NULL leaves them as they are. */
static void
check_webhook_secret_names(FunctionCallInfo fcinfo, int number)
{
	static const char field[] = "webhook_secret_names";
	Datum			 *names;
	bool			 *nulls;
	int				  count;

	if (PG_ARGISNULL(number))
		return;
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(number), TEXTOID, -1, false,
					  TYPALIGN_INT, &names, &nulls, &count);
	if (count > MAX_WEBHOOK_SECRETS)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_LIMIT_EXCEEDED),
				 errmsg("\"%s\" has too many names", field),
				 errdetail("There are %d, the limit is %d.", count,
						   MAX_WEBHOOK_SECRETS),
				 errhint("Leave away secrets that the PSP no longer signs "
						 "with.")));
	for (int i = 0; i < count; i++)
	{
		char *path = psprintf("%s[%d]", field, i + 1);

		if (nulls[i])
			event_check_text(&here, path, NULL);
		else
			check_secret_name(path, TextDatumGetCString(names[i]));
	}
}

static void
pg_attribute_noreturn() refuse_config(const char *adapter, const char *problem)
{
	ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
					errmsg("\"settings.config\" is not what the adapter "
						   "\"%s\" needs",
						   adapter),
					errdetail("%s.", problem),
					errhint("The comment on payment.psp.config says what each "
							"adapter wants to know.")));
}

static const char *
config_value(const PspAdapter *adapter, const JsonField *field)
{
	char *text;

	if (!field->present)
		return NULL;
	if (field->value.type != jbvString)
		refuse_config(adapter->name, psprintf("%s is not a text", field->key));
	text = jsonb_string(&field->value);
	if (text[0] == '\0' || strlen(text) > PSP_CONFIG_VALUE_LENGTH_MAX)
		refuse_config(adapter->name,
					  psprintf("%s has no text, or more than %d bytes",
							   field->key, PSP_CONFIG_VALUE_LENGTH_MAX));
	for (const char *c = text; *c; c++)
		if ((unsigned char) *c < ' ' || *c == 0x7F)
			refuse_config(adapter->name,
						  psprintf("%s holds a control character",
								   field->key));
	return text;
}

/* Keys that the adapter does not know are misspelt: PY001. */
static void
check_config(const PspAdapter *adapter, Jsonb *config, bool payouts)
{
	JsonField	fields[PSP_MAX_CONFIG];
	const char *values[PSP_MAX_CONFIG] = { NULL };
	const char *problem;
	int			count = 0;

	while (adapter->config_keys[count])
	{
		fields[count].key = adapter->config_keys[count];
		count++;
	}
	jsonb_read_object(&config->root, fields, count, "settings.config");
	for (int i = 0; i < count; i++)
		values[i] = config_value(adapter, &fields[i]);
	problem =
		adapter->check_config ? adapter->check_config(values, payouts) : NULL;
	if (problem)
		refuse_config(adapter->name, problem);
}

/*
 * The PSP as it is now, whatever was given and whatever was kept, must be what
 * its adapter can work with.
 */
static void
check_stored_psp(const char *name)
{
	const PspAdapter *adapter = psp_adapter(name);
	int				  lifetime_s = row_int32(0, 1);
	Datum			  config;
	bool			  is_null;

	if (adapter == NULL)
		return;
	if (adapter->key_lifetime_max_s > 0 &&
		lifetime_s > adapter->key_lifetime_max_s)
		refuse_setting("settings.key_lifetime_s",
					   psprintf("at most %d with the adapter \"%s\": the PSP "
								"keeps no key for longer",
								adapter->key_lifetime_max_s, name));
	config = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2,
						   &is_null);
	check_config(adapter, DatumGetJsonbP(config), row_bool(0, 3));
}

/*
 * What one adapter has sent another cannot ask after: it would be a lookup at
 * a PSP that never heard of it.
 */
static void
check_adapter_change(const char *name, const char *adapter)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { TEXTOID, TEXTOID };
	Datum			  values[] = { CStringGetTextDatum(name),
								   CStringGetTextDatum(adapter) };

	plan_keep(&plan,
			  "SELECT FROM payment.psp AS p WHERE p.name = $1 "
			  "AND p.adapter <> $2 AND EXISTS (SELECT FROM payment.task AS t "
			  "WHERE t.psp_id = p.id AND (t.first_sent_at IS NOT NULL "
			  "OR t.attempt_id IS NOT NULL))",
			  lengthof(types), types);
	if (batch_run(plan, values, NULL) == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_WRONG_STATE),
			 errmsg("PSP \"%s\" cannot have another adapter now", name),
			 errdetail("Requests were sent to it whose outcome is not known."),
			 errhint("Register the other one under a name of its own, or wait "
					 "until payment.queue_depth has nothing for this one.")));
}

/* Settings that are not given keep their value, or the default. */
static void
store_psp(Datum *values, const char *nulls, const char *adapter,
		  pg_uuid_t *result)
{
	static SPIPlanPtr insert_plan = NULL;
	static SPIPlanPtr update_plan = NULL;
	static const Oid  types[] = { UUIDOID, TEXTOID,	 TEXTOID, TEXTOID,
								  TEXTOID, JSONBOID, INT4OID, TEXTARRAYOID };

	plan_keep(&insert_plan,
			  "INSERT INTO payment.psp AS p (id, name, adapter, base_url, "
			  "secret_name, key_lifetime_s) VALUES ($1, $2, $3, $4, $5, $7) "
			  "ON CONFLICT (name) DO UPDATE SET adapter = excluded.adapter, "
			  "base_url = excluded.base_url, "
			  "secret_name = excluded.secret_name RETURNING p.id",
			  lengthof(types), types);
	/* by hand, it would be a restore: see src/instance/instance.c */
	if (order_write(insert_plan, values, nulls, CAUSE_API) != 1 ||
		!row_uuid(0, 1, result))
		elog(ERROR, "registering a PSP gave no id");
	values[0] = UUIDPGetDatum(result);
	plan_keep(&update_plan,
			  "UPDATE payment.psp p SET state = s.state, "
			  "payouts = s.payouts, max_in_flight = s.max_in_flight, "
			  "requests_per_second = s.requests_per_second, "
			  "connect_timeout_ms = s.connect_timeout_ms, "
			  "timeout_ms = s.timeout_ms, max_attempts = s.max_attempts, "
			  "backoff_base_ms = s.backoff_base_ms, "
			  "backoff_max_ms = s.backoff_max_ms, "
			  "lookup_delay_ms = s.lookup_delay_ms, "
			  "poll_interval_ms = s.poll_interval_ms, "
			  "key_lifetime_s = s.key_lifetime_s, "
			  "retry_after_max_ms = s.retry_after_max_ms, "
			  "breaker_failures = s.breaker_failures, "
			  "breaker_failure_percent = s.breaker_failure_percent, "
			  "breaker_pause_ms = s.breaker_pause_ms, "
			  "breaker_pause_max_ms = s.breaker_pause_max_ms, "
			  "breaker_probes = s.breaker_probes, "
			  "fee_tolerance = s.fee_tolerance, fees = s.fees, "
			  "config = s.config, dispute_fees = s.dispute_fees, "
			  "webhook_secret_names = "
			  "coalesce($8, p.webhook_secret_names) "
			  "FROM payment.psp o, "
			  "pg_catalog.jsonb_populate_record(o, "
			  "pg_catalog.jsonb_strip_nulls($6)) s "
			  "WHERE o.id = $1 AND p.id = o.id "
			  "RETURNING p.key_lifetime_s, p.config, p.payouts",
			  lengthof(types), types);
	if (batch_run(update_plan, values, nulls) != 1)
		elog(ERROR, "registering a PSP lost it");
	check_stored_psp(adapter);
}

static int32
default_key_lifetime_s(const char *name)
{
	const PspAdapter *adapter = psp_adapter(name);

	return adapter ? adapter->key_lifetime_s : DEFAULT_KEY_LIFETIME_S;
}

/*
 * payment.register_psp(name, adapter, base_url, secret_name, settings,
 * webhook_secret_names) -> uuid
 */
Datum
payment_register_psp(PG_FUNCTION_ARGS)
{
	char	  *name = text_argument(fcinfo, 0, "name");
	char	  *adapter = text_argument(fcinfo, 1, "adapter");
	char	  *base_url = text_argument(fcinfo, 2, "base_url");
	char	  *secret_name = text_argument(fcinfo, 3, "secret_name");
	Jsonb	  *settings = object_argument(fcinfo, 4, "settings");
	pg_uuid_t  id;
	pg_uuid_t *result = palloc(sizeof(pg_uuid_t));
	Datum	   values[8];
	char	   nulls[] = "        ";
	int		   nest_level;

	event_check_text(&here, "name", name);
	check_adapter(adapter);
	check_base_url(base_url);
	check_secret_name("secret_name", secret_name);
	check_webhook_secret_names(fcinfo, 5);
	check_settings(settings);
	uuid7_generate(&id);
	values[0] = UUIDPGetDatum(&id);
	values[1] = CStringGetTextDatum(name);
	values[2] = CStringGetTextDatum(adapter);
	values[3] = CStringGetTextDatum(base_url);
	values[4] = CStringGetTextDatum(secret_name);
	values[5] = JsonbPGetDatum(settings);
	values[6] = Int32GetDatum(default_key_lifetime_s(adapter));
	nulls[7] = PG_ARGISNULL(5) ? 'n' : ' ';
	values[7] = PG_GETARG_DATUM(5);

	nest_level = batch_begin();
	check_adapter_change(name, adapter);
	store_psp(values, nulls, adapter, result);
	batch_end(nest_level);
	PG_RETURN_UUID_P(result);
}
