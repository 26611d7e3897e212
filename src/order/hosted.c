/*-------------------------------------------------------------------------
 *
 * hosted.c
 *	  Payments that the payer makes at a page of the PSP's.
 *
 * What is kept is the PSP's name of the page and its address, never what the
 * payer types there.  A page is for one order: a PSP charges it as a whole.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "errcodes.h"
#include "order/batch.h"
#include "order/hosted.h"
#include "order/json_object.h"
#include "order/plan.h"
#include "order/psp_reference.h"
#include "order/typed_argument.h"
#include "psp/psp.h"

PG_FUNCTION_INFO_V1(payment_record_hosted_page);

/* At most as long as a PSP surely keeps the key under which it was made. */
#define LIFETIME_MIN_S 3600
#define LIFETIME_MAX_S 82800
#define LOCALE_MAX_BYTES 10

static bool
is_web_address(const char *url)
{
	if (strlen(url) > PSP_URL_LENGTH_MAX ||
		(strncmp(url, "https://", 8) != 0 && strncmp(url, "http://", 7) != 0))
		return false;
	for (const char *c = url; *c; c++)
		if ((unsigned char) *c <= ' ' || (unsigned char) *c >= 0x7F)
			return false;
	return true;
}

static void
pg_attribute_noreturn() refuse(const char *field, const char *wanted)
{
	ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
					errmsg("\"%s\" is invalid", field),
					errdetail("It has to be %s.", wanted),
					errhint("See the comment of payment.checkout().")));
}

static const char *
read_url(const EventPlace *place, const JsonField *field)
{
	const char *path = psprintf("hosted.%s", field->key);
	const char *url = NULL;

	if (field->present && field->value.type == jbvString)
		url = jsonb_string(&field->value);
	if (url == NULL || !is_web_address(url))
		refuse(path, "an address that begins with https:// or http://, of "
					 "at most 2048 printable ASCII characters");
	event_check_text(place, path, url);
	return url;
}

static const char *
read_locale(const JsonField *field)
{
	const char *locale = NULL;

	if (!field->present)
		return NULL;
	if (field->value.type == jbvString)
		locale = jsonb_string(&field->value);
	if (locale == NULL || *locale == '\0' ||
		strlen(locale) > LOCALE_MAX_BYTES ||
		strspn(locale,
			   "abcdefghijklmnopqrstuvwxyz"
			   "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != strlen(locale))
		refuse("hosted.locale", "a language such as de or en-GB");
	return locale;
}

static int32
read_lifetime(const JsonField *field)
{
	char *text;
	char *end;
	long  lifetime_s;

	if (!field->present)
		return 0;
	if (field->value.type == jbvNumeric)
	{
		text = jsonb_number_text(&field->value);
		lifetime_s = strtol(text, &end, 10);
		if (*end == '\0' && lifetime_s >= LIFETIME_MIN_S &&
			lifetime_s <= LIFETIME_MAX_S)
			return (int32) lifetime_s;
	}
	refuse("hosted.expires_in_s", "a whole number from 3600 to 82800");
}

HostedPage *
hosted_parse(const EventPlace *place, Jsonb *hosted)
{
	JsonField	fields[] = { { .key = "success_url" },
							 { .key = "cancel_url" },
							 { .key = "expires_in_s" },
							 { .key = "locale" } };
	HostedPage *page = palloc0(sizeof(HostedPage));

	jsonb_read_object(&hosted->root, fields, lengthof(fields), "hosted");
	page->success_url = read_url(place, &fields[0]);
	page->cancel_url = read_url(place, &fields[1]);
	page->lifetime_s = read_lifetime(&fields[2]);
	page->locale = read_locale(&fields[3]);
	return page;
}

/* Better now than as a dead letter that no payer hears of. */
static void
check_psp(const pg_uuid_t *psp_id)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID };
	Datum			  values[] = { UUIDPGetDatum(psp_id) };
	const PspAdapter *adapter;

	batch_run(plan_keep(&plan,
						"SELECT v.adapter, v.name FROM payment.psp AS v"
						" WHERE v.id = $1",
						lengthof(types), types),
			  values, NULL);
	adapter = psp_adapter(row_text(0, 1));
	if (adapter && !adapter->performs[PSP_OPERATION_REGISTER])
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_UNKNOWN_PSP),
						errmsg("the PSP \"%s\" has no hosted page here",
							   row_text(0, 2)),
						errdetail("Its adapter is \"%s\".", adapter->name),
						errhint("Name a PSP with the adapter stripe.")));
}

