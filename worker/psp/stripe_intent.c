/*-------------------------------------------------------------------------
 *
 * stripe_intent.c
 *	  What a PaymentIntent says: of a payment, of a capture, of a void.
 *
 * Stripe has one object for all three.  It tells what was captured of it in
 * all, so that a capture is what that comes to beyond the captures before.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "psp/settled.h"
#include "psp/stripe.h"

/* Amount and currency of the object; false when it does not say them. */
bool
stripe_read_money(const JsonDocument *json, const JsonNode *object,
				  const char *amount_name, PspOutcome *outcome)
{
	if (!json_int64(json, json_member(json, object, amount_name),
					&outcome->amount) ||
		outcome->amount < 0 ||
		!member_currency(json, object, "currency", outcome->currency))
		return false;
	outcome->has_amount = true;
	return true;
}

void
stripe_read_settled(const JsonDocument *json, const JsonNode *object,
					bool leaves, PspOutcome *outcome)
{
	const JsonNode *tx = json_member(json, object, "balance_transaction");
	PspSettled		settled = { .has_fee = !leaves };

	if (tx == NULL || tx->type != JSON_OBJECT ||
		!json_int64(json, json_member(json, tx, "amount"), &settled.amount) ||
		!json_int64(json, json_member(json, tx, "fee"), &settled.fee) ||
		!member_currency(json, tx, "currency", settled.currency) ||
		settled.amount < -PSP_SETTLED_AMOUNT_MAX)
		return;
	if (leaves)
		settled.amount = -settled.amount;
	settled.rate = member_rate(json, tx, "exchange_rate");
	outcome_settled(outcome, &settled);
}

/* When what is reserved goes back by itself, where the charge is shown */
static int64
read_capture_before(const JsonDocument *json, const JsonNode *object)
{
	const JsonNode *charge = json_member(json, object, "latest_charge");
	const JsonNode *card =
		json_member(json, json_member(json, charge, "payment_method_details"),
					"card");
	int64 until_s;

	if (!json_int64(json, json_member(json, card, "capture_before"),
					&until_s) ||
		until_s < 0)
		return 0;
	return until_s;
}

static void
read_authorized(const JsonDocument *json, const JsonNode *object,
				PspOutcome *outcome)
{
	outcome->kind = PSP_AUTHORIZED;
	if (stripe_read_money(json, object, "amount_capturable", outcome))
		outcome->authorized_until_s = read_capture_before(json, object);
	else
		outcome_unreadable(outcome);
}

/* What was reserved is not any more. */
static void
read_gone(const JsonDocument *json, const JsonNode *object,
		  PspOutcome *outcome)
{
	if (member_equals(json, object, "cancellation_reason", "automatic"))
		outcome_error(outcome, PSP_EXPIRED, "expired",
					  "the authorization has expired");
	else
		outcome_error(outcome, PSP_VOIDED, "canceled",
					  "the authorization was cancelled at the PSP");
}

static bool
was_authorized(const JsonDocument *json, const JsonNode *object)
{
	const JsonNode *charge = json_member(json, object, "latest_charge");
	const JsonNode *error = json_member(json, object, "last_payment_error");

	return member_equals(json, object, "capture_method", "manual") && charge &&
		   charge->type != JSON_NULL &&
		   (error == NULL || error->type == JSON_NULL);
}

static void
read_canceled(const JsonDocument *json, const JsonNode *object,
			  PspOutcome *outcome)
{
	if (was_authorized(json, object))
		read_gone(json, object, outcome);
	else
		outcome_failed(outcome, "canceled",
					   "the payment was cancelled at the PSP");
}

/* So says a lookup of one that was declined. */
static void
read_declined(const JsonDocument *json, const JsonNode *object,
			  const char *status, PspOutcome *outcome)
{
	const JsonNode *error = json_member(json, object, "last_payment_error");
	const char	   *code =
		member_text(json, error, "decline_code", PSP_CODE_LENGTH_MAX);

	/* without one, nobody has tried to charge it yet */
	if (error == NULL || error->type != JSON_OBJECT)
	{
		outcome_unknown_status(outcome, status);
		return;
	}
	if (code == NULL)
		code = member_text(json, error, "code", PSP_CODE_LENGTH_MAX);
	outcome_error(outcome, PSP_DECLINED, code ? code : "declined",
				  member_text(json, error, "message", PSP_MESSAGE_LENGTH_MAX));
}

static void
read_received(const JsonDocument *json, const JsonNode *object,
			  PspOutcome *outcome)
{
	outcome->kind = PSP_SUCCEEDED;
	if (!stripe_read_money(json, object, "amount_received", outcome) &&
		!stripe_read_money(json, object, "amount", outcome))
		outcome_unreadable(outcome);
	stripe_read_settled(json, json_member(json, object, "latest_charge"),
						false, outcome);
}

void
stripe_read_payment_intent(const JsonDocument *json, const JsonNode *object,
						   const char *status, PspOutcome *outcome)
{
	if (strcmp(status, "succeeded") == 0)
		read_received(json, object, outcome);
	else if (strcmp(status, "requires_capture") == 0 &&
			 member_equals(json, object, "capture_method", "manual"))
		read_authorized(json, object, outcome);
	else if (strcmp(status, "processing") == 0 ||
			 strcmp(status, "requires_capture") == 0 ||
			 strcmp(status, "requires_action") == 0)
		outcome->kind = PSP_PENDING;
	else if (strcmp(status, "requires_payment_method") == 0)
		read_declined(json, object, status, outcome);
	else if (strcmp(status, "canceled") == 0)
		read_canceled(json, object, outcome);
	else
		outcome_unknown_status(outcome, status);
}

void
stripe_read_capture(const PspTask *task, const JsonDocument *json,
					const JsonNode *object, const char *status,
					PspOutcome *outcome)
{
	bool is_open = strcmp(status, "requires_capture") == 0;

	if (is_open || strcmp(status, "succeeded") == 0)
	{
		outcome->kind = PSP_SUCCEEDED;
		if (!stripe_read_money(json, object, "amount_received", outcome))
			outcome_unreadable(outcome);
		else
		{
			outcome_captured_in_all(task, is_open, outcome);
			stripe_read_settled(json,
								json_member(json, object, "latest_charge"),
								false, outcome);
		}
	}
	else if (strcmp(status, "processing") == 0)
		outcome->kind = PSP_PENDING;
	else if (strcmp(status, "requires_payment_method") == 0)
		read_declined(json, object, status, outcome);
	else if (strcmp(status, "canceled") == 0)
		read_gone(json, object, outcome);
	else
		outcome_unknown_status(outcome, status);
}

void
stripe_read_void(const PspTask *task, const JsonDocument *json,
				 const JsonNode *object, const char *status,
				 PspOutcome *outcome)
{
	if (strcmp(status, "canceled") == 0)
		read_gone(json, object, outcome);
	else if (strcmp(status, "succeeded") == 0)
		outcome_failed(outcome, "already_captured",
					   "what was authorized has been captured");
	else if (strcmp(status, "requires_capture") == 0 &&
			 task->step == PSP_STEP_LOOKUP)
		outcome_error(outcome, PSP_NOT_FOUND, "not_found",
					  "the authorization is not voided");
	else
		outcome_unknown_status(outcome, status);
}
