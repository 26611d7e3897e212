/*
 * dispute.c
 *		Disputes: opened by the payer's bank, answered by the merchant, decided
 *		by the bank. Whether the money is withdrawn follows from the status.
 */
#include "dispute.h"

#include <stdio.h>
#include <string.h>

#include "balance.h"
#include "charge.h"
#include "currency.h"
#include "journal.h"
#include "json.h"
#include "listing.h"
#include "options.h"
#include "payment_intent.h"
#include "stripe_event.h"
#include "timer.h"

#define RESPOND_WITHIN_S (7 * 24 * 3600)
#define RESPOND_WITHIN_S_MAX (365 * 24 * 3600)
#define EVIDENCE_MAX 20000

static const char *const statuses[] = { "warning_needs_response",
										"warning_under_review",
										"warning_closed",
										"needs_response",
										"under_review",
										"won",
										"lost",
										"prevented",
										NULL };

static const char *const reasons[] = { "general",
									   "bank_cannot_process",
									   "check_returned",
									   "credit_not_processed",
									   "customer_initiated",
									   "debit_not_authorized",
									   "duplicate",
									   "fraudulent",
									   "incorrect_account_details",
									   "insufficient_funds",
									   "noncompliant",
									   "product_not_received",
									   "product_unacceptable",
									   "subscription_canceled",
									   "unrecognized",
									   NULL };

static const char *const evidence_keys[] = { "access_activity_log",
											 "billing_address",
											 "cancellation_policy",
											 "cancellation_policy_disclosure",
											 "cancellation_rebuttal",
											 "customer_communication",
											 "customer_email_address",
											 "customer_name",
											 "customer_purchase_ip",
											 "customer_signature",
											 "duplicate_charge_documentation",
											 "duplicate_charge_explanation",
											 "duplicate_charge_id",
											 "product_description",
											 "receipt",
											 "refund_policy",
											 "refund_policy_disclosure",
											 "refund_refusal_explanation",
											 "service_date",
											 "service_documentation",
											 "shipping_address",
											 "shipping_carrier",
											 "shipping_date",
											 "shipping_documentation",
											 "shipping_tracking_number",
											 "uncategorized_file",
											 "uncategorized_text",
											 NULL };

static bool
is_inquiry(const Dispute *dispute)
{
	return dispute->status <= DISPUTE_WARNING_CLOSED;
}

/* Once it is a chargeback the money is gone, unless it was won. */
static bool
takes_money(DisputeStatus status)
{
	return status == DISPUTE_NEEDS_RESPONSE ||
		   status == DISPUTE_UNDER_REVIEW || status == DISPUTE_LOST;
}

static bool
is_closed(DisputeStatus status)
{
	return status == DISPUTE_WARNING_CLOSED || status >= DISPUTE_WON;
}

static bool
needs_response(DisputeStatus status)
{
	return status == DISPUTE_WARNING_NEEDS_RESPONSE ||
		   status == DISPUTE_NEEDS_RESPONSE;
}

bool
dispute_blocks_refund(const Charge *charge)
{
	return charge->dispute != NONE && book_dispute(charge->dispute)->withdrawn;
}

static void
put_evidence(Buf *b, const Dispute *dispute)
{
	json_open(b, "evidence", '{');
	for (int i = 0; evidence_keys[i] != NULL; i++)
		json_str(b, evidence_keys[i],
				 metadata_get(&dispute->evidence, evidence_keys[i]));
	json_close(b, '}');
	json_open(b, "evidence_details", '{');
	json_int(b, "due_by", dispute->respond_by_ms / 1000);
	json_bool(b, "has_evidence", dispute->evidence.count > 0);
	json_bool(b, "past_due", dispute->respond_by_ms < book.now_ms);
	json_int(b, "submission_count", dispute->submissions);
	json_close(b, '}');
}

static void
put_transactions(Buf *b, const Dispute *dispute)
{
	json_open(b, "balance_transactions", '[');
	for (uint32_t i = 0; i < dispute->tx_count; i++)
		balance_tx_json(b, NULL, book_balance_tx(dispute->txs[i]));
	json_close(b, ']');
}

