/*-------------------------------------------------------------------------
 *
 * queue.c
 *	  The database's side of dispatching: the functions that the worker calls.
 *
 * Statements are prepared once and kept.  Columns are found by name, so that
 * a newer script may have more of them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "payment.h"
#include "psp/json.h"
#include "queue.h"
#include "throttle.h"
#include "time_told.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

/* more than a request can take: so that a lease outlives its request */
#define LEASE_MARGIN_MS 10000

static SPIPlanPtr load_plan = NULL;
static SPIPlanPtr claim_plan = NULL;
static SPIPlanPtr due_plan = NULL;
static SPIPlanPtr record_plan = NULL;
static SPIPlanPtr move_plan = NULL;
static SPIPlanPtr save_plan = NULL;
static SPIPlanPtr page_plan = NULL;

static SPIPlanPtr
prepare(SPIPlanPtr *plan, const char *sql, int count, Oid *types)
{
	if (*plan == NULL)
	{
		SPIPlanPtr fresh = SPI_prepare(sql, count, types);

		if (fresh == NULL)
			elog(ERROR, "SPI_prepare failed: %s",
				 SPI_result_code_string(SPI_result));
		if (SPI_keepplan(fresh) != 0)
			elog(ERROR, "SPI_keepplan failed");
		*plan = fresh;
	}
	return *plan;
}

static void
execute(SPIPlanPtr plan, Datum *values)
{
	int code = SPI_execute_plan(plan, values, NULL, false, 0);

	if (code != SPI_OK_SELECT)
		elog(ERROR, "SPI_execute_plan failed: %s",
			 SPI_result_code_string(code));
}

/* ---- reading rows ---- */

static int
column(const char *name)
{
	int number = SPI_fnumber(SPI_tuptable->tupdesc, name);

	if (number <= 0)
		elog(ERROR, "column \"%s\" is missing", name);
	return number;
}

static Datum
get_datum(uint64 row, const char *name, bool *is_null)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
						 column(name), is_null);
}

static int32
get_int32(uint64 row, const char *name)
{
	bool  is_null;
	Datum value = get_datum(row, name, &is_null);

	return is_null ? 0 : DatumGetInt32(value);
}

static int64
get_int64(uint64 row, const char *name)
{
	bool  is_null;
	Datum value = get_datum(row, name, &is_null);

	return is_null ? 0 : DatumGetInt64(value);
}

static bool
get_bool(uint64 row, const char *name)
{
	bool  is_null;
	Datum value = get_datum(row, name, &is_null);

	return !is_null && DatumGetBool(value);
}

/* 0 for null */
static TimestampTz
get_time(uint64 row, const char *name)
{
	bool  is_null;
	Datum value = get_datum(row, name, &is_null);

	return is_null ? 0 : DatumGetTimestampTz(value);
}

static pg_uuid_t
get_uuid(uint64 row, const char *name)
{
	bool  is_null;
	Datum value = get_datum(row, name, &is_null);

	if (is_null)
		elog(ERROR, "column \"%s\" is null", name);
	return *DatumGetUUIDP(value);
}

/*
 * As UTF-8, in the given memory.  What has none (the encoding SQL_ASCII holds
 * any bytes, and some others have characters of their own) becomes question
 * marks: one such text must not keep all tasks from being claimed.
 */
char *
queue_to_utf8(const char *value, MemoryContext context)
{
	int			   length = (int) strlen(value);
	int			   encoding = GetDatabaseEncoding();
	Oid			   conversion = InvalidOid;
	unsigned char *utf8;
	char		  *copy;

	if (encoding == PG_UTF8 ||
		(encoding == PG_SQL_ASCII &&
		 pg_encoding_verifymbstr(PG_UTF8, value, length) == length))
		return MemoryContextStrdup(context, value);
	if (encoding != PG_SQL_ASCII)
		conversion = FindDefaultConversionProc(encoding, PG_UTF8);
	if (OidIsValid(conversion))
	{
		int size = length * MAX_CONVERSION_GROWTH + 1;

		utf8 = MemoryContextAlloc(context, size);
		if (pg_do_encoding_conversion_buf(conversion, encoding, PG_UTF8,
										  (unsigned char *) unconstify(char *,
																	   value),
										  length, utf8, size, true) == length)
			return (char *) utf8;
		pfree(utf8);
	}
	copy = MemoryContextStrdup(context, value);
	for (char *c = copy; *c; c++)
		if (IS_HIGHBIT_SET(*c))
			*c = '?';
	return copy;
}

