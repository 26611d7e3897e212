/*-------------------------------------------------------------------------
 *
 * stripe_answer_fuzz.c
 *	  What Stripe's answers mean, case by case, and that no damaged answer
 *	  ever means money.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "answer.h"

#define INTENT(status, more)                                          \
	"{\"id\":\"pi_1\",\"object\":\"payment_intent\",\"amount\":1099," \
	"\"currency\":\"eur\",\"metadata\":{\"payment_order\":\"" ORDER   \
	"\",\"attempt\":\"1\"},\"status\":\"" status "\"" more "}"
#define OURS "\"metadata\":{\"payment_order\":\"" ORDER "\"},"
#define PAYOUT(status, more)                                 \
	"{\"id\":\"po_1\",\"object\":\"payout\",\"amount\":500," \
	"\"currency\":\"usd\",\"metadata\":{\"payout\":\"" ORDER \
	"\",\"attempt\":\"1\"},\"status\":\"" status "\"" more "}"
#define FOREIGN                                                     \
	"{\"id\":\"pi_0\",\"object\":\"payment_intent\",\"amount\":1,"  \
	"\"currency\":\"eur\",\"metadata\":{\"payment_order\":\"" OTHER \
	"\",\"attempt\":\"1\"},\"status\":\"succeeded\"}"
#define LATER_ATTEMPT                                               \
	"{\"id\":\"pi_9\",\"object\":\"payment_intent\",\"amount\":1,"  \
	"\"currency\":\"eur\",\"metadata\":{\"payment_order\":\"" ORDER \
	"\",\"attempt\":\"2\"},\"status\":\"succeeded\"}"
#define LIST(data, more) \
	"{\"object\":\"list\",\"data\":[" data "],\"has_more\":" more "}"
#define FAULT(type, code, more)                          \
	"{\"error\":{\"type\":\"" type "\",\"code\":\"" code \
	"\",\"message\":\"no\"" more "}}"

typedef enum Question
{
	PAY,
	PAY_AGAIN,	 /* an earlier request may have been executed */
	LOOK_UP_PAY, /* by listing */
	LOOK_UP_PAY_BY_NAME,
	SEND_PAYOUT,
	LOOK_UP_PAYOUT,
	QUESTION_COUNT
} Question;