void
dispute_json(Buf *b, const char *key, const Dispute *dispute)
{
	const Charge *charge = book_charge(dispute->charge);
	const char	 *code = dispute->reason == 7 ? "10.4" : "13.1";

	json_open(b, key, '{');
	json_str(b, "id", dispute->id);
	json_str(b, "object", "dispute");
	json_int(b, "amount", dispute->amount);
	put_transactions(b, dispute);
	json_str(b, "charge", charge->id);
	json_int(b, "created", dispute->created_ms / 1000);
	json_str(b, "currency", currency_lower(dispute->currency));
	put_evidence(b, dispute);
	json_bool(b, "is_charge_refundable", !dispute_blocks_refund(charge));
	json_bool(b, "livemode", false);
	metadata_json(b, &dispute->metadata);
	json_str(b, "network_reason_code", code);
	json_str(b, "payment_intent", book_intent(charge->intent)->id);
	json_open(b, "payment_method_details", '{');
	json_open(b, "card", '{');
	json_str(b, "brand", "visa");
	json_str(b, "case_type", dispute->tx_count > 0 ? "chargeback" : "inquiry");
	json_str(b, "network_reason_code", code);
	json_close(b, '}');
	json_str(b, "type", "card");
	json_close(b, '}');
	json_str(b, "reason", reasons[dispute->reason]);
	json_str(b, "status", statuses[dispute->status]);
	json_close(b, '}');
}

static void
answer_dispute(Request *request, const Dispute *dispute)
{
	request->answer.status = 200;
	dispute_json(&request->answer.body, NULL, dispute);
}

void
dispute_move_money(Dispute *dispute, bool withdrawn)
{
	const Charge *charge = book_charge(dispute->charge);
	BalanceTx	 *tx = withdrawn
						   ? charge_new_tx(charge, TX_DISPUTE, dispute->number,
										   -dispute->amount, options.dispute_fee)
						   : charge_new_tx(charge, TX_DISPUTE_REVERSAL,
										   dispute->number, dispute->amount, 0);

	dispute->txs =
		xrealloc(dispute->txs, (dispute->tx_count + 1) * sizeof(uint32_t));
	dispute->txs[dispute->tx_count++] = tx->number;
	dispute->withdrawn = withdrawn;
}

static void
set_due(Dispute *dispute, int64_t due_ms, DisputeStatus then)
{
	dispute->due_ms = due_ms;
	dispute->then = (uint8_t) then;
	timer_add_dispute(dispute);
}

/* Every change of the status, the first one included, goes through here. */
static void
move(Dispute *dispute, DisputeStatus status, const char *event)
{
	bool moves_money = takes_money(status) != dispute->withdrawn;

	dispute->status = (uint8_t) status;
	dispute->due_ms = 0;
	if (moves_money)
		dispute_move_money(dispute, !dispute->withdrawn);
	if (needs_response(status))
		set_due(dispute, dispute->respond_by_ms,
				is_inquiry(dispute) ? DISPUTE_WARNING_CLOSED : DISPUTE_LOST);
	journal_dispute(dispute);
	stripe_event_dispute(event, dispute);
	if (moves_money)
		stripe_event_dispute(dispute->withdrawn
								 ? "charge.dispute.funds_withdrawn"
								 : "charge.dispute.funds_reinstated",
							 dispute);
	if (is_closed(status))
		stripe_event_dispute("charge.dispute.closed", dispute);
}

void
dispute_finish(Dispute *dispute)
{
	move(dispute, (DisputeStatus) dispute->then, "charge.dispute.updated");
}

static Dispute *
open_dispute(Charge *charge, int64_t amount, int reason, bool inquiry,
			 int64_t respond_within_s)
{
	Dispute *dispute = book_new_dispute(charge);

	dispute->amount = amount;
	dispute->reason = (uint8_t) reason;
	dispute->respond_by_ms = book.now_ms + respond_within_s * 1000;
	charge->dispute = dispute->number;
	journal_charge(charge);
	move(dispute,
		 inquiry ? DISPUTE_WARNING_NEEDS_RESPONSE : DISPUTE_NEEDS_RESPONSE,
		 "charge.dispute.created");
	return dispute;
}

