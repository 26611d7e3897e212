/*-------------------------------------------------------------------------
 *
 * hosted.c
 *	  Payments that the payer makes at a page of the PSP's.
 *
 * What is kept is the PSP's name of the page and its address, never what the
 * payer types there, and only for as long as somebody may pay there.  A page
 * belongs to the first order of its payment; page_evidence.c says what follows
 * from it for the others.
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
#include "order/transition.h"
#include "order/typed_argument.h"
#include "order/withdraw.h"
#include "payment.h"
#include "psp/psp.h"
#include "uuid7.h"

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
		refuse(event_path(place, path),
			   "an address that begins with https:// or http://, of "
			   "at most 2048 printable ASCII characters");
	event_check_text(place, path, url);
	return url;
}

static const char *
read_locale(const EventPlace *place, const JsonField *field)
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
		refuse(event_path(place, "hosted.locale"),
			   "a language such as de or en-GB");
	return locale;
}

static int32
read_lifetime(const EventPlace *place, const JsonField *field)
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
	refuse(event_path(place, "hosted.expires_in_s"),
		   "a whole number from 3600 to 82800");
}

HostedPage *
hosted_parse(const EventPlace *place, Jsonb *hosted)
{
	JsonField	fields[] = { { .key = "success_url" },
							 { .key = "cancel_url" },
							 { .key = "expires_in_s" },
							 { .key = "locale" } };
	HostedPage *page = palloc0(sizeof(HostedPage));

	jsonb_read_object(&hosted->root, fields, lengthof(fields),
					  event_path(place, "hosted"));
	page->success_url = read_url(place, &fields[0]);
	page->cancel_url = read_url(place, &fields[1]);
	page->lifetime_s = read_lifetime(place, &fields[2]);
	page->locale = read_locale(place, &fields[3]);
	return page;
}

/* Better now than as a dead letter that no payer hears of. */
static void
check_psp(const Event *event)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID };
	Datum			  values[] = { UUIDPGetDatum(&event->psp_id) };
	const PspAdapter *adapter;

	batch_run(plan_keep(&plan,
						"SELECT v.adapter, v.name FROM payment.psp AS v"
						" WHERE v.id = $1",
						lengthof(types), types),
			  values, NULL);
	adapter = psp_adapter(row_text(0, 1));
	if (adapter && !adapter->performs[PSP_OPERATION_REGISTER])
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_UNKNOWN_PSP),
				 errmsg("the PSP \"%s\" has no hosted page here",
						row_text(0, 2)),
				 errdetail("Its adapter is \"%s\".", adapter->name),
				 errhint("Name a PSP with the adapter stripe or adyen.")));
	if (adapter && event->order_count > 1 && !adapter->page_keeps_method)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_LIMIT_EXCEEDED),
				 errmsg("the page of the PSP \"%s\" is for one payment "
						"order",
						row_text(0, 2)),
				 errdetail("There are %d.", event->order_count),
				 errhint("Name a PSP with the adapter stripe, or make a "
						 "payment of its own for each seller.")));
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
		check_psp(event);
		values[0] = UUIDPGetDatum(&event->orders[0].id);
		values[1] = UUIDPGetDatum(&event->id);
		values[2] = CStringGetTextDatum(page->success_url);
		values[3] = CStringGetTextDatum(page->cancel_url);
		values[4] =
			page->locale ? CStringGetTextDatum(page->locale) : (Datum) 0;
		nulls[4] = page->locale ? ' ' : 'n';
		values[5] = Int32GetDatum(page->lifetime_s);
		nulls[5] = page->lifetime_s > 0 ? ' ' : 'n';
		order_write(plan_keep(&plan,
							  "INSERT INTO payment.hosted_page (order_id,"
							  " payment_id, success_url, cancel_url, locale,"
							  " lifetime_s) VALUES ($1, $2, $3, $4, $5, $6)",
							  lengthof(types), types),
					values, nulls, CAUSE_API);
	}
}

/* ---- what becomes of pages ---- */

