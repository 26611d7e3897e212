/*-------------------------------------------------------------------------
 *
 * adyen_answer_fuzz.c
 *	  What Adyen's answers mean, case by case, and that no damaged answer
 *	  ever means money.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "answer.h"

#define AMOUNT(value, currency) \
	",\"amount\":{\"value\":" value ",\"currency\":\"" currency "\"}"
#define PAID(result, more)                                 \
	"{\"pspReference\":\"8515A\",\"resultCode\":\"" result \
	"\",\"merchantReference\":\"" ORDER "\"" more "}"
#define AUTHORISED(value, currency) PAID("Authorised", AMOUNT(value, currency))
#define REFUSED(code, reason)                        \
	PAID("Refused", ",\"refusalReasonCode\":\"" code \
					"\",\"refusalReason\":\"" reason "\"")
#define FAULT(status, code, type)                                    \
	"{\"status\":" status ",\"errorCode\":\"" code "\",\"message\":" \
	"\"no\",\"errorType\":\"" type "\"}"
#define TRANSFER(id, status, more)                                   \
	"{\"id\":\"" id "\",\"reference\":\"" ORDER                      \
	"\",\"amount\":{\"value\":500,\"currency\":\"USD\"},\"status\":" \
	"\"" status "\"" more "}"
#define RECEIVED(operation, status)                                           \
	"{\"merchantAccount\":\"Shop_EUR\",\"paymentPspReference\":\"parent_1\"," \
	"\"pspReference\":\"8516M\",\"reference\":\"" ORDER "." operation         \
	".1\",\"status\":\"" status "\"}"
#define PAGE(reference, amount, url)                                     \
	"{\"id\":\"CS1\",\"expiresAt\":\"2023-11-14T23:13:20+01:00\","       \
	"\"mode\":\"hosted\",\"reference\":\"" reference "\",\"url\":\"" url \
	"\"" AMOUNT(amount, "EUR") "}"
#define PAGE_URL "https://pay.example.com/s?x=1"
#define LIST(data) "{\"data\":[" data "],\"_links\":{}}"

typedef enum Question
{
	PAY,
	PAY_AGAIN,
	SEND_PAYOUT,
	LOOK_UP_PAYOUT,
	LOOK_UP_SECOND_PAYOUT, /* the second attempt's */
	LOOK_UP_PAYOUT_BY_NAME,
	AUTHORIZE,
	TAKE,
	TAKE_AGAIN,
	RELEASE,
	SEND_REFUND,
	SEND_REFUND_AGAIN,
	REGISTER,
	QUESTION_COUNT
} Question;

