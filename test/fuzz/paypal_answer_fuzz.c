/*-------------------------------------------------------------------------
 *
 * paypal_answer_fuzz.c
 *	  What PayPal's answers mean, case by case, and that no damaged answer
 *	  ever means money.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "answer.h"
#include "psp/paypal.h"

#define KEY ORDER ":pay:1"
#define BATCH_KEY ORDER ":payout:1"

#define CAPTURE(status, currency, value, more)                             \
	"{\"id\":\"9C\",\"status\":\"" status "\",\"custom_id\":\"" ORDER      \
	"\",\"amount\":{\"currency_code\":\"" currency "\",\"value\":\"" value \
	"\"}" more "}"
#define ORDER_WITH(status, payments)                                  \
	"{\"id\":\"5O1\",\"status\":\"" status "\",\"purchase_units\":[{" \
	"\"custom_id\":\"" ORDER "\",\"invoice_id\":\"" KEY "\"" payments "}]}"
#define CAPTURES(list) ",\"payments\":{\"captures\":[" list "]}"
#define CAPTURED(status, currency, value) \
	ORDER_WITH("COMPLETED", CAPTURES(CAPTURE(status, currency, value, "")))
#define AUTHORIZATION(status, more)                                         \
	"{\"id\":\"parent_1\",\"status\":\"" status "\",\"custom_id\":\"" ORDER \
	"\",\"amount\":{\"currency_code\":\"EUR\",\"value\":\"10.99\"}" more "}"
#define AUTHORIZED(status, captures)                                \
	ORDER_WITH("COMPLETED",                                         \
			   ",\"payments\":{\"authorizations\":[" AUTHORIZATION( \
				   status, ",\"expiration_time\":\"2026-12-20T"     \
						   "10:00:00Z\"") "]" captures "}")
#define TAKEN(captures) ",\"captures\":[" captures "]"
/* what one capture of an authorization comes to */
#define PART(key, status, value)                                      \
	"{\"id\":\"9C\",\"status\":\"" status "\",\"custom_id\":\"" ORDER \
	"\",\"invoice_id\":\"" key                                        \
	"\",\"amount\":{\"currency_code\":\"EUR\",\"value"                \
	"\":\"" value "\"}}"
#define CAPTURE_KEY ORDER ":capture:1"
#define REFUNDED(status, more)                                        \
	"{\"id\":\"1R\",\"status\":\"" status "\",\"custom_id\":\"" ORDER \
	"\",\"amount\":{\"currency_code\":\"EUR\",\"value\":\"3.00\"}" more "}"
#define FAULT(name, issue)                                               \
	"{\"name\":\"" name "\",\"message\":\"no\",\"details\":[{\"issue\":" \
	"\"" issue "\",\"description\":\"why\"}]}"
#define BATCH(status, items)                                          \
	"{\"batch_header\":{\"payout_batch_id\":\"P7\",\"batch_status\":" \
	"\"" status                                                       \
	"\",\"sender_batch_header\":{\"sender_batch_id\":\"" BATCH_KEY    \
	"\"}}" items "}"
#define ITEM(status, more)                                              \
	",\"items\":[{\"transaction_status\":\"" status                     \
	"\",\"payout_item\":{\"sender_item_id\":\"" ORDER "\",\"amount\":{" \
	"\"currency\":\"USD\",\"value\":\"5.00\"}}" more "}]"
#define DUPLICATE(links)                                                  \
	"{\"name\":\"USER_BUSINESS_ERROR\",\"message\":\"no\",\"details\":[{" \
	"\"field\":\"SENDER_BATCH_ID\",\"issue\":\"Batch with given "         \
	"sender_batch_id already exists\",\"link\":[" links "]}]}"

#define MONEY(name, currency, value) \
	"\"" name "\":{\"currency_code\":\"" currency "\",\"value\":\"" value "\"}"
#define BREAKDOWN(gross, fee, net, more)                                     \
	ORDER_WITH("COMPLETED",                                                  \
			   CAPTURES(                                                     \
				   CAPTURE("COMPLETED", "EUR", "10.99",                      \
						   ",\"seller_receivable_breakdown\":{" MONEY(       \
							   "gross_amount", "EUR",                        \
							   gross) "," MONEY("paypal_"                    \
												"fee",                       \
												"EUR",                       \
												fee) "," MONEY("net_amount", \
															   "EUR", net)   \
							   more "}")))
#define EXCHANGED(value, fee, rate)                        \
	"," MONEY("receivable_amount", "USD", value) fee       \
		",\"exchange_rate\":{\"source_currency\":\"EUR\"," \
		"\"target_currency\":\"USD\",\"value\":\"" rate "\"}"
#define FEE_IN_USD(value) \
	"," MONEY("paypal_fee_in_receivable_currency", "USD", value)

typedef enum Question
{
	PAY,
	PAY_AGAIN,
	TAKE,		   /* the capture of an order made just now */
	LOOK_AT_ORDER, /* in the same conversation */
	LOOK_UP_PAY,
	SEND_PAYOUT,
	SEND_PAYOUT_AGAIN,
	LOOK_AT_BATCH, /* that a refused one repeats */
	LOOK_UP_PAYOUT,
	AUTHORIZE,
	RESERVE, /* the authorization of an order made just now */
	LOOK_UP_AUTHORIZATION,
	SEND_CAPTURE,
	SEND_CAPTURE_AGAIN,
	CAPTURE_SHOW,	 /* it was in no state for that */
	CAPTURE_EXPIRED, /* ... for its time was over */
	LOOK_UP_CAPTURE,
	SEND_VOID,
	VOID_SHOW,
	LOOK_UP_VOID,
	SEND_REFUND,
	SEND_REFUND_AGAIN,
	LOOK_UP_REFUND,
	QUESTION_COUNT
} Question;