/* NULL for null */
static char *
get_text(uint64 row, const char *name, MemoryContext context)
{
	char *value = SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
							   column(name));
	char *copy;

	if (value == NULL)
		return NULL;
	copy = queue_to_utf8(value, context);
	pfree(value);
	return copy;
}

/* ---- PSPs ---- */

static Psp *
find_or_add_psp(dlist_head *psps, const pg_uuid_t *id, MemoryContext context)
{
	dlist_iter iter;
	Psp		  *psp;

	dlist_foreach(iter, psps)
	{
		psp = dlist_container(Psp, node, iter.cur);
		if (memcmp(&psp->id, id, sizeof(*id)) == 0)
			return psp;
	}
	psp = MemoryContextAllocZero(context, sizeof(Psp));
	psp->id = *id;
	psp->context =
		AllocSetContextCreate(context, "payment PSP", ALLOCSET_SMALL_SIZES);
	psp->tokens = 1;
	psp->statistics = statistics_of(id);
	dlist_push_tail(psps, &psp->node);
	return psp;
}

/* The values of the adapter's settings, in its order. */
static void
fill_config(Psp *psp, const char *text)
{
	JsonDocument json;

	memset(psp->config, 0, sizeof(psp->config));
	if (psp->adapter == NULL || text == NULL ||
		!json_parse(&json, text, (int) strlen(text)))
		return;
	for (int i = 0; i < PSP_MAX_CONFIG && psp->adapter->config_keys[i]; i++)
		psp->config[i] =
			json_string(&json, json_member(&json, json_root(&json),
										   psp->adapter->config_keys[i]));
	json_free(&json);
}

/* A token belongs to the account that it was asked for. */
static bool
is_same_account(const Psp *a, const Psp *b)
{
	return a->adapter == b->adapter && strcmp(a->base_url, b->base_url) == 0 &&
		   strcmp(a->secret_name, b->secret_name) == 0;
}

static void
fill_limits(Psp *psp, uint64 row)
{
	psp->max_in_flight = get_int32(row, "max_in_flight");
	psp->requests_per_second = get_int32(row, "requests_per_second");
	psp->connect_timeout_ms = get_int32(row, "connect_timeout_ms");
	psp->timeout_ms = get_int32(row, "timeout_ms");
	psp->retry_after_max_ms = get_int32(row, "retry_after_max_ms");
	psp->breaker_settings = (BreakerSettings){
		.failures = get_int32(row, "breaker_failures"),
		.failure_percent = get_int32(row, "breaker_failure_percent"),
		.pause_ms = get_int32(row, "breaker_pause_ms"),
		.pause_max_ms = get_int32(row, "breaker_pause_max_ms"),
		.probes = get_int32(row, "breaker_probes"),
	};
}

/* At the start, and when somebody has reset it. */
static void
adopt_breaker(Psp *psp, uint64 row)
{
	int64 version = get_int64(row, "breaker_version");
	char *state;

	if (version == psp->breaker.version)
		return;
	state = get_text(row, "breaker_state", CurrentMemoryContext);
	breaker_adopt(&psp->breaker,
				  state ? breaker_state_of(state) : BREAKER_CLOSED,
				  get_time(row, "breaker_since"),
				  get_time(row, "breaker_probe_at"),
				  get_int32(row, "breaker_present_pause_ms"),
				  get_text(row, "breaker_reason", CurrentMemoryContext),
				  version, GetCurrentTimestamp());
	throttle_forget_pause(psp);
}

/*
 * All is read before anything is changed: reading may fail.  Until then the
 * memory belongs to the transaction.
 */