static const Case cases[] = {
	{ "a page", REGISTER, 201, "", PAGE(ORDER, "1099", PAGE_URL),
	  PSP_REQUIRES_ACTION, -1, "", NULL },
	{ "another order's page", REGISTER, 201, "", PAGE(OTHER, "1099", PAGE_URL),
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "S14 a page for another amount", REGISTER, 201, "",
	  PAGE(ORDER, "1100", PAGE_URL), PSP_UNKNOWN, -1, "",
	  "unreadable_answer" },
	{ "a page nowhere", REGISTER, 201, "",
	  PAGE(ORDER, "1099", "javascript:alert(1)"), PSP_UNKNOWN, -1, "",
	  "unreadable_answer" },
	{ "no page", REGISTER, 201, "",
	  "{\"id\":\"CS1\",\"reference\":\"" ORDER "\"" AMOUNT("1099", "EUR") "}",
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "a page that is refused", REGISTER, 422, "",
	  FAULT("422", "14_029", "validation"), PSP_FAILED, -1, "",
	  "adyen_14_029 / not_applicable" },
	{ "authorised", PAY, 200, "", AUTHORISED("1099", "EUR"), PSP_SUCCEEDED,
	  1099, "EUR", NULL },
	{ "authorised when sent again", PAY_AGAIN, 200, "",
	  AUTHORISED("1099", "EUR"), PSP_SUCCEEDED, 1099, "EUR", NULL },
	{ "S14 authorised in part", PAY, 200, "",
	  PAID("PartiallyAuthorised", AMOUNT("500", "EUR")), PSP_SUCCEEDED, 500,
	  "EUR", NULL },
	{ "S61 yen", PAY, 200, "", AUTHORISED("1000000", "JPY"), PSP_SUCCEEDED,
	  1000000, "JPY", NULL },
	{ "S61 dinars", PAY, 200, "", AUTHORISED("1234", "KWD"), PSP_SUCCEEDED,
	  1234, "KWD", NULL },
	{ "S61 Chilean pesos have two decimals there", PAY, 200, "",
	  AUTHORISED("100000", "CLP"), PSP_SUCCEEDED, 1000, "CLP", NULL },
	{ "S61 ... and cannot be less than whole", PAY, 200, "",
	  AUTHORISED("100050", "CLP"), PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "S61 rupiah have none there", PAY, 200, "", AUTHORISED("15000", "IDR"),
	  PSP_SUCCEEDED, 1500000, "IDR", NULL },
	{ "S61 escudos have none there", PAY, 200, "", AUTHORISED("7", "CVE"),
	  PSP_SUCCEEDED, 700, "CVE", NULL },
	{ "S61 kronur have two decimals there", PAY, 200, "",
	  AUTHORISED("700", "ISK"), PSP_SUCCEEDED, 7, "ISK", NULL },
	{ "an amount that overflows", PAY, 200, "",
	  AUTHORISED("9223372036854775807", "IDR"), PSP_UNKNOWN, -1, "",
	  "unreadable_answer" },
	{ "S13 no amount", PAY, 200, "", PAID("Authorised", ""), PSP_UNKNOWN, -1,
	  "", "unreadable_answer" },
	{ "S13 an amount with a fraction", PAY, 200, "",
	  AUTHORISED("10.99", "EUR"), PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "S13 a negative amount", PAY, 200, "", AUTHORISED("-1099", "EUR"),
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "S13 html", PAY, 200, "", "<html>welcome</html>", PSP_UNKNOWN, -1, "",
	  "unreadable_answer" },
	{ "S13 empty", PAY, 200, "", "", PSP_UNKNOWN, -1, "",
	  "unreadable_answer" },
	{ "S13 an array", PAY, 200, "", "[]", PSP_UNKNOWN, -1, "",
	  "unreadable_answer" },
	{ "S13 two documents", PAY, 200, "",
	  AUTHORISED("1", "EUR") AUTHORISED("1", "EUR"), PSP_UNKNOWN, -1, "",
	  "unreadable_answer" },
	{ "S13 no result", PAY, 200, "",
	  "{\"pspReference\":\"8515A\",\"merchantReference\":\"" ORDER
	  "\"" AMOUNT("1099", "EUR") "}",
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "S13 no reference of Adyen's", PAY, 200, "",
	  "{\"resultCode\":\"Authorised\",\"merchantReference\":\"" ORDER
	  "\"" AMOUNT("1099", "EUR") "}",
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "another order's payment", PAY, 200, "",
	  "{\"pspReference\":\"8515A\",\"resultCode\":\"Authorised\","
	  "\"merchantReference\":\"" OTHER "\"" AMOUNT("1099", "EUR") "}",
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "nobody's payment", PAY, 200, "",
	  "{\"pspReference\":\"8515A\",\"resultCode\":\"Authorised\"" AMOUNT(
		  "1099", "EUR") "}",
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "another order's refusal", PAY, 200, "",
	  "{\"pspReference\":\"8515A\",\"resultCode\":\"Refused\","
	  "\"merchantReference\":\"" OTHER "\"}",
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "pending", PAY, 200, "", PAID("Pending", ""), PSP_PENDING, NONE },
	{ "received", PAY, 200, "", PAID("Received", ""), PSP_PENDING, NONE },
	{ "a voucher", PAY, 200, "", PAID("PresentToShopper", ""), PSP_PENDING,
	  NONE },
	{ "a result nobody knows", PAY, 200, "", PAID("Tokenised", ""),
	  PSP_UNKNOWN, -1, "", "unknown_status" },
	{ "only authenticated", PAY, 200, "", PAID("AuthenticationFinished", ""),
	  PSP_UNKNOWN, -1, "", "unknown_status" },

	{ "not enough balance", PAY, 200, "", REFUSED("12", "Not enough balance"),
	  PSP_DECLINED, -1, "", "refusal_12 / soft" },
	{ "refused", PAY, 200, "", REFUSED("2", "Refused"), PSP_DECLINED, -1, "",
	  "refusal_2 / soft" },
	{ "blocked card", PAY, 200, "", REFUSED("5", "Blocked Card"), PSP_DECLINED,
	  -1, "", "refusal_5 / hard" },
	{ "fraud", PAY, 200, "", REFUSED("20", "FRAUD"), PSP_DECLINED, -1, "",
	  "refusal_20 / hard" },
	{ "a reason nobody knows", PAY, 200, "", REFUSED("999", "Moon"),
	  PSP_DECLINED, -1, "", "refusal_999 / hard" },
	{ "no reason", PAY, 200, "", PAID("Refused", ""), PSP_DECLINED, -1, "",
	  "Refused / hard" },
	{ "authentication required", PAY, 200, "",
	  REFUSED("38", "Authentication required"), PSP_DECLINED, -1, "",
	  "refusal_38 / authentication_required" },
	{ "an error while processing", PAY, 200, "",
	  PAID("Error", ",\"refusalReasonCode\":\"4\",\"refusalReason\":"
					"\"Acquirer Error\""),
	  PSP_DECLINED, -1, "", "refusal_4 / soft" },
	{ "a redirect", PAY, 200, "",
	  "{\"resultCode\":\"RedirectShopper\",\"action\":{\"type\":\"redirect\"}"
	  "}",
	  PSP_DECLINED, -1, "",
	  "authentication_required / authentication_required" },
	{ "a challenge", PAY, 200, "", "{\"resultCode\":\"ChallengeShopper\"}",
	  PSP_DECLINED, -1, "",
	  "authentication_required / authentication_required" },

	{ "invalid", PAY, 422, "", FAULT("422", "130", "validation"), PSP_FAILED,
	  -1, "", "adyen_130 / not_applicable" },
	{ "invalid, but it came before", PAY_AGAIN, 422, "",
	  FAULT("422", "130", "validation"), PSP_UNKNOWN, -1, "", "adyen_130" },
	{ "422 without a reason", PAY, 422, "", "bad", PSP_UNKNOWN, -1, "",
	  "http_422" },
	{ "S11 the key is in use", PAY, 409, "transient-error: true\r\n",
	  FAULT("409", "704", "validation"), PSP_UNKNOWN, -1, "", "adyen_704" },
	{ "S11 the key is in use, told in the older way", PAY, 422, "",
	  FAULT("422", "704", "validation"), PSP_UNKNOWN, -1, "", "adyen_704" },
	{ "S11 too many requests", PAY, 429, "", "", PSP_RETRY, -1, "",
	  "http_429" },
	{ "no access", PAY, 401, "", FAULT("401", "000", "security"), PSP_RETRY,
	  -1, "", "adyen_000" },
	{ "another's merchant account", PAY, 403, "",
	  FAULT("403", "901", "security"), PSP_RETRY, -1, "", "adyen_901" },
	{ "nothing at this address", PAY, 404, "", "<html>", PSP_RETRY, -1, "",
	  "http_404" },
	{ "S08 500", PAY, 500, "", FAULT("500", "000", "internal"), PSP_UNKNOWN,
	  -1, "", "adyen_000" },
	{ "S12 500, to be tried again", PAY, 500, "Transient-Error: true\r\n",
	  FAULT("500", "000", "internal"), PSP_RETRY, -1, "", "adyen_000" },
	{ "S09 500, stored with the key", PAY_AGAIN, 500,
	  "transient-error: false\r\n", FAULT("500", "000", "internal"),
	  PSP_UNKNOWN, -1, "", "adyen_000" },
	{ "redirected", PAY, 302, "Location: http://x/\r\n", "", PSP_UNKNOWN, -1,
	  "", "http_302" },

	{ "transfer received", SEND_PAYOUT, 202, "",
	  TRANSFER("3JQ", "received", ""), PSP_PENDING, NONE },
	{ "transfer authorised", SEND_PAYOUT, 202, "",
	  TRANSFER("3JQ", "authorised", ""), PSP_PENDING, NONE },
	{ "transfer booked", LOOK_UP_PAYOUT, 200, "",
	  LIST(TRANSFER("3JQ", "booked", "")), PSP_SUCCEEDED, 500, "USD", NULL },
	{ "transfer refused", SEND_PAYOUT, 202, "",
	  TRANSFER("3JQ", "refused", ",\"reason\":\"notEnoughBalance\""),
	  PSP_FAILED, -1, "", "notEnoughBalance / soft" },
	{ "transfer failed", LOOK_UP_PAYOUT_BY_NAME, 200, "",
	  TRANSFER("3JQ", "failed", ",\"reason\":\"counterpartyAccountNotFound\""),
	  PSP_FAILED, -1, "", "counterpartyAccountNotFound / hard" },
	{ "transfer returned", LOOK_UP_PAYOUT_BY_NAME, 200, "",
	  TRANSFER("3JQ", "returned", ",\"reason\":\"approved\""), PSP_FAILED, -1,
	  "", "returned / hard" },
	{ "a status nobody knows", SEND_PAYOUT, 202, "",
	  TRANSFER("3JQ", "interestPending", ""), PSP_UNKNOWN, -1, "",
	  "unknown_status" },
	{ "another transfer by name", LOOK_UP_PAYOUT_BY_NAME, 200, "",
	  TRANSFER("3JR", "booked", ""), PSP_UNKNOWN, -1, "",
	  "unreadable_answer" },
	{ "no transfer of ours", LOOK_UP_PAYOUT, 200, "", LIST(""), PSP_NOT_FOUND,
	  -1, "", "not_found" },
	{ "a listing that goes on", LOOK_UP_PAYOUT, 200, "",
	  "{\"data\":[],\"_links\":{\"next\":{\"href\":\"x\"}}}", PSP_UNKNOWN, -1,
	  "", "unreadable_answer" },
	{ "a listing with a stranger", LOOK_UP_PAYOUT, 200, "",
	  LIST("{\"id\":\"3JX\",\"reference\":\"" OTHER
		   "\",\"status\":\"booked\"}"),
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "only the first attempt's is there", LOOK_UP_SECOND_PAYOUT, 200, "",
	  LIST(TRANSFER("3JQ", "failed", "")), PSP_NOT_FOUND, -1, "",
	  "not_found" },
	{ "both attempts failed", LOOK_UP_SECOND_PAYOUT, 200, "",
	  LIST(TRANSFER("3JQ", "failed", "") "," TRANSFER("3JR", "refused", "")),
	  PSP_FAILED, -1, "", "refused / hard" },
	{ "the second attempt is booked", LOOK_UP_SECOND_PAYOUT, 200, "",
	  LIST(TRANSFER("3JQ", "failed", "") "," TRANSFER("3JR", "booked", "")),
	  PSP_SUCCEEDED, 500, "USD", NULL },
	{ "lookup refused", LOOK_UP_PAYOUT, 422, "",
	  "{\"errorCode\":\"30_081\",\"detail\":\"no\",\"status\":422}",
	  PSP_UNKNOWN, -1, "", "adyen_30_081" },
	{ "authorised only", AUTHORIZE, 200, "", AUTHORISED("1099", "EUR"),
	  PSP_AUTHORIZED, 1099, "EUR", NULL },
	{ "S14 authorised only, in part", AUTHORIZE, 200, "",
	  PAID("PartiallyAuthorised", AMOUNT("500", "EUR")), PSP_AUTHORIZED, 500,
	  "EUR", NULL },
	{ "S13 authorised only, but how much", AUTHORIZE, 200, "",
	  PAID("Authorised", ""), PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "authorised only: refused", AUTHORIZE, 200, "",
	  REFUSED("12", "Not enough balance"), PSP_DECLINED, -1, "",
	  "refusal_12 / soft" },

	{ "capture received", TAKE, 201, "", RECEIVED("capture", "received"),
	  PSP_PENDING, NONE },
	{ "capture received, again", TAKE_AGAIN, 201, "",
	  RECEIVED("capture", "received"), PSP_PENDING, NONE },
	{ "another attempt's capture", TAKE, 201, "",
	  "{\"paymentPspReference\":\"parent_1\",\"pspReference\":\"8516M\","
	  "\"reference\":\"" ORDER ".capture.2\",\"status\":\"received\"}",
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "another payment's capture", TAKE, 201, "",
	  "{\"paymentPspReference\":\"8515B\",\"pspReference\":\"8516M\","
	  "\"reference\":\"" ORDER ".capture.1\",\"status\":\"received\"}",
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "S13 a capture without a name", TAKE, 201, "",
	  "{\"paymentPspReference\":\"parent_1\",\"reference\":\"" ORDER
	  ".capture.1\",\"status\":\"received\"}",
	  PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "S13 a payment instead of a capture", TAKE, 201, "",
	  AUTHORISED("1099", "EUR"), PSP_UNKNOWN, -1, "", "unreadable_answer" },
	{ "a capture of a status nobody knows", TAKE, 201, "",
	  RECEIVED("capture", "settled"), PSP_UNKNOWN, -1, "", "unknown_status" },
	{ "capture refused", TAKE, 422, "", FAULT("422", "167", "validation"),
	  PSP_FAILED, -1, "", "adyen_167 / not_applicable" },
	{ "capture refused, but it came before", TAKE_AGAIN, 422, "",
	  FAULT("422", "167", "validation"), PSP_UNKNOWN, -1, "", "adyen_167" },
	{ "S08 500 of a capture", TAKE, 500, "", FAULT("500", "000", "internal"),
	  PSP_UNKNOWN, -1, "", "adyen_000" },
	{ "void received", RELEASE, 201, "", RECEIVED("void", "received"),
	  PSP_PENDING, NONE },
	{ "void refused", RELEASE, 422, "", FAULT("422", "167", "validation"),
	  PSP_FAILED, -1, "", "adyen_167 / not_applicable" },
	{ "refund received", SEND_REFUND, 201, "", RECEIVED("refund", "received"),
	  PSP_PENDING, NONE },
	{ "S33 refund received, again", SEND_REFUND_AGAIN, 201, "",
	  RECEIVED("refund", "received"), PSP_PENDING, NONE },
	{ "S11 the refund's key is in use", SEND_REFUND_AGAIN, 409,
	  "transient-error: true\r\n", FAULT("409", "704", "validation"),
	  PSP_UNKNOWN, -1, "", "adyen_704" },
	{ "refund refused", SEND_REFUND, 422, "",
	  FAULT("422", "137", "validation"), PSP_FAILED, -1, "",
	  "adyen_137 / not_applicable" },

	{ "transfer refused at once", SEND_PAYOUT, 422, "",
	  "{\"errorCode\":\"30_081\",\"detail\":\"no\",\"status\":422}",
	  PSP_FAILED, -1, "", "adyen_30_081 / not_applicable" },
};