static const Case cases[] = {
	{ "S63 credited as charged", PAY, 201, "",
	  BREAKDOWN("10.99", "0.59", "10.40", ""), PSP_SUCCEEDED, 1099, "EUR",
	  NULL, "1099 - 59 EUR" },
	{ "S63 credited in another currency", PAY, 201, "",
	  BREAKDOWN("10.99", "0.59", "10.40",
				EXCHANGED("11.28", FEE_IN_USD("0.64"), "1.0845")),
	  PSP_SUCCEEDED, 1099, "EUR", NULL, "1192 - 64 USD at 1.0845" },
	{ "S63 credited in another currency, without fee", PAY, 201, "",
	  BREAKDOWN("10.99", "0.00", "10.99", EXCHANGED("11.92", "", "1.0845")),
	  PSP_SUCCEEDED, 1099, "EUR", NULL, "1192 - 0 USD at 1.0845" },
	{ "S63 credited in another currency, after a fee", PAY, 201, "",
	  BREAKDOWN("10.99", "0.59", "10.40", EXCHANGED("11.28", "", "1.0845")),
	  PSP_SUCCEEDED, 1099, "EUR", NULL },
	{ "S63 credited by a hostile rate", PAY, 201, "",
	  BREAKDOWN("10.99", "0.00", "10.99", EXCHANGED("11.92", "", "Infinity")),
	  PSP_SUCCEEDED, 1099, "EUR", NULL },
	{ "S63 net is not gross less fee", PAY, 201, "",
	  BREAKDOWN("10.99", "0.59", "10.39", ""), PSP_SUCCEEDED, 1099, "EUR",
	  NULL },
	{ "S63 gross is another amount", PAY, 201, "",
	  BREAKDOWN("11.99", "0.59", "11.40", ""), PSP_SUCCEEDED, 1099, "EUR",
	  NULL },
	{ "completed at once", PAY, 201, "", CAPTURED("COMPLETED", "EUR", "10.99"),
	  PSP_SUCCEEDED, 1099, "EUR", NULL },
	{ "completed by a capture", TAKE, 201, "",
	  CAPTURED("COMPLETED", "EUR", "10.99"), PSP_SUCCEEDED, 1099, "EUR",
	  NULL },
	{ "approved: capture it", PAY, 201, "", ORDER_WITH("APPROVED", ""),
	  PSP_MORE, NONE },
	{ "created: capture it", PAY, 201, "", ORDER_WITH("CREATED", ""), PSP_MORE,
	  NONE },
	{ "approved, and sent again: capture it", PAY_AGAIN, 200, "",
	  ORDER_WITH("APPROVED", ""), PSP_MORE, NONE },
	{ "still approved after the capture", TAKE, 201, "",
	  ORDER_WITH("APPROVED", ""), PSP_UNKNOWN, -1, "", "unknown_status" },
	{ "approved, when looked up", LOOK_UP_PAY, 200, "",
	  ORDER_WITH("APPROVED", ""), PSP_NOT_FOUND, -1, "", "not_captured" },
	{ "captured before", LOOK_AT_ORDER, 200, "",
	  CAPTURED("COMPLETED", "EUR", "10.99"), PSP_SUCCEEDED, 1099, "EUR",
	  NULL },
	{ "captured, then refunded", LOOK_UP_PAY, 200, "",
	  CAPTURED("REFUNDED", "EUR", "10.99"), PSP_SUCCEEDED, 1099, "EUR", NULL },
	{ "a capture that waits", TAKE, 201, "",
	  CAPTURED("PENDING", "EUR", "10.99"), PSP_PENDING, NONE },
	{ "a capture that was declined", TAKE, 201, "",
	  ORDER_WITH("COMPLETED",
				 CAPTURES(CAPTURE("DECLINED", "EUR", "10.99",
								  ",\"processor_response\":{\"response_code\":"
								  "\"5120\"}"))),
	  PSP_DECLINED, -1, "", "processor_5120 / soft" },
	{ "declined for a reason nobody knows", TAKE, 201, "",
	  CAPTURED("DECLINED", "EUR", "10.99"), PSP_DECLINED, -1, "",
	  "declined / hard" },
	{ "declined, then captured", LOOK_UP_PAY, 200, "",
	  ORDER_WITH("COMPLETED",
				 CAPTURES(CAPTURE("DECLINED", "EUR", "10.99",
								  "") "," CAPTURE("COMPLETED", "EUR", "10.99",
												  ""))),
	  PSP_SUCCEEDED, 1099, "EUR", NULL },
	{ "captured twice", LOOK_UP_PAY, 200, "",
	  ORDER_WITH("COMPLETED",
				 CAPTURES(CAPTURE("COMPLETED", "EUR", "10.99",
								  "") "," CAPTURE("COMPLETED", "EUR", "10.99",
												  ""))),
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "a capture of a status nobody knows", TAKE, 201, "",
	  CAPTURED("HELD", "EUR", "10.99"), PSP_UNKNOWN, -1, "",
	  "unreadable_answer" },
	{ "S13 completed, and no capture", TAKE, 201, "",
	  ORDER_WITH("COMPLETED", ""), PSP_UNKNOWN, -1, "", "unknown_status" },
	{ "an approval that waits", PAY, 201, "",
	  ORDER_WITH("PENDING_APPROVAL", ""), PSP_PENDING, NONE },
	{ "the payer has to act", PAY, 201, "",
	  ORDER_WITH("PAYER_ACTION_REQUIRED", ""), PSP_DECLINED, -1, "",
	  "authentication_required / authentication_required" },
	{ "voided", LOOK_UP_PAY, 200, "", ORDER_WITH("VOIDED", ""), PSP_FAILED, -1,
	  "", "voided / not_applicable" },
	{ "a status nobody knows", PAY, 201, "", ORDER_WITH("FROZEN", ""),
	  PSP_UNKNOWN, -1, "", "unknown_status" },

	{ "S61 yen", TAKE, 201, "", CAPTURED("COMPLETED", "JPY", "1000000"),
	  PSP_SUCCEEDED, 1000000, "JPY", NULL },
	{ "S61 yen with decimals that say nothing", TAKE, 201, "",
	  CAPTURED("COMPLETED", "JPY", "1000.00"), PSP_SUCCEEDED, 1000, "JPY",
	  NULL },
	{ "S61 a part of a yen", TAKE, 201, "",
	  CAPTURED("COMPLETED", "JPY", "1000.01"), PSP_UNKNOWN, -1, "",
	  "unreadable_answer" },
	{ "S61 forint", TAKE, 201, "", CAPTURED("COMPLETED", "HUF", "250"),
	  PSP_SUCCEEDED, 25000, "HUF", NULL },
	{ "S61 dinars", TAKE, 201, "", CAPTURED("COMPLETED", "KWD", "1.234"),
	  PSP_SUCCEEDED, 1234, "KWD", NULL },
	{ "one decimal", TAKE, 201, "", CAPTURED("COMPLETED", "EUR", "10.9"),
	  PSP_SUCCEEDED, 1090, "EUR", NULL },
	{ "a part of a cent", TAKE, 201, "",
	  CAPTURED("COMPLETED", "EUR", "10.999"), PSP_UNKNOWN, -1, "",
	  "unreadable_answer" },
	{ "a negative amount", TAKE, 201, "",
	  CAPTURED("COMPLETED", "EUR", "-10.99"), PSP_UNKNOWN, -1, "",
	  "unreadable_answer" },
	{ "an exponent", TAKE, 201, "", CAPTURED("COMPLETED", "EUR", "1e3"),
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "a decimal comma", TAKE, 201, "", CAPTURED("COMPLETED", "EUR", "10,99"),
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "no digit before the point", TAKE, 201, "",
	  CAPTURED("COMPLETED", "EUR", ".99"), PSP_UNKNOWN, -1, "",
	  "unreadable_answer" },
	{ "no digit after the point", TAKE, 201, "",
	  CAPTURED("COMPLETED", "EUR", "10."), PSP_UNKNOWN, -1, "",
	  "unreadable_answer" },
	{ "the largest amount", TAKE, 201, "",
	  CAPTURED("COMPLETED", "EUR", "92233720368547758.07"), PSP_UNKNOWN, -1,
	  "", "unreadable_answer" },
	{ "a currency nobody knows", TAKE, 201, "",
	  CAPTURED("COMPLETED", "XXX", "10.99"), PSP_UNKNOWN, -1, "",
	  "unreadable_answer" },

	{ "another order's payment", PAY, 201, "",
	  "{\"id\":\"5O1\",\"status\":\"COMPLETED\",\"purchase_units\":[{"
	  "\"custom_id\":\"" OTHER
	  "\"" CAPTURES(CAPTURE("COMPLETED", "EUR", "10.99", "")) "}]}",
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "another attempt's invoice", PAY, 201, "",
	  "{\"id\":\"5O1\",\"status\":\"APPROVED\",\"purchase_units\":[{"
	  "\"custom_id\":\"" ORDER "\",\"invoice_id\":\"" ORDER ":pay:2\"}]}",
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "nobody's payment", PAY, 201, "",
	  "{\"id\":\"5O1\",\"status\":\"APPROVED\",\"purchase_units\":[{}]}",
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "another order than the one captured", TAKE, 201, "",
	  "{\"id\":\"5O2\",\"status\":\"COMPLETED\",\"purchase_units\":[{"
	  "\"custom_id\":\"" ORDER
	  "\"" CAPTURES(CAPTURE("COMPLETED", "EUR", "10.99", "")) "}]}",
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "two units", PAY, 201, "",
	  "{\"id\":\"5O1\",\"status\":\"APPROVED\",\"purchase_units\":[{"
	  "\"custom_id\":\"" ORDER "\"},{}]}",
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "an id that leads elsewhere", PAY, 201, "",
	  "{\"id\":\"../5O1\",\"status\":\"APPROVED\",\"purchase_units\":[{"
	  "\"custom_id\":\"" ORDER "\"}]}",
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "S13 html", PAY, 200, "", "<html>welcome</html>", PSP_UNKNOWN, -1, "",
	  "unreadable_answer" },
	{ "S13 empty", TAKE, 201, "", "", PSP_UNKNOWN, -1, "",
	  "unreadable_answer" },

	{ "instrument declined", TAKE, 422, "",
	  FAULT("UNPROCESSABLE_ENTITY", "INSTRUMENT_DECLINED"), PSP_DECLINED, -1,
	  "", "INSTRUMENT_DECLINED / soft" },
	{ "instrument declined when sent again", PAY_AGAIN, 422, "",
	  FAULT("UNPROCESSABLE_ENTITY", "INSTRUMENT_DECLINED"), PSP_DECLINED, -1,
	  "", "INSTRUMENT_DECLINED / soft" },
	{ "payer cannot pay", PAY, 422, "",
	  FAULT("UNPROCESSABLE_ENTITY", "PAYER_CANNOT_PAY"), PSP_DECLINED, -1, "",
	  "PAYER_CANNOT_PAY / hard" },
	{ "not approved", TAKE, 422, "",
	  FAULT("UNPROCESSABLE_ENTITY", "ORDER_NOT_APPROVED"), PSP_DECLINED, -1,
	  "", "ORDER_NOT_APPROVED / authentication_required" },
	{ "captured already: look", TAKE, 422, "",
	  FAULT("UNPROCESSABLE_ENTITY", "ORDER_ALREADY_CAPTURED"), PSP_MORE,
	  NONE },
	{ "captured already, but which", PAY, 422, "",
	  FAULT("UNPROCESSABLE_ENTITY", "ORDER_ALREADY_CAPTURED"), PSP_UNKNOWN, -1,
	  "", "ORDER_ALREADY_CAPTURED" },
	{ "S04 the invoice was paid before", PAY, 422, "",
	  FAULT("UNPROCESSABLE_ENTITY", "DUPLICATE_INVOICE_ID"), PSP_UNKNOWN, -1,
	  "", "DUPLICATE_INVOICE_ID" },
	{ "S11 the first request is under way", PAY_AGAIN, 422, "",
	  FAULT("UNPROCESSABLE_ENTITY", "PREVIOUS_REQUEST_IN_PROGRESS"),
	  PSP_UNKNOWN, -1, "", "PREVIOUS_REQUEST_IN_PROGRESS" },
	{ "S11 409", PAY, 409, "", FAULT("RESOURCE_CONFLICT", "x"), PSP_UNKNOWN,
	  -1, "", "x" },
	{ "invalid", PAY, 400, "",
	  FAULT("INVALID_REQUEST", "INVALID_PARAMETER_VALUE"), PSP_FAILED, -1, "",
	  "INVALID_PARAMETER_VALUE / not_applicable" },
	{ "invalid, but it came before", PAY_AGAIN, 400, "",
	  FAULT("INVALID_REQUEST", "INVALID_PARAMETER_VALUE"), PSP_UNKNOWN, -1, "",
	  "INVALID_PARAMETER_VALUE" },
	{ "422 without a reason", PAY, 422, "", "bad", PSP_UNKNOWN, -1, "",
	  "http_422" },
	{ "S11 too many requests", PAY, 429, "", FAULT("RATE_LIMIT_REACHED", "x"),
	  PSP_RETRY, -1, "", "x" },
	{ "S11 too many requests for the capture", TAKE, 429, "",
	  FAULT("RATE_LIMIT_REACHED", "x"), PSP_UNKNOWN, -1, "", "x" },
	{ "no access", PAY, 401, "", "{\"name\":\"AUTHENTICATION_FAILURE\"}",
	  PSP_RETRY, -1, "", "AUTHENTICATION_FAILURE" },
	{ "S08 500", PAY, 500, "", FAULT("INTERNAL_SERVER_ERROR", "x"),
	  PSP_UNKNOWN, -1, "", "x" },
	{ "S08 500 of the capture", TAKE, 500, "", "", PSP_UNKNOWN, -1, "",
	  "http_500" },
	{ "gone", LOOK_UP_PAY, 404, "",
	  FAULT("RESOURCE_NOT_FOUND", "INVALID_RESOURCE_ID"), PSP_UNKNOWN, -1, "",
	  "INVALID_RESOURCE_ID" },

	{ "batch accepted", SEND_PAYOUT, 201, "", BATCH("PENDING", ""),
	  PSP_PENDING, NONE },
	{ "batch denied", LOOK_UP_PAYOUT, 200, "", BATCH("DENIED", ""), PSP_FAILED,
	  -1, "", "DENIED / hard" },
	{ "batch done, and no item", LOOK_UP_PAYOUT, 200, "", BATCH("SUCCESS", ""),
	  PSP_PENDING, NONE },
	{ "item paid", LOOK_UP_PAYOUT, 200, "",
	  BATCH("SUCCESS", ITEM("SUCCESS", "")), PSP_SUCCEEDED, 500, "USD", NULL },
	{ "item unclaimed", LOOK_UP_PAYOUT, 200, "",
	  BATCH("SUCCESS", ITEM("UNCLAIMED", "")), PSP_PENDING, NONE },
	{ "item returned", LOOK_UP_PAYOUT, 200, "",
	  BATCH("SUCCESS", ITEM("RETURNED", "")), PSP_FAILED, -1, "",
	  "RETURNED / hard" },
	{ "item failed for want of money", LOOK_UP_PAYOUT, 200, "",
	  BATCH("SUCCESS",
			ITEM("FAILED", ",\"errors\":{\"name\":\"INSUFFICIENT_FUNDS\"}")),
	  PSP_FAILED, -1, "", "INSUFFICIENT_FUNDS / soft" },
	{ "an item of a status nobody knows", LOOK_UP_PAYOUT, 200, "",
	  BATCH("SUCCESS", ITEM("MELTED", "")), PSP_UNKNOWN, -1, "",
	  "unknown_status" },
	{ "another's batch", SEND_PAYOUT, 201, "",
	  "{\"batch_header\":{\"payout_batch_id\":\"P7\",\"batch_status\":"
	  "\"PENDING\",\"sender_batch_header\":{\"sender_batch_id\":\"x\"}}}",
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "another batch by name", LOOK_AT_BATCH, 200, "",
	  "{\"batch_header\":{\"payout_batch_id\":\"P8\",\"batch_status\":"
	  "\"PENDING\",\"sender_batch_header\":{\"sender_batch_id\":\"" BATCH_KEY
	  "\"}}}",
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "S08 sent before: look at the first", SEND_PAYOUT_AGAIN, 400, "",
	  DUPLICATE("{\"href\":\"https://api.paypal.com/v1/payments/payouts/P7\","
				"\"rel\":\"self\"}"),
	  PSP_MORE, NONE },
	{ "sent before, but the link is none", SEND_PAYOUT_AGAIN, 400, "",
	  DUPLICATE("{\"href\":\"https://evil/v1/payments/payouts/../x\"}"),
	  PSP_UNKNOWN, -1, "", "Batch with given sender_batch_id already exists" },
	{ "sent by somebody else, who knows how", SEND_PAYOUT, 400, "",
	  DUPLICATE(""), PSP_UNKNOWN, -1, "",
	  "Batch with given sender_batch_id already exists" },
	{ "the first one, as looked at", LOOK_AT_BATCH, 200, "",
	  BATCH("SUCCESS", ITEM("SUCCESS", "")), PSP_SUCCEEDED, 500, "USD", NULL },
	{ "payout refused", SEND_PAYOUT, 422, "",
	  "{\"name\":\"INSUFFICIENT_FUNDS\",\"message\":\"no\"}", PSP_FAILED, -1,
	  "", "INSUFFICIENT_FUNDS / not_applicable" },

	{ "authorized at once", AUTHORIZE, 201, "", AUTHORIZED("CREATED", ""),
	  PSP_AUTHORIZED, 1099, "EUR", NULL },
	{ "approved: authorize it", AUTHORIZE, 201, "", ORDER_WITH("APPROVED", ""),
	  PSP_MORE, NONE },
	{ "authorized by a request of its own", RESERVE, 201, "",
	  AUTHORIZED("CREATED", ""), PSP_AUTHORIZED, 1099, "EUR", NULL },
	{ "authorized already: look", RESERVE, 422, "",
	  FAULT("UNPROCESSABLE_ENTITY", "ORDER_ALREADY_AUTHORIZED"), PSP_MORE,
	  NONE },
	{ "an authorization that waits", AUTHORIZE, 201, "",
	  AUTHORIZED("PENDING", ""), PSP_PENDING, NONE },
	{ "an authorization that was denied", AUTHORIZE, 201, "",
	  AUTHORIZED("DENIED", ""), PSP_DECLINED, -1, "", "declined / hard" },
	{ "S21 an authorization that expired", LOOK_UP_AUTHORIZATION, 200, "",
	  AUTHORIZED("EXPIRED", ""), PSP_EXPIRED, -1, "", "expired" },
	{ "an authorization that was voided", LOOK_UP_AUTHORIZATION, 200, "",
	  AUTHORIZED("VOIDED", ""), PSP_VOIDED, -1, "", "voided" },
	{ "an authorization that was captured", LOOK_UP_AUTHORIZATION, 200, "",
	  AUTHORIZED("CAPTURED", TAKEN(PART(CAPTURE_KEY, "COMPLETED", "5.00"))),
	  PSP_SUCCEEDED, 500, "EUR", NULL },
	{ "S13 captured, and no capture", LOOK_UP_AUTHORIZATION, 200, "",
	  AUTHORIZED("CAPTURED", ""), PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "an authorization of a status nobody knows", AUTHORIZE, 201, "",
	  AUTHORIZED("FROZEN", ""), PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "another order's authorization", AUTHORIZE, 201, "",
	  "{\"id\":\"5O1\",\"status\":\"COMPLETED\",\"purchase_units\":[{"
	  "\"custom_id\":\"" OTHER
	  "\",\"payments\":{\"authorizations\":[" AUTHORIZATION("CREATED",
															"") "]}}]}",
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },

	{ "captured in part", SEND_CAPTURE, 201, "",
	  PART(CAPTURE_KEY, "COMPLETED", "5.00"), PSP_SUCCEEDED, 500, "EUR",
	  NULL },
	{ "captured, then refunded, when sent again", SEND_CAPTURE_AGAIN, 200, "",
	  PART(CAPTURE_KEY, "PARTIALLY_REFUNDED", "5.00"), PSP_SUCCEEDED, 500,
	  "EUR", NULL },
	{ "a part that waits", SEND_CAPTURE, 201, "",
	  PART(CAPTURE_KEY, "PENDING", "5.00"), PSP_PENDING, NONE },
	{ "a part that is declined", SEND_CAPTURE, 201, "",
	  PART(CAPTURE_KEY, "DECLINED", "5.00"), PSP_DECLINED, -1, "",
	  "declined / hard" },
	{ "another part", SEND_CAPTURE, 201, "",
	  PART(ORDER ":capture:2", "COMPLETED", "5.00"), PSP_UNKNOWN, -1, "",
	  "unreadable_answer" },
	{ "S13 a part without an amount", SEND_CAPTURE, 201, "",
	  "{\"id\":\"9C\",\"status\":\"COMPLETED\",\"invoice_id\":\"" CAPTURE_KEY
	  "\"}",
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "an order instead of a part", SEND_CAPTURE, 201, "",
	  AUTHORIZED("CAPTURED", TAKEN(PART(CAPTURE_KEY, "COMPLETED", "5.00"))),
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "in no state to be captured: look", SEND_CAPTURE, 422, "",
	  FAULT("UNPROCESSABLE_ENTITY", "AUTHORIZATION_ALREADY_CAPTURED"),
	  PSP_MORE, NONE },
	{ "S21 expired: look", SEND_CAPTURE, 422, "",
	  FAULT("UNPROCESSABLE_ENTITY", "AUTHORIZATION_EXPIRED"), PSP_MORE, NONE },
	{ "S04 captured under this key before: look", SEND_CAPTURE_AGAIN, 422, "",
	  FAULT("UNPROCESSABLE_ENTITY", "DUPLICATE_INVOICE_ID"), PSP_MORE, NONE },
	{ "more than is left", SEND_CAPTURE, 422, "",
	  FAULT("UNPROCESSABLE_ENTITY", "MAX_CAPTURE_AMOUNT_EXCEEDED"), PSP_FAILED,
	  -1, "", "MAX_CAPTURE_AMOUNT_EXCEEDED / not_applicable" },
	{ "more than is left, but it came before", SEND_CAPTURE_AGAIN, 422, "",
	  FAULT("UNPROCESSABLE_ENTITY", "MAX_CAPTURE_AMOUNT_EXCEEDED"),
	  PSP_UNKNOWN, -1, "", "MAX_CAPTURE_AMOUNT_EXCEEDED" },
	{ "the payer cannot pay any more", SEND_CAPTURE, 422, "",
	  FAULT("UNPROCESSABLE_ENTITY", "PAYER_CANNOT_PAY"), PSP_DECLINED, -1, "",
	  "PAYER_CANNOT_PAY / hard" },
	{ "S08 500 of a part", SEND_CAPTURE, 500, "",
	  FAULT("INTERNAL_SERVER_ERROR", "x"), PSP_UNKNOWN, -1, "", "x" },
	{ "looked: it was captured", CAPTURE_SHOW, 200, "",
	  AUTHORIZED("CAPTURED", TAKEN(PART(CAPTURE_KEY, "COMPLETED", "5.00"))),
	  PSP_SUCCEEDED, 500, "EUR", NULL },
	{ "looked: somebody else captured it", CAPTURE_SHOW, 200, "",
	  AUTHORIZED("CAPTURED", TAKEN(PART("x", "COMPLETED", "5.00"))),
	  PSP_FAILED, -1, "", "already_captured / not_applicable" },
	{ "looked: somebody captured it", CAPTURE_SHOW, 200, "",
	  AUTHORIZED("CAPTURED", TAKEN(CAPTURE("COMPLETED", "EUR", "5.00", ""))),
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "S22 looked: it was voided", CAPTURE_SHOW, 200, "",
	  AUTHORIZED("VOIDED", ""), PSP_VOIDED, -1, "", "voided" },
	{ "looked: it is as it was", CAPTURE_SHOW, 200, "",
	  AUTHORIZED("CREATED", ""), PSP_UNKNOWN, -1, "", "unknown_status" },
	{ "S21 looked: it is as it was, but expired", CAPTURE_EXPIRED, 200, "",
	  AUTHORIZED("CREATED", ""), PSP_EXPIRED, -1, "", "expired" },
	{ "looked: expired, and we were there first", CAPTURE_EXPIRED, 200, "",
	  AUTHORIZED("PARTIALLY_CAPTURED",
				 TAKEN(PART(CAPTURE_KEY, "COMPLETED", "5.00"))),
	  PSP_SUCCEEDED, 500, "EUR", NULL },
	{ "looked, and the PSP is down", CAPTURE_SHOW, 429, "", "", PSP_UNKNOWN,
	  -1, "", "http_429" },
	{ "a capture looked up: done", LOOK_UP_CAPTURE, 200, "",
	  AUTHORIZED("PARTIALLY_CAPTURED",
				 TAKEN(PART("x", "COMPLETED", "1.00") "," PART(CAPTURE_KEY,
															   "COMPLETED",
															   "5.00"))),
	  PSP_SUCCEEDED, 500, "EUR", NULL },
	{ "a capture looked up: not done", LOOK_UP_CAPTURE, 200, "",
	  AUTHORIZED("PARTIALLY_CAPTURED", TAKEN(PART("x", "COMPLETED", "1.00"))),
	  PSP_NOT_FOUND, -1, "", "not_found" },
	{ "a capture looked up: another authorization", LOOK_UP_CAPTURE, 200, "",
	  ORDER_WITH("COMPLETED", ",\"payments\":{\"authorizations\":[{\"id\":"
							  "\"x\",\"status\":\"VOIDED\"}]}"),
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "a capture looked up: denied", LOOK_UP_CAPTURE, 200, "",
	  AUTHORIZED("DENIED", ""), PSP_FAILED, -1, "",
	  "denied / not_applicable" },

	{ "voided now", SEND_VOID, 200, "", AUTHORIZATION("VOIDED", ""),
	  PSP_VOIDED, -1, "", "voided" },
	{ "voided, without a word: look", SEND_VOID, 204, "", "", PSP_MORE, NONE },
	{ "another authorization voided", SEND_VOID, 200, "",
	  "{\"id\":\"x\",\"status\":\"VOIDED\"}", PSP_UNKNOWN, -1, "",
	  "unreadable_answer" },
	{ "S13 not voided, and no error", SEND_VOID, 200, "",
	  AUTHORIZATION("CREATED", ""), PSP_UNKNOWN, -1, "", "unknown_status" },
	{ "S22 captured before: look", SEND_VOID, 422, "",
	  FAULT("UNPROCESSABLE_ENTITY", "PREVIOUSLY_CAPTURED"), PSP_MORE, NONE },
	{ "S22 looked: it was captured before", VOID_SHOW, 200, "",
	  AUTHORIZED("CAPTURED", TAKEN(PART("x", "COMPLETED", "1.00"))),
	  PSP_FAILED, -1, "", "already_captured / not_applicable" },
	{ "looked: it is voided", VOID_SHOW, 200, "", AUTHORIZED("VOIDED", ""),
	  PSP_VOIDED, -1, "", "voided" },
	{ "a void looked up: not voided", LOOK_UP_VOID, 200, "",
	  AUTHORIZED("CREATED", ""), PSP_NOT_FOUND, -1, "", "not_found" },
	{ "a void looked up: voided", LOOK_UP_VOID, 200, "",
	  AUTHORIZED("VOIDED", ""), PSP_VOIDED, -1, "", "voided" },

	{ "refunded", SEND_REFUND, 201, "", REFUNDED("COMPLETED", ""),
	  PSP_SUCCEEDED, 300, "EUR", NULL },
	{ "S33 refunded, when sent again", SEND_REFUND_AGAIN, 200, "",
	  REFUNDED("COMPLETED", ",\"invoice_id\":\"" ORDER ":refund:1\""),
	  PSP_SUCCEEDED, 300, "EUR", NULL },
	{ "a refund that waits", SEND_REFUND, 201, "", REFUNDED("PENDING", ""),
	  PSP_PENDING, NONE },
	{ "S34 a refund that failed", LOOK_UP_REFUND, 200, "",
	  REFUNDED("FAILED", ",\"status_details\":{\"reason\":\"ECHECK\"}"),
	  PSP_FAILED, -1, "", "ECHECK / not_applicable" },
	{ "a refund that was cancelled", LOOK_UP_REFUND, 200, "",
	  REFUNDED("CANCELLED", ""), PSP_FAILED, -1, "",
	  "CANCELLED / not_applicable" },
	{ "a refund of a status nobody knows", SEND_REFUND, 201, "",
	  REFUNDED("MELTED", ""), PSP_UNKNOWN, -1, "", "unknown_status" },
	{ "another attempt's refund", SEND_REFUND, 201, "",
	  REFUNDED("COMPLETED", ",\"invoice_id\":\"" ORDER ":refund:2\""),
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "another refund", SEND_REFUND, 201, "",
	  "{\"id\":\"1R\",\"status\":\"COMPLETED\",\"custom_id\":\"" OTHER
	  "\",\"amount\":{\"currency_code\":\"EUR\",\"value\":\"3.00\"}}",
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "another refund by name", LOOK_UP_REFUND, 200, "",
	  "{\"id\":\"2R\",\"status\":\"COMPLETED\",\"custom_id\":\"" ORDER
	  "\",\"amount\":{\"currency_code\":\"EUR\",\"value\":\"3.00\"}}",
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "all is refunded", SEND_REFUND, 422, "",
	  FAULT("UNPROCESSABLE_ENTITY", "CAPTURE_FULLY_REFUNDED"), PSP_FAILED, -1,
	  "", "CAPTURE_FULLY_REFUNDED / not_applicable" },
	{ "S33 all is refunded, but it came before", SEND_REFUND_AGAIN, 422, "",
	  FAULT("UNPROCESSABLE_ENTITY", "CAPTURE_FULLY_REFUNDED"), PSP_UNKNOWN, -1,
	  "", "CAPTURE_FULLY_REFUNDED" },
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
	[TAKE] = { PSP_OPERATION_PAY, PSP_STEP_SEND, NULL, "capture:5O1" },
	[LOOK_AT_ORDER] = { PSP_OPERATION_PAY, PSP_STEP_SEND, NULL, "show:5O1" },
	[LOOK_UP_PAY] = { PSP_OPERATION_PAY, PSP_STEP_LOOKUP, "5O1", NULL },
	[SEND_PAYOUT] = { PSP_OPERATION_PAYOUT, PSP_STEP_SEND, NULL, NULL },
	[SEND_PAYOUT_AGAIN] = { PSP_OPERATION_PAYOUT, PSP_STEP_SEND, NULL, NULL },
	[LOOK_AT_BATCH] = { PSP_OPERATION_PAYOUT, PSP_STEP_SEND, NULL, "show:P7" },
	[LOOK_UP_PAYOUT] = { PSP_OPERATION_PAYOUT, PSP_STEP_LOOKUP, "P7", NULL },
	[AUTHORIZE] = { PSP_OPERATION_PAY, PSP_STEP_SEND, NULL, NULL },
	[RESERVE] = { PSP_OPERATION_PAY, PSP_STEP_SEND, NULL, "authorize:5O1" },
	[LOOK_UP_AUTHORIZATION] = { PSP_OPERATION_PAY, PSP_STEP_LOOKUP, "5O1",
								NULL },
	[SEND_CAPTURE] = { PSP_OPERATION_CAPTURE, PSP_STEP_SEND, "5O1", NULL },
	[SEND_CAPTURE_AGAIN] = { PSP_OPERATION_CAPTURE, PSP_STEP_SEND, "5O1",
							 NULL },
	[CAPTURE_SHOW] = { PSP_OPERATION_CAPTURE, PSP_STEP_SEND, "5O1",
					   "show:5O1" },
	[CAPTURE_EXPIRED] = { PSP_OPERATION_CAPTURE, PSP_STEP_SEND, "5O1",
						  "expired" },
	[LOOK_UP_CAPTURE] = { PSP_OPERATION_CAPTURE, PSP_STEP_LOOKUP, "5O1",
						  NULL },
	[SEND_VOID] = { PSP_OPERATION_VOID, PSP_STEP_SEND, "5O1", NULL },
	[VOID_SHOW] = { PSP_OPERATION_VOID, PSP_STEP_SEND, "5O1", "show:5O1" },
	[LOOK_UP_VOID] = { PSP_OPERATION_VOID, PSP_STEP_LOOKUP, "5O1", NULL },
	[SEND_REFUND] = { PSP_OPERATION_REFUND, PSP_STEP_SEND, NULL, NULL },
	[SEND_REFUND_AGAIN] = { PSP_OPERATION_REFUND, PSP_STEP_SEND, NULL, NULL },
	[LOOK_UP_REFUND] = { PSP_OPERATION_REFUND, PSP_STEP_LOOKUP, "1R", NULL },
};

