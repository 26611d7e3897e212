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
	QUESTION_COUNT
} Question;

static const Case cases[] = {
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
	  ORDER_WITH("APPROVED", ""), PSP_UNKNOWN, -1, "", "unknown_status" },
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
};

static void
set_question(int question, PspTask *task)
{
	task->operation =
		question >= SEND_PAYOUT ? PSP_OPERATION_PAYOUT : PSP_OPERATION_PAY;
	task->step = question == LOOK_UP_PAY || question == LOOK_UP_PAYOUT
					 ? PSP_STEP_LOOKUP
					 : PSP_STEP_SEND;
	task->repeated = question == PAY_AGAIN || question == SEND_PAYOUT_AGAIN;
	if (question == TAKE)
		task->cursor = "capture:5O1";
	else if (question == LOOK_AT_ORDER)
		task->cursor = "show:5O1";
	else if (question == LOOK_AT_BATCH)
		task->cursor = "show:P7";
	task->answer_count = task->cursor ? 1 : 0;
	if (question == LOOK_UP_PAY)
		task->psp_reference = "5O1";
	else if (question == LOOK_UP_PAYOUT)
		task->psp_reference = "P7";
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
	check_amounts();
	check_tokens();
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
