/*
 * control.c
 *		What tests compare with: the book's totals, its lines, the requests.
 */
#include "control.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "book.h"
#include "currency.h"
#include "fault.h"
#include "idempotency.h"
#include "json.h"
#include "payout.h"
#include "request_log.h"

#define ROWS_PER_FILL 500

typedef struct Totals
{
	bool	used;
	int64_t charges[CHARGE_CAPTURED + 1];
	int64_t gross;
	int64_t fee;
	int64_t net;
	int64_t refunds;
	int64_t refunded;
	int64_t disputes;
	int64_t withdrawn;
	int64_t dispute_fees;
	int64_t settled;
	int64_t settled_gross;
	int64_t settled_fee;
	int64_t payouts[PAYOUT_FAILED + 1];
	int64_t payout_sums[PAYOUT_FAILED + 1];
} Totals;

void
control_healthz(Request *request)
{
	request->answer.content_type = "text/plain";
	buf_puts(&request->answer.body, "ok\n");
}

static void
add_charges(Totals *totals)
{
	for (uint32_t i = 0; i < book.charges.count; i++)
	{
		const Charge *charge = book_charge(i);
		Totals		 *t = &totals[charge->currency];

		t->used = true;
		t->charges[charge->status]++;
		if (charge->status == CHARGE_SUCCEEDED)
			t->gross += charge->amount_captured;
	}
}

/* Fees, and what is settled, by the currency that they are settled in. */
static void
add_captures(Totals *totals)
{
	for (uint32_t i = 0; i < book.balance_txs.count; i++)
	{
		const BalanceTx *tx = book_balance_tx(i);
		Totals			*t = &totals[tx->currency];

		if (tx->type != TX_CHARGE && tx->type != TX_CAPTURE_FAILURE)
			continue;
		t->used = true;
		t->fee += tx->fee;
		t->net += tx->amount - tx->fee;
		if (tx->settlement == NONE)
			continue;
		t->settled++;
		t->settled_gross += tx->amount;
		t->settled_fee += tx->fee;
	}
}

static void
add_refunds(Totals *totals)
{
	for (uint32_t i = 0; i < book.modifications.count; i++)
	{
		const Modification *m = book_modification(i);

		if (m->balance_tx == NONE || m->status != MODIFICATION_SUCCEEDED ||
			m->kind == MODIFY_CAPTURE)
			continue;
		totals[m->currency].refunds++;
		totals[m->currency].refunded += m->amount;
	}
}

static void
add_disputes(Totals *totals)
{
	for (uint32_t i = 0; i < book.disputes.count; i++)
	{
		const Dispute *dispute = book_dispute(i);
		Totals		  *t = &totals[dispute->currency];

		t->disputes++;
		t->withdrawn += dispute->withdrawn ? dispute->amount : 0;
		for (uint32_t j = 0; j < dispute->tx_count; j++)
			t->dispute_fees += book_balance_tx(dispute->txs[j])->fee;
	}
}

static void
add_payouts(Totals *totals)
{
	for (uint32_t i = 0; i < book.payouts.count; i++)
	{
		const Payout *payout = book_payout(i);
		Totals		 *t = &totals[payout->currency];

		if (payout_is_automatic(payout))
			continue;
		t->used = true;
		t->payouts[payout->status]++;
		t->payout_sums[payout->status] += payout->amount;
	}
}

static void
put_totals(Buf *b, const char *currency, const Totals *t)
{
	json_open(b, currency, '{');
	json_int(b, "charges_succeeded", t->charges[CHARGE_SUCCEEDED]);
	json_int(b, "gross", t->gross);
	json_int(b, "fee", t->fee);
	json_int(b, "net", t->net);
	json_int(b, "charges_declined", t->charges[CHARGE_FAILED]);
	json_int(b, "charges_pending", t->charges[CHARGE_PENDING]);
	json_int(b, "charges_authorized", t->charges[CHARGE_AUTHORIZED]);
	json_int(b, "charges_voided", t->charges[CHARGE_VOIDED]);
	json_int(b, "refunds_succeeded", t->refunds);
	json_int(b, "refunds_sum", t->refunded);
	json_int(b, "disputes", t->disputes);
	json_int(b, "disputes_withdrawn", t->withdrawn);
	json_int(b, "dispute_fees", t->dispute_fees);
	json_int(b, "settled", t->settled);
	json_int(b, "settled_gross", t->settled_gross);
	json_int(b, "settled_fee", t->settled_fee);
	json_int(b, "payouts_paid", t->payouts[PAYOUT_PAID]);
	json_int(b, "payouts_paid_sum", t->payout_sums[PAYOUT_PAID]);
	json_int(b, "payouts_in_flight",
			 t->payouts[PAYOUT_PENDING] + t->payouts[PAYOUT_IN_TRANSIT]);
	json_int(b, "payouts_in_flight_sum",
			 t->payout_sums[PAYOUT_PENDING] +
				 t->payout_sums[PAYOUT_IN_TRANSIT]);
	json_int(b, "payouts_failed", t->payouts[PAYOUT_FAILED]);
	json_int(b, "payouts_failed_sum", t->payout_sums[PAYOUT_FAILED]);
	json_int(b, "payouts_canceled", t->payouts[PAYOUT_CANCELED]);
	json_close(b, '}');
}

