/*-------------------------------------------------------------------------
 *
 * answer.c
 *	  What adapters' answers mean: cases, truncations, mutations.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <stdlib.h>
#include <unistd.h>

#include "answer.h"

#define INPUT_BYTES_MAX 65536

extern int LLVMFuzzerTestOneInput(const uint8 *data, size_t size);

static int failures = 0;

PspTask
make_task(int question)
{
	PspTask task;

	memset(&task, 0, sizeof(task));
	task.object_id = ORDER;
	task.payment_id = OTHER;
	task.attempt_no = 1;
	task.amount = 1099;
	task.currency = "EUR";
	task.payment_method = "pm_card_visa";
	task.destination = "ba_1";
	task.description = "50% off & more\n=\"";
	task.payer = "payer \"1\"";
	task.made_from_s = 999880;
	task.made_to_s = 2000120;
	task.total_amount = 1099;
	task.final = true;
	task.parent_reference = "parent_1";
	suite.set_question(question, &task);
	task.psp_key = psprintf(ORDER ":%s:1", psp_operation_name(task.operation));
	return task;
}

static void
ask(int question, int status, const char *headers, const char *body,
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
	suite.adapter->read(&task, &response, outcome);
	psp_classify(outcome, status);
}

void
fail(const char *name, const char *what)
{
	failures++;
	printf("not ok - %s: %s\n", name, what);
}

void
require_text(const char *name, const char *text, const char *part)
{
	if (strstr(text, part) == NULL)
		fail(name, psprintf("%s is not in %s", part, text));
}

static bool
may_have_class(PspOutcomeKind kind)
{
	return kind == PSP_DECLINED || kind == PSP_FAILED;
}

static const char *
settled_text(const PspOutcome *outcome)
{
	const char *rate = outcome->exchange_rate;

	if (!outcome->has_settled_amount)
		return "nothing";
	return psprintf(INT64_FORMAT " - %s %s%s%s", outcome->settled_amount,
					outcome->has_psp_fee
						? psprintf(INT64_FORMAT, outcome->psp_fee)
						: "?",
					outcome->settled_currency, rate ? " at " : "",
					rate ? rate : "");
}

static void
check_case(const Case *c)
{
	PspOutcome	outcome;
	const char *code;
	const char *class;
	int before = failures;

	ask(c->question, c->status, c->headers, c->body, (int) strlen(c->body),
		&outcome);
	if (outcome.kind != c->kind)
		fail(c->name, psp_outcome_name(outcome.kind));
	if (outcome.has_amount != (c->amount >= 0) ||
		(outcome.has_amount && outcome.amount != c->amount))
		fail(c->name, "amount");
	if (strcmp(outcome.currency, c->currency) != 0)
		fail(c->name, "currency");
	if (strcmp(settled_text(&outcome), c->settled ? c->settled : "nothing") !=
		0)
		fail(c->name, settled_text(&outcome));
	code = outcome.error_code;
	class = psp_decline_class_name(outcome.decline_class);
	if (code && c->code && strstr(c->code, " / "))
		code = psprintf("%s / %s", code, class ? class : "none");
	if ((code == NULL) != (c->code == NULL) ||
		(code && strcmp(code, c->code) != 0))
		fail(c->name, code ? code : "no code");
	if (failures == before)
		printf("ok - %s\n", c->name);
}

/* S13: no answer that was cut off says anything. */
static void
check_truncations(const Case *c)
{
	int length = (int) strlen(c->body);

	if (c->status < 200 || c->status > 299)
		return;
	for (int cut = 0; cut < length; cut++)
	{
		PspOutcome outcome;
		char	  *piece = malloc(Max(cut, 1));

		/* to the byte, so that reading on is noticed */
		memcpy(piece, c->body, cut);
		ask(c->question, c->status, "", piece, cut, &outcome);
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

/* What is settled is of money that moved, and fits it. */
static void
check_settled(const PspOutcome *outcome)
{
	if (outcome->has_settled_amount)
	{
		REQUIRE(outcome->kind == PSP_SUCCEEDED && outcome->has_amount);
		REQUIRE(strlen(outcome->settled_currency) == 3);
		REQUIRE(outcome->settled_amount >= 0 && outcome->psp_fee >= 0);
		if (strcmp(outcome->settled_currency, outcome->currency) == 0)
			REQUIRE(outcome->settled_amount == outcome->amount &&
					outcome->exchange_rate == NULL);
		else
			REQUIRE(outcome->exchange_rate != NULL);
	}
	else
		REQUIRE(!outcome->has_psp_fee && outcome->exchange_rate == NULL &&
				outcome->settled_currency[0] == '\0');
	if (outcome->exchange_rate)
	{
		REQUIRE(strspn(outcome->exchange_rate, "0123456789.") ==
				strlen(outcome->exchange_rate));
		REQUIRE(strtod(outcome->exchange_rate, NULL) > 0);
	}
}

/* What must hold of any outcome, whatever was answered */
static void
check_promises(const PspTask *task, int status, const PspOutcome *outcome)
{
	bool ok = status >= 200 && status <= 299;
	bool sends = task->step == PSP_STEP_SEND;
	bool closes = task->operation == PSP_OPERATION_CLOSE;
	bool registers = task->operation == PSP_OPERATION_REGISTER || closes;
	bool done_to_order = task->operation == PSP_OPERATION_CAPTURE ||
						 task->operation == PSP_OPERATION_VOID;

	if (outcome->kind == PSP_SUCCEEDED || outcome->kind == PSP_PENDING ||
		outcome->kind == PSP_AUTHORIZED)
		REQUIRE(ok && outcome->reference != NULL);
	if (outcome->kind == PSP_SUCCEEDED || outcome->kind == PSP_AUTHORIZED)
		REQUIRE(outcome->has_amount && outcome->amount >= 0 &&
				strlen(outcome->currency) == 3);
	if (outcome->kind == PSP_SUCCEEDED)
		REQUIRE(task->operation != PSP_OPERATION_VOID);
	if (outcome->kind == PSP_AUTHORIZED)
		REQUIRE(task->operation == PSP_OPERATION_PAY || registers);
	if (outcome->kind == PSP_VOIDED || outcome->kind == PSP_EXPIRED)
		REQUIRE(ok && (done_to_order || registers ||
					   task->operation == PSP_OPERATION_PAY));
	/* of the payer: at a page, or of a refund, which has none */
	if (outcome->kind == PSP_REQUIRES_ACTION && !registers)
		REQUIRE(ok && task->operation == PSP_OPERATION_REFUND &&
				outcome->reference && !outcome->hosted_url);
	else if (outcome->kind == PSP_REQUIRES_ACTION)
		REQUIRE(ok && !closes && outcome->reference && outcome->hosted_url &&
				!outcome->has_amount &&
				strncmp(outcome->hosted_url, "http", 4) == 0 &&
				strlen(outcome->hosted_url) <= PSP_URL_LENGTH_MAX);
	else
		REQUIRE(outcome->hosted_url == NULL);
	if (outcome->kind == PSP_TOKENIZED)
		REQUIRE(ok && registers && task->setup && outcome->reference &&
				outcome->payment_method && outcome->payment_method[0] &&
				!outcome->has_amount);
	else
		REQUIRE(outcome->payment_method == NULL);
	if (task->setup)
		REQUIRE(outcome->kind != PSP_SUCCEEDED &&
				outcome->kind != PSP_AUTHORIZED &&
				outcome->kind != PSP_PENDING);
	check_settled(outcome);
	REQUIRE(outcome->authorized_until_s >= 0);
	if (outcome->authorized_until_s > 0)
		REQUIRE(outcome->kind == PSP_AUTHORIZED);
	if (outcome->kind == PSP_RETRY)
		REQUIRE(!ok && sends && task->answer_count == 0);
	if (outcome->kind == PSP_KEY_SPENT)
		REQUIRE(sends);
	if (outcome->kind == PSP_NOT_FOUND)
		REQUIRE(ok && !sends &&
				(done_to_order || closes || task->psp_reference == NULL ||
				 (outcome->error_code &&
				  strcmp(outcome->error_code, "not_captured") == 0)));
	if (outcome->kind == PSP_FAILED && !ok)
		REQUIRE(sends && !task->repeated);
	REQUIRE((outcome->decline_class != PSP_DECLINE_UNSAID) ==
			may_have_class(outcome->kind));
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

/* Whatever became of an answer, the next request is well-formed. */
static void
check_request(const PspRequest *request)
{
	JsonDocument json;

	for (const char *c = request->url.data; *c; c++)
		REQUIRE((unsigned char) *c > ' ' && (unsigned char) *c < 0x7F);
	for (int i = 0; i < request->header_count; i++)
		for (const char *c = request->headers[i]; *c; c++)
			REQUIRE((unsigned char) *c >= ' ' && (unsigned char) *c < 0x7F);
	if (request->body.len > 0 && request->body.data[0] == '{')
	{
		REQUIRE(json_parse(&json, request->body.data, request->body.len));
		json_free(&json);
	}
}

void
build(const PspTask *task, PspRequest *request, PspOutcome *outcome)
{
	memset(outcome, 0, sizeof(*outcome));
	if (suite.adapter->build(task, "https://api.example.com//", "sk_test",
							 request, outcome))
		check_request(request);
	else
		REQUIRE(outcome->error_code != NULL);
}

/* Input: which question, which status, then the body. */
int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	static const int statuses[] = { 200, 400, 402, 409, 500, 201, 429, 422 };
	int				 question;
	int				 status;
	PspOutcome		 outcome;
	PspTask			 task;
	PspRequest		 request;

	if (size < 2 || size > INPUT_BYTES_MAX)
		return 0;
	question = data[0] % suite.question_count;
	status = statuses[data[1] % lengthof(statuses)];
	ask(question, status, data[1] & 8 ? suite.header : "",
		(const char *) data + 2, (int) size - 2, &outcome);
	task = make_task(question);
	check_promises(&task, status, &outcome);
	task.cursor = outcome.cursor;
	build(&task, &request, &outcome);
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
		const Case *c = &suite.cases[any(suite.case_count)];
		size_t		size = strlen(c->body) + 2;
		uint8	   *exact;

		input[0] = (uint8) (any(4) ? (uint32) c->question : any(256));
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
	for (int i = 0; i < suite.case_count; i++)
	{
		check_case(&suite.cases[i]);
		check_truncations(&suite.cases[i]);
	}
	check_nesting();
	if (suite.check)
		suite.check();
	run_mutations(count);
	printf("1..%d\n", suite.case_count);
	return failures == 0 ? 0 : 1;
}

#endif