/* What the payer pays with is known: for all orders of the payment. */
static void
write_tokens(const SubjectSet *set)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID, TEXTARRAYOID };
	Column			  columns[lengthof(types)];
	Datum			  values[lengthof(types)];

	column_init(&columns[0], UUIDOID);
	column_init(&columns[1], TEXTOID);
	for (int i = 0; i < set->payment_count; i++)
	{
		if (set->payments[i].token == NULL)
			continue;
		column_add_uuid(&columns[0], &set->payments[i].id);
		column_add_text(&columns[1], set->payments[i].token);
	}
	if (columns[0].count == 0)
		return;
	for (int i = 0; i < (int) lengthof(types); i++)
		values[i] = column_array(&columns[i]);
	if (order_write(plan_keep(&plan,
							  "UPDATE payment.payment_record AS p"
							  " SET payment_method = u.token"
							  " FROM unnest($1, $2) AS u (id, token)"
							  " WHERE p.id = u.id AND p.payment_method = "
							  "'" HOSTED_PAYMENT_METHOD "'",
							  lengthof(types), types),
					values, NULL, CAUSE_POLICY) != (uint64) columns[0].count)
		elog(ERROR, "a payment has a payment method already");
}

/* An order that has a task already is charged by that. */
static void
queue_charges(const SubjectSet *set)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID, UUIDARRAYOID, UUIDARRAYOID,
								  TIMESTAMPTZOID };
	Column			  columns[3];
	Datum			  values[lengthof(types)];

	for (int i = 0; i < (int) lengthof(columns); i++)
		column_init(&columns[i], UUIDOID);
	for (int i = 0; i < set->count; i++)
	{
		pg_uuid_t *task_id;

		if (!set->subjects[i].is_charged)
			continue;
		task_id = palloc(sizeof(pg_uuid_t));
		uuid7_generate(task_id);
		column_add_uuid(&columns[0], task_id);
		column_add_uuid(&columns[1], &set->subjects[i].psp_id);
		column_add_uuid(&columns[2], &set->subjects[i].id);
	}
	if (columns[0].count == 0)
		return;
	for (int i = 0; i < (int) lengthof(columns); i++)
		values[i] = column_array(&columns[i]);
	values[3] = TimestampTzGetDatum(GetCurrentTimestamp());
	batch_run(plan_keep(&plan,
						"INSERT INTO payment.task (id, psp_id, operation,"
						" object_id, run_at) SELECT u.id, u.psp_id, 'pay',"
						" u.object_id, $4 FROM unnest($1, $2, $3)"
						" AS u (id, psp_id, object_id)"
						" ON CONFLICT (object_id, operation) DO NOTHING",
						lengthof(types), types),
			  values, NULL);
	payment_wake_dispatcher_at_commit();
}

static void
write_requests(const SubjectSet *set)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID, TIMESTAMPTZOID };
	Datum			  values[lengthof(types)];
	Column			  ids;

	column_init(&ids, UUIDOID);
	for (int i = 0; i < set->count; i++)
	{
		if (set->subjects[i].cancel_requested)
			column_add_uuid(&ids, &set->subjects[i].id);
	}
	if (ids.count == 0)
		return;
	values[0] = column_array(&ids);
	values[1] = TimestampTzGetDatum(GetCurrentTimestamp());
	order_write(plan_keep(&plan,
						  "UPDATE payment.order_record AS o"
						  " SET cancel_requested_at = $2"
						  " FROM unnest($1) AS u (id) WHERE o.id = u.id"
						  " AND o.cancel_requested_at IS NULL",
						  lengthof(types), types),
				values, NULL, CAUSE_API);
}

/* The next order takes the page over, of which the PSP knows nothing yet. */
static bool
hand_over(const Subject *subject)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID, UUIDOID };
	Datum			  values[] = { UUIDPGetDatum(&subject->id),
								   UUIDPGetDatum(&subject->payment_id) };
	pg_uuid_t		  next;

	if (strcmp(subject->path.first, "created") != 0 ||
		strcmp(subject->path.now, "cancelled") != 0 ||
		order_write(plan_keep(&plan,
							  "UPDATE payment.hosted_page AS h"
							  " SET order_id = next.id"
							  " FROM (SELECT o.id FROM payment.order_record"
							  "  AS o WHERE o.payment_id = $2 AND o.id > $2"
							  "  AND o.status = 'created'"
							  "  ORDER BY o.id LIMIT 1) AS next"
							  " WHERE h.order_id = $1 RETURNING h.order_id",
							  lengthof(types), types),
					values, NULL, CAUSE_POLICY) == 0)
		return false;
	row_uuid(0, 1, &next);
	task_queue(&subject->psp_id, OPERATION_REGISTER, &next);
	return true;
}