static void
set_question(int question, PspTask *task)
{
	task->operation = questions[question].operation;
	task->step = questions[question].step;
	task->psp_reference = questions[question].psp_reference;
	task->cursor = questions[question].cursor;
	task->answer_count = task->cursor ? 1 : 0;
	task->repeated = question == PAY_AGAIN || question == SEND_PAYOUT_AGAIN ||
					 question == SEND_CAPTURE_AGAIN ||
					 question == SEND_REFUND_AGAIN;
	if (question >= AUTHORIZE && question <= LOOK_UP_AUTHORIZATION)
		task->capture_method = "manual";
	if (task->operation == PSP_OPERATION_CAPTURE)
	{
		task->amount = 500;
		task->final = false;
	}
	else if (task->operation == PSP_OPERATION_REFUND)
		task->amount = 300;
}

/* ---- whose a webhook is ---- */

#define EVENT "{\"id\" : \"WH-1\",\t\"a\":1.00}"

static PspTask
verification(void)
{
	PspTask task = { .operation = PSP_OPERATION_VERIFY,
					 .step = PSP_STEP_LOOKUP,
					 .object_id = ORDER,
					 .webhook_body = EVENT,
					 .webhook_length = (int) strlen(EVENT) };

	task.webhook_headers =
		"{\"paypal-auth-algo\":\"SHA\",\"paypal-cert-url\":\"https://c/\\\"\","
		"\"paypal-transmission-id\":\"t\",\"paypal-transmission-sig\":\"s=\","
		"\"paypal-transmission-time\":\"2026-01-01T00:00:00Z\"}";
	task.config[PAYPAL_CONFIG_WEBHOOK_ID] = "2W";
	return task;
}

