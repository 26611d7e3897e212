/*-------------------------------------------------------------------------
 *
 * event_fuzz.c
 *	  What webhook events of all PSPs mean, case by case, and that no damaged
 *	  one ever means money.
 *
 *	  event_fuzz [-n COUNT] [-s SEED]
 *
 * Checks the cases first, then every truncation of each body, then COUNT
 * random mutations.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <stdlib.h>
#include <unistd.h>

#include "psp/psp.h"

#define ORDER "0190a1b2-0000-7000-8000-000000000001"
#define INPUT_BYTES_MAX 65536

extern int LLVMFuzzerTestOneInput(const uint8 *data, size_t size);

typedef struct Case
{
	const char		 *name;
	const PspAdapter *adapter;
	const char		 *body;
	int				  count; /* 0: unreadable */
	const char		 *id;	 /* of the first event; NULL: unreadable item */
	PspEventAbout	  about;
	const char		 *outcome; /* NULL: none */
	int64			  amount;  /* when succeeded */
} Case;

#define EVENT(type, object)                                                 \
	"{\"id\":\"evt_1\",\"object\":\"event\",\"created\":1,\"type\":\"" type \
	"\",\"data\":{\"object\":" object "}}"
#define INTENT(status)                                                \
	"{\"id\":\"pi_1\",\"object\":\"payment_intent\",\"amount\":1099," \
	"\"currency\":\"eur\",\"metadata\":{\"payment_order\":\"" ORDER   \
	"\",\"attempt\":\"1\"},\"last_payment_error\":{\"code\":\"no\"}," \
	"\"status\":\"" status "\"}"
#define ITEM(code, success) OURS(code, "", success)
#define OURS(code, key, success)                                          \
	"{\"NotificationRequestItem\":{\"pspReference\":\"psp_1\","           \
	"\"merchantAccountCode\":\"Shop\",\"merchantReference\":\"" ORDER key \
	"\",\"originalReference\":\"psp_0\",\"amount\":{\"value\":1099,"      \
	"\"currency\":\"EUR\"},\"eventCode\":"                                \
	"\"" code "\",\"success\":\"" success                                 \
	"\",\"additionalData\":{\"hmacSignature\":\"AAAA\"}}}"
#define ITEMS(items) "{\"live\":\"false\",\"notificationItems\":[" items "]}"
#define TRANSFER(status)                                                      \
	"{\"type\":\"balancePlatform.transfer.updated\",\"data\":{\"id\":\"t1\"," \
	"\"reference\":\"" ORDER "\",\"status\":\"" status                        \
	"\",\"amount\":{\"value\":1099,\"currency\":\"EUR\"},"                    \
	"\"balanceAccount\":{\"id\":\"BA\"}}}"
#define CAPTURE(type, status) CAPTURE_OF("pay:1", type, status)
#define CAPTURE_OF(key, type, status)                                      \
	"{\"id\":\"WH-1\",\"event_type\":\"PAYMENT.CAPTURE." type              \
	"\",\"resource\":{\"id\":\"C1\",\"status\":\"" status                  \
	"\",\"custom_id\":\"" ORDER "\",\"invoice_id\":\"" ORDER ":" key "\"," \
	"\"amount\":{\"value\":\"10.99\",\"currency_code\":\"EUR\"},"          \
	"\"supplementary_data\":{\"related_ids\":{\"order_id\":\"O1\"}}}}"

#define CHARGE(captured)                                               \
	"{\"id\":\"ch_1\",\"object\":\"charge\",\"status\":\"succeeded\"," \
	"\"payment_intent\":\"pi_1\",\"captured\":" captured               \
	",\"amount\":1099,\"amount_captured\":1099,\"currency\":\"eur\","  \
	"\"metadata\":{\"payment_order\":\"" ORDER "\",\"attempt\":\"1\"}}"
#define AUTHORIZATION(type, status) \
	OF_AUTHORIZATION("AUTHORIZATION." type, "pay:1", status)