static const Case cases[] = {
	{ "succeeded", PAY, 200, "", INTENT("succeeded", ""), PSP_SUCCEEDED, 1099,
	  "EUR", NULL },
	{ "amount received counts", PAY, 200, "",
	  INTENT("succeeded", ",\"amount_received\":7"), PSP_SUCCEEDED, 7, "EUR",
	  NULL },
	{ "largest amount", PAY, 200, "",
	  INTENT("succeeded", ",\"amount_received\":9223372036854775807"),
	  PSP_SUCCEEDED, PG_INT64_MAX, "EUR", NULL },
	{ "S13 amount beyond int64, twice", PAY, 200, "",
	  "{\"id\":\"pi_1\",\"object\":\"payment_intent\"," OURS "\"status\":"
	  "\"succeeded\",\"amount\":9223372036854775808,\"currency\":\"eur\"}",
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "S13 amount with a fraction", PAY, 200, "",
	  "{\"id\":\"pi_1\",\"object\":\"payment_intent\"," OURS "\"status\":"
	  "\"succeeded\",\"amount\":10.99,\"currency\":\"eur\"}",
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "S13 amount with an exponent", PAY, 200, "",
	  "{\"id\":\"pi_1\",\"object\":\"payment_intent\"," OURS "\"status\":"
	  "\"succeeded\",\"amount\":1e3,\"currency\":\"eur\"}",
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "S13 negative amount", PAY, 200, "",
	  "{\"id\":\"pi_1\",\"object\":\"payment_intent\"," OURS "\"status\":"
	  "\"succeeded\",\"amount\":-1099,\"currency\":\"eur\"}",
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "another order's payment", PAY, 200, "", FOREIGN, PSP_UNKNOWN, -1, "",
	  "unreadable_answer" },
	{ "nobody's payment", PAY, 200, "",
	  "{\"id\":\"pi_1\",\"object\":\"payment_intent\",\"status\":"
	  "\"succeeded\",\"amount\":1099,\"currency\":\"eur\"}",
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "another order's decline", PAY, 402, "",
	  FAULT("card_error", "card_declined", ",\"payment_intent\":" FOREIGN),
	  PSP_UNKNOWN, -1, "", "card_declined" },
	{ "S13 no currency", PAY, 200, "",
	  "{\"id\":\"pi_1\",\"object\":\"payment_intent\"," OURS "\"status\":"
	  "\"succeeded\",\"amount\":1099}",
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "processing", PAY, 200, "", INTENT("processing", ""), PSP_PENDING,
	  NONE },
	{ "requires_capture", PAY, 200, "", INTENT("requires_capture", ""),
	  PSP_PENDING, NONE },
	{ "requires_action", PAY, 200, "", INTENT("requires_action", ""),
	  PSP_PENDING, NONE },
	{ "canceled", PAY, 200, "", INTENT("canceled", ""), PSP_FAILED, -1, "",
	  "canceled" },
	{ "a status nobody knows", PAY, 200, "", INTENT("tokenizing", ""),
	  PSP_UNKNOWN, -1, "", "unknown_status" },
	{ "S13 html", PAY, 200, "", "<html>welcome</html>", PSP_UNKNOWN, -1, "",
	  "unreadable_answer" },
	{ "S13 empty", PAY, 200, "", "", PSP_UNKNOWN, -1, "",
	  "unreadable_answer" },
	{ "S13 another object", PAY, 200, "", PAYOUT("paid", ""), PSP_UNKNOWN, -1,
	  "", "unreadable_answer" },
	{ "S13 two documents", PAY, 200, "",
	  INTENT("succeeded", "") INTENT("succeeded", ""), PSP_UNKNOWN, -1, "",
	  "unreadable_answer" },
	{ "S13 not UTF-8", PAY, 200, "",
	  INTENT("succeeded", ",\"description\":\"\xff\""), PSP_UNKNOWN, -1, "",
	  "unreadable_answer" },
	{ "redirect", PAY, 302, "Location: http://x/\r\n", "", PSP_UNKNOWN, -1, "",
	  "http_302" },
	{ "declined", PAY, 402, "",
	  FAULT("card_error", "card_declined",
			",\"decline_code\":\"insufficient_funds\",\"payment_intent\":"
			"{\"id\":\"pi_7\"}"),
	  PSP_DECLINED, -1, "", "insufficient_funds / soft" },
	{ "expired card", PAY, 402, "", FAULT("card_error", "expired_card", ""),
	  PSP_DECLINED, -1, "", "expired_card" },
	{ "S12 a decline stays one, whatever is advised", PAY, 402,
	  "Stripe-Should-Retry: true\r\n",
	  FAULT("card_error", "card_declined", ""), PSP_DECLINED, -1, "",
	  "card_declined" },
	{ "the payer is needed", PAY, 402, "",
	  FAULT("card_error", "authentication_required", ""), PSP_DECLINED, -1, "",
	  "authentication_required / authentication_required" },
	{ "invalid", PAY, 400, "",
	  FAULT("invalid_request_error", "parameter_missing", ""), PSP_FAILED, -1,
	  "", "parameter_missing" },
	{ "invalid, though the first request may have been executed", PAY_AGAIN,
	  400, "", FAULT("invalid_request_error", "parameter_missing", ""),
	  PSP_UNKNOWN, -1, "", "parameter_missing" },
	{ "declined, which a replay says as well", PAY_AGAIN, 402, "",
	  FAULT("card_error", "card_declined", ""), PSP_DECLINED, -1, "",
	  "card_declined / hard" },
	{ "S12 invalid, but to be tried again", PAY, 400,
	  "stripe-should-retry: TRUE\r\n", FAULT("invalid_request_error", "x", ""),
	  PSP_RETRY, -1, "", "x" },
	{ "400 without a reason", PAY, 400, "", "bad", PSP_UNKNOWN, -1, "",
	  "http_400" },
	{ "rate limit as 400", PAY, 400, "",
	  FAULT("invalid_request_error", "rate_limit", ""), PSP_RETRY, -1, "",
	  "rate_limit" },
	{ "other parameters under the key", PAY, 400, "",
	  FAULT("idempotency_error", "", ""), PSP_UNKNOWN, -1, "",
	  "idempotency_error" },
	{ "no access", PAY, 401, "", FAULT("invalid_request_error", "", ""),
	  PSP_RETRY, -1, "", "invalid_request_error" },
	{ "S11 conflict", PAY, 409, "",
	  FAULT("idempotency_error", "idempotency_key_in_use", ""), PSP_RETRY, -1,
	  "", "idempotency_key_in_use" },
	{ "S11 too many requests", PAY, 429, "Retry-After: 3\r\n", "", PSP_RETRY,
	  -1, "", "http_429" },
	{ "S12 conflict, not to be tried again", PAY, 409,
	  "Content-Type: x\r\nStripe-Should-Retry: false\r\n", "", PSP_UNKNOWN, -1,
	  "", "http_409" },
	{ "500", PAY, 500, "", FAULT("api_error", "", ""), PSP_UNKNOWN, -1, "",
	  "api_error" },
	{ "S12 500, to be tried again", PAY, 503, "Stripe-Should-Retry: true\r\n",
	  "", PSP_RETRY, -1, "", "http_503" },
	{ "S12 500, not to be tried again", PAY, 500,
	  "Stripe-Should-Retry: false\r\n", "", PSP_UNKNOWN, -1, "", "http_500" },
	{ "S09 500 replayed", PAY, 500,
	  "Idempotent-Replayed: true\r\nStripe-Should-Retry: true\r\n", "",
	  PSP_KEY_SPENT, -1, "", "replayed_error" },

	{ "found in the list", LOOK_UP_PAY, 200, "",
	  LIST(FOREIGN "," LATER_ATTEMPT "," INTENT("succeeded", ""), "true"),
	  PSP_SUCCEEDED, 1099, "EUR", NULL },
	{ "found declined", LOOK_UP_PAY, 200, "",
	  LIST(INTENT("requires_payment_method",
				  ",\"last_payment_error\":{\"code\":\"card_declined\","
				  "\"decline_code\":\"lost_card\"}"),
		   "false"),
	  PSP_DECLINED, -1, "", "lost_card / hard" },
	{ "found before anybody tried to charge it", LOOK_UP_PAY, 200, "",
	  LIST(INTENT("requires_payment_method", ",\"last_payment_error\":null"),
		   "false"),
	  PSP_UNKNOWN, -1, "", "unknown_status" },
	{ "not in the list", LOOK_UP_PAY, 200, "", LIST(FOREIGN, "false"),
	  PSP_NOT_FOUND, -1, "", "not_found" },
	{ "empty list", LOOK_UP_PAY, 200, "", LIST("", "false"), PSP_NOT_FOUND, -1,
	  "", "not_found" },
	{ "more to list", LOOK_UP_PAY, 200, "", LIST(FOREIGN, "true"), PSP_MORE,
	  NONE },
	{ "more, but after what", LOOK_UP_PAY, 200, "", LIST("", "true"),
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "a list that does not say whether it is whole", LOOK_UP_PAY, 200, "",
	  "{\"data\":[]}", PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "an object is no list", LOOK_UP_PAY, 200, "", INTENT("succeeded", ""),
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "lookup refused", LOOK_UP_PAY, 400, "",
	  FAULT("invalid_request_error", "x", ""), PSP_UNKNOWN, -1, "", "x" },
	{ "lookup declined", LOOK_UP_PAY, 402, "", FAULT("card_error", "x", ""),
	  PSP_UNKNOWN, -1, "", "x" },
	{ "found by name", LOOK_UP_PAY_BY_NAME, 200, "", INTENT("succeeded", ""),
	  PSP_SUCCEEDED, 1099, "EUR", NULL },
	{ "another by name", LOOK_UP_PAY_BY_NAME, 200, "", FOREIGN, PSP_UNKNOWN,
	  -1, "", "unreadable_answer" },
	{ "gone by name", LOOK_UP_PAY_BY_NAME, 404, "",
	  FAULT("invalid_request_error", "resource_missing", ""), PSP_UNKNOWN, -1,
	  "", "resource_missing" },

	{ "payout on its way", SEND_PAYOUT, 200, "", PAYOUT("pending", ""),
	  PSP_PENDING, NONE },
	{ "payout paid", LOOK_UP_PAYOUT, 200, "",
	  LIST(PAYOUT("paid", ""), "false"), PSP_SUCCEEDED, 500, "USD", NULL },
	{ "payout in transit", LOOK_UP_PAYOUT, 200, "",
	  LIST(PAYOUT("in_transit", ""), "false"), PSP_PENDING, NONE },
	{ "payout failed", LOOK_UP_PAYOUT, 200, "",
	  LIST(PAYOUT("failed", ",\"failure_code\":\"account_closed\""), "false"),
	  PSP_FAILED, -1, "", "account_closed" },
	{ "payout refused", SEND_PAYOUT, 400, "",
	  FAULT("invalid_request_error", "balance_insufficient", ""), PSP_FAILED,
	  -1, "", "balance_insufficient" },
};

