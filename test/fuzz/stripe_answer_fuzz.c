/*-------------------------------------------------------------------------
 *
 * stripe_answer_fuzz.c
 *	  What Stripe's answers mean, case by case, and that no damaged answer
 *	  ever means money.
 *
 *	  stripe_answer_fuzz [-n COUNT] [-s SEED]
 *
 * Checks the table of cases first, then every truncation of each body, then
 * COUNT random mutations.  LLVMFuzzerTestOneInput is there for libFuzzer;
 * define NO_MAIN then.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <stdlib.h>
#include <unistd.h>

#include "psp/json.h"
#include "psp/psp.h"

#define ORDER "0190a1b2-0000-7000-8000-000000000001"
#define OTHER "0190a1b2-0000-7000-8000-000000000002"
#define INPUT_BYTES_MAX 65536

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
	LOOK_UP_PAY, /* by listing */
	LOOK_UP_PAY_BY_NAME,
	SEND_PAYOUT,
	LOOK_UP_PAYOUT,
	QUESTION_COUNT
} Question;

typedef struct Case
{
	const char	  *name;
	Question	   question;
	int			   status;
	const char	  *headers;
	const char	  *body;
	PspOutcomeKind kind;
	int64		   amount; /* -1: none */
	const char	  *currency;
	const char	  *code; /* NULL: none */
} Case;

#define NONE -1, "", NULL

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
	  PSP_DECLINED, -1, "", "insufficient_funds" },
	{ "expired card", PAY, 402, "", FAULT("card_error", "expired_card", ""),
	  PSP_DECLINED, -1, "", "expired_card" },
	{ "S12 a decline stays one, whatever is advised", PAY, 402,
	  "Stripe-Should-Retry: true\r\n",
	  FAULT("card_error", "card_declined", ""), PSP_DECLINED, -1, "",
	  "card_declined" },
	{ "invalid", PAY, 400, "",
	  FAULT("invalid_request_error", "parameter_missing", ""), PSP_FAILED, -1,
	  "", "parameter_missing" },
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
	  PSP_DECLINED, -1, "", "lost_card" },
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

extern int LLVMFuzzerTestOneInput(const uint8 *data, size_t size);

static int failures = 0;

static PspTask
make_task(Question question)
{
	PspTask task;

	memset(&task, 0, sizeof(task));
	task.operation = question == SEND_PAYOUT || question == LOOK_UP_PAYOUT
						 ? PSP_OPERATION_PAYOUT
						 : PSP_OPERATION_PAY;
	task.step = question == PAY || question == SEND_PAYOUT ? PSP_STEP_SEND
														   : PSP_STEP_LOOKUP;
	task.object_id = ORDER;
	task.payment_id = OTHER;
	task.psp_key = ORDER ":pay:1";
	task.attempt_no = 1;
	task.amount = 1099;
	task.currency = "EUR";
	task.payment_method = "pm_card_visa";
	task.destination = "ba_1";
	task.description = "50% off & more\n=";
	task.made_from_s = 999880;
	task.made_to_s = 2000120;
	if (question == LOOK_UP_PAY_BY_NAME)
		task.psp_reference = "pi_1";
	return task;
}

static void
ask(Question question, int status, const char *headers, const char *body,
	int length, PspOutcome *outcome)
{
	PspTask		task = make_task(question);
	PspResponse response;

	response.status = status;
	response.retry_after_ms = -1;
	response.headers = headers;
	response.headers_length = (int) strlen(headers);
	response.body = body;
	response.body_length = length;
	psp_stripe.read(&task, &response, outcome);
}

static void
fail(const char *name, const char *what)
{
	failures++;
	printf("not ok - %s: %s\n", name, what);
}

