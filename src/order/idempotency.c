/*-------------------------------------------------------------------------
 *
 * idempotency.c
 *	  Each key does its work once; asked again, it gives the same answer.
 *
 * Ids are made before anything is stored, so a key is written once, with its
 * answer, and never changed.  The unique index makes a second caller wait for
 * the first: either that one commits, and the second reads its answer, or it
 * rolls back, and the second does the work.
 *
 * Keys are taken in ascending order, so that calls with the same keys in
 * different order wait for each other in one direction only.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "executor/spi.h"
#include "port/pg_bswap.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "errcodes.h"
#include "order/batch.h"
#include "order/idempotency.h"
#include "order/plan.h"
#include "order/transition.h"

StaticAssertDecl(FINGERPRINT_SIZE == PG_SHA256_DIGEST_LENGTH,
				 "fingerprints are SHA-256");

void
fingerprint_begin(Fingerprint *fingerprint)
{
	initStringInfo(&fingerprint->data);
}

/* Lengths in front keep neighbours apart. */
void
fingerprint_text(Fingerprint *fingerprint, const char *value)
{
	if (value == NULL)
		appendStringInfoString(&fingerprint->data, "-;");
	else
		appendStringInfo(&fingerprint->data, "%zu:%s;", strlen(value), value);
}

void
fingerprint_bytes(Fingerprint *fingerprint, const void *value, int size)
{
	appendStringInfo(&fingerprint->data, "%d:", size);
	if (size > 0)
		appendBinaryStringInfo(&fingerprint->data, value, size);
}

/* jsonb prints one text for one value, whatever the order of its keys was. */
void
fingerprint_json(Fingerprint *fingerprint, JsonbContainer *value, int size)
{
	int start = fingerprint->data.len;

	JsonbToCString(&fingerprint->data, value, size);
	appendStringInfo(&fingerprint->data, ":%d;",
					 fingerprint->data.len - start);
}

void
fingerprint_end(Fingerprint *fingerprint, uint8 *result)
{
	pg_cryptohash_ctx *context = pg_cryptohash_create(PG_SHA256);

	if (context == NULL || pg_cryptohash_init(context) < 0 ||
		pg_cryptohash_update(context, (uint8 *) fingerprint->data.data,
							 fingerprint->data.len) < 0 ||
		pg_cryptohash_final(context, result, FINGERPRINT_SIZE) < 0)
		elog(ERROR, "could not compute SHA-256: %s",
			 context ? pg_cryptohash_error(context) : "out of memory");
	pg_cryptohash_free(context);
	pfree(fingerprint->data.data);
}

static const char *
operation_name(const Event *event)
{
	return event->type == EVENT_PAY_IN ? "pay_in" : "pay_out";
}

static int
compare_keys(const void *a, const void *b)
{
	const Event *left = *(Event *const *) a;
	const Event *right = *(Event *const *) b;
	int			 order = strcmp(left->key, right->key);

	/* the first one in the call does the work */
	if (order == 0)
		order = left->place.event - right->place.event;
	return order;
}

static void
refuse_mismatch(const Event *event, bool same_operation)
{
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_IDEMPOTENCY_MISMATCH),
			 errmsg("the idempotency key was used for something else"),
			 errdetail("\"%s\": the key's first use had %s.",
					   event_path(&event->place, "idempotency_key"),
					   same_operation ? "other arguments"
									  : "another operation"),
			 errhint("Repeat a call with exactly its arguments; for a new one "
					 "take a new key.")));
}

/* The answer: the object first, then the orders of a payment. */
static int
answer_size(const Event *event)
{
	return event->type == EVENT_PAY_IN ? 1 + event->order_count : 1;
}

/*
 * Insert the keys; inserted says by number which ones were new.  Answers are
 * of different lengths, so they go as one array and the bounds of each.
 */