static void
fill_psp(Psp *psp, uint64 row, MemoryContext parent)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "payment PSP",
							  ALLOCSET_SMALL_SIZES);
	Psp			  fresh = *psp;
	MemoryContext old;

	fresh.context = context;
	fresh.adapter = psp_adapter(get_text(row, "adapter", context));
	fresh.name = get_text(row, "name", context);
	fresh.base_url = get_text(row, "base_url", context);
	fresh.secret_name = get_text(row, "secret_name", context);
	fill_limits(&fresh, row);
	adopt_breaker(&fresh, row);
	old = MemoryContextSwitchTo(context);
	fill_config(&fresh, get_text(row, "config", context));
	MemoryContextSwitchTo(old);
	fresh.active = true;
	MemoryContextSetParent(context, parent);
	if (psp->name && !is_same_account(psp, &fresh))
	{
		token_forget(psp);
		fresh.token = psp->token;
	}
	if (psp->context)
		MemoryContextDelete(psp->context);
	*psp = fresh;
}

void
queue_load_psps(dlist_head *psps, MemoryContext context)
{
	dlist_mutable_iter iter;

	execute(
		prepare(&load_plan,
				"SELECT p.*, b.state AS breaker_state, "
				"b.since AS breaker_since, b.probe_at AS breaker_probe_at, "
				"b.pause_ms AS breaker_present_pause_ms, "
				"b.reason AS breaker_reason, "
				"coalesce(b.version, 0) AS breaker_version "
				"FROM payment.psp AS p "
				"LEFT JOIN payment.circuit_breaker AS b ON b.psp_id = p.id "
				"WHERE p.state = 'active' AND p.adapter <> 'none' "
				"ORDER BY p.id LIMIT " CppAsString2(QUEUE_PSPS_MAX),
				0, NULL),
		NULL);

	dlist_foreach_modify(iter, psps)
	{
		Psp *psp = dlist_container(Psp, node, iter.cur);

		psp->active = false;
	}
	for (uint64 row = 0; row < SPI_processed; row++)
	{
		pg_uuid_t id = get_uuid(row, "id");

		fill_psp(find_or_add_psp(psps, &id, context), row, context);
	}
	SPI_freetuptable(SPI_tuptable);

	/* What is under way still needs its PSP. */
	dlist_foreach_modify(iter, psps)
	{
		Psp *psp = dlist_container(Psp, node, iter.cur);

		if (!psp->active && throttle_in_flight(psp) == 0 &&
			!psp->token.under_way)
		{
			dlist_delete(&psp->node);
			token_forget(psp);
			if (psp->context)
				MemoryContextDelete(psp->context);
			pfree(psp);
		}
	}
}

/* ---- tasks ---- */

static void
fill_task(PspTask *task, uint64 row, MemoryContext context)
{
	char	   *operation = get_text(row, "operation", context);
	char	   *step = get_text(row, "step", context);
	TimestampTz expires_at;

	if (!psp_operation_of(operation, &task->operation))
		elog(ERROR, "operation \"%s\" is unknown", operation);
	task->step = strcmp(step, "send") == 0 ? PSP_STEP_SEND : PSP_STEP_LOOKUP;
	task->object_id = get_text(row, "object_id", context);
	task->payment_id = get_text(row, "payment_id", context);
	task->psp_key = get_text(row, "psp_key", context);
	task->attempt_no = get_int32(row, "attempt_no");
	task->amount = get_int64(row, "amount");
	task->currency = get_text(row, "currency", context);
	task->payment_method = get_text(row, "payment_method", context);
	task->destination = get_text(row, "destination", context);
	task->description = get_text(row, "description", context);
	task->psp_reference = get_text(row, "psp_reference", context);
	task->payer = get_text(row, "payer", context);
	task->capture_method = get_text(row, "capture_method", context);
	task->parent_reference = get_text(row, "parent_reference", context);
	task->final = get_bool(row, "final");
	task->reason = get_text(row, "reason", context);
	task->total_amount = get_int64(row, "total_amount");
	task->captured_amount = get_int64(row, "captured_amount");
	task->success_url = get_text(row, "success_url", context);
	task->cancel_url = get_text(row, "cancel_url", context);
	task->locale = get_text(row, "locale", context);
	task->setup = get_bool(row, "setup");
	task->evidence = get_text(row, "evidence", context);
	expires_at = get_time(row, "expires_at");
	task->expires_at_s =
		expires_at == 0 ? 0 : (int64) timestamptz_to_time_t(expires_at);
}