void
dispute_open_for_card(const Intent *intent)
{
	static const struct
	{
		const char *method;
		int			reason;
		bool		inquiry;
	} cards[] = { { "pm_card_createDispute", 7, false },
				  { "pm_card_createDisputeProductNotReceived", 11, false },
				  { "pm_card_createDisputeInquiry", 7, true } };
	Charge *charge = intent->status == INTENT_SUCCEEDED
						 ? book_charge(intent->latest_charge)
						 : NULL;

	for (size_t i = 0; charge != NULL && i < sizeof(cards) / sizeof(cards[0]);
		 i++)
	{
		if (strcmp(charge->payment_method, cards[i].method) == 0)
			open_dispute(charge, charge->amount_captured, cards[i].reason,
						 cards[i].inquiry, RESPOND_WITHIN_S);
	}
}

static Dispute *
find_dispute(Request *request, const char *id)
{
	Dispute *dispute = book_find_dispute(PSP_STRIPE, id);

	if (dispute == NULL)
		answer_missing_object(request, "dispute", "dispute", id);
	return dispute;
}

bool
dispute_prepare_get(Request *request)
{
	return params_known(request) && find_dispute(request, request->id) != NULL;
}

void
dispute_get(Request *request)
{
	answer_dispute(request, find_dispute(request, request->id));
}

/* Checks and, when asked to, stores the evidence of the request. */
static bool
take_evidence(Request *request, Metadata *evidence)
{
	char name[64];

	for (int i = 0; evidence_keys[i] != NULL; i++)
	{
		const char *value;

		snprintf(name, sizeof(name), "evidence[%s]", evidence_keys[i]);
		if (!param_text(request, name, EVIDENCE_MAX, &value))
			return false;
		if (value != NULL && evidence != NULL)
			metadata_set(evidence, evidence_keys[i], value);
	}
	return true;
}

bool
dispute_prepare_update(Request *request)
{
	bool *submits = xcalloc(1, sizeof(bool));

	request->prepared = submits;
	*submits = true;
	return take_evidence(request, NULL) &&
		   param_bool(request, "submit", submits, NULL) &&
		   param_metadata(request) && params_known(request) &&
		   find_dispute(request, request->id) != NULL;
}

/* As the vendor's own test evidence decides it. */
static void
decide_by_evidence(Dispute *dispute)
{
	const char *text = metadata_get(&dispute->evidence, "uncategorized_text");
	bool		warning = is_inquiry(dispute);
	int64_t		due_ms = book.now_ms + options.modification_delay_ms;

	if (text == NULL)
		return;
	if (strcmp(text, "winning_evidence") == 0)
		set_due(dispute, due_ms,
				warning ? DISPUTE_WARNING_CLOSED : DISPUTE_WON);
	else if (strcmp(text, "losing_evidence") == 0)
		set_due(dispute, due_ms,
				warning ? DISPUTE_NEEDS_RESPONSE : DISPUTE_LOST);
}

void
dispute_update(Request *request)
{
	const bool *submits = request->prepared;
	Dispute	   *dispute = find_dispute(request, request->id);

	if (!needs_response((DisputeStatus) dispute->status))
	{
		answer_invalid(request, NULL, NULL,
					   "This dispute takes no evidence any more.");
		return;
	}
	request->executed = true;
	take_evidence(request, &dispute->evidence);
	request_metadata(request, &dispute->metadata);
	if (*submits && dispute->evidence.count > 0)
	{
		dispute->submissions++;
		move(dispute,
			 is_inquiry(dispute) ? DISPUTE_WARNING_UNDER_REVIEW
								 : DISPUTE_UNDER_REVIEW,
			 "charge.dispute.updated");
		decide_by_evidence(dispute);
	}
	else
		stripe_event_dispute("charge.dispute.updated", dispute);
	journal_dispute(dispute);
	answer_dispute(request, dispute);
}

bool
dispute_prepare_close(Request *request)
{
	return dispute_prepare_get(request);
}