static void
insert_keys(Event **events, int count, bool *inserted)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { TEXTARRAYOID, TEXTARRAYOID, BYTEAARRAYOID,
								  UUIDARRAYOID, INT4ARRAYOID, INT4ARRAYOID };
	Column			  keys, operations, fingerprints, answers, firsts, lasts;
	Datum			  values[lengthof(types)];
	uint64			  processed;
	uint64			  next = 0;

	column_init(&keys, TEXTOID);
	column_init(&operations, TEXTOID);
	column_init(&fingerprints, BYTEAOID);
	column_init(&firsts, INT4OID);
	column_init(&lasts, INT4OID);
	column_init(&answers, UUIDOID);
	for (int i = 0; i < count; i++)
	{
		Event *event = events[i];

		column_add_text(&keys, event->key);
		column_add_text(&operations, operation_name(event));
		column_add(&fingerprints,
				   PointerGetDatum(
					   cstring_to_text_with_len((char *) event->fingerprint,
												FINGERPRINT_SIZE)),
				   false);
		column_add_int32(&firsts, answers.count + 1);
		column_add_int32(&lasts, answers.count + answer_size(event));
		column_add_uuid(&answers, &event->id);
		for (int n = 0; n < answer_size(event) - 1; n++)
			column_add_uuid(&answers, &event->orders[n].id);
	}
	values[0] = column_array(&keys);
	values[1] = column_array(&operations);
	values[2] = column_array(&fingerprints);
	values[3] = column_array(&answers);
	values[4] = column_array(&firsts);
	values[5] = column_array(&lasts);

	plan_keep(&plan,
			  "INSERT INTO payment.idempotency (key, operation, fingerprint, "
			  "result) SELECT k, o, f, ($4)[a:b] FROM ROWS FROM "
			  "(pg_catalog.unnest($1), pg_catalog.unnest($2), "
			  "pg_catalog.unnest($3), pg_catalog.unnest($5), "
			  "pg_catalog.unnest($6)) AS u (k, o, f, a, b) "
			  "ON CONFLICT (key) DO NOTHING RETURNING key",
			  lengthof(types), types);
	processed = order_write(plan, values, NULL, CAUSE_API);

	/* both lists are in the order of the keys */
	for (int i = 0; i < count; i++)
	{
		inserted[i] = processed == (uint64) count;
		if (inserted[i] || next == processed)
			continue;
		inserted[i] = strcmp(SPI_getvalue(SPI_tuptable->vals[next],
										  SPI_tuptable->tupdesc, 1),
							 events[i]->key) == 0;
		if (inserted[i])
			next++;
	}
}

static void
take_answer(Event *event, HeapTuple row, TupleDesc desc)
{
	bool   isnull;
	char  *operation = SPI_getvalue(row, desc, 2);
	bytea *fingerprint = DatumGetByteaPP(SPI_getbinval(row, desc, 3, &isnull));
	ArrayType *result =
		DatumGetArrayTypeP(SPI_getbinval(row, desc, 4, &isnull));
	pg_uuid_t *ids = (pg_uuid_t *) ARR_DATA_PTR(result);
	bool	   same_operation = strcmp(operation, operation_name(event)) == 0;

	if (!same_operation ||
		VARSIZE_ANY_EXHDR(fingerprint) != FINGERPRINT_SIZE ||
		memcmp(VARDATA_ANY(fingerprint), event->fingerprint,
			   FINGERPRINT_SIZE) != 0)
		refuse_mismatch(event, same_operation);
	if (ARR_NDIM(result) != 1 || ARR_DIMS(result)[0] != answer_size(event) ||
		ARR_HASNULL(result))
		elog(ERROR, "stored answer of an idempotency key is malformed");

	event->is_replay = true;
	event->id = ids[0];
	for (int i = 0; i < answer_size(event) - 1; i++)
		event->orders[i].id = ids[i + 1];
}

/*
 * In READ COMMITTED the new snapshot sees what the other transaction
 * committed; at stricter levels the INSERT has failed with 40001 already.
 */
static void
read_answers(Event **events, int count, const bool *inserted)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { TEXTARRAYOID };
	Column			  keys;
	Datum			  values[lengthof(types)];
	uint64			  found;
	uint64			  next = 0;

	column_init(&keys, TEXTOID);
	for (int i = 0; i < count; i++)
	{
		if (!inserted[i])
			column_add_text(&keys, events[i]->key);
	}
	if (keys.count == 0)
		return;
	values[0] = column_array(&keys);
	plan_keep(&plan,
			  "SELECT i.key, i.operation, i.fingerprint, i.result "
			  "FROM pg_catalog.unnest($1) WITH ORDINALITY AS u (k, n) "
			  "JOIN payment.idempotency i ON i.key = u.k "
			  "ORDER BY u.n",
			  lengthof(types), types);
	found = spi_read(plan, values, NULL);
	if (found != (uint64) keys.count)
		elog(ERROR, "idempotency keys vanished");
	for (int i = 0; i < count; i++)
	{
		if (!inserted[i])
			take_answer(events[i], SPI_tuptable->vals[next++],
						SPI_tuptable->tupdesc);
	}
}

/* An event that repeats an earlier one of the same call. */
static void
repeat_event(Event *event, const Event *first)
{
	if (event->type != first->type ||
		memcmp(event->fingerprint, first->fingerprint, FINGERPRINT_SIZE) != 0)
		refuse_mismatch(event, event->type == first->type);
	event->is_replay = true;
	event->id = first->id;
	for (int i = 0; i < event->order_count; i++)
		event->orders[i].id = first->orders[i].id;
}