static void
check_case(const Case *c)
{
	PspOutcome outcome;
	int		   before = failures;

	ask(c->question, c->status, c->headers, c->body, (int) strlen(c->body),
		&outcome);
	if (outcome.kind != c->kind)
		fail(c->name, psp_outcome_name(outcome.kind));
	if (outcome.has_amount != (c->amount >= 0) ||
		(outcome.has_amount && outcome.amount != c->amount))
		fail(c->name, "amount");
	if (strcmp(outcome.currency, c->currency) != 0)
		fail(c->name, "currency");
	if ((outcome.error_code == NULL) != (c->code == NULL) ||
		(c->code && strcmp(outcome.error_code, c->code) != 0))
		fail(c->name, outcome.error_code ? outcome.error_code : "no code");
	if (failures == before)
		printf("ok - %s\n", c->name);
}

/* S13: no answer that was cut off says anything. */
static void
check_truncations(const Case *c)
{
	int length = (int) strlen(c->body);

	if (c->status != 200)
		return;
	for (int cut = 0; cut < length; cut++)
	{
		PspOutcome outcome;
		char	  *piece = malloc(Max(cut, 1));

		/* to the byte, so that reading on is noticed */
		memcpy(piece, c->body, cut);
		ask(c->question, 200, "", piece, cut, &outcome);
		if (outcome.kind != PSP_UNKNOWN &&
			!(cut > 0 && strstr(c->name, "two documents")))
			fail(c->name, "a truncated answer is taken for a whole one");
		free(piece);
	}
}

#define REQUIRE(condition)                                          \
	do                                                              \
	{                                                               \
		if (!(condition))                                           \
		{                                                           \
			fprintf(stderr, "line %d: %s\n", __LINE__, #condition); \
			abort();                                                \
		}                                                           \
	} while (0)

/* What must hold of any outcome, whatever was answered */
static void
check_promises(Question question, int status, const PspOutcome *outcome)
{
	bool ok = status >= 200 && status <= 299;

	if (outcome->kind == PSP_SUCCEEDED || outcome->kind == PSP_PENDING)
		REQUIRE(ok && outcome->reference != NULL);
	if (outcome->kind == PSP_SUCCEEDED)
		REQUIRE(outcome->has_amount && strlen(outcome->currency) == 3);
	if (outcome->kind == PSP_RETRY)
		REQUIRE(!ok && (question == PAY || question == SEND_PAYOUT));
	if (outcome->kind == PSP_NOT_FOUND || outcome->kind == PSP_MORE)
		REQUIRE(ok && (question == LOOK_UP_PAY || question == LOOK_UP_PAYOUT));
	if (outcome->kind == PSP_MORE)
		REQUIRE(outcome->cursor != NULL);
	if (outcome->reference)
		REQUIRE(strlen(outcome->reference) <= PSP_REFERENCE_LENGTH_MAX);
	if (outcome->error_code)
		REQUIRE(strlen(outcome->error_code) <= PSP_CODE_LENGTH_MAX);
	if (outcome->error_message)
		REQUIRE(strlen(outcome->error_message) <=
				PSP_MESSAGE_LENGTH_MAX + PSP_CODE_LENGTH_MAX);
}

/* Input: which question, which status, then the body. */
int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	static const int statuses[] = { 200, 400, 402, 409, 500, 200, 429, 200 };
	Question		 question;
	int				 status;
	PspOutcome		 outcome;
	PspTask			 task;
	PspRequest		 request;

	if (size < 2 || size > INPUT_BYTES_MAX)
		return 0;
	question = data[0] % QUESTION_COUNT;
	status = statuses[data[1] % lengthof(statuses)];
	ask(question, status, data[1] & 8 ? "Stripe-Should-Retry: true" : "",
		(const char *) data + 2, (int) size - 2, &outcome);
	check_promises(question, status, &outcome);

	/* Whatever became the cursor must make a URL again. */
	task = make_task(question);
	task.cursor = outcome.cursor;
	psp_stripe.build(&task, "http://127.0.0.1/", "sk_test", &request,
					 &outcome);
	for (char *c = request.url.data; *c; c++)
		REQUIRE((unsigned char) *c > ' ' && (unsigned char) *c < 0x7F);
	return 0;
}