void
hosted_create(Event **events, int count)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = {
				UUIDOID, UUIDOID, TEXTOID, TEXTOID, TEXTOID, INT4OID
	};

	for (int i = 0; i < count; i++)
	{
		const Event		 *event = events[i];
		const HostedPage *page = event->hosted;
		Datum			  values[lengthof(types)];
		char			  nulls[] = "      ";

		if (page == NULL)
			continue;
		check_psp(&event->psp_id);
		values[0] = UUIDPGetDatum(&event->orders[0].id);
		values[1] = UUIDPGetDatum(&event->id);
		values[2] = CStringGetTextDatum(page->success_url);
		values[3] = CStringGetTextDatum(page->cancel_url);
		values[4] =
			page->locale ? CStringGetTextDatum(page->locale) : (Datum) 0;
		nulls[4] = page->locale ? ' ' : 'n';
		values[5] = Int32GetDatum(page->lifetime_s);
		nulls[5] = page->lifetime_s > 0 ? ' ' : 'n';
		batch_run(plan_keep(&plan,
							"INSERT INTO payment.hosted_page (order_id,"
							" payment_id, success_url, cancel_url, locale,"
							" lifetime_s) VALUES ($1, $2, $3, $4, $5, $6)",
							lengthof(types), types),
				  values, nulls);
	}
}

static char *
checked_text(FunctionCallInfo fcinfo, int number, const char *name)
{
	char *text = text_argument(fcinfo, number, name);

	if (text == NULL || *text == '\0')
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("argument \"%s\" must not be null", name)));
	return text;
}

/*
 * payment.record_hosted_page(attempt, psp_reference, url, open_until)
 * -> boolean
 */
Datum
payment_record_hosted_page(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID, TEXTOID, TEXTOID, TIMESTAMPTZOID };
	Datum			  values[lengthof(types)];
	char			  nulls[] = "    ";
	char			 *reference;
	char			 *url;
	uint64			  count;
	int				  nest_level;

	values[0] = UUIDPGetDatum(uuid_argument(fcinfo, 0, "attempt"));
	reference = checked_text(fcinfo, 1, "psp_reference");
	url = checked_text(fcinfo, 2, "url");
	if (strlen(reference) > PSP_REFERENCE_MAX_BYTES)
		refuse("psp_reference", "at most 255 bytes long");
	if (!is_web_address(url))
		refuse("url", "an address of the web");
	values[1] = CStringGetTextDatum(reference);
	values[2] = CStringGetTextDatum(url);
	values[3] = PG_ARGISNULL(3) ? (Datum) 0 : PG_GETARG_DATUM(3);
	nulls[3] = PG_ARGISNULL(3) ? 'n' : ' ';

	/* polls repeat what is known */
	nest_level = batch_begin();
	count = batch_run(plan_keep(&plan,
								"UPDATE payment.hosted_page AS h"
								" SET psp_reference = $2, url = $3,"
								" open_until = $4 FROM payment.attempt AS a"
								" WHERE a.id = $1"
								" AND a.operation = 'register'"
								" AND h.order_id = a.object_id"
								" AND (h.psp_reference IS DISTINCT FROM $2"
								" OR h.url IS DISTINCT FROM $3"
								" OR h.open_until IS DISTINCT FROM $4)",
								lengthof(types), types),
					  values, nulls);
	batch_end(nest_level);
	PG_RETURN_BOOL(count > 0);
}