static PspOutcome
verified(int status, const char *body, int length)
{
	/* of that size exactly, so that reading beyond it is noticed */
	char	   *copy = malloc(Max(length, 1));
	PspResponse response = { .status = status,
							 .retry_after_ms = -1,
							 .headers = "",
							 .body = copy,
							 .body_length = length };
	PspTask		task = verification();
	PspOutcome	outcome;

	memcpy(copy, body, length);
	psp_paypal.read(&task, &response, &outcome);
	psp_classify(&outcome, status);
	free(copy);
	return outcome;
}

static void
check_verification(int status, const char *body, PspOutcomeKind kind,
				   PspErrorClass class)
{
	PspOutcome outcome = verified(status, body, (int) strlen(body));

	if (outcome.kind != kind || outcome.error_class != class)
		fail("verification", body);
	if ((outcome.kind == PSP_SUCCEEDED) != (outcome.error_code == NULL))
		fail("verification without a reason", body);
	for (int cut = 0; cut < (int) strlen(body); cut++)
		if (verified(status, body, cut).kind == PSP_SUCCEEDED)
			fail("verification, cut off", body);
}

static void
check_verifications(void)
{
	PspTask	   task = verification();
	PspRequest request;
	PspOutcome outcome = { .kind = PSP_UNKNOWN };

	if (!psp_paypal.build(&task, "https://api.example.com", "A21", &request,
						  &outcome) ||
		strcmp(request.url.data, "https://api.example.com/v1/notifications/"
								 "verify-webhook-signature") != 0 ||
		strcmp(request.body.data,
			   "{\"auth_algo\":\"SHA\",\"cert_url\":\"https://c/\\\"\","
			   "\"transmission_id\":\"t\",\"transmission_sig\":\"s=\","
			   "\"transmission_time\":\"2026-01-01T00:00:00Z\","
			   "\"webhook_id\":\"2W\",\"webhook_event\":" EVENT "}") != 0)
		fail("verification", request.body.data);
	task.webhook_headers = "{\"paypal-auth-algo\":\"SHA\"}";
	if (psp_paypal.build(&task, "https://x", "A21", &request, &outcome) ||
		outcome.kind != PSP_FAILED)
		fail("verification", "of what has no signature");
	task = verification();
	task.config[PAYPAL_CONFIG_WEBHOOK_ID] = NULL;
	if (psp_paypal.build(&task, "https://x", "A21", &request, &outcome) ||
		outcome.kind != PSP_UNKNOWN)
		fail("verification", "without an id of the webhook");

	check_verification(200, "{\"verification_status\":\"SUCCESS\"}",
					   PSP_SUCCEEDED, PSP_ERROR_NONE);
	check_verification(200, "{\"verification_status\":\"FAILURE\"}",
					   PSP_FAILED, PSP_ERROR_NONE);
	check_verification(200, "{\"verification_status\":\"MAYBE\"}", PSP_UNKNOWN,
					   PSP_ERROR_NONE);
	check_verification(200, "{\"verification_status\":true}", PSP_UNKNOWN,
					   PSP_ERROR_ANSWER);
	check_verification(200, "<html>SUCCESS", PSP_UNKNOWN, PSP_ERROR_ANSWER);
	check_verification(400, FAULT("VALIDATION_ERROR", "x"), PSP_FAILED,
					   PSP_ERROR_REQUEST);
	check_verification(403, FAULT("NOT_AUTHORIZED", "x"), PSP_UNKNOWN,
					   PSP_ERROR_REQUEST);
	check_verification(401, "{\"verification_status\":\"SUCCESS\"}",
					   PSP_UNKNOWN, PSP_ERROR_ACCESS);
	check_verification(429, "", PSP_UNKNOWN, PSP_ERROR_BUSY);
	check_verification(500, FAULT("INTERNAL_SERVER_ERROR", "x"), PSP_UNKNOWN,
					   PSP_ERROR_SERVER);
}