#define OF_AUTHORIZATION(type, key, status)                                \
	"{\"id\":\"WH-1\",\"event_type\":\"PAYMENT." type                      \
	"\",\"resource\":{\"id\":\"C1\",\"status\":\"" status                  \
	"\",\"custom_id\":\"" ORDER "\",\"invoice_id\":\"" ORDER ":" key "\"," \
	"\"amount\":{\"value\":\"10.99\",\"currency_code\":\"EUR\"},"          \
	"\"supplementary_data\":{\"related_ids\":{\"order_id\":\"O1\","        \
	"\"authorization_id\":\"A1\"}}}}"

static const Case cases[] = {
	{ "a payment succeeded", &psp_stripe,
	  EVENT("payment_intent.succeeded", INTENT("succeeded")), 1, "evt_1",
	  PSP_EVENT_PAY, "succeeded", 1099 },
	{ "a payment was declined", &psp_stripe,
	  EVENT("payment_intent.payment_failed",
			INTENT("requires_payment_method")),
	  1, "evt_1", PSP_EVENT_PAY, "declined", 0 },
	{ "type and status differ", &psp_stripe,
	  EVENT("payment_intent.succeeded", INTENT("canceled")), 1, "evt_1",
	  PSP_EVENT_PAY, NULL, 0 },
	{ "a payment was made", &psp_stripe,
	  EVENT("payment_intent.created", INTENT("requires_payment_method")), 1,
	  "evt_1", PSP_EVENT_PAY, NULL, 0 },
	{ "a type that nobody knows", &psp_stripe,
	  EVENT("something.new", INTENT("succeeded")), 1, "evt_1", PSP_EVENT_OTHER,
	  NULL, 0 },
	{ "no event", &psp_stripe, INTENT("succeeded"), 0, NULL, PSP_EVENT_OTHER,
	  NULL, 0 },
	{ "authorised", &psp_adyen, ITEMS(ITEM("AUTHORISATION", "true")), 1,
	  "AUTHORISATION:psp_1:true", PSP_EVENT_PAY, "authorized", 1099 },
	{ "authorised, the amount a string", &psp_adyen,
	  "{\"notificationItems\":[{\"NotificationRequestItem\":{\"pspReference\":"
	  "\"psp_1\",\"merchantAccountCode\":\"Shop\",\"merchantReference\":"
	  "\"" ORDER "\",\"amount\":{\"value\":\"1099\",\"currency\":\"EUR\"},"
	  "\"eventCode\":\"AUTHORISATION\",\"success\":true}}]}",
	  1, "AUTHORISATION:psp_1:true", PSP_EVENT_PAY, "authorized", 1099 },
	{ "authorised, the amount no whole number", &psp_adyen,
	  "{\"notificationItems\":[{\"NotificationRequestItem\":{\"pspReference\":"
	  "\"psp_1\",\"merchantAccountCode\":\"Shop\",\"merchantReference\":"
	  "\"" ORDER "\",\"amount\":{\"value\":\"-10e2\",\"currency\":\"EUR\"},"
	  "\"eventCode\":\"AUTHORISATION\",\"success\":\"true\"}}]}",
	  1, "AUTHORISATION:psp_1:true", PSP_EVENT_PAY, NULL, 0 },
	{ "captured as we asked for it", &psp_adyen,
	  ITEMS(OURS("CAPTURE", ".capture.2", "true")), 1, "CAPTURE:psp_1:true",
	  PSP_EVENT_CAPTURE, "succeeded", 1099 },
	{ "not captured", &psp_adyen,
	  ITEMS(OURS("CAPTURE", ".capture.2", "false")), 1, "CAPTURE:psp_1:false",
	  PSP_EVENT_CAPTURE, "failed", 0 },
	{ "voided", &psp_adyen, ITEMS(OURS("CANCELLATION", ".void.3", "true")), 1,
	  "CANCELLATION:psp_1:true", PSP_EVENT_VOID, "voided", 0 },
	{ "refunded", &psp_adyen, ITEMS(OURS("REFUND", ".refund.1", "true")), 1,
	  "REFUND:psp_1:true", PSP_EVENT_REFUND, "succeeded", 1099 },
	{ "cancelled by people", &psp_adyen,
	  ITEMS(OURS("CANCELLATION", "", "true")), 1, "CANCELLATION:psp_1:true",
	  PSP_EVENT_PAY, "voided", 0 },
	{ "not cancelled by people", &psp_adyen,
	  ITEMS(OURS("CANCELLATION", "", "false")), 1, "CANCELLATION:psp_1:false",
	  PSP_EVENT_PAY, NULL, 0 },
	{ "S21 expired", &psp_adyen, ITEMS(OURS("EXPIRE", "", "true")), 1,
	  "EXPIRE:psp_1:true", PSP_EVENT_PAY, "expired", 0 },
	{ "a capture that we never asked for", &psp_adyen,
	  ITEMS(OURS("CAPTURE", "", "true")), 1, "CAPTURE:psp_1:true",
	  PSP_EVENT_OTHER, NULL, 0 },
	{ "a capture in the name of a refund", &psp_adyen,
	  ITEMS(OURS("CAPTURE", ".refund.1", "true")), 1, "CAPTURE:psp_1:true",
	  PSP_EVENT_OTHER, NULL, 0 },
	{ "a refund of no number", &psp_adyen,
	  ITEMS(OURS("REFUND", ".refund.x", "true")), 1, "REFUND:psp_1:true",
	  PSP_EVENT_REFUND, NULL, 0 },
	{ "a refund with colons", &psp_adyen,
	  ITEMS(OURS("REFUND", ":refund:1", "true")), 1, "REFUND:psp_1:true",
	  PSP_EVENT_REFUND, NULL, 0 },
	{ "refused, beside others", &psp_adyen,
	  ITEMS(ITEM("AUTHORISATION", "false") "," ITEM("REFUND", "true") ",7"), 3,
	  "AUTHORISATION:psp_1:false", PSP_EVENT_PAY, "declined", 0 },
	{ "an item that is none", &psp_adyen, ITEMS("{}"), 1, NULL,
	  PSP_EVENT_OTHER, NULL, 0 },
	{ "a chargeback", &psp_adyen, ITEMS(ITEM("CHARGEBACK", "true")), 1,
	  "CHARGEBACK:psp_1:true", PSP_EVENT_DISPUTE, NULL, 0 },
	{ "a transfer was booked", &psp_adyen, TRANSFER("booked"), 1,
	  "balancePlatform.transfer.updated:t1:booked", PSP_EVENT_PAYOUT,
	  "succeeded", 1099 },
	{ "a transfer in a status of its own", &psp_adyen, TRANSFER("dancing"), 1,
	  "balancePlatform.transfer.updated:t1:dancing", PSP_EVENT_PAYOUT, NULL,
	  0 },
	{ "a capture is complete", &psp_paypal, CAPTURE("COMPLETED", "COMPLETED"),
	  1, "WH-1", PSP_EVENT_PAY, "succeeded", 1099 },
	{ "a part is captured", &psp_paypal,
	  CAPTURE_OF("capture:2", "COMPLETED", "COMPLETED"), 1, "WH-1",
	  PSP_EVENT_CAPTURE, "succeeded", 1099 },
	{ "a capture was declined", &psp_paypal, CAPTURE("DENIED", "DECLINED"), 1,
	  "WH-1", PSP_EVENT_PAY, "declined", 0 },
	{ "an authorisation was cancelled", &psp_stripe,
	  EVENT("payment_intent.canceled", INTENT("canceled")), 1, "evt_1",
	  PSP_EVENT_PAY, "failed", 0 },
	{ "a charge has expired", &psp_stripe,
	  EVENT("charge.expired", CHARGE("false")), 1, "evt_1", PSP_EVENT_PAY,
	  "expired", 0 },
	{ "a charge that was captured has not expired", &psp_stripe,
	  EVENT("charge.expired", CHARGE("true")), 1, "evt_1", PSP_EVENT_PAY, NULL,
	  0 },
	{ "what a charge says of refunds", &psp_stripe,
	  EVENT("charge.refunded", CHARGE("true")), 1, "evt_1", PSP_EVENT_OTHER,
	  NULL, 0 },
	{ "a capture that has failed after all", &psp_adyen,
	  ITEMS(OURS("CAPTURE_FAILED", ".capture.2", "true")), 1,
	  "CAPTURE_FAILED:psp_1:true", PSP_EVENT_CAPTURE, "failed", 0 },
	{ "one of no request of ours", &psp_adyen,
	  ITEMS(ITEM("CAPTURE_FAILED", "true")), 1, "CAPTURE_FAILED:psp_1:true",
	  PSP_EVENT_CAPTURE, "failed", 0 },
	{ "S35 a refund that has failed after all", &psp_adyen,
	  ITEMS(OURS("REFUND_FAILED", ".refund.1", "true")), 1,
	  "REFUND_FAILED:psp_1:true", PSP_EVENT_REFUND, "failed", 0 },
	{ "S35 by its name alone", &psp_adyen,
	  ITEMS(ITEM("REFUND_FAILED", "true")), 1, "REFUND_FAILED:psp_1:true",
	  PSP_EVENT_REFUND, "failed", 0 },
	{ "a failure that did not come to pass", &psp_adyen,
	  ITEMS(ITEM("REFUND_FAILED", "false")), 1, "REFUND_FAILED:psp_1:false",
	  PSP_EVENT_REFUND, NULL, 0 },
	{ "an authorization was made", &psp_paypal,
	  AUTHORIZATION("CREATED", "CREATED"), 1, "WH-1", PSP_EVENT_PAY, NULL, 0 },
	{ "an authorization was voided", &psp_paypal,
	  AUTHORIZATION("VOIDED", "VOIDED"), 1, "WH-1", PSP_EVENT_PAY, "voided",
	  0 },
	{ "an authorization has expired", &psp_paypal,
	  AUTHORIZATION("VOIDED", "EXPIRED"), 1, "WH-1", PSP_EVENT_PAY, "expired",
	  0 },
	{ "an authorization whose status differs", &psp_paypal,
	  AUTHORIZATION("VOIDED", "CREATED"), 1, "WH-1", PSP_EVENT_PAY, NULL, 0 },
	{ "a capture by hand of what was authorised", &psp_paypal,
	  OF_AUTHORIZATION("CAPTURE.COMPLETED", "pay:1", "COMPLETED"), 1, "WH-1",
	  PSP_EVENT_CAPTURE, "succeeded", 1099 },
	{ "refunded at PayPal", &psp_paypal,
	  OF_AUTHORIZATION("CAPTURE.REFUNDED", "refund:1", "COMPLETED"), 1, "WH-1",
	  PSP_EVENT_REFUND, "succeeded", 1099 },
	{ "S35 a refund at PayPal that failed", &psp_paypal,
	  OF_AUTHORIZATION("REFUND.FAILED", "refund:1", "FAILED"), 1, "WH-1",
	  PSP_EVENT_REFUND, "failed", 0 },
	{ "a payment that PayPal reversed", &psp_paypal,
	  OF_AUTHORIZATION("CAPTURE.REVERSED", "pay:1", "COMPLETED"), 1, "WH-1",
	  PSP_EVENT_REFUND, NULL, 0 },
	{ "a capture whose status differs", &psp_paypal,
	  CAPTURE("COMPLETED", "PENDING"), 1, "WH-1", PSP_EVENT_PAY, NULL, 0 },
};