void
dispute_close(Request *request)
{
	Dispute *dispute = find_dispute(request, request->id);

	if (dispute->status != DISPUTE_NEEDS_RESPONSE)
	{
		answer_invalid(request, NULL, NULL,
					   "Only a dispute that needs a response can be closed.");
		return;
	}
	request->executed = true;
	move(dispute, DISPUTE_LOST, "charge.dispute.updated");
	answer_dispute(request, dispute);
}

static int64_t
dispute_created_s(uint32_t number)
{
	return book_dispute(number)->created_ms / 1000;
}

static uint32_t
dispute_number(const char *id)
{
	const Dispute *dispute = book_find_dispute(PSP_STRIPE, id);

	return dispute ? dispute->number : NONE;
}

static void
put_dispute(Buf *b, uint32_t number, unsigned expand)
{
	(void) expand;
	dispute_json(b, NULL, book_dispute(number));
}

static const ListSource dispute_source = { .url = "/v1/disputes",
										   .kind = "dispute",
										   .shelf = &book.disputes,
										   .created_s = dispute_created_s,
										   .number_of = dispute_number,
										   .put = put_dispute };

static bool
is_wanted(uint32_t number, const ListParams *params)
{
	const Charge *charge = book_charge(book_dispute(number)->charge);

	return charge_psp(charge) == PSP_STRIPE &&
		   list_wants_charge(params, charge);
}

bool
dispute_prepare_list(Request *request)
{
	return list_prepare(request, &dispute_source) &&
		   list_prepare_charge(request) && params_known(request);
}

void
dispute_list(Request *request)
{
	list_answer(request, &dispute_source, is_wanted);
}

/* A bank may change its mind, but an inquiry does not come back. */
static bool
can_move(const Dispute *dispute, DisputeStatus to)
{
	if (dispute->status == (uint8_t) to)
		return false;
	return is_inquiry(dispute) ? to != DISPUTE_WON
							   : to > DISPUTE_WARNING_CLOSED;
}

static void
move_by_request(Request *request, const char *id)
{
	int		 status = -1;
	Dispute *dispute;

	if (!param_choice(request, "status", statuses, &status) ||
		!params_known(request))
		return;
	dispute = find_dispute(request, id);
	if (dispute == NULL)
		return;
	if (status < 0 || !can_move(dispute, (DisputeStatus) status))
	{
		answer_invalid(request, NULL, "status",
					   "A dispute that is %s does not become that.",
					   statuses[dispute->status]);
		return;
	}
	if (needs_response((DisputeStatus) status))
		dispute->respond_by_ms = book.now_ms + 1000LL * RESPOND_WITHIN_S;
	move(dispute, (DisputeStatus) status, "charge.dispute.updated");
	answer_dispute(request, dispute);
}

void
control_disputes(Request *request)
{
	static const char *const stages[] = { "chargeback", "inquiry", NULL };
	const char				*id = form_take(request->params, "dispute");
	const char				*charge_id;
	Charge					*charge;
	int64_t					 amount = 0;
	int64_t					 within_s = RESPOND_WITHIN_S;
	int						 reason = 0;
	int						 stage = 0;

	if (id != NULL)
	{
		move_by_request(request, id);
		return;
	}
	if (!param_required(request, "charge", &charge_id) ||
		!param_int(request, "amount", 1, AMOUNT_MAX, &amount) ||
		!param_int(request, "respond_within_s", 0, RESPOND_WITHIN_S_MAX,
				   &within_s) ||
		!param_choice(request, "reason", reasons, &reason) ||
		!param_choice(request, "stage", stages, &stage) ||
		!params_known(request))
		return;
	charge = book_find_charge(PSP_STRIPE, charge_id);
	if (charge == NULL)
		answer_missing_object(request, "charge", "charge", charge_id);
	else if (charge->status != CHARGE_SUCCEEDED ||
			 amount > charge->amount_captured || dispute_blocks_refund(charge))
		answer_invalid(request, NULL, "charge",
					   "This charge cannot be disputed, or not for so much.");
	else
		answer_dispute(request,
					   open_dispute(charge,
									amount > 0 ? amount
											   : charge->amount_captured,
									reason, stage == 1, within_s));
}