#ifndef NO_MAIN

static uint64 seed = 1;

static uint32
any(uint32 below)
{
	seed = seed * UINT64CONST(6364136223846793005) + 1442695040888963407;
	return (uint32) (seed >> 33) % below;
}

static void
mutate(uint8 *input, size_t *size)
{
	for (uint32 i = any(8); i > 0 && *size > 2; i--)
	{
		size_t at = 2 + any((uint32) *size - 2);

		switch (any(4))
		{
			case 0:
				input[at] = (uint8) any(256);
				break;
			case 1:
				input[at] = (uint8) "{}[]\",:\\u0\"e-."[any(14)];
				break;
			case 2: /* cut out */
				memmove(input + at, input + at + 1, *size - at - 1);
				(*size)--;
				break;
			default: /* double a stretch */
			{
				size_t length = Min(any(200), *size - at);

				if (*size + length > INPUT_BYTES_MAX)
					break;
				memmove(input + at + length, input + at, *size - at);
				*size += length;
			}
		}
	}
}

static void
run_mutations(long count)
{
	uint8 *input = malloc(INPUT_BYTES_MAX);

	for (long i = 0; i < count; i++)
	{
		const Case *c = &cases[any(lengthof(cases))];
		size_t		size = strlen(c->body) + 2;
		uint8	   *exact;

		input[0] = (uint8) (any(4) ? c->question : any(256));
		input[1] = (uint8) (any(2) ? 0 : any(256));
		memcpy(input + 2, c->body, size - 2);
		mutate(input, &size);
		exact = malloc(size);
		memcpy(exact, input, size);
		(void) LLVMFuzzerTestOneInput(exact, size);
		free(exact);
	}
	free(input);
}

/* Nesting costs no stack, and ends somewhere. */
static void
check_nesting(void)
{
	int			 length = 1000000;
	char		*text = malloc(length);
	JsonDocument json;

	memset(text, '[', length);
	if (json_parse(&json, text, length))
		fail("nesting", "accepted");
	json_free(&json);
	free(text);
}

static void
check_request(void)
{
	PspTask	   task = make_task(PAY);
	PspRequest request;
	PspOutcome outcome;

	psp_stripe.build(&task, "https://api.example.com//", "sk_test", &request,
					 &outcome);
	if (strcmp(request.url.data,
			   "https://api.example.com/v1/payment_intents") != 0)
		fail("request", request.url.data);
	if (strstr(request.body.data, "amount=1099&currency=eur&") == NULL ||
		strstr(request.body.data,
			   "description=50%25%20off%20%26%20more%0A%3D&") == NULL ||
		strstr(request.body.data, "metadata%5Battempt%5D=1") == NULL)
		fail("request", request.body.data);

	task = make_task(LOOK_UP_PAY);
	psp_stripe.build(&task, "http://x", "sk_test", &request, &outcome);
	if (strstr(request.url.data, "created%5Bgte%5D=999880&") == NULL ||
		strstr(request.url.data, "created%5Blte%5D=2000120") == NULL)
		fail("listing", request.url.data);
}

int
main(int argc, char **argv)
{
	long count = 0;
	int	 option;

	while ((option = getopt(argc, argv, "n:s:")) != -1)
	{
		if (option == 'n')
			count = strtol(optarg, NULL, 10);
		else if (option == 's')
			seed = strtoull(optarg, NULL, 10);
		else
			return 2;
	}
	for (int i = 0; i < (int) lengthof(cases); i++)
	{
		check_case(&cases[i]);
		check_truncations(&cases[i]);
	}
	check_nesting();
	check_request();
	run_mutations(count);
	printf("1..%d\n", (int) lengthof(cases));
	return failures == 0 ? 0 : 1;
}

#endif