static void
check_amount(int64 amount, const char *currency, const char *wanted)
{
	char  text[32] = "";
	int64 back = -1;
	bool  ok = paypal_format_amount(amount, currency, text, sizeof(text));

	if (ok != (wanted != NULL) || (wanted && strcmp(text, wanted) != 0))
		fail(currency, text);
	if (ok && (!paypal_parse_amount(text, currency, &back) || back != amount))
		fail(currency, "the amount does not come back");
}

static void
check_amounts(void)
{
	check_amount(1, "EUR", "0.01");
	check_amount(1099, "EUR", "10.99");
	check_amount(1000, "EUR", "10.00");
	check_amount(0, "EUR", "0.00");
	check_amount(1000000, "JPY", "1000000");
	check_amount(1234, "KWD", "1.234");
	check_amount(25000, "HUF", "250");
	check_amount(25001, "HUF", NULL);
	check_amount(100, "TWD", "1");
	check_amount(150, "TWD", NULL);
	check_amount(-1, "EUR", NULL);
	check_amount(1, "XXX", NULL);
}

static void
check_token(int status, const char *body, bool given, bool refused)
{
	PspResponse response = { .status = status,
							 .retry_after_ms = -1,
							 .headers = "",
							 .body = body,
							 .body_length = (int) strlen(body) };
	PspToken	token;

	psp_paypal.read_token(&response, &token);
	if ((token.value != NULL) != given || token.is_refused != refused ||
		(token.value == NULL) != (token.error_code != NULL))
		fail("token", body);
}