static const char *const config[PSP_MAX_CONFIG] = { "Shop", "https://x/",
													"BA" };
static int				 failures = 0;

static void
fail(const char *name, const char *what)
{
	failures++;
	printf("not ok - %s: %s\n", name, what);
}

/* What holds for every event, whatever it was read from */
static void
check_event(const char *name, const PspEvent *event, int length)
{
	if (event->id == NULL)
		return;
	if (event->type == NULL || event->id[0] == '\0')
		fail(name, "an event without type or name");
	if (event->start < 0 || event->length < 0 ||
		event->start + event->length > length)
		fail(name, "an event that is not within the body");
	if (!event->has_outcome)
		return;
	if (event->outcome.kind == PSP_UNKNOWN ||
		event->outcome.kind == PSP_MORE || event->outcome.kind == PSP_RETRY)
		fail(name, "an outcome that is none");
	if (event->outcome.kind == PSP_SUCCEEDED &&
		(!event->outcome.has_amount || event->outcome.amount < 0 ||
		 strlen(event->outcome.currency) != 3))
		fail(name, "success without an amount");
}

static bool
read_copy(const PspAdapter *adapter, const char *body, int length,
		  PspEvents *events)
{
	/* of that size exactly, so that reading beyond it is noticed */
	char *copy = malloc(Max(length, 1));
	bool  readable;

	memcpy(copy, body, length);
	readable = adapter->read_events(copy, length, config, events);
	free(copy);
	return readable;
}