/* It must outlive the PSP's next load. */
static void
copy_config(PspTask *task, const Psp *psp, MemoryContext context)
{
	for (int i = 0; i < PSP_MAX_CONFIG; i++)
		if (psp->config[i])
			task->config[i] = MemoryContextStrdup(context, psp->config[i]);
}

/* It belongs to the transaction's memory until it is complete. */
static Delivery *
new_delivery(Psp *psp, int lease_ms)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "payment delivery", 0,
							  4 * 1024, 64 * 1024);
	Delivery *delivery = MemoryContextAllocZero(context, sizeof(Delivery));

	delivery->context = context;
	delivery->psp = psp;
	delivery->adapter = psp->adapter;
	delivery->started_at = GetCurrentTransactionStartTimestamp();
	delivery->give_up_at =
		TimestampTzPlusMilliseconds(delivery->started_at,
									(int64) lease_ms - psp->timeout_ms -
										LEASE_MARGIN_MS / 2);
	delivery->latency_ms = -1;
	copy_config(&delivery->task, psp, context);
	return delivery;
}

static Delivery *
make_delivery(Psp *psp, uint64 row, int lease_ms, MemoryContext parent)
{
	Delivery	 *delivery = new_delivery(psp, lease_ms);
	MemoryContext context = delivery->context;

	delivery->attempt_id = get_uuid(row, "attempt_id");
	fill_task(&delivery->task, row, context);
	delivery->first_sent_at = get_time(row, "first_sent_at");
	delivery->last_sent_at = get_time(row, "last_sent_at");
	delivery->task.repeated =
		delivery->first_sent_at != delivery->last_sent_at;
	delivery->tries = get_int32(row, "tries");
	MemoryContextSetParent(context, parent);
	throttle_begin(delivery);
	return delivery;
}

/* as claim_tasks() and next_task_due() take them */
static Datum
limits_array(const LaneLimits *limits)
{
	Datum numbers[LANE_COUNT + 1];

	for (int lane = 0; lane < LANE_COUNT; lane++)
		numbers[lane] = Int32GetDatum(limits->of_lane[lane]);
	numbers[LANE_COUNT] = Int32GetDatum(limits->of_any);
	return PointerGetDatum(construct_array(numbers, LANE_COUNT + 1, INT4OID,
										   sizeof(int32), true, TYPALIGN_INT));
}

int
queue_claim(Psp *psp, int count, const LaneLimits *limits, int lease_ms,
			dlist_head *deliveries, MemoryContext context)
{
	Oid	  types[] = { UUIDOID, INT4OID, INT4OID, INT4ARRAYOID };
	Datum values[4];
	int	  claimed;

	lease_ms = Max(lease_ms, psp->timeout_ms + LEASE_MARGIN_MS);
	values[0] = UUIDPGetDatum(&psp->id);
	values[1] = Int32GetDatum(count);
	values[2] = Int32GetDatum(lease_ms);
	values[3] = limits_array(limits);
	execute(prepare(&claim_plan,
					"SELECT * FROM payment.claim_tasks($1, $2, $3, $4)",
					lengthof(types), types),
			values);
	claimed = (int) SPI_processed;
	for (int row = 0; row < claimed; row++)
	{
		Delivery *delivery = make_delivery(psp, row, lease_ms, context);

		dlist_push_tail(deliveries, &delivery->node);
	}
	SPI_freetuptable(SPI_tuptable);
	return claimed;
}

TimestampTz
queue_next_due(const Psp *psp, const LaneLimits *limits)
{
	Oid			types[] = { UUIDOID, INT4ARRAYOID };
	Datum		values[] = { UUIDPGetDatum(&psp->id), limits_array(limits) };
	TimestampTz due_at;

	execute(prepare(&due_plan,
					"SELECT payment.next_task_due($1, $2) AS due_at",
					lengthof(types), types),
			values);
	due_at = get_time(0, "due_at");
	if (due_at == 0)
		due_at = DT_NOEND;
	SPI_freetuptable(SPI_tuptable);
	return due_at;
}

