/*
 * options.c
 *		The command line.
 */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "buf.h"
#include "currency.h"
#include "fault.h"

#define DELAY_MS_MAX (30LL * 24 * 3600 * 1000)
#define TTL_S_MAX (365LL * 24 * 3600)

Options options = { .bind = "127.0.0.1",
					.connections_max = 1024,
					.idle_timeout_s = 60,
					.secret_key = "sk_test_sandbox",
					.seed = 1,
					.payout_delay_ms = 1000,
					.payout_return_delay_ms = 1000,
					.processing_delay_ms = 2000,
					.modification_delay_ms = 1000,
					.session_lifetime_s = 24 * 3600,
					.dispute_fee = 1500,
					.adyen_merchant = "SandboxMerchant",
					.adyen_balance_account = "BA_sandbox",
					.paypal_client = "sandbox",
					.token_lifetime_s = 32400 };

enum
{
	OPT_PORT = 1,
	OPT_BIND,
	OPT_SECRET,
	OPT_BOOK,
	OPT_PID,
	OPT_PORT_FILE,
	OPT_FAULT,
	OPT_SEED,
	OPT_FEE,
	OPT_SETTLEMENT_CURRENCY,
	OPT_PAYOUT_DELAY,
	OPT_RETURN_DELAY,
	OPT_PROCESSING_DELAY,
	OPT_MODIFICATION_DELAY,
	OPT_TTL,
	OPT_AUTHORIZATION,
	OPT_DISPUTE_FEE,
	OPT_SESSION_LIFETIME,
	OPT_ADYEN_MERCHANT,
	OPT_ADYEN_ACCOUNT,
	OPT_ADYEN_CAPTURE,
	OPT_ADYEN_MULTIPLE,
	OPT_TLS_CERT,
	OPT_TLS_KEY,
	OPT_PAYPAL_CLIENT,
	OPT_TOKEN_LIFETIME,
	OPT_PAYPAL_WEBHOOK,
	OPT_HMAC_KEY,
	OPT_WEBHOOK_URL,
	OPT_STRIPE_WEBHOOK_URL,
	OPT_ADYEN_WEBHOOK_URL,
	OPT_PAYPAL_WEBHOOK_URL,
	OPT_STRIPE_SECRETS,
	OPT_CONNECTIONS,
	OPT_IDLE,
	OPT_VERBOSE,
	OPT_HELP
};

static const struct option long_options[] = {
	{ "port", required_argument, NULL, OPT_PORT },
	{ "bind", required_argument, NULL, OPT_BIND },
	{ "secret-key-file", required_argument, NULL, OPT_SECRET },
	{ "book", required_argument, NULL, OPT_BOOK },
	{ "pid-file", required_argument, NULL, OPT_PID },
	{ "port-file", required_argument, NULL, OPT_PORT_FILE },
	{ "fault", required_argument, NULL, OPT_FAULT },
	{ "seed", required_argument, NULL, OPT_SEED },
	{ "fee", required_argument, NULL, OPT_FEE },
	{ "settlement-currency", required_argument, NULL,
	  OPT_SETTLEMENT_CURRENCY },
	{ "payout-delay-ms", required_argument, NULL, OPT_PAYOUT_DELAY },
	{ "payout-return-delay-ms", required_argument, NULL, OPT_RETURN_DELAY },
	{ "processing-delay-ms", required_argument, NULL, OPT_PROCESSING_DELAY },
	{ "modification-delay-ms", required_argument, NULL,
	  OPT_MODIFICATION_DELAY },
	{ "idempotency-ttl-s", required_argument, NULL, OPT_TTL },
	{ "dispute-fee", required_argument, NULL, OPT_DISPUTE_FEE },
	{ "session-lifetime-s", required_argument, NULL, OPT_SESSION_LIFETIME },
	{ "authorization-lifetime-s", required_argument, NULL, OPT_AUTHORIZATION },
	{ "adyen-merchant", required_argument, NULL, OPT_ADYEN_MERCHANT },
	{ "adyen-balance-account", required_argument, NULL, OPT_ADYEN_ACCOUNT },
	{ "tls-cert", required_argument, NULL, OPT_TLS_CERT },
	{ "tls-key", required_argument, NULL, OPT_TLS_KEY },
	{ "adyen-capture", required_argument, NULL, OPT_ADYEN_CAPTURE },
	{ "adyen-multiple-captures", no_argument, NULL, OPT_ADYEN_MULTIPLE },
	{ "paypal-client-id", required_argument, NULL, OPT_PAYPAL_CLIENT },
	{ "paypal-webhook-id", required_argument, NULL, OPT_PAYPAL_WEBHOOK },
	{ "token-lifetime-s", required_argument, NULL, OPT_TOKEN_LIFETIME },
	{ "hmac-key-file", required_argument, NULL, OPT_HMAC_KEY },
	{ "webhook-url", required_argument, NULL, OPT_WEBHOOK_URL },
	{ "stripe-webhook-url", required_argument, NULL, OPT_STRIPE_WEBHOOK_URL },
	{ "adyen-webhook-url", required_argument, NULL, OPT_ADYEN_WEBHOOK_URL },
	{ "paypal-webhook-url", required_argument, NULL, OPT_PAYPAL_WEBHOOK_URL },
	{ "stripe-webhook-secret-file", required_argument, NULL,
	  OPT_STRIPE_SECRETS },
	{ "max-connections", required_argument, NULL, OPT_CONNECTIONS },
	{ "idle-timeout-s", required_argument, NULL, OPT_IDLE },
	{ "verbose", no_argument, NULL, OPT_VERBOSE },
	{ "help", no_argument, NULL, OPT_HELP },
	{ NULL, 0, NULL, 0 }
};