static void
check_case(const Case *c)
{
	int		  before = failures;
	PspEvents events;
	bool	  readable =
		read_copy(c->adapter, c->body, (int) strlen(c->body), &events);
	const PspEvent *event = readable ? &events.events[0] : NULL;
	const char	   *outcome;

	if (readable != (c->count > 0) || (readable && events.count != c->count))
		fail(c->name, "number of events");
	else if (readable)
	{
		outcome =
			event->has_outcome ? psp_outcome_name(event->outcome.kind) : NULL;
		if ((event->id == NULL) != (c->id == NULL) ||
			(c->id && strcmp(event->id, c->id) != 0))
			fail(c->name, event->id ? event->id : "no name");
		if (event->about != c->about)
			fail(c->name, psp_event_about_name(event->about));
		if ((outcome == NULL) != (c->outcome == NULL) ||
			(outcome && strcmp(outcome, c->outcome) != 0))
			fail(c->name, outcome ? outcome : "no outcome");
		if (c->outcome && event->outcome.kind == PSP_SUCCEEDED &&
			event->outcome.amount != c->amount)
			fail(c->name, "amount");
		for (int i = 0; i < events.count; i++)
			check_event(c->name, &events.events[i], (int) strlen(c->body));
	}
	if (failures == before)
		printf("ok - %s\n", c->name);
}