static void
remove_pages(const SubjectSet *set)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID };
	Datum			  value;
	Column			  ids;

	column_init(&ids, UUIDOID);
	for (int i = 0; i < set->count; i++)
	{
		if (set->subjects[i].page_over && !hand_over(&set->subjects[i]))
			column_add_uuid(&ids, &set->subjects[i].id);
	}
	if (ids.count == 0)
		return;
	value = column_array(&ids);
	order_write(plan_keep(&plan,
						  "DELETE FROM payment.hosted_page AS h"
						  " USING unnest($1) AS u (id)"
						  " WHERE h.order_id = u.id",
						  lengthof(types), types),
				&value, NULL, CAUSE_POLICY);
}

/*
 * A page is closed when the order that has it is to be cancelled, and no other
 * one could be paid by it.
 */
static void
close_pages(const SubjectSet *set)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID, TIMESTAMPTZOID };
	Datum			  values[lengthof(types)];
	Column			  ids;

	column_init(&ids, UUIDOID);
	for (int i = 0; i < set->payment_count; i++)
	{
		if (set->payments[i].hosted)
			column_add_uuid(&ids, &set->payments[i].id);
	}
	if (ids.count == 0)
		return;
	values[0] = column_array(&ids);
	values[1] = TimestampTzGetDatum(GetCurrentTimestamp());
	if (batch_run(
			plan_keep(&plan,
					  "INSERT INTO payment.task (id, psp_id, operation,"
					  " object_id, run_at) SELECT payment.new_id(), o.psp_id,"
					  " 'close', o.id, $2 FROM unnest($1) AS u (id)"
					  " JOIN payment.hosted_page AS h ON h.payment_id = u.id"
					  " JOIN payment.order_record AS o ON o.id = h.order_id"
					  " WHERE o.status = 'requires_action'"
					  " AND o.cancel_requested_at IS NOT NULL"
					  " AND NOT EXISTS (SELECT FROM payment.order_record AS x"
					  "  WHERE x.payment_id = u.id AND x.id > u.id"
					  "  AND x.status = 'created')"
					  " ON CONFLICT (object_id, operation) DO UPDATE"
					  " SET step = 'send', run_at = excluded.run_at,"
					  " tries = 0, first_sent_at = NULL,"
					  " last_sent_at = NULL, key_spent = false,"
					  " dead_at = NULL, last_error = NULL"
					  " WHERE task.dead_at IS NOT NULL",
					  lengthof(types), types),
			values, NULL) > 0)
		payment_wake_dispatcher_at_commit();
}

/*
 * Rows of hosted_page are written by who holds the lock of their order, and
 * after all other rows.
 */
void
pages_write(const SubjectSet *set)
{
	write_tokens(set);
	queue_charges(set);
	write_requests(set);
	remove_pages(set);
	close_pages(set);
}

/* ---- what the PSP tells of them ---- */

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
	count = order_write(plan_keep(&plan,
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
						values, nulls, CAUSE_RESPONSE);
	batch_end(nest_level);
	PG_RETURN_BOOL(count > 0);
}

/*
 * What happened there is not taken from whoever brings the news: one look tells
 * it, and what the payer pays with.  An answer that is under way may be older
 * than the news.  A look that was given up is worth another one.
 */
PageNews
page_look_soon(const pg_uuid_t *psp_id, const pg_uuid_t *order_id)
{
	static SPIPlanPtr update_plan = NULL;
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID, UUIDOID, TIMESTAMPTZOID };
	Datum values[] = { UUIDPGetDatum(order_id), UUIDPGetDatum(psp_id),
					   TimestampTzGetDatum(GetCurrentTimestamp()) };

	if (batch_run(
			plan_keep(&update_plan,
					  "UPDATE payment.task AS t"
					  " SET run_at = least(t.run_at, $3), dead_at = NULL,"
					  " tries = CASE WHEN t.dead_at IS NULL THEN t.tries"
					  " ELSE 0 END"
					  " FROM (SELECT d.id FROM payment.task AS d"
					  "  WHERE d.object_id = $1"
					  "  AND d.operation = 'register'"
					  "  AND d.psp_id = $2 AND d.attempt_id IS NULL"
					  "  FOR UPDATE SKIP LOCKED)"
					  " AS idle WHERE t.id = idle.id",
					  lengthof(types), types),
			values, NULL) > 0)
	{
		payment_wake_dispatcher_at_commit();
		return PAGE_IS_LOOKED_AT;
	}
	return batch_run(plan_keep(&plan,
							   "SELECT FROM payment.task AS t"
							   " WHERE t.object_id = $1"
							   " AND t.operation = 'register'"
							   " AND t.psp_id = $2",
							   2, types),
					 values, NULL) > 0
			   ? PAGE_IS_BUSY
			   : PAGE_IS_OVER;
}