static const char help[] =
	"payment-sandbox: a payment service provider to develop and test against\n"
	"\n"
	"Usage: payment-sandbox [OPTION]...\n"
	"\n"
	"  --port N                    port, 0 chooses one and prints it (0)\n"
	"  --bind ADDRESS              address to listen on (127.0.0.1)\n"
	"  --secret-key-file FILE      the bearer key to expect "
	"(sk_test_sandbox)\n"
	"  --book FILE                 keep the book in FILE across restarts\n"
	"  --tls-cert FILE             speak TLS with these certificates (PEM)\n"
	"  --tls-key FILE              and this private key (PEM)\n"
	"  --pid-file FILE             write the process id\n"
	"  --port-file FILE            write the port once it listens\n"
	"  --max-connections N         connections at once (1024)\n"
	"  --idle-timeout-s N          close silent connections after N s (60)\n"
	"  --fee CUR=FIXED,BP          fee: minor units, basis points; "
	"repeatable\n"
	"                              (USD=30,290 EUR=25,150 JPY=30,360\n"
	"                              KWD=100,290, any other 0,290)\n"
	"  --settlement-currency CUR=CUR:RATE  Stripe settles the first in the\n"
	"                              second; repeatable\n"
	"  --payout-delay-ms N         from a payout's creation to paid (1000)\n"
	"  --payout-return-delay-ms N  from paid to returned, for\n"
	"                              ba_sandbox_return* (1000)\n"
	"  --processing-delay-ms N     for pm_sandbox_processing* (2000)\n"
	"  --modification-delay-ms N   until captures, refunds and reversals\n"
	"                              are decided (1000)\n"
	"  --idempotency-ttl-s N       how long keys are kept (as each PSP has "
	"it)\n"
	"  --dispute-fee N             minor units a chargeback costs (1500)\n"
	"  --session-lifetime-s N      until a hosted page expires (86400)\n"
	"  --authorization-lifetime-s N  until an authorisation expires\n"
	"                              (as each PSP has it)\n"
	"  --adyen-merchant NAME       the merchant account (SandboxMerchant)\n"
	"  --adyen-balance-account ID  what transfers are paid from (BA_sandbox)\n"
	"  --adyen-capture WHEN        immediate or manual (immediate)\n"
	"  --adyen-multiple-captures   several captures of one payment\n"
	"  --paypal-client-id ID       the secret key is its secret (sandbox)\n"
	"  --paypal-webhook-id ID      of the events that PayPal tells\n"
	"  --token-lifetime-s N        of PayPal's access tokens (32400)\n"
	"  --hmac-key-file FILE        hex key that signs Adyen's notifications\n"
	"  --webhook-url URL           where notifications are sent (nowhere)\n"
	"  --stripe-webhook-url URL    only Stripe's; likewise\n"
	"  --adyen-webhook-url URL     only Adyen's\n"
	"  --paypal-webhook-url URL    only PayPal's\n"
	"  --stripe-webhook-secret-file FILE  each line signs Stripe's events\n"
	"  --fault NAME=VALUE          switch a fault on; repeatable\n"
	"  --seed N                    seed of faults and planted differences "
	"(1)\n"
	"  --verbose                   a line on standard error per request\n"
	"  --help                      this text\n"
	"\n"
	"Faults take a percentage (0-100) or next:N (the next N requests):\n";