/* What was cut off says nothing. */
static void
check_truncations(const Case *c)
{
	PspEvents events;

	for (int cut = 0; cut < (int) strlen(c->body); cut++)
		if (read_copy(c->adapter, c->body, cut, &events))
			fail(c->name, psprintf("cut at %d it is still an event", cut));
}

static void
try_bytes(const char *name, const char *body, int length)
{
	static const PspAdapter *const adapters[] = { &psp_stripe, &psp_adyen,
												  &psp_paypal };

	for (int i = 0; i < (int) lengthof(adapters); i++)
	{
		PspEvents events;

		if (!read_copy(adapters[i], body, length, &events))
			continue;
		for (int j = 0; j < events.count; j++)
			check_event(name, &events.events[j], length);
	}
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	if (size <= INPUT_BYTES_MAX)
		try_bytes("fuzzer", (const char *) data, (int) size);
	return 0;
}

#ifndef NO_MAIN
static void
mutate(char *body, int *length)
{
	static const char pieces[] = "{}[]\",:\\0-9etu\x00\xff";

	for (int n = random() % 4 + 1; n > 0 && *length > 0; n--)
	{
		int at = (int) (random() % *length);

		switch (random() % 4)
		{
			case 0:
				body[at] = pieces[random() % (sizeof(pieces) - 1)];
				break;
			case 1:
				body[at] = (char) random();
				break;
			case 2:
				memmove(body + at, body + at + 1, *length - at - 1);
				(*length)--;
				break;
			default:
				if (*length < INPUT_BYTES_MAX)
				{
					memmove(body + at + 1, body + at, *length - at);
					(*length)++;
				}
		}
	}
}

int
main(int argc, char **argv)
{
	long count = 20000;
	long seed = 1;
	int	 option;

	while ((option = getopt(argc, argv, "n:s:")) != -1)
	{
		if (option == 'n')
			count = atol(optarg);
		else if (option == 's')
			seed = atol(optarg);
		else
			return 2;
	}
	for (int i = 0; i < (int) lengthof(cases); i++)
	{
		check_case(&cases[i]);
		check_truncations(&cases[i]);
	}
	srandom((unsigned int) seed);
	for (long i = 0; i < count; i++)
	{
		static char body[INPUT_BYTES_MAX + 8];
		const Case *c = &cases[random() % lengthof(cases)];
		int			length = (int) strlen(c->body);

		memcpy(body, c->body, length);
		mutate(body, &length);
		try_bytes(c->name, body, length);
	}
	printf("%s - %ld mutations\n", failures == 0 ? "ok" : "not ok", count);
	return failures == 0 ? 0 : 1;
}
#endif