static void
set_question(int question, PspTask *task)
{
	task->operation = question == SEND_PAYOUT || question == LOOK_UP_PAYOUT
						  ? PSP_OPERATION_PAYOUT
						  : PSP_OPERATION_PAY;
	task->step =
		question == PAY || question == PAY_AGAIN || question == SEND_PAYOUT
			? PSP_STEP_SEND
			: PSP_STEP_LOOKUP;
	task->repeated = question == PAY_AGAIN;
	if (question == LOOK_UP_PAY_BY_NAME)
		task->psp_reference = "pi_1";
}

static void
check_requests(void)
{
	PspTask	   task = make_task(PAY);
	PspRequest request;
	PspOutcome outcome;

	build(&task, &request, &outcome);
	if (strcmp(request.url.data,
			   "https://api.example.com/v1/payment_intents") != 0)
		fail("request", request.url.data);
	require_text("request", request.body.data, "amount=1099&currency=eur&");
	require_text("request", request.body.data,
				 "description=50%25%20off%20%26%20more%0A%3D%22&");
	require_text("request", request.body.data, "metadata%5Battempt%5D=1");

	task = make_task(LOOK_UP_PAY);
	build(&task, &request, &outcome);
	require_text("listing", request.url.data, "created%5Bgte%5D=999880&");
	require_text("listing", request.url.data, "created%5Blte%5D=2000120");
}

const Suite suite = {
	.adapter = &psp_stripe,
	.cases = cases,
	.case_count = lengthof(cases),
	.question_count = QUESTION_COUNT,
	.header = "Stripe-Should-Retry: true",
	.set_question = set_question,
	.check = check_requests,
};