static void
print_help(void)
{
	fputs(help, stdout);
	for (int i = 0; i < FAULT_COUNT; i++)
		printf("  %-26s  %s\n", fault_name(i), fault_help(i));
	puts("\nSettings of faults:\n"
		 "  latency_ms=N or MIN-MAX     before every answer (0)\n"
		 "  page_latency_ms=N or MIN-MAX  the same on payers' pages (0)\n"
		 "  hang_ms=N                   how long hang_after holds (30000)\n"
		 "  retry_after_s=N             Retry-After of rate_limit (1)\n"
		 "  webhook_delay_ms=N or MIN-MAX  before a notification is sent (0)\n"
		 "  webhook_reorder_ms=N        webhook_reorder waits so long (1000)\n"
		 "  webhook_batch=N             Adyen's items that wait go together "
		 "(1)");
}

static int64_t
parse_number(const char *name, const char *text, int64_t min, int64_t max)
{
	char	 *end;
	long long value;

	errno = 0;
	value = strtoll(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || value < min ||
		value > max)
		die("--%s must be a number from %lld to %lld, not \"%s\"", name,
			(long long) min, (long long) max, text);
	return value;
}

static void
read_secret_key(const char *path)
{
	FILE *file = fopen(path, "re");
	char *line = options.secret_key;

	if (file == NULL)
		die("could not open \"%s\": %s", path, strerror(errno));
	if (fgets(line, sizeof(options.secret_key), file) == NULL)
		line[0] = '\0';
	fclose(file);
	line[strcspn(line, "\r\n")] = '\0';
	if (line[0] == '\0' || strlen(line) == SECRET_KEY_MAX)
		die("\"%s\" must hold a key of 1 to %d characters", path,
			SECRET_KEY_MAX - 1);
}

/* Hex digits in pairs, up to the end of the first line. */
static void
read_hmac_key(const char *path)
{
	char	 line[2 * HMAC_KEY_MAX + 3] = "";
	FILE	*file = fopen(path, "re");
	size_t	 len;
	unsigned byte;

	if (file == NULL)
		die("could not open \"%s\": %s", path, strerror(errno));
	if (fgets(line, sizeof(line), file) == NULL)
		line[0] = '\0';
	fclose(file);
	line[strcspn(line, "\r\n")] = '\0';
	len = strlen(line);
	if (len == 0 || len % 2 != 0 || len > sizeof(options.hmac_key) * 2 ||
		line[strspn(line, "0123456789abcdefABCDEF")] != '\0')
		die("\"%s\" must hold a key of 2 to %d hex digits", path,
			2 * HMAC_KEY_MAX);
	for (size_t i = 0; i < len / 2; i++)
	{
		sscanf(line + 2 * i, "%2x", &byte);
		options.hmac_key[i] = (unsigned char) byte;
	}
	options.hmac_key_len = len / 2;
}

/* Read when something is signed; whether it is there is looked at now. */
static void
set_stripe_secrets(const char *path)
{
	if (access(path, R_OK) != 0)
		die("could not open \"%s\": %s", path, strerror(errno));
	options.stripe_webhook_secrets = path;
}

static void
set_adyen_capture(const char *when)
{
	options.adyen_manual_capture = strcmp(when, "manual") == 0;
	if (!options.adyen_manual_capture && strcmp(when, "immediate") != 0)
		die("--adyen-capture must be immediate or manual, not \"%s\"", when);
}

static void
set_fault(char *setting)
{
	char	   *value = strchr(setting, '=');
	const char *problem;

	if (value == NULL)
		die("--fault must be NAME=VALUE, not \"%s\"", setting);
	*value++ = '\0';
	problem = fault_set(setting, value);
	if (problem != NULL)
		die("--fault %s=%s: %s", setting, value, problem);
}

static void
apply_delay(int option, const char *name, const char *text)
{
	int64_t value = parse_number(name, text, 0, DELAY_MS_MAX);

	if (option == OPT_PAYOUT_DELAY)
		options.payout_delay_ms = value;
	else if (option == OPT_RETURN_DELAY)
		options.payout_return_delay_ms = value;
	else if (option == OPT_MODIFICATION_DELAY)
		options.modification_delay_ms = value;
	else
		options.processing_delay_ms = value;
}