static void
set_question(int question, PspTask *task)
{
	static const PspOperation operations[QUESTION_COUNT] = {
		[SEND_PAYOUT] = PSP_OPERATION_PAYOUT,
		[LOOK_UP_PAYOUT] = PSP_OPERATION_PAYOUT,
		[LOOK_UP_SECOND_PAYOUT] = PSP_OPERATION_PAYOUT,
		[LOOK_UP_PAYOUT_BY_NAME] = PSP_OPERATION_PAYOUT,
		[TAKE] = PSP_OPERATION_CAPTURE,
		[TAKE_AGAIN] = PSP_OPERATION_CAPTURE,
		[RELEASE] = PSP_OPERATION_VOID,
		[SEND_REFUND] = PSP_OPERATION_REFUND,
		[SEND_REFUND_AGAIN] = PSP_OPERATION_REFUND,
		[REGISTER] = PSP_OPERATION_REGISTER,
	};

	task->operation = operations[question];
	task->step =
		question >= LOOK_UP_PAYOUT && question <= LOOK_UP_PAYOUT_BY_NAME
			? PSP_STEP_LOOKUP
			: PSP_STEP_SEND;
	task->repeated = question == PAY_AGAIN || question == TAKE_AGAIN ||
					 question == SEND_REFUND_AGAIN;
	if (question == AUTHORIZE)
		task->capture_method = "manual";
	task->config[0] = "Shop_EUR";
	task->config[1] = "https://shop.example/back";
	task->config[2] = "BA1";
	if (question == LOOK_UP_SECOND_PAYOUT)
		task->attempt_no = 2;
	if (question == LOOK_UP_PAYOUT_BY_NAME)
		task->psp_reference = "3JQ";
}