int
queue_move_waiting(Psp *psp, int max_orders)
{
	Oid	  types[] = { UUIDOID, INT4OID, TIMESTAMPTZOID };
	Datum values[] = { UUIDPGetDatum(&psp->id), Int32GetDatum(max_orders),
					   TimestampTzGetDatum(psp->move_after ? psp->move_after
														   : DT_NOBEGIN) };
	int	  moved;

	execute(prepare(&move_plan,
					"SELECT * FROM payment.move_waiting_orders($1, $2, $3)",
					lengthof(types), types),
			values);
	moved = get_int32(0, "moved");
	psp->move_after = get_time(0, "looked_until");
	SPI_freetuptable(SPI_tuptable);
	return moved;
}

int64
queue_save_breaker(const Psp *psp)
{
	Oid types[] = { UUIDOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
					INT4OID, TEXTOID, INT8OID };
	const Breaker *breaker = &psp->breaker;
	Datum		   values[lengthof(types)];
	char		   nulls[] = "       ";
	int64		   version;

	values[0] = UUIDPGetDatum(&psp->id);
	values[1] = CStringGetTextDatum(breaker_state_name(breaker->state));
	values[2] = TimestampTzGetDatum(breaker->since);
	values[3] = TimestampTzGetDatum(breaker->probe_at);
	nulls[3] = breaker->state == BREAKER_OPEN ? ' ' : 'n';
	values[4] = Int32GetDatum(breaker->pause_ms);
	values[5] = CStringGetTextDatum(breaker->reason);
	nulls[5] = breaker->reason[0] == '\0' ? 'n' : ' ';
	values[6] = Int64GetDatum(breaker->version);
	if (SPI_execute_plan(prepare(&save_plan,
								 "SELECT payment.save_breaker($1, $2, $3, $4,"
								 " $5, $6, $7) AS version",
								 lengthof(types), types),
						 values, nulls, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not call payment.save_breaker");
	version = get_int64(0, "version");
	SPI_freetuptable(SPI_tuptable);
	return version;
}

int64
queue_expire_leases(void)
{
	int64 expired;
	int	  code =
		SPI_execute("SELECT payment.expire_leases() AS expired", false, 0);

	if (code != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "could not call payment.expire_leases");
	expired = get_int64(0, "expired");
	SPI_freetuptable(SPI_tuptable);
	return expired;
}

/* ---- outcomes ---- */

static Oid
outcome_type(void)
{
	Oid namespace = get_namespace_oid("payment", false);
	Oid type = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid,
							   CStringGetDatum("attempt_outcome"),
							   ObjectIdGetDatum(namespace));

	if (!OidIsValid(type))
		elog(ERROR, "type payment.attempt_outcome is missing");
	return type;
}

typedef struct OutcomeRow
{
	TupleDesc descriptor;
	Datum	 *values;
	bool	 *nulls;
} OutcomeRow;

static void
put(OutcomeRow *row, const char *name, bool is_null, Datum value)
{
	int number = SPI_fnumber(row->descriptor, name);

	if (number <= 0)
		elog(ERROR, "payment.attempt_outcome has no attribute \"%s\"", name);
	row->nulls[number - 1] = is_null;
	row->values[number - 1] = value;
}

static void
put_text(OutcomeRow *row, const char *name, const char *value)
{
	bool is_null = value == NULL || value[0] == '\0';

	put(row, name, is_null, is_null ? (Datum) 0 : CStringGetTextDatum(value));
}

static void
put_settled(OutcomeRow *row, const PspOutcome *outcome)
{
	bool unsaid = outcome->exchange_rate == NULL;

	put(row, "settled_amount", !outcome->has_settled_amount,
		Int64GetDatum(outcome->settled_amount));
	put(row, "psp_fee", !outcome->has_psp_fee,
		Int64GetDatum(outcome->psp_fee));
	put_text(row, "settled_currency", outcome->settled_currency);
	put(row, "exchange_rate", unsaid,
		unsaid ? (Datum) 0
			   : DirectFunctionCall3(numeric_in,
									 CStringGetDatum(outcome->exchange_rate),
									 ObjectIdGetDatum(InvalidOid),
									 Int32GetDatum(-1)));
}

static Datum
make_outcome(OutcomeRow *row, Delivery *delivery)
{
	const PspOutcome *outcome = &delivery->outcome;

	memset(row->nulls, true, row->descriptor->natts * sizeof(bool));
	put(row, "attempt_id", false, UUIDPGetDatum(&delivery->attempt_id));
	put_text(row, "outcome", psp_outcome_name(outcome->kind));
	put(row, "http_status", delivery->http_status == 0,
		Int32GetDatum(delivery->http_status));
	put(row, "latency_ms", delivery->latency_ms < 0,
		Int32GetDatum(delivery->latency_ms));
	put_text(row, "psp_reference", outcome->reference);
	put(row, "amount", !outcome->has_amount, Int64GetDatum(outcome->amount));
	put_text(row, "currency", outcome->currency);
	put_text(row, "error_code", outcome->error_code);
	put_text(row, "error_message", outcome->error_message);
	put_text(row, "decline_class",
			 psp_decline_class_name(outcome->decline_class));
	put(row, "retry_after_ms", outcome->retry_after_ms < 0,
		Int64GetDatum(outcome->retry_after_ms));
	put(row, "authorized_until", time_told(outcome->authorized_until_s) == 0,
		TimestampTzGetDatum(time_told(outcome->authorized_until_s)));
	put_text(row, "child_reference", outcome->child_reference);
	put_settled(row, outcome);
	put_text(row, "payment_method", outcome->payment_method);
	return heap_copy_tuple_as_datum(heap_form_tuple(row->descriptor,
													row->values, row->nulls),
									row->descriptor);
}

/* Where payers can pay: seen together with the status that says so. */
static void
record_page(const Delivery *delivery)
{
	Oid				  types[] = { UUIDOID, TEXTOID, TEXTOID, TIMESTAMPTZOID };
	Datum			  values[lengthof(types)];
	char			  nulls[] = "    ";
	const PspOutcome *outcome = &delivery->outcome;

	/* a refund that waits for the payer has no page */
	if (outcome->kind != PSP_REQUIRES_ACTION || outcome->hosted_url == NULL)
		return;
	values[0] = UUIDPGetDatum(&delivery->attempt_id);
	values[1] = CStringGetTextDatum(outcome->reference);
	values[2] = CStringGetTextDatum(outcome->hosted_url);
	values[3] = TimestampTzGetDatum(time_told(outcome->hosted_until_s));
	nulls[3] = time_told(outcome->hosted_until_s) == 0 ? 'n' : ' ';
	if (SPI_execute_plan(prepare(&page_plan,
								 "SELECT payment.record_hosted_page($1, $2,"
								 " $3, $4)",
								 lengthof(types), types),
						 values, nulls, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not call payment.record_hosted_page");
	SPI_freetuptable(SPI_tuptable);
}

void
queue_record(Delivery **deliveries, int count)
{
	Oid		   type = outcome_type();
	Oid		   array_type = get_array_type(type);
	Datum	  *rows = palloc(count * sizeof(Datum));
	Datum	   value;
	OutcomeRow row;

	row.descriptor = lookup_rowtype_tupdesc_copy(type, -1);
	row.values = palloc0(row.descriptor->natts * sizeof(Datum));
	row.nulls = palloc(row.descriptor->natts * sizeof(bool));
	for (int i = 0; i < count; i++)
	{
		rows[i] = make_outcome(&row, deliveries[i]);
	}
	value = PointerGetDatum(
		construct_array(rows, count, type, -1, false, TYPALIGN_DOUBLE));
	execute(prepare(&record_plan, "SELECT payment.record_outcomes($1)", 1,
					&array_type),
			&value);
	SPI_freetuptable(SPI_tuptable);
	/* after the locks of their orders, in the same transaction */
	for (int i = 0; i < count; i++)
		record_page(deliveries[i]);
}

/* ---- webhooks that the PSP is asked about ---- */

/* A question like a lookup: it changes nothing at the PSP. */
static Delivery *
make_verification(Psp *psp, uint64 row, int lease_ms, MemoryContext parent)
{
	Delivery	 *delivery = new_delivery(psp, lease_ms);
	PspTask		 *task = &delivery->task;
	MemoryContext context = delivery->context;
	bool		  is_null;
	bytea		 *body = DatumGetByteaPP(get_datum(row, "body", &is_null));
	char		 *copy;

	delivery->attempt_id = get_uuid(row, "webhook");
	delivery->tries = get_int32(row, "tries");
	task->operation = PSP_OPERATION_VERIFY;
	task->step = PSP_STEP_LOOKUP;
	task->object_id = get_text(row, "webhook", context);
	task->attempt_no = delivery->tries;
	task->webhook_headers = get_text(row, "headers", context);
	task->webhook_length = (int) VARSIZE_ANY_EXHDR(body);
	copy = MemoryContextAlloc(context, Max(task->webhook_length, 1));
	memcpy(copy, VARDATA_ANY(body), task->webhook_length);
	task->webhook_body = copy;
	MemoryContextSetParent(context, parent);
	throttle_begin(delivery);
	return delivery;
}

int
queue_claim_webhooks(Psp *psp, int count, dlist_head *deliveries,
					 MemoryContext context)
{
	static SPIPlanPtr plan = NULL;
	Oid				  types[] = { UUIDOID, INT4OID, INT4OID };
	int				  lease_ms = psp->timeout_ms + LEASE_MARGIN_MS;
	Datum values[] = { UUIDPGetDatum(&psp->id), Int32GetDatum(count),
					   Int32GetDatum(lease_ms) };
	int	  claimed;

	execute(prepare(&plan,
					"SELECT * FROM payment.claim_unverified_webhooks($1, $2,"
					" $3)",
					lengthof(types), types),
			values);
	claimed = (int) SPI_processed;
	for (int row = 0; row < claimed; row++)
		dlist_push_tail(deliveries,
						&make_verification(psp, row, lease_ms, context)->node);
	SPI_freetuptable(SPI_tuptable);
	return claimed;
}

static void
defer_webhook(const Delivery *delivery)
{
	static SPIPlanPtr plan = NULL;
	Oid				  types[] = { UUIDOID, TEXTOID, BOOLOID, INT8OID };
	const PspOutcome *outcome = &delivery->outcome;
	const char		 *code = outcome->error_code ? outcome->error_code : "";
	Datum			  values[lengthof(types)];
	char			  nulls[] = "    ";

	values[0] = UUIDPGetDatum(&delivery->attempt_id);
	values[1] = CStringGetTextDatum(code);
	values[2] = BoolGetDatum(delivery->latency_ms >= 0);
	values[3] = Int64GetDatum(outcome->retry_after_ms);
	nulls[3] = outcome->retry_after_ms < 0 ? 'n' : ' ';
	if (SPI_execute_plan(
			prepare(&plan, "SELECT payment.defer_webhook($1, $2, $3, $4)",
					lengthof(types), types),
			values, nulls, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not call payment.defer_webhook");
	SPI_freetuptable(SPI_tuptable);
}

void
queue_record_webhook(const Delivery *delivery)
{
	static SPIPlanPtr plan = NULL;
	Oid				  types[] = { UUIDOID, BOOLOID };
	PspOutcomeKind	  kind = delivery->outcome.kind;
	Datum			  values[] = { UUIDPGetDatum(&delivery->attempt_id),
								   BoolGetDatum(kind == PSP_SUCCEEDED) };

	if (kind != PSP_SUCCEEDED && kind != PSP_FAILED)
	{
		defer_webhook(delivery);
		return;
	}
	execute(prepare(&plan, "SELECT payment.confirm_webhook($1, $2)",
					lengthof(types), types),
			values);
	SPI_freetuptable(SPI_tuptable);
}