static void
check_tokens(void)
{
	PspRequest request;

	psp_paypal.build_token("https://api.example.com/", "id:key", &request);
	if (strcmp(request.url.data, "https://api.example.com/v1/oauth2/token") !=
			0 ||
		strcmp(request.headers[0], "Authorization: Basic aWQ6a2V5") != 0 ||
		strcmp(request.body.data, "grant_type=client_credentials") != 0)
		fail("token", request.url.data);
	check_token(200, "{\"access_token\":\"A21\",\"expires_in\":32400}", true,
				false);
	check_token(200, "{\"access_token\":\"A21\",\"expires_in\":0}", false,
				false);
	check_token(200, "{\"access_token\":\"A21\"}", false, false);
	check_token(200, "{\"access_token\":\"\",\"expires_in\":1}", false, false);
	check_token(200, "{\"access_token\":\"A\\r\\nX: y\",\"expires_in\":9}",
				false, false);
	check_token(200, "<html>", false, false);
	check_token(401, "{\"error\":\"invalid_client\"}", false, true);
	check_token(503, "", false, false);
}

static void
check_cursor(int question, int status, const char *body, const char *method,
			 const char *path)
{
	PspTask		task = make_task(question);
	PspResponse response = { .status = status,
							 .retry_after_ms = -1,
							 .headers = "",
							 .body = body,
							 .body_length = (int) strlen(body) };
	PspOutcome	outcome;
	PspRequest	request;

	psp_paypal.read(&task, &response, &outcome);
	task.cursor = outcome.cursor;
	task.answer_count++;
	build(&task, &request, &outcome);
	if (strcmp(request.method, method) != 0)
		fail("conversation", request.method);
	require_text("conversation", request.url.data, path);
}