void
control_book(Request *request)
{
	Buf	   *b = &request->answer.body;
	Totals *totals = xcalloc((size_t) currency_count(), sizeof(Totals));

	add_charges(totals);
	add_captures(totals);
	add_refunds(totals);
	add_disputes(totals);
	add_payouts(totals);
	json_open(b, NULL, '{');
	json_str(b, "object", "book");
	json_int(b, "payment_intents", book.intents.count);
	json_int(b, "charges", book.charges.count);
	json_int(b, "settlements", book.settlements.count);
	json_open(b, "currencies", '{');
	for (int i = 0; i < currency_count(); i++)
	{
		if (totals[i].used)
			put_totals(b, currency_lower(i), &totals[i]);
	}
	json_close(b, '}');
	json_close(b, '}');
	free(totals);
}

void
control_requests(Request *request)
{
	Buf *b = &request->answer.body;

	json_open(b, NULL, '{');
	json_open(b, "endpoints", '{');
	for (int i = 0; i < route_count(); i++)
	{
		const Route		  *route = route_at(i);
		const RouteCounts *c = route_counts(i);
		char			   name[128];

		if (strncmp(route->pattern, "/_sandbox/", 10) == 0)
			continue;
		snprintf(name, sizeof(name), "%s %s", route->method, route->pattern);
		json_open(b, name, '{');
		json_int(b, "requests", (int64_t) c->requests);
		json_int(b, "executed", (int64_t) c->executed);
		json_int(b, "replayed", (int64_t) c->replayed);
		json_int(b, "in_use", (int64_t) c->in_use);
		json_int(b, "mismatched", (int64_t) c->mismatched);
		json_close(b, '}');
	}
	json_close(b, '}');
	json_open(b, "faults", '{');
	for (int i = 0; i < FAULT_COUNT; i++)
		json_int(b, fault_name(i), (int64_t) fault_fired(i));
	json_close(b, '}');
	json_int(b, "distinct_keys", (int64_t) idempotency_distinct());
	json_int(b, "kept_keys", (int64_t) idempotency_kept());
	json_close(b, '}');
}

static void
answer_stream(Request *request, CsvStream *stream)
{
	request->answer.content_type = "text/csv; charset=utf-8";
	request->answer.stream = stream;
}

void
control_requests_csv(Request *request)
{
	answer_stream(request, request_log_stream());
}

static void
put_charge_row(Buf *b, const Charge *charge)
{
	static const char *const statuses[] = { "pending", "authorized",
											"voided",  "succeeded",
											"failed",  "captured" };
	const Intent			*intent = book_intent(charge->intent);

	const char *order = metadata_get(&intent->metadata, "payment_order");

	csv_field(b, public_id(intent->id));
	csv_field(b, public_id(charge->id));
	csv_field(b, order ? order : intent->reference);
	csv_field(b, metadata_get(&intent->metadata, "attempt"));
	csv_field(b, charge->idempotency_key);
	csv_int(b, charge->status == CHARGE_SUCCEEDED ? charge->amount_captured
												  : charge->amount);
	csv_field(b, currency_lower(charge->currency));
	csv_field(b, statuses[charge->status]);
	csv_time(b, charge->created_ms);
	csv_field(b, psp_name((Psp) intent->psp));
	csv_field(b, intent->reference);
	csv_int(b, charge->amount_refunded);
	csv_end(b, false);
}

static bool
fill_charges(CsvStream *stream)
{
	book_lock();
	for (int i = 0; i < ROWS_PER_FILL && stream->next < stream->end; i++)
		put_charge_row(&stream->pending,
					   book_charge((uint32_t) stream->next++));
	book_unlock();
	return stream->next < stream->end;
}

void
control_charges_csv(Request *request)
{
	CsvStream *stream = xcalloc(1, sizeof(CsvStream));

	stream->fill = fill_charges;
	stream->end = book.charges.count;
	buf_puts(&stream->pending,
			 "payment_intent_id,charge_id,payment_order,attempt,"
			 "idempotency_key,amount,currency,status,created,psp,reference,"
			 "amount_refunded\n");
	answer_stream(request, stream);
}

static void
put_payout_row(Buf *b, const Payout *payout)
{
	const char *name = metadata_get(&payout->metadata, "payout");

	csv_field(b, public_id(payout->id));
	csv_field(b, payout_is_automatic(payout) ? "yes" : "no");
	csv_field(b, payout->destination);
	csv_field(b, metadata_get(&payout->metadata, "payment_order"));
	csv_field(b, name ? name : payout->reference);
	csv_field(b, metadata_get(&payout->metadata, "attempt"));
	csv_field(b, payout->idempotency_key);
	csv_int(b, payout->amount);
	csv_field(b, currency_lower(payout->currency));
	csv_field(b, payout_status(payout));
	csv_time(b, payout->created_ms);
	csv_field(b, psp_name((Psp) payout->psp));
	csv_field(b, payout->reference);
	csv_end(b, false);
}

static bool
fill_payouts(CsvStream *stream)
{
	book_lock();
	for (int i = 0; i < ROWS_PER_FILL && stream->next < stream->end; i++)
		put_payout_row(&stream->pending,
					   book_payout((uint32_t) stream->next++));
	book_unlock();
	return stream->next < stream->end;
}

void
control_payouts_csv(Request *request)
{
	CsvStream *stream = xcalloc(1, sizeof(CsvStream));

	stream->fill = fill_payouts;
	stream->end = book.payouts.count;
	buf_puts(&stream->pending,
			 "payout_id,automatic,destination,payment_order,payout,attempt,"
			 "idempotency_key,amount,currency,status,created,psp,"
			 "reference\n");
	answer_stream(request, stream);
}

void
control_faults(Request *request)
{
	fault_json(&request->answer.body);
}

void
control_set_faults(Request *request)
{
	const char *problem = fault_apply(request->params);

	if (problem != NULL)
		answer_invalid(request, NULL, NULL, "Faults not changed: %s.",
					   problem);
	else
		fault_json(&request->answer.body);
}