static void
check_amount(const char *currency, int64 amount, const char *wanted)
{
	PspTask	   task = make_task(PAY);
	PspRequest request;
	PspOutcome outcome;

	task.currency = currency;
	task.amount = amount;
	build(&task, &request, &outcome);
	if (wanted)
		require_text(currency, request.body.data, wanted);
	else if (outcome.kind != PSP_FAILED ||
			 strcmp(outcome.error_code, "amount_not_representable") != 0)
		fail(currency, "an amount that Adyen cannot take is sent");
}

/* The answer says until when it is open, in any time zone. */
static void
check_page(void)
{
	static const char body[] = PAGE(ORDER, "1099", PAGE_URL);
	PspTask			  task = make_task(REGISTER);
	PspRequest		  request;
	PspOutcome		  outcome;
	PspResponse		  response = { .status = 201,
								   .retry_after_ms = -1,
								   .headers = "",
								   .body = body,
								   .body_length = sizeof(body) - 1 };

	psp_adyen.read(&task, &response, &outcome);
	if (outcome.hosted_until_s != 1700000000)
		fail("page", "open until another time");
	task.success_url = "https://shop.example.com/ok";
	task.locale = "de";
	task.expires_at_s = 1700000000;
	task.capture_method = "manual";
	build(&task, &request, &outcome);
	if (strcmp(request.url.data, "https://api.example.com/v71/sessions") != 0)
		fail("page", request.url.data);
	require_text("page", request.body.data,
				 "\"mode\":\"hosted\",\"returnUrl\":"
				 "\"https://shop.example.com/ok\",");
	require_text("page", request.body.data,
				 "\"shopperLocale\":\"de\",\"expiresAt\":"
				 "\"2023-11-14T22:13:20Z\",\"additionalData\":"
				 "{\"manualCapture\":\"true\"},\"metadata\":{\"payment\":");
	if (strstr(request.body.data, "paymentMethod"))
		fail("page", "names a payment method");
}