static void
check_request(int question, const char *method, const char *path,
			  const char *body)
{
	PspTask	   task = make_task(question);
	PspRequest request;
	PspOutcome outcome;

	build(&task, &request, &outcome);
	if (strcmp(request.method, method) != 0)
		fail("request", request.method);
	if (strcmp(request.url.data,
			   psprintf("https://api.example.com/v2/%s", path)) != 0)
		fail("request", request.url.data);
	if (strcmp(request.body.data, body) != 0)
		fail("request", request.body.data);
}

static void
check_modifications(void)
{
	PspTask	   task = make_task(AUTHORIZE);
	PspRequest request;
	PspOutcome outcome;

	build(&task, &request, &outcome);
	require_text("request", request.body.data, "{\"intent\":\"AUTHORIZE\",");
	check_request(SEND_CAPTURE, "POST",
				  "payments/authorizations/parent_1/capture",
				  "{\"amount\":{\"currency_code\":\"EUR\",\"value\":\"5.00\"},"
				  "\"invoice_id\":\"" CAPTURE_KEY
				  "\",\"final_capture\":false}");
	check_request(CAPTURE_SHOW, "GET", "checkout/orders/5O1", "");
	check_request(LOOK_UP_CAPTURE, "GET", "checkout/orders/5O1", "");
	check_request(SEND_VOID, "POST", "payments/authorizations/parent_1/void",
				  "");
	check_request(LOOK_UP_VOID, "GET", "checkout/orders/5O1", "");
	check_request(SEND_REFUND, "POST", "payments/captures/parent_1/refund",
				  "{\"amount\":{\"currency_code\":\"EUR\",\"value\":\"3.00\"},"
				  "\"custom_id\":\"" ORDER "\",\"invoice_id\":\"" ORDER
				  ":refund:1\"}");
	check_request(LOOK_UP_REFUND, "GET", "payments/refunds/1R", "");
	check_cursor(AUTHORIZE, 201, ORDER_WITH("APPROVED", ""), "POST",
				 "/v2/checkout/orders/5O1/authorize");
	check_cursor(SEND_VOID, 204, "", "GET", "/v2/checkout/orders/5O1");
	check_cursor(SEND_CAPTURE, 422, FAULT("x", "AUTHORIZATION_EXPIRED"), "GET",
				 "/v2/checkout/orders/5O1");

	/* All that is left leaves nothing for another capture. */
	task = make_task(SEND_CAPTURE);
	task.captured_amount = 599;
	build(&task, &request, &outcome);
	require_text("request", request.body.data, "\"final_capture\":true}");
}

