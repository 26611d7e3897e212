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
#define MANUAL(status, more) \
	INTENT(status, ",\"capture_method\":\"manual\"" more)
#define CHARGE(until)                                                  \
	",\"latest_charge\":{\"id\":\"ch_1\",\"payment_method_details\":{" \
	"\"card\":{\"capture_before\":" until "}}}"
#define REFUND(status, more)                                     \
	"{\"id\":\"re_1\",\"object\":\"refund\",\"amount\":300,"     \
	"\"currency\":\"eur\",\"payment_intent\":\"parent_1\","      \
	"\"metadata\":{\"refund\":\"" ORDER "\",\"attempt\":\"1\"}," \
	"\"status\":\"" status "\"" more "}"
/* what a capture or void is done to */
#define PARENT(status, more)                                            \
	"{\"id\":\"parent_1\",\"object\":\"payment_intent\",\"amount\":"    \
	"1099,\"currency\":\"eur\",\"capture_method\":\"manual\","          \
	"\"metadata\":{\"payment_order\":\"" ORDER "\",\"attempt\":\"7\"}," \
	"\"status\":\"" status "\"" more "}"
#define RECEIVED(amount) ",\"amount_received\":" amount
#define STATE \
	FAULT("invalid_request_error", "payment_intent_unexpected_state", "")
#define SESSION(mode, status, more)                                      \
	"{\"id\":\"cs_1\",\"object\":\"checkout.session\"," OURS             \
	"\"mode\":\"" mode                                                   \
	"\",\"amount_total\":1099,\"currency\":\"eur\",\"status\":\"" status \
	"\"" more "}"
#define OPEN(more) SESSION("payment", "open", ",\"payment_intent\":null" more)
#define COMPLETE(intent) \
	SESSION("payment", "complete", ",\"url\":null,\"payment_intent\":" intent)
#define SETUP(status, more)                                \
	"{\"id\":\"seti_1\",\"object\":\"setup_intent\"," OURS \
	"\"status\":\"" status "\"" more "}"
#define KEPT(intent)             \
	SESSION("setup", "complete", \
			",\"url\":null,\"customer\":\"cus_1\",\"setup_intent\":" intent)
#define PAGE ",\"url\":\"https://pay.example.com/c/cs_1#x\""
#define LIST(data, more) \
	"{\"object\":\"list\",\"data\":[" data "],\"has_more\":" more "}"
#define FAULT(type, code, more)                          \
	"{\"error\":{\"type\":\"" type "\",\"code\":\"" code \
	"\",\"message\":\"no\"" more "}}"

/* what is settled of a charge or refund */
#define TX(currency, amount, fee, rate)                                      \
	"\"balance_transaction\":{\"id\":\"txn_1\",\"amount\":" amount           \
	",\"fee\":" fee ",\"currency\":\"" currency "\",\"exchange_rate\":" rate \
	"}"
#define SETTLED(currency, amount, fee, rate) \
	",\"latest_charge\":{\"id\":\"ch_1\"," TX(currency, amount, fee, rate) "}"
#define PAID(currency, amount, fee, rate) \
	INTENT("succeeded", SETTLED(currency, amount, fee, rate))

typedef enum Question
{
	PAY,
	PAY_AGAIN,	 /* an earlier request may have been executed */
	LOOK_UP_PAY, /* by listing */
	LOOK_UP_PAY_BY_NAME,
	SEND_PAYOUT,
	LOOK_UP_PAYOUT,
	AUTHORIZE,
	LOOK_UP_AUTHORIZATION,
	TAKE,
	TAKE_AGAIN,
	TAKE_PART, /* after another, and not the last */
	TAKE_SHOW, /* it was in no state for that */
	LOOK_UP_CAPTURE,
	LOOK_UP_SECOND_CAPTURE,
	RELEASE,
	RELEASE_SHOW,
	LOOK_UP_VOID,
	SEND_REFUND,
	SEND_REFUND_AGAIN,
	LOOK_UP_REFUND,
	LOOK_UP_REFUND_BY_NAME,
	REGISTER,
	LOOK_UP_SESSION,
	REGISTER_SETUP, /* for several orders */
	LOOK_UP_SETUP,
	CLOSE,
	CLOSE_SHOW, /* it was not open */
	LOOK_UP_CLOSE,
	CLOSE_SETUP,
	QUESTION_COUNT
} Question;