void
idempotency_claim(Event *events, int count)
{
	Event **sorted = palloc(sizeof(Event *) * count);
	Event **unique = palloc(sizeof(Event *) * count);
	bool   *inserted;
	int		unique_count = 0;
	int		at = -1;

	for (int i = 0; i < count; i++)
		sorted[i] = &events[i];
	qsort(sorted, count, sizeof(Event *), compare_keys);
	for (int i = 0; i < count; i++)
	{
		if (i == 0 || strcmp(sorted[i - 1]->key, sorted[i]->key) != 0)
			unique[unique_count++] = sorted[i];
	}

	inserted = palloc(sizeof(bool) * unique_count);
	insert_keys(unique, unique_count, inserted);
	read_answers(unique, unique_count, inserted);

	for (int i = 0; i < count; i++)
	{
		if (at < unique_count - 1 && sorted[i] == unique[at + 1])
			at++;
		else
			repeat_event(sorted[i], unique[at]);
	}
}

/* Insert the key of a single call; false when it is there. */
static bool
insert_key(const char *key, const char *operation, const uint8 *fingerprint,
		   const pg_uuid_t *ids, int count)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { TEXTOID, TEXTOID, BYTEAOID, UUIDARRAYOID };
	Datum			  values[lengthof(types)];
	Column			  answer;

	column_init(&answer, UUIDOID);
	for (int i = 0; i < count; i++)
		column_add_uuid(&answer, &ids[i]);
	values[0] = CStringGetTextDatum(key);
	values[1] = CStringGetTextDatum(operation);
	values[2] =
		PointerGetDatum(cstring_to_text_with_len((const char *) fingerprint,
												 FINGERPRINT_SIZE));
	values[3] = column_array(&answer);
	plan_keep(&plan,
			  "INSERT INTO payment.idempotency (key, operation, fingerprint, "
			  "result) VALUES ($1, $2, $3, $4) ON CONFLICT (key) DO NOTHING",
			  lengthof(types), types);
	return order_write(plan, values, NULL, CAUSE_API) == 1;
}

static void
refuse_key(const char *key, bool same_operation)
{
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_IDEMPOTENCY_MISMATCH),
			 errmsg("the idempotency key was used for something else"),
			 errdetail("\"%s\": the key's first use had %s.", key,
					   same_operation ? "other arguments"
									  : "another operation"),
			 errhint("Repeat a call with exactly its arguments; for a new one "
					 "take a new key.")));
}

/* the answer that was stored with the key, into ids */
static void
read_answer(const char *key, const char *operation, const uint8 *fingerprint,
			pg_uuid_t *ids, int count)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { TEXTOID, TEXTOID, BYTEAOID };
	Datum			  values[lengthof(types)];
	HeapTuple		  row;
	TupleDesc		  desc;
	ArrayType		 *result;
	bool			  isnull;

	values[0] = CStringGetTextDatum(key);
	values[1] = CStringGetTextDatum(operation);
	values[2] =
		PointerGetDatum(cstring_to_text_with_len((const char *) fingerprint,
												 FINGERPRINT_SIZE));
	plan_keep(&plan,
			  "SELECT operation = $2, fingerprint = $3, result "
			  "FROM payment.idempotency WHERE key = $1",
			  lengthof(types), types);
	if (spi_read(plan, values, NULL) != 1)
		elog(ERROR, "idempotency key vanished");
	row = SPI_tuptable->vals[0];
	desc = SPI_tuptable->tupdesc;
	if (!DatumGetBool(SPI_getbinval(row, desc, 1, &isnull)))
		refuse_key(key, false);
	if (!DatumGetBool(SPI_getbinval(row, desc, 2, &isnull)))
		refuse_key(key, true);
	result = DatumGetArrayTypeP(SPI_getbinval(row, desc, 3, &isnull));
	if (ARR_NDIM(result) != 1 || ARR_DIMS(result)[0] != count ||
		ARR_HASNULL(result))
		elog(ERROR, "stored answer of an idempotency key is malformed");
	memcpy(ids, ARR_DATA_PTR(result), sizeof(pg_uuid_t) * count);
}

bool
idempotency_take(const char *key, const char *operation,
				 const uint8 *fingerprint, pg_uuid_t *ids, int count)
{
	bool is_new;

	spi_begin();
	is_new = insert_key(key, operation, fingerprint, ids, count);
	if (!is_new)
		read_answer(key, operation, fingerprint, ids, count);
	spi_end();
	return is_new;
}

/* Keys keep their answers as ids: some hold a number. */
pg_uuid_t
number_as_id(int32 number)
{
	pg_uuid_t id = { { 0 } };
	uint32	  bytes = pg_hton32((uint32) number);

	memcpy(&id.data[UUID_LEN - sizeof(bytes)], &bytes, sizeof(bytes));
	return id;
}

int32
id_as_number(const pg_uuid_t *id)
{
	uint32 bytes;

	memcpy(&bytes, &id->data[UUID_LEN - sizeof(bytes)], sizeof(bytes));
	return (int32) pg_ntoh32(bytes);
}