static void
check_config(void)
{
	static const struct
	{
		const char *values[3];
		bool		payouts;
		bool		valid;
	} configs[] = {
		{ { NULL, NULL, NULL }, false, false },
		{ { "m", NULL, "b" }, true, false },
		{ { NULL, "https://r", "b" }, true, false },
		{ { "m", "https://r", NULL }, false, true },
		{ { "m", "https://r", NULL }, true, false },
		{ { NULL, NULL, "b" }, true, true },
		{ { "m", "https://r", "b" }, true, true },
	};

	for (int i = 0; i < (int) lengthof(configs); i++)
		if ((psp_adyen.check_config(configs[i].values, configs[i].payouts) ==
			 NULL) != configs[i].valid)
			fail("config", psprintf("number %d", i));
}

static void
check_error_class(int question, const char *headers, PspErrorClass wanted)
{
	PspTask		task = make_task(question);
	PspResponse response = { .status = 500,
							 .retry_after_ms = -1,
							 .headers = headers,
							 .headers_length = (int) strlen(headers),
							 .body = "" };
	PspOutcome	outcome;

	psp_adyen.read(&task, &response, &outcome);
	psp_classify(&outcome, response.status);
	if (outcome.error_class != wanted)
		fail("error class", psp_error_class_name(outcome.error_class));
}