static void
apply(int option, const char *name)
{
	switch (option)
	{
		case OPT_PORT:
			options.port = (int) parse_number(name, optarg, 0, 65535);
			break;
		case OPT_BIND:
			options.bind = optarg;
			break;
		case OPT_SECRET:
			read_secret_key(optarg);
			break;
		case OPT_BOOK:
			options.book_file = optarg;
			break;
		case OPT_PID:
			options.pid_file = optarg;
			break;
		case OPT_PORT_FILE:
			options.port_file = optarg;
			break;
		case OPT_FAULT:
			set_fault(optarg);
			break;
		case OPT_SEED:
			options.seed = (uint64_t) parse_number(name, optarg, 0, INT64_MAX);
			break;
		case OPT_FEE:
			if (!currency_set_fee(optarg))
				die("--fee must be CUR=FIXED,BASIS_POINTS, not \"%s\"",
					optarg);
			break;
		case OPT_SETTLEMENT_CURRENCY:
			if (!currency_set_settlement(optarg))
				die("--settlement-currency must be CUR=CUR:RATE, not \"%s\"",
					optarg);
			break;
		case OPT_TTL:
			options.idempotency_ttl_s =
				parse_number(name, optarg, 1, TTL_S_MAX);
			break;
		case OPT_DISPUTE_FEE:
			options.dispute_fee = parse_number(name, optarg, 0, AMOUNT_MAX);
			break;
		case OPT_SESSION_LIFETIME:
			options.session_lifetime_s =
				parse_number(name, optarg, 1, TTL_S_MAX);
			break;
		case OPT_AUTHORIZATION:
			options.authorization_lifetime_s =
				parse_number(name, optarg, 1, TTL_S_MAX);
			break;
		case OPT_CONNECTIONS:
			options.connections_max =
				(int) parse_number(name, optarg, 1, 100000);
			break;
		case OPT_IDLE:
			options.idle_timeout_s =
				(int) parse_number(name, optarg, 1, 86400);
			break;
		case OPT_ADYEN_MERCHANT:
			options.adyen_merchant = optarg;
			break;
		case OPT_ADYEN_ACCOUNT:
			options.adyen_balance_account = optarg;
			break;
		case OPT_TLS_CERT:
			options.tls_cert = optarg;
			break;
		case OPT_TLS_KEY:
			options.tls_key = optarg;
			break;
		case OPT_ADYEN_CAPTURE:
			set_adyen_capture(optarg);
			break;
		case OPT_ADYEN_MULTIPLE:
			options.adyen_multiple_captures = true;
			break;
		case OPT_PAYPAL_CLIENT:
			options.paypal_client = optarg;
			break;
		case OPT_PAYPAL_WEBHOOK:
			options.paypal_webhook_id = optarg;
			break;
		case OPT_TOKEN_LIFETIME:
			options.token_lifetime_s =
				parse_number(name, optarg, 1, TTL_S_MAX);
			break;
		case OPT_HMAC_KEY:
			read_hmac_key(optarg);
			break;
		case OPT_WEBHOOK_URL:
			for (int psp = 0; psp < PSP_COUNT; psp++)
				options.webhook_urls[psp] = optarg;
			break;
		case OPT_STRIPE_WEBHOOK_URL:
			options.webhook_urls[PSP_STRIPE] = optarg;
			break;
		case OPT_ADYEN_WEBHOOK_URL:
			options.webhook_urls[PSP_ADYEN] = optarg;
			break;
		case OPT_PAYPAL_WEBHOOK_URL:
			options.webhook_urls[PSP_PAYPAL] = optarg;
			break;
		case OPT_STRIPE_SECRETS:
			set_stripe_secrets(optarg);
			break;
		case OPT_VERBOSE:
			options.verbose = true;
			break;
		default:
			apply_delay(option, name, optarg);
	}
}

void
options_parse(int argc, char **argv)
{
	int option;
	int index = 0;

	while ((option = getopt_long(argc, argv, "", long_options, &index)) != -1)
	{
		if (option == OPT_HELP)
		{
			print_help();
			exit(0);
		}
		if (option == '?')
		{
			fputs("Try \"payment-sandbox --help\".\n", stderr);
			exit(2);
		}
		apply(option, long_options[index].name);
	}
	if ((options.tls_cert == NULL) != (options.tls_key == NULL))
		die("--tls-cert and --tls-key belong together");
	if (optind < argc)
		die("unexpected argument \"%s\"", argv[optind]);
}