static const Case cases[] = {
	{ "S63 settled as charged", PAY, 200, "",
	  PAID("eur", "1099", "59", "null"), PSP_SUCCEEDED, 1099, "EUR", NULL,
	  "1099 - 59 EUR" },
	{ "S63 settled in another currency", PAY, 200, "",
	  PAID("usd", "1192", "65", "1.0845"), PSP_SUCCEEDED, 1099, "EUR", NULL,
	  "1192 - 65 USD at 1.0845" },
	{ "S63 settled in a currency of three decimals", PAY, 200, "",
	  PAID("kwd", "3297", "100", "0.3"), PSP_SUCCEEDED, 1099, "EUR", NULL,
	  "3297 - 100 KWD at 0.3" },
	{ "S63 settled in a currency without decimals", PAY, 200, "",
	  PAID("jpy", "1758", "30", "160"), PSP_SUCCEEDED, 1099, "EUR", NULL,
	  "1758 - 30 JPY at 160" },
	{ "S63 a rate of minor units", PAY, 200, "",
	  PAID("jpy", "1758", "30", "1.6"), PSP_SUCCEEDED, 1099, "EUR", NULL,
	  "1758 - 30 JPY at 1.6" },
	{ "S63 transaction not shown", PAY, 200, "",
	  INTENT("succeeded",
			 ",\"latest_charge\":{\"balance_transaction\":\"txn_1\"}"),
	  PSP_SUCCEEDED, 1099, "EUR", NULL },
	{ "S63 less settled in the same currency", PAY, 200, "",
	  PAID("eur", "1098", "59", "null"), PSP_SUCCEEDED, 1099, "EUR", NULL },
	{ "S63 settled by another rate than told", PAY, 200, "",
	  PAID("usd", "596", "40", "1.0845"), PSP_SUCCEEDED, 1099, "EUR", NULL },
	{ "S63 no rate", PAY, 200, "", PAID("usd", "1192", "65", "null"),
	  PSP_SUCCEEDED, 1099, "EUR", NULL },
	{ "S63 hostile rate: zero", PAY, 200, "", PAID("usd", "0", "0", "0.000"),
	  PSP_SUCCEEDED, 1099, "EUR", NULL },
	{ "S63 hostile rate: negative", PAY, 200, "",
	  PAID("usd", "1192", "65", "-1.0845"), PSP_SUCCEEDED, 1099, "EUR", NULL },
	{ "S63 hostile rate: exponent", PAY, 200, "",
	  PAID("usd", "1192", "65", "1.0845e0"), PSP_SUCCEEDED, 1099, "EUR",
	  NULL },
	{ "S63 hostile rate: not a number", PAY, 200, "",
	  PAID("usd", "1192", "65", "\"NaN\""), PSP_SUCCEEDED, 1099, "EUR", NULL },
	{ "S63 hostile rate: without end", PAY, 200, "",
	  PAID("usd", "1192", "65", "1.08450000000000000000000000000000000001"),
	  PSP_SUCCEEDED, 1099, "EUR", NULL },
	{ "S63 a rate of thirty digits", PAY, 200, "",
	  PAID("usd", "1192", "65", "1.0845000000000000000000000001"),
	  PSP_SUCCEEDED, 1099, "EUR", NULL,
	  "1192 - 65 USD at 1.0845000000000000000000000001" },
	{ "S63 a rate so small that nothing is left", PAY, 200, "",
	  PAID("usd", "9007199254740993", "0", "0.0000000000000000000000000001"),
	  PSP_SUCCEEDED, 1099, "EUR", NULL },
	{ "S63 hostile amount", PAY, 200, "",
	  PAID("usd", "9223372036854775807", "65", "8392512400000000"),
	  PSP_SUCCEEDED, 1099, "EUR", NULL },
	{ "S63 hostile fee", PAY, 200, "",
	  PAID("usd", "1192", "9223372036854775807", "1.0845"), PSP_SUCCEEDED,
	  1099, "EUR", NULL },
	{ "S63 negative fee", PAY, 200, "", PAID("usd", "1192", "-65", "1.0845"),
	  PSP_SUCCEEDED, 1099, "EUR", NULL },
	{ "S63 negative amount", PAY, 200, "",
	  PAID("usd", "-1192", "65", "1.0845"), PSP_SUCCEEDED, 1099, "EUR", NULL },
	{ "S63 no such currency", PAY, 200, "",
	  PAID("zzz", "1192", "65", "1.0845"), PSP_SUCCEEDED, 1099, "EUR", NULL },
	{ "S63 authorized, and nothing settled", AUTHORIZE, 200, "",
	  MANUAL("requires_capture",
			 ",\"amount_capturable\":1099" SETTLED("usd", "1192", "65",
												   "1.0845")),
	  PSP_AUTHORIZED, 1099, "EUR", NULL },
	{ "S63 taken, in another currency", TAKE, 200, "",
	  PARENT("succeeded",
			 RECEIVED("500") SETTLED("usd", "542", "46", "1.0845")),
	  PSP_SUCCEEDED, 500, "EUR", NULL, "542 - 46 USD at 1.0845" },
	{ "S63 another part taken", TAKE_PART, 200, "",
	  PARENT("requires_capture",
			 RECEIVED("500") SETTLED("usd", "325", "39", "1.0845")),
	  PSP_SUCCEEDED, 300, "EUR", NULL, "325 - 39 USD at 1.0845" },
	{ "S63 another part taken, all of them settled", TAKE_PART, 200, "",
	  PARENT("requires_capture",
			 RECEIVED("500") SETTLED("usd", "542", "46", "1.0845")),
	  PSP_SUCCEEDED, 300, "EUR", NULL },
	{ "S63 session paid, in another currency", LOOK_UP_SESSION, 200, "",
	  COMPLETE(PAID("usd", "1192", "65", "1.0845")), PSP_SUCCEEDED, 1099,
	  "EUR", NULL, "1192 - 65 USD at 1.0845" },
	{ "S63 refunded in another currency", SEND_REFUND, 200, "",
	  REFUND("succeeded", "," TX("usd", "-325", "0", "1.0845")), PSP_SUCCEEDED,
	  300, "EUR", NULL, "325 - ? USD at 1.0845" },
	{ "S63 refunded, and money came", SEND_REFUND, 200, "",
	  REFUND("succeeded", "," TX("usd", "325", "0", "1.0845")), PSP_SUCCEEDED,
	  300, "EUR", NULL },
	{ "session registered", REGISTER, 200, "", OPEN(PAGE), PSP_REQUIRES_ACTION,
	  NONE },
	{ "session still open", LOOK_UP_SESSION, 200, "", OPEN(PAGE),
	  PSP_REQUIRES_ACTION, NONE },
	{ "session without a page", REGISTER, 200, "", OPEN(""), PSP_UNKNOWN, -1,
	  "", "unreadable_answer" },
	{ "session with no address of the web", REGISTER, 200, "",
	  OPEN(",\"url\":\"javascript:alert(1)\""), PSP_UNKNOWN, -1, "",
	  "unreadable_answer" },
	{ "session with a broken address", REGISTER, 200, "",
	  OPEN(",\"url\":\"https://a\\r\\nb\""), PSP_UNKNOWN, -1, "",
	  "unreadable_answer" },
	{ "session of another amount", REGISTER, 200, "",
	  "{\"id\":\"cs_1\",\"object\":\"checkout.session\"," OURS
	  "\"mode\":\"payment\",\"amount_total\":1100,\"currency\":\"eur\","
	  "\"status\":\"open\"" PAGE "}",
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "session of another currency", REGISTER, 200, "",
	  "{\"id\":\"cs_1\",\"object\":\"checkout.session\"," OURS
	  "\"mode\":\"payment\",\"amount_total\":1099,\"currency\":\"usd\","
	  "\"status\":\"open\"" PAGE "}",
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "session of another mode", REGISTER, 200, "",
	  SESSION("setup", "open", PAGE), PSP_UNKNOWN, -1, "",
	  "unreadable_answer" },
	{ "another order's session", LOOK_UP_SESSION, 200, "",
	  "{\"id\":\"cs_1\",\"object\":\"checkout.session\",\"metadata\":{"
	  "\"payment_order\":\"" OTHER "\"},\"mode\":\"payment\",\"status\":"
	  "\"expired\"}",
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "another session", LOOK_UP_SESSION, 200, "",
	  "{\"id\":\"cs_2\",\"object\":\"checkout.session\"," OURS
	  "\"mode\":\"payment\",\"status\":\"expired\"}",
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "session expired", LOOK_UP_SESSION, 200, "",
	  SESSION("payment", "expired", ",\"url\":null"), PSP_EXPIRED, -1, "",
	  "expired" },
	{ "session of an unknown status", LOOK_UP_SESSION, 200, "",
	  SESSION("payment", "paused", PAGE), PSP_UNKNOWN, -1, "",
	  "unknown_status" },
	{ "session paid", LOOK_UP_SESSION, 200, "",
	  COMPLETE(INTENT("succeeded", RECEIVED("1099"))), PSP_SUCCEEDED, 1099,
	  "EUR", NULL },
	{ "session paid with another amount", LOOK_UP_SESSION, 200, "",
	  COMPLETE(INTENT("succeeded", RECEIVED("7"))), PSP_SUCCEEDED, 7, "EUR",
	  NULL },
	{ "session authorized", LOOK_UP_SESSION, 200, "",
	  COMPLETE(MANUAL("requires_capture", ",\"amount_capturable\":1099")),
	  PSP_AUTHORIZED, 1099, "EUR", NULL },
	{ "session whose payment is processing", LOOK_UP_SESSION, 200, "",
	  COMPLETE(INTENT("processing", "")), PSP_PENDING, NONE },
	{ "session whose payment failed later", LOOK_UP_SESSION, 200, "",
	  COMPLETE(INTENT("requires_payment_method",
					  ",\"last_payment_error\":{\"code\":\"card_declined\"}")),
	  PSP_DECLINED, -1, "", "card_declined / hard" },
	{ "session complete, its payment only named", LOOK_UP_SESSION, 200, "",
	  COMPLETE("\"pi_1\""), PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "session complete with another order's payment", LOOK_UP_SESSION, 200,
	  "", COMPLETE(FOREIGN), PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "session complete without a payment", LOOK_UP_SESSION, 200, "",
	  COMPLETE("null"), PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "session is refused", REGISTER, 400, "",
	  FAULT("invalid_request_error", "url_invalid", ""), PSP_FAILED, -1, "",
	  "url_invalid / not_applicable" },
	{ "session that is not there", LOOK_UP_SESSION, 404, "",
	  FAULT("invalid_request_error", "resource_missing", ""), PSP_UNKNOWN, -1,
	  "", "resource_missing" },
	{ "setup session registered", REGISTER_SETUP, 200, "",
	  SESSION("setup", "open", PAGE), PSP_REQUIRES_ACTION, NONE },
	{ "session that would charge instead", REGISTER_SETUP, 200, "", OPEN(PAGE),
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "payment method kept", LOOK_UP_SETUP, 200, "",
	  KEPT(SETUP("succeeded", ",\"payment_method\":\"pm_1\"")), PSP_TOKENIZED,
	  NONE },
	{ "payment method not kept yet", LOOK_UP_SETUP, 200, "",
	  KEPT(SETUP("processing", ",\"payment_method\":\"pm_1\"")), PSP_UNKNOWN,
	  -1, "", "unknown_status" },
	{ "payment method not said", LOOK_UP_SETUP, 200, "",
	  KEPT(SETUP("succeeded", ",\"payment_method\":null")), PSP_UNKNOWN, -1,
	  "", "unreadable_answer" },
	{ "payment method that is two", LOOK_UP_SETUP, 200, "",
	  KEPT(SETUP("succeeded", ",\"payment_method\":\"pm_1/pm_2\"")),
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "payment method of nobody", LOOK_UP_SETUP, 200, "",
	  SESSION("setup", "complete",
			  ",\"customer\":null,\"setup_intent\":" SETUP(
				  "succeeded", ",\"payment_method\":\"pm_1\"")),
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "another order's payment method", LOOK_UP_SETUP, 200, "",
	  KEPT("{\"id\":\"seti_1\",\"object\":\"setup_intent\",\"metadata\":{"
		   "\"payment_order\":\"" OTHER "\"},\"status\":\"succeeded\","
		   "\"payment_method\":\"pm_1\"}"),
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "setup intent only named", LOOK_UP_SETUP, 200, "", KEPT("\"seti_1\""),
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "setup session expired", LOOK_UP_SETUP, 200, "",
	  SESSION("setup", "expired", ",\"url\":null"), PSP_EXPIRED, -1, "",
	  "expired" },
	{ "closed", CLOSE, 200, "", SESSION("payment", "expired", ",\"url\":null"),
	  PSP_EXPIRED, -1, "", "expired" },
	{ "closed, another one", CLOSE, 200, "",
	  "{\"id\":\"cs_2\",\"object\":\"checkout.session\"," OURS
	  "\"mode\":\"payment\",\"status\":\"expired\"}",
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "not open any more", CLOSE, 400, "",
	  FAULT("invalid_request_error", "", ""), PSP_MORE, NONE },
	{ "not there to be closed", CLOSE, 404, "",
	  FAULT("invalid_request_error", "resource_missing", ""), PSP_UNKNOWN, -1,
	  "", "resource_missing" },
	{ "closing fails", CLOSE, 500, "", FAULT("api_error", "", ""), PSP_UNKNOWN,
	  -1, "", "api_error" },
	{ "not open, for it is paid", CLOSE_SHOW, 200, "",
	  COMPLETE(INTENT("succeeded", RECEIVED("1099"))), PSP_SUCCEEDED, 1099,
	  "EUR", NULL },
	{ "not open, and open after all", CLOSE_SHOW, 200, "", OPEN(PAGE),
	  PSP_UNKNOWN, -1, "", "still_open" },
	{ "not closed yet", LOOK_UP_CLOSE, 200, "", OPEN(PAGE), PSP_NOT_FOUND, -1,
	  "", "still_open" },
	{ "paid instead of closed", LOOK_UP_CLOSE, 200, "",
	  COMPLETE(INTENT("succeeded", RECEIVED("1099"))), PSP_SUCCEEDED, 1099,
	  "EUR", NULL },
	{ "kept instead of closed", CLOSE_SETUP, 200, "",
	  KEPT(SETUP("succeeded", ",\"payment_method\":\"pm_1\"")), PSP_TOKENIZED,
	  NONE },
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

	{ "authorised", AUTHORIZE, 200, "",
	  MANUAL("requires_capture",
			 ",\"amount_capturable\":1099" CHARGE("1700000000")),
	  PSP_AUTHORIZED, 1099, "EUR", NULL },
	{ "authorised in part", AUTHORIZE, 200, "",
	  MANUAL("requires_capture", ",\"amount_capturable\":7"), PSP_AUTHORIZED,
	  7, "EUR", NULL },
	{ "S13 authorised, but how much", AUTHORIZE, 200, "",
	  MANUAL("requires_capture", ""), PSP_UNKNOWN, -1, "",
	  "unreadable_answer" },
	{ "S13 authorised, a negative amount", AUTHORIZE, 200, "",
	  MANUAL("requires_capture", ",\"amount_capturable\":-1"), PSP_UNKNOWN, -1,
	  "", "unreadable_answer" },
	{ "another order's authorisation", AUTHORIZE, 200, "", FOREIGN,
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "captured although it was to be authorised only", AUTHORIZE, 200, "",
	  MANUAL("succeeded", RECEIVED("1099")), PSP_SUCCEEDED, 1099, "EUR",
	  NULL },
	{ "found authorised", LOOK_UP_AUTHORIZATION, 200, "",
	  LIST(MANUAL("requires_capture", ",\"amount_capturable\":1099"), "false"),
	  PSP_AUTHORIZED, 1099, "EUR", NULL },
	{ "S21 found expired", LOOK_UP_AUTHORIZATION, 200, "",
	  LIST(MANUAL("canceled", ",\"latest_charge\":\"ch_1\","
							  "\"cancellation_reason\":\"automatic\""),
		   "false"),
	  PSP_EXPIRED, -1, "", "expired" },
	{ "found voided", LOOK_UP_AUTHORIZATION, 200, "",
	  LIST(MANUAL("canceled", ",\"latest_charge\":\"ch_1\""), "false"),
	  PSP_VOIDED, -1, "", "canceled" },
	{ "found cancelled, and never authorised", LOOK_UP_AUTHORIZATION, 200, "",
	  LIST(MANUAL("canceled", ",\"latest_charge\":null"), "false"), PSP_FAILED,
	  -1, "", "canceled / not_applicable" },

	{ "taken", TAKE, 200, "", PARENT("succeeded", RECEIVED("500")),
	  PSP_SUCCEEDED, 500, "EUR", NULL },
	{ "S13 taken, but how much", TAKE, 200, "", PARENT("succeeded", ""),
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "another order's capture", TAKE, 200, "", FOREIGN, PSP_UNKNOWN, -1, "",
	  "unreadable_answer" },
	{ "another payment's capture", TAKE, 200, "",
	  INTENT("succeeded", RECEIVED("500")), PSP_UNKNOWN, -1, "",
	  "unreadable_answer" },
	{ "S13 not taken, and no error", TAKE, 200, "",
	  PARENT("requires_capture", RECEIVED("0")), PSP_UNKNOWN, -1, "",
	  "unreadable_answer" },
	{ "a capture under way", TAKE, 200, "", PARENT("processing", ""),
	  PSP_PENDING, NONE },
	{ "a part, after another", TAKE_PART, 200, "",
	  PARENT("requires_capture", RECEIVED("500")), PSP_SUCCEEDED, 300, "EUR",
	  NULL },
	{ "a part that comes to less than there was", TAKE_PART, 200, "",
	  PARENT("requires_capture", RECEIVED("199")), PSP_UNKNOWN, -1, "",
	  "unreadable_answer" },
	{ "no second capture is allowed", TAKE_PART, 400, "",
	  FAULT("invalid_request_error", "", ",\"param\":\"final_capture\""),
	  PSP_FAILED, -1, "", "multicapture_unavailable / not_applicable" },
	{ "too much", TAKE, 400, "",
	  FAULT("invalid_request_error", "amount_too_large", ""), PSP_FAILED, -1,
	  "", "amount_too_large / not_applicable" },
	{ "too much, but it came before", TAKE_AGAIN, 400, "",
	  FAULT("invalid_request_error", "amount_too_large", ""), PSP_UNKNOWN, -1,
	  "", "amount_too_large" },
	{ "in no state to be taken: look", TAKE, 400, "", STATE, PSP_MORE, NONE },
	{ "in no state to be taken again: look", TAKE_AGAIN, 400, "", STATE,
	  PSP_MORE, NONE },
	{ "looked: it was taken", TAKE_SHOW, 200, "",
	  PARENT("succeeded", RECEIVED("500")), PSP_SUCCEEDED, 500, "EUR", NULL },
	{ "S22 looked: it was voided", TAKE_SHOW, 200, "", PARENT("canceled", ""),
	  PSP_VOIDED, -1, "", "canceled" },
	{ "S21 looked: it has expired", TAKE_SHOW, 200, "",
	  PARENT("canceled", ",\"cancellation_reason\":\"automatic\""),
	  PSP_EXPIRED, -1, "", "expired" },
	{ "looked, and it could be taken", TAKE_SHOW, 200, "",
	  PARENT("requires_capture", RECEIVED("0")), PSP_UNKNOWN, -1, "",
	  "unreadable_answer" },
	{ "looked, and the PSP is down", TAKE_SHOW, 429, "", "", PSP_UNKNOWN, -1,
	  "", "http_429" },
	{ "looked, still in no state", TAKE_SHOW, 400, "", STATE, PSP_UNKNOWN, -1,
	  "", "payment_intent_unexpected_state" },
	{ "the capture is declined", TAKE, 402, "",
	  FAULT("card_error", "card_declined", ""), PSP_DECLINED, -1, "",
	  "card_declined / hard" },
	{ "S08 500 of a capture", TAKE, 500, "", FAULT("api_error", "", ""),
	  PSP_UNKNOWN, -1, "", "api_error" },
	{ "S09 500 of a capture, replayed", TAKE_AGAIN, 500,
	  "Idempotent-Replayed: true\r\n", "", PSP_KEY_SPENT, -1, "",
	  "replayed_error" },
	{ "S11 too many captures", TAKE, 429, "", "", PSP_RETRY, -1, "",
	  "http_429" },
	{ "a capture looked up: taken", LOOK_UP_CAPTURE, 200, "",
	  PARENT("succeeded", RECEIVED("500")), PSP_SUCCEEDED, 500, "EUR", NULL },
	{ "a capture looked up: not taken", LOOK_UP_CAPTURE, 200, "",
	  PARENT("requires_capture", RECEIVED("0")), PSP_NOT_FOUND, -1, "",
	  "not_found" },
	{ "a second capture looked up: taken", LOOK_UP_SECOND_CAPTURE, 200, "",
	  PARENT("requires_capture", RECEIVED("201")), PSP_SUCCEEDED, 1, "EUR",
	  NULL },
	{ "a second capture looked up: not taken", LOOK_UP_SECOND_CAPTURE, 200, "",
	  PARENT("requires_capture", RECEIVED("200")), PSP_NOT_FOUND, -1, "",
	  "not_found" },
	{ "a second capture looked up: nothing is left", LOOK_UP_SECOND_CAPTURE,
	  200, "", PARENT("succeeded", RECEIVED("200")), PSP_FAILED, -1, "",
	  "already_captured / not_applicable" },
	{ "a capture looked up: gone", LOOK_UP_CAPTURE, 404, "",
	  FAULT("invalid_request_error", "resource_missing", ""), PSP_UNKNOWN, -1,
	  "", "resource_missing" },

	{ "voided", RELEASE, 200, "",
	  PARENT("canceled", ",\"cancellation_reason\":null"), PSP_VOIDED, -1, "",
	  "canceled" },
	{ "S13 not voided, and no error", RELEASE, 200, "",
	  PARENT("requires_capture", RECEIVED("0")), PSP_UNKNOWN, -1, "",
	  "unknown_status" },
	{ "in no state to be voided: look", RELEASE, 400, "", STATE, PSP_MORE,
	  NONE },
	{ "S22 looked: it was captured", RELEASE_SHOW, 200, "",
	  PARENT("succeeded", RECEIVED("500")), PSP_FAILED, -1, "",
	  "already_captured / not_applicable" },
	{ "looked: it was voided before", RELEASE_SHOW, 200, "",
	  PARENT("canceled", ""), PSP_VOIDED, -1, "", "canceled" },
	{ "a void looked up: not voided", LOOK_UP_VOID, 200, "",
	  PARENT("requires_capture", ""), PSP_NOT_FOUND, -1, "", "not_found" },
	{ "a void looked up: voided", LOOK_UP_VOID, 200, "",
	  PARENT("canceled", ""), PSP_VOIDED, -1, "", "canceled" },
	{ "a void looked up: another payment", LOOK_UP_VOID, 200, "",
	  MANUAL("canceled", ""), PSP_UNKNOWN, -1, "", "unreadable_answer" },

	{ "refunded", SEND_REFUND, 200, "", REFUND("succeeded", ""), PSP_SUCCEEDED,
	  300, "EUR", NULL },
	{ "a refund that waits", SEND_REFUND, 200, "", REFUND("pending", ""),
	  PSP_PENDING, NONE },
	{ "a refund that needs the payer", SEND_REFUND, 200, "",
	  REFUND("requires_action", ""), PSP_REQUIRES_ACTION, NONE },
	{ "S34 a refund that failed", LOOK_UP_REFUND_BY_NAME, 200, "",
	  REFUND("failed", ",\"failure_reason\":\"expired_or_canceled_card\""),
	  PSP_FAILED, -1, "", "expired_or_canceled_card / not_applicable" },
	{ "a refund that was cancelled", LOOK_UP_REFUND_BY_NAME, 200, "",
	  REFUND("canceled", ""), PSP_FAILED, -1, "",
	  "canceled / not_applicable" },
	{ "a refund of a status nobody knows", SEND_REFUND, 200, "",
	  REFUND("melted", ""), PSP_UNKNOWN, -1, "", "unknown_status" },
	{ "S13 a refund without an amount", SEND_REFUND, 200, "",
	  "{\"id\":\"re_1\",\"object\":\"refund\",\"currency\":\"eur\","
	  "\"payment_intent\":\"parent_1\",\"metadata\":{\"refund\":\"" ORDER
	  "\",\"attempt\":\"1\"},\"status\":\"succeeded\"}",
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "a refund of another payment", SEND_REFUND, 200, "",
	  "{\"id\":\"re_1\",\"object\":\"refund\",\"currency\":\"eur\","
	  "\"amount\":300,\"payment_intent\":\"pi_1\",\"metadata\":{"
	  "\"refund\":\"" ORDER "\",\"attempt\":\"1\"},\"status\":\"succeeded\"}",
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "another refund", SEND_REFUND, 200, "",
	  "{\"id\":\"re_1\",\"object\":\"refund\",\"currency\":\"eur\","
	  "\"amount\":300,\"payment_intent\":\"parent_1\",\"metadata\":{"
	  "\"refund\":\"" OTHER "\",\"attempt\":\"1\"},\"status\":\"succeeded\"}",
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "more than is left", SEND_REFUND, 400, "",
	  FAULT("invalid_request_error", "charge_already_refunded", ""),
	  PSP_FAILED, -1, "", "charge_already_refunded / not_applicable" },
	{ "S33 more than is left, but it came before", SEND_REFUND_AGAIN, 400, "",
	  FAULT("invalid_request_error", "charge_already_refunded", ""),
	  PSP_UNKNOWN, -1, "", "charge_already_refunded" },
	{ "S33 refund found in the list", LOOK_UP_REFUND, 200, "",
	  LIST("{\"id\":\"re_0\",\"metadata\":{}}," REFUND("succeeded", ""),
		   "false"),
	  PSP_SUCCEEDED, 300, "EUR", NULL },
	{ "S33 refund not in the list", LOOK_UP_REFUND, 200, "",
	  LIST("{\"id\":\"re_0\",\"metadata\":{}}", "false"), PSP_NOT_FOUND, -1,
	  "", "not_found" },
	{ "another refund by name", LOOK_UP_REFUND_BY_NAME, 200, "",
	  "{\"id\":\"re_2\",\"object\":\"refund\",\"currency\":\"eur\","
	  "\"amount\":300,\"payment_intent\":\"parent_1\",\"metadata\":{"
	  "\"refund\":\"" ORDER "\",\"attempt\":\"1\"},\"status\":\"succeeded\"}",
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
};

/* What is asked, by the question's number */
static const struct
{
	PspOperation operation;
	PspStep		 step;
	const char	*psp_reference;
	const char	*cursor;
} questions[QUESTION_COUNT] = {
	[PAY] = { PSP_OPERATION_PAY, PSP_STEP_SEND, NULL, NULL },
	[PAY_AGAIN] = { PSP_OPERATION_PAY, PSP_STEP_SEND, NULL, NULL },
	[LOOK_UP_PAY] = { PSP_OPERATION_PAY, PSP_STEP_LOOKUP, NULL, NULL },
	[LOOK_UP_PAY_BY_NAME] = { PSP_OPERATION_PAY, PSP_STEP_LOOKUP, "pi_1",
							  NULL },
	[SEND_PAYOUT] = { PSP_OPERATION_PAYOUT, PSP_STEP_SEND, NULL, NULL },
	[LOOK_UP_PAYOUT] = { PSP_OPERATION_PAYOUT, PSP_STEP_LOOKUP, NULL, NULL },
	[AUTHORIZE] = { PSP_OPERATION_PAY, PSP_STEP_SEND, NULL, NULL },
	[LOOK_UP_AUTHORIZATION] = { PSP_OPERATION_PAY, PSP_STEP_LOOKUP, NULL,
								NULL },
	[TAKE] = { PSP_OPERATION_CAPTURE, PSP_STEP_SEND, "parent_1", NULL },
	[TAKE_AGAIN] = { PSP_OPERATION_CAPTURE, PSP_STEP_SEND, "parent_1", NULL },
	[TAKE_PART] = { PSP_OPERATION_CAPTURE, PSP_STEP_SEND, "parent_1", NULL },
	[TAKE_SHOW] = { PSP_OPERATION_CAPTURE, PSP_STEP_SEND, "parent_1", "show" },
	[LOOK_UP_CAPTURE] = { PSP_OPERATION_CAPTURE, PSP_STEP_LOOKUP, "parent_1",
						  NULL },
	[LOOK_UP_SECOND_CAPTURE] = { PSP_OPERATION_CAPTURE, PSP_STEP_LOOKUP,
								 "parent_1", NULL },
	[RELEASE] = { PSP_OPERATION_VOID, PSP_STEP_SEND, "parent_1", NULL },
	[RELEASE_SHOW] = { PSP_OPERATION_VOID, PSP_STEP_SEND, "parent_1", "show" },
	[LOOK_UP_VOID] = { PSP_OPERATION_VOID, PSP_STEP_LOOKUP, "parent_1", NULL },
	[SEND_REFUND] = { PSP_OPERATION_REFUND, PSP_STEP_SEND, NULL, NULL },
	[SEND_REFUND_AGAIN] = { PSP_OPERATION_REFUND, PSP_STEP_SEND, NULL, NULL },
	[LOOK_UP_REFUND] = { PSP_OPERATION_REFUND, PSP_STEP_LOOKUP, NULL, NULL },
	[LOOK_UP_REFUND_BY_NAME] = { PSP_OPERATION_REFUND, PSP_STEP_LOOKUP, "re_1",
								 NULL },
	[REGISTER] = { PSP_OPERATION_REGISTER, PSP_STEP_SEND, NULL, NULL },
	[LOOK_UP_SESSION] = { PSP_OPERATION_REGISTER, PSP_STEP_LOOKUP, "cs_1",
						  NULL },
	[REGISTER_SETUP] = { PSP_OPERATION_REGISTER, PSP_STEP_SEND, NULL, NULL },
	[LOOK_UP_SETUP] = { PSP_OPERATION_REGISTER, PSP_STEP_LOOKUP, "cs_1",
						NULL },
	[CLOSE] = { PSP_OPERATION_CLOSE, PSP_STEP_SEND, "cs_1", NULL },
	[CLOSE_SHOW] = { PSP_OPERATION_CLOSE, PSP_STEP_SEND, "cs_1", "show" },
	[LOOK_UP_CLOSE] = { PSP_OPERATION_CLOSE, PSP_STEP_LOOKUP, "cs_1", NULL },
	[CLOSE_SETUP] = { PSP_OPERATION_CLOSE, PSP_STEP_LOOKUP, "cs_1", NULL },
};

static void
set_question(int question, PspTask *task)
{
	task->operation = questions[question].operation;
	task->step = questions[question].step;
	task->psp_reference = questions[question].psp_reference;
	task->cursor = questions[question].cursor;
	task->answer_count = task->cursor ? 1 : 0;
	task->repeated = question == PAY_AGAIN || question == TAKE_AGAIN ||
					 question == SEND_REFUND_AGAIN;
	if (question == AUTHORIZE || question == LOOK_UP_AUTHORIZATION)
		task->capture_method = "manual";
	if (task->operation == PSP_OPERATION_CAPTURE)
		task->amount = 500;
	else if (task->operation == PSP_OPERATION_REFUND)
		task->amount = 300;
	task->setup = question == REGISTER_SETUP || question == LOOK_UP_SETUP ||
				  question == CLOSE_SETUP;
	if (question == TAKE_PART)
		task->final = false;
	if (question == TAKE_PART || question == LOOK_UP_SECOND_CAPTURE)
	{
		task->amount = 300;
		task->captured_amount = 200;
	}
}

#define OF_CHARGE "latest_charge.balance_transaction"

static void
check_request(int question, const char *method, const char *url,
			  const char *body)
{
	PspTask	   task = make_task(question);
	PspRequest request;
	PspOutcome outcome;

	task.reason = "duplicate";
	build(&task, &request, &outcome);
	if (strcmp(request.method, method) != 0)
		fail("request", request.method);
	if (strcmp(request.url.data,
			   psprintf("https://api.example.com/v1/%s", url)) != 0)
		fail("request", request.url.data);
	if (strcmp(request.body.data, body) != 0)
		fail("request", request.body.data);
}

static void
check_modifications(void)
{
	PspTask	   task = make_task(TAKE_PART);
	PspRequest request;
	PspOutcome outcome;

	check_request(TAKE, "POST", "payment_intents/parent_1/capture",
				  "amount_to_capture=500&expand%5B%5D=" OF_CHARGE);
	check_request(TAKE_PART, "POST", "payment_intents/parent_1/capture",
				  "amount_to_capture=300&final_capture=false"
				  "&expand%5B%5D=" OF_CHARGE);
	check_request(TAKE_SHOW, "GET",
				  "payment_intents/parent_1?expand%5B%5D=" OF_CHARGE, "");
	check_request(LOOK_UP_CAPTURE, "GET",
				  "payment_intents/parent_1?expand%5B%5D=" OF_CHARGE, "");
	check_request(RELEASE, "POST", "payment_intents/parent_1/cancel", "");
	check_request(LOOK_UP_VOID, "GET", "payment_intents/parent_1", "");
	check_request(SEND_REFUND, "POST", "refunds",
				  "payment_intent=parent_1&amount=300&reason=duplicate"
				  "&expand%5B%5D=balance_transaction"
				  "&metadata%5Brefund%5D=" ORDER
				  "&metadata%5Bpayment%5D=" OTHER "&metadata%5Battempt%5D=1");
	check_request(LOOK_UP_REFUND, "GET",
				  "refunds?limit=100&payment_intent=parent_1"
				  "&expand%5B%5D=data.balance_transaction",
				  "");
	check_request(LOOK_UP_REFUND_BY_NAME, "GET",
				  "refunds/re_1?expand%5B%5D=balance_transaction", "");

	/* All that is left leaves nothing for another capture. */
	task.amount = 899;
	build(&task, &request, &outcome);
	if (strstr(request.body.data, "final_capture"))
		fail("request", request.body.data);
	task.parent_reference = NULL;
	build(&task, &request, &outcome);
	if (outcome.kind != PSP_UNKNOWN)
		fail("request", "a capture of nothing is sent");
	task = make_task(AUTHORIZE);
	build(&task, &request, &outcome);
	require_text("request", request.body.data, "&capture_method=manual&");
}

static void
check_sessions(void)
{
	PspTask		task = make_task(LOOK_UP_SESSION);
	PspRequest	request;
	PspOutcome	outcome;
	PspResponse response = {
		.status = 200,
		.retry_after_ms = -1,
		.headers = "",
		.body = OPEN(PAGE ",\"expires_at\":1700000000"),
		.body_length = sizeof(OPEN(PAGE ",\"expires_at\":1700000000")) - 1
	};

	check_request(LOOK_UP_SESSION, "GET",
				  "checkout/sessions/cs_1?expand%5B%5D="
				  "payment_intent." OF_CHARGE,
				  "");
	psp_stripe.read(&task, &response, &outcome);
	if (strcmp(outcome.hosted_url, "https://pay.example.com/c/cs_1#x") != 0 ||
		strcmp(outcome.reference, "cs_1") != 0 ||
		outcome.hosted_until_s != 1700000000)
		fail("session", outcome.hosted_url);

	task = make_task(REGISTER);
	task.success_url = "https://shop.example.com/ok?s={CHECKOUT_SESSION_ID}";
	task.cancel_url = "https://shop.example.com/no";
	task.locale = "de";
	task.expires_at_s = 1700000000;
	task.capture_method = "manual";
	build(&task, &request, &outcome);
	if (strcmp(request.url.data,
			   "https://api.example.com/v1/checkout/sessions") != 0)
		fail("session", request.url.data);
	require_text("session", request.body.data,
				 "mode=payment&line_items%5B0%5D%5Bprice_data%5D%5Bcurrency"
				 "%5D=eur&line_items%5B0%5D%5Bprice_data%5D%5Bunit_amount"
				 "%5D=1099&");
	require_text("session", request.body.data,
				 "&success_url=https%3A%2F%2Fshop.example.com%2Fok%3Fs%3D"
				 "%7BCHECKOUT_SESSION_ID%7D&");
	require_text("session", request.body.data,
				 "&locale=de&expires_at=1700000000&client_reference_id=" ORDER
				 "&payment_intent_data%5Bcapture_method%5D=manual&");
	require_text("session", request.body.data,
				 "&payment_intent_data%5Bmetadata%5D%5Bpayment_order%5D=" ORDER
				 "&payment_intent_data%5Bmetadata%5D%5Bpayment%5D=" OTHER
				 "&payment_intent_data%5Bmetadata%5D%5Battempt%5D=1"
				 "&metadata%5Bpayment_order%5D=" ORDER);

	/* Without a description the payer still sees what it is. */
	task.description = NULL;
	build(&task, &request, &outcome);
	require_text("session", request.body.data, "%5Bname%5D=Payment&");
	if (strstr(request.body.data, "payment_method="))
		fail("session", "names a payment method");
}

static bool
has_key(const PspRequest *request)
{
	for (int i = 0; i < request->header_count; i++)
		if (strncmp(request->headers[i], "Idempotency-Key:", 16) == 0)
			return true;
	return false;
}

/* A page for several orders, which closes, and what is kept there */
static void
check_setup(void)
{
	static const char kept[] =
		KEPT(SETUP("succeeded", ",\"payment_method\":\"pm_1\""));
	PspTask		task = make_task(LOOK_UP_SETUP);
	PspRequest	request;
	PspOutcome	outcome;
	PspResponse response = { .status = 200,
							 .retry_after_ms = -1,
							 .headers = "",
							 .body = kept,
							 .body_length = sizeof(kept) - 1 };

	check_request(LOOK_UP_SETUP, "GET",
				  "checkout/sessions/cs_1?expand%5B%5D=setup_intent", "");
	psp_stripe.read(&task, &response, &outcome);
	if (outcome.payment_method == NULL ||
		strcmp(outcome.payment_method, "cus_1/pm_1") != 0)
		fail("setup", "the payment method is not said");
	task = make_task(REGISTER_SETUP);
	task.success_url = "https://shop.example.com/ok";
	build(&task, &request, &outcome);
	require_text("setup", request.body.data, "mode=setup&success_url=");
	require_text("setup", request.body.data,
				 "&currency=eur&customer_creation=always&"
				 "setup_intent_data%5Bmetadata%5D%5Bpayment_order%5D=" ORDER);
	if (strstr(request.body.data, "line_items") ||
		strstr(request.body.data, "payment_intent"))
		fail("setup", "asks for money");

	check_request(CLOSE, "POST", "checkout/sessions/cs_1/expire",
				  "expand%5B%5D=payment_intent." OF_CHARGE);
	check_request(CLOSE_SETUP, "GET",
				  "checkout/sessions/cs_1?expand%5B%5D=setup_intent", "");
	task = make_task(CLOSE);
	build(&task, &request, &outcome);
	if (has_key(&request))
		fail("close", "has a key, which would keep a failure");
	task.psp_reference = NULL;
	build(&task, &request, &outcome);
	if (outcome.kind != PSP_UNKNOWN)
		fail("close", "closes what is not known");

	task = make_task(PAY);
	task.payment_method = "cus_1/pm_1";
	build(&task, &request, &outcome);
	require_text("kept", request.body.data,
				 "&customer=cus_1&payment_method=pm_1&confirm=true"
				 "&off_session=true&");
	if (strstr(request.body.data, "error_on_requires_action"))
		fail("kept", "asks the payer, who is not there");
	task.payment_method = "pm_1";
	build(&task, &request, &outcome);
	if (strstr(request.body.data, "customer=") ||
		strstr(request.body.data, "off_session"))
		fail("kept", "is not");
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
	check_modifications();
	check_sessions();
	check_setup();
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