/* "expiration_time" is when the authorization ends. */
static void
check_time(const char *text, int64 wanted)
{
	char		*body = psprintf("{\"t\":\"%s\"}", text);
	JsonDocument json;

	if (!json_parse(&json, body, (int) strlen(body)) ||
		member_time(&json, json_root(&json), "t") != wanted)
		fail("time", text);
	json_free(&json);
}

static void
check_times(void)
{
	check_time("1970-01-01T00:00:01Z", 1);
	check_time("2000-02-29T12:00:00Z", 951825600);
	check_time("2026-12-20T10:00:00.123Z", 1797760800);
	check_time("2026-12-20T12:00:00+02:00", 1797760800);
	check_time("2026-12-20T09:30:00-0030", 1797760800);
	check_time("2026-12-20T10:00:00", 0);
	check_time("2026-12-20", 0);
	check_time("2026-13-20T10:00:00Z", 0);
	check_time("2026-12-20T10:00:00Zx", 0);
	check_time("1969-12-31T23:59:59Z", 0);
	check_time("9999-12-31T23:59:59Z", INT64CONST(253402300799));
	check_time("", 0);
}

static void
check_requests(void)
{
	PspTask	   task = make_task(PAY);
	PspRequest request;
	PspOutcome outcome;

	build(&task, &request, &outcome);
	require_text("request", request.body.data,
				 "{\"currency_code\":\"EUR\",\"value\":\"10.99\"}");
	require_text("request", request.body.data, "\"invoice_id\":\"" KEY "\"");
	require_text("request", request.body.data,
				 "\"paypal\":{\"vault_id\":\"pm_card_visa\"}");
	check_cursor(PAY, 201, ORDER_WITH("APPROVED", ""), "POST",
				 "/v2/checkout/orders/5O1/capture");
	check_cursor(TAKE, 422, FAULT("x", "ORDER_ALREADY_CAPTURED"), "GET",
				 "/v2/checkout/orders/5O1");
	check_cursor(SEND_PAYOUT, 400,
				 DUPLICATE("{\"href\":\"https://elsewhere.example/v1/payments/"
						   "payouts/P7?page=1\"}"),
				 "GET", "https://api.example.com/v1/payments/payouts/P7");
	check_modifications();
	check_times();
	check_amounts();
	check_tokens();
	check_verifications();
}

const Suite suite = {
	.adapter = &psp_paypal,
	.cases = cases,
	.case_count = lengthof(cases),
	.question_count = QUESTION_COUNT,
	.header = "Retry-After: 1",
	.set_question = set_question,
	.check = check_requests,
};