/* S09: an order that meets a stored 500 for ever is no sign of an outage. */
static void
check_error_classes(void)
{
	static const char key[] = "Idempotency-Key: k\r\n";
	static const char transient[] =
		"Idempotency-Key: k\r\ntransient-error: true\r\n";

	check_error_class(PAY, key, PSP_ERROR_SERVER);
	check_error_class(PAY_AGAIN, "", PSP_ERROR_SERVER);
	check_error_class(PAY_AGAIN, transient, PSP_ERROR_SERVER);
	check_error_class(PAY_AGAIN, key, PSP_ERROR_REQUEST);
}

static void
check_modification(int question, const char *path, const char *body)
{
	PspTask	   task = make_task(question);
	PspRequest request;
	PspOutcome outcome;

	task.reason = "requested_by_customer";
	build(&task, &request, &outcome);
	if (strcmp(request.url.data,
			   psprintf("https://api.example.com/v71/payments/parent_1/%s",
						path)) != 0)
		fail("request", request.url.data);
	if (strcmp(request.body.data,
			   psprintf("{\"merchantAccount\":\"Shop_EUR\",%s}", body)) != 0)
		fail("request", request.body.data);

	task.step = PSP_STEP_LOOKUP;
	build(&task, &request, &outcome);
	if (outcome.kind != PSP_UNKNOWN)
		fail("lookup", "a modification is asked for");
	task.step = PSP_STEP_SEND;
	task.parent_reference = NULL;
	build(&task, &request, &outcome);
	if (outcome.kind != PSP_UNKNOWN)
		fail("request", "something is done to no payment");
}

static void
check_modifications(void)
{
	PspTask	   task = make_task(AUTHORIZE);
	PspRequest request;
	PspOutcome outcome;

	build(&task, &request, &outcome);
	require_text("request", request.body.data,
				 "\"additionalData\":{\"manualCapture\":\"true\"}");
	if (strstr(request.body.data, "captureDelayHours"))
		fail("request", request.body.data);
	check_modification(TAKE, "captures",
					   "\"amount\":{\"value\":1099,\"currency\":\"EUR\"},"
					   "\"reference\":\"" ORDER ".capture.1\"");
	check_modification(RELEASE, "cancels",
					   "\"reference\":\"" ORDER ".void.1\"");
	check_modification(SEND_REFUND, "refunds",
					   "\"amount\":{\"value\":1099,\"currency\":\"EUR\"},"
					   "\"reference\":\"" ORDER ".refund.1\","
					   "\"merchantRefundReason\":\"CUSTOMER REQUEST\"");
}

static void
check_requests(void)
{
	PspTask	   task = make_task(PAY);
	PspRequest request;
	PspOutcome outcome;

	build(&task, &request, &outcome);
	if (strcmp(request.url.data, "https://api.example.com/v71/payments") != 0)
		fail("request", request.url.data);
	require_text("request", request.body.data,
				 "\"amount\":{\"value\":1099,\"currency\":\"EUR\"}");
	require_text("request", request.body.data, "\"reference\":\"" ORDER "\"");
	require_text("request", request.body.data,
				 "\"shopperReference\":\"payer \\\"1\\\"\"");
	if (strlen(task.psp_key) > (size_t) psp_adyen.key_length_max)
		fail("request", "the key is too long");

	check_amount("JPY", 1000000, "{\"value\":1000000,\"currency\":\"JPY\"}");
	check_amount("KWD", 1234, "{\"value\":1234,\"currency\":\"KWD\"}");
	check_amount("CLP", 1000, "{\"value\":100000,\"currency\":\"CLP\"}");
	check_amount("ISK", 7, "{\"value\":700,\"currency\":\"ISK\"}");
	check_amount("IDR", 1500000, "{\"value\":15000,\"currency\":\"IDR\"}");
	check_amount("CVE", 700, "{\"value\":7,\"currency\":\"CVE\"}");
	check_amount("CVE", 701, NULL);
	check_amount("ISK", PG_INT64_MAX, NULL);

	/* Asking for a payment would be paying: only a send may do that. */
	task.step = PSP_STEP_LOOKUP;
	build(&task, &request, &outcome);
	if (outcome.kind != PSP_UNKNOWN ||
		strcmp(outcome.error_code, "no_lookup") != 0)
		fail("lookup", "a payment is asked for");

	task = make_task(LOOK_UP_PAYOUT);
	build(&task, &request, &outcome);
	require_text("listing", request.url.data, "reference=" ORDER);
	require_text("listing", request.url.data,
				 "createdSince=1970-01-12T13%3A44%3A40Z");
	check_page();
	check_modifications();
	check_config();
	check_error_classes();
}

const Suite suite = {
	.adapter = &psp_adyen,
	.cases = cases,
	.case_count = lengthof(cases),
	.question_count = QUESTION_COUNT,
	.header = "transient-error: true",
	.set_question = set_question,
	.check = check_requests,
};
