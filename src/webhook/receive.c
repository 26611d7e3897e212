/*-------------------------------------------------------------------------
 *
 * receive.c
 *	  Webhooks come in here.
 *
 * Whatever a sender can cause is an answer: an error would roll back what is
 * remembered of it.  Limits come first, then the signature, then everything
 * else; what has not passed these reaches no table but that of rejections.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "payment.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "argument.h"
#include "order/batch.h"
#include "order/json_object.h"
#include "order/plan.h"
#include "order/transition.h"
#include "text_guard.h"
#include "webhook/event.h"
#include "webhook/rejection.h"
#include "webhook/signature.h"
#include "webhook/unverified.h"

PG_FUNCTION_INFO_V1(payment_receive_webhook);
PG_FUNCTION_INFO_V1(payment_confirm_webhook);

#define HEADER_LENGTH_MAX 4096

typedef struct Webhook
{
	const char *psp_name;
	Jsonb	   *headers;
	const char *body;
	int			length;

	/* what the PSP's row says */
	pg_uuid_t		  psp_id;
	const PspAdapter *adapter;
	const char		 *config[PSP_MAX_CONFIG];
	char			**secret_names;
	int				  secret_count;
} Webhook;

typedef struct Answer
{
	int			http_status;
	const char *content_type;
	const char *body;
} Answer;

/* The headers that signatures need, of all schemes */
static const char *const known_headers[] = {
	"stripe-signature",		   "hmacsignature",
	"paypal-auth-algo",		   "paypal-cert-url",
	"paypal-transmission-id",  "paypal-transmission-sig",
	"paypal-transmission-time"
};

/* ---- answers ---- */

static Answer
refuse(const Webhook *webhook, int http_status, const char *reason)
{
	Rejection rejection = {
		.psp = webhook->psp_name,
		.reason = reason,
		.http_status = http_status,
		.body = webhook->body,
		.length = webhook->length,
		.is_hashed = http_status != 413,
	};

	rejection_note(&rejection);
	return (Answer){ http_status, "text/plain", reason };
}

static Answer
refuse_signature(const Webhook *webhook, SignatureVerdict verdict,
				 const WebhookSecrets *secrets)
{
	/* the one that it was signed with may be the one that is missing */
	if (secrets->some_unreadable && verdict == SIGNATURE_BAD)
		return refuse(webhook, 503, "secret_unreadable");
	switch (verdict)
	{
		case SIGNATURE_MISSING:
			return refuse(webhook, 401, "no_signature");
		case SIGNATURE_MALFORMED:
			return refuse(webhook, 401, "malformed_signature");
		case SIGNATURE_OLD:
			return refuse(webhook, 401, "too_old");
		case SIGNATURE_FUTURE:
			return refuse(webhook, 401, "in_the_future");
		case SIGNATURE_BAD:
		case SIGNATURE_GOOD:
			break;
	}
	return refuse(webhook, 401, "bad_signature");
}

static Answer
accept(const Webhook *webhook)
{
	if (webhook->adapter->signing == PSP_SIGNING_ADYEN)
		return (Answer){ 200, "text/plain", "[accepted]" };
	return (Answer){ 200, "application/json", "{\"received\":true}" };
}

/* ---- what came ---- */

/* The value of a header, or NULL; of several with one name the last */
static const char *
header(const Webhook *webhook, const char *name)
{
	JsonbIterator	  *iterator = JsonbIteratorInit(&webhook->headers->root);
	JsonbIteratorToken token;
	JsonbValue		   value;
	int				   length = (int) strlen(name);
	bool			   matches = false;
	const char		  *found = NULL;

	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			matches = value.val.string.len == length &&
					  pg_strncasecmp(value.val.string.val, name, length) == 0;
		else if (token == WJB_VALUE && matches &&
				 value.val.string.len <= HEADER_LENGTH_MAX)
			found = jsonb_string(&value);
	}
	return found;
}

/* Those that a signature needs, in lower case, without card numbers */
static Jsonb *
kept_headers(const Webhook *webhook)
{
	JsonbParseState *state = NULL;
	JsonbValue		*object;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < (int) lengthof(known_headers); i++)
	{
		const char *text = header(webhook, known_headers[i]);
		JsonbValue	item = { .type = jbvString };

		if (text == NULL)
			continue;
		item.val.string.val = unconstify(char *, known_headers[i]);
		item.val.string.len = (int) strlen(known_headers[i]);
		pushJsonbValue(&state, WJB_KEY, &item);
		item.val.string.val = pstrdup(text);
		item.val.string.len = (int) strlen(text);
		(void) hide_card_numbers(item.val.string.val, item.val.string.len);
		pushJsonbValue(&state, WJB_VALUE, &item);
	}
	object = pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	return JsonbValueToJsonb(object);
}

/* It is the caller's side that makes this object. */
static Jsonb *
headers_argument(FunctionCallInfo fcinfo, int number)
{
	Jsonb			  *headers = PG_GETARG_JSONB_P(number);
	JsonbIterator	  *iterator;
	JsonbIteratorToken token;
	JsonbValue		   value;
	bool			   is_object = JB_ROOT_IS_OBJECT(headers);

	iterator = JsonbIteratorInit(&headers->root);
	while (is_object &&
		   (token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
		is_object = token != WJB_VALUE || value.type == jbvString;
	if (!is_object)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("\"headers\" must be a JSON object of texts"),
						errdetail("It is something else."),
						errhint("Pass the HTTP headers of the request, as in "
								"{\"stripe-signature\": \"t=…\"}."),
						errhidestmt(true)));
	return headers;
}

/* ---- the PSP ---- */

static void
read_config(Webhook *webhook, const Jsonb *config)
{
	const char *const *keys = webhook->adapter->config_keys;

	for (int i = 0; keys[i]; i++)
	{
		JsonbValue	buffer;
		JsonbValue *value =
			getKeyJsonValueFromContainer(unconstify(JsonbContainer *,
													&config->root),
										 keys[i], (int) strlen(keys[i]),
										 &buffer);

		if (value && value->type == jbvString)
			webhook->config[i] = jsonb_string(value);
	}
}

static void
read_secret_names(Webhook *webhook, ArrayType *names)
{
	Datum *values;

	deconstruct_array(names, TEXTOID, -1, false, TYPALIGN_INT, &values, NULL,
					  &webhook->secret_count);
	webhook->secret_names =
		palloc(Max(webhook->secret_count, 1) * sizeof(char *));
	for (int i = 0; i < webhook->secret_count; i++)
		webhook->secret_names[i] = TextDatumGetCString(values[i]);
}

/* the rows of a query for id, adapter, config and secrets */
static bool
read_psp(Webhook *webhook, uint64 rows)
{
	bool  isnull;
	Datum config;
	Datum names;

	if (rows == 0)
		return false;
	row_uuid(0, 1, &webhook->psp_id);
	webhook->adapter = psp_adapter(row_text(0, 2));
	config = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 3,
						   &isnull);
	names = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 4,
						  &isnull);
	read_secret_names(webhook, DatumGetArrayTypeP(names));
	if (webhook->adapter)
		read_config(webhook, DatumGetJsonbP(config));
	return true;
}

static bool
find_psp(Webhook *webhook)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { TEXTOID };
	Datum			  values[] = { CStringGetTextDatum(webhook->psp_name) };

	plan_keep(&plan,
			  "SELECT p.id, p.adapter, p.config, p.webhook_secret_names"
			  " FROM payment.psp AS p WHERE p.name = $1",
			  lengthof(types), types);
	return read_psp(webhook, batch_run(plan, values, NULL));
}

/* ---- schemes ---- */

static Answer
take(const Webhook *webhook, const PspEvent *const *events, int count)
{
	webhook_take(&webhook->psp_id, kept_headers(webhook), webhook->body,
				 events, count);
	return accept(webhook);
}

/* All of the body is signed: not a byte of it is read before. */
static Answer
receive_stripe(const Webhook *webhook, const WebhookSecrets *secrets)
{
	PspEvents		 events;
	const PspEvent	*event;
	SignatureVerdict verdict =
		signature_check_stripe(secrets, header(webhook, "stripe-signature"),
							   webhook->body, webhook->length,
							   timestamptz_to_time_t(GetCurrentTimestamp()),
							   payment_webhook_tolerance_s);

	if (verdict != SIGNATURE_GOOD)
		return refuse_signature(webhook, verdict, secrets);
	if (!webhook->adapter->read_events(webhook->body, webhook->length,
									   webhook->config, &events))
		return refuse(webhook, 400, "unreadable");
	event = &events.events[0];
	return take(webhook, &event, 1);
}

/*
 * An item whose separators are not escaped was signed as well, but perhaps
 * not as it was read: then it counts for nothing.  None of ours has any.
 */
static SignatureVerdict
check_item(const Webhook *webhook, const WebhookSecrets *secrets,
		   PspEvent *event)
{
	SignatureVerdict verdict;

	if (event->id == NULL)
		return SIGNATURE_MALFORMED;
	if (event->signed_text == NULL)
		return signature_check_adyen(secrets, header(webhook, "hmacsignature"),
									 webhook->body, webhook->length);
	verdict =
		signature_check_adyen(secrets, event->signature, event->signed_text,
							  (int) strlen(event->signed_text));
	if (verdict == SIGNATURE_BAD && event->ambiguous_text)
	{
		verdict = signature_check_adyen(secrets, event->signature,
										event->ambiguous_text,
										(int) strlen(event->ambiguous_text));
		event->is_ambiguous = verdict == SIGNATURE_GOOD;
	}
	return verdict;
}

/*
 * One bad item does not cost the others; it is refused by itself.  Adyen only
 * knows "accepted" and anything else, and repeats whole bodies: it is to repeat
 * this one when nothing in it was good, or when an item may have been signed
 * with a secret that cannot be read now.  What was good is kept in any case.
 */
static Answer
receive_adyen(const Webhook *webhook, const WebhookSecrets *secrets)
{
	PspEvents		 events;
	const PspEvent **good;
	int				 good_count = 0;
	SignatureVerdict first_bad = SIGNATURE_GOOD;
	Answer			 refusal = { .http_status = 200 };

	if (!webhook->adapter->read_events(webhook->body, webhook->length,
									   webhook->config, &events))
		return refuse(webhook, 400, "unreadable");
	good = palloc(events.count * sizeof(PspEvent *));
	for (int i = 0; i < events.count; i++)
	{
		SignatureVerdict verdict =
			check_item(webhook, secrets, &events.events[i]);

		if (verdict == SIGNATURE_GOOD)
			good[good_count++] = &events.events[i];
		else if (first_bad == SIGNATURE_GOOD ||
				 (verdict == SIGNATURE_BAD && secrets->some_unreadable))
			first_bad = verdict;
	}
	if (first_bad != SIGNATURE_GOOD)
		refusal = refuse_signature(webhook, first_bad, secrets);
	if (good_count > 0)
		(void) take(webhook, good, good_count);
	if (refusal.http_status == 503 ||
		(refusal.http_status != 200 && good_count == 0))
		return refusal;
	return accept(webhook);
}

static bool
is_printable(const char *text)
{
	for (; *text; text++)
		if ((unsigned char) *text < ' ' || (unsigned char) *text >= 0x7F)
			return false;
	return true;
}

/* NULL: they can be sent back; else what is wrong with them */
static const char *
problem_of_headers(const Webhook *webhook)
{
	for (int i = 0; i < (int) lengthof(known_headers); i++)
	{
		const char *text;

		if (strncmp(known_headers[i], "paypal-", 7) != 0)
			continue;
		text = header(webhook, known_headers[i]);
		if (text == NULL)
			return "no_signature";
		if (!is_printable(text) ||
			contains_card_number(text, (int) strlen(text)))
			return "malformed_signature";
	}
	return NULL;
}

static const char *
config_value(const Webhook *webhook, const char *key)
{
	for (int i = 0; webhook->adapter->config_keys[i]; i++)
		if (strcmp(webhook->adapter->config_keys[i], key) == 0)
			return webhook->config[i];
	return NULL;
}

/*
 * Only PayPal can tell whether it is its own.  Until it has, nothing of it
 * counts, and as anybody may have sent it there is a limit to how many wait.
 * It is asked with the bytes as they came: what must not be kept, a card
 * number, cannot be hidden in them, so that they are not taken.
 */
static Answer
receive_unverified(const Webhook *webhook)
{
	PspEvents	events;
	const char *problem = problem_of_headers(webhook);

	if (config_value(webhook, "webhook_id") == NULL)
		return refuse(webhook, 401, "no_webhook_id");
	if (problem)
		return refuse(webhook, 401, problem);
	if (!webhook->adapter->read_events(webhook->body, webhook->length,
									   webhook->config, &events))
		return refuse(webhook, 400, "unreadable");
	if (contains_card_number(webhook->body, webhook->length))
		return refuse(webhook, 400, "card_number");
	if (!unverified_keep(&webhook->psp_id, kept_headers(webhook),
						 webhook->body, webhook->length))
		return refuse(webhook, 503, "too_many_unverified");
	return accept(webhook);
}

static Answer
receive_signed(const Webhook *webhook)
{
	WebhookSecrets secrets;
	Answer		   answer;

	secrets_init(&secrets, webhook->secret_count);
	PG_TRY();
	{
		secrets_read(&secrets, webhook->secret_names, webhook->secret_count);
		switch (webhook->adapter->signing)
		{
			case PSP_SIGNING_STRIPE:
				answer = receive_stripe(webhook, &secrets);
				break;
			case PSP_SIGNING_ADYEN:
				answer = receive_adyen(webhook, &secrets);
				break;
			default:
				answer = refuse(webhook, 404, "no_webhooks");
				break;
		}
	}
	PG_FINALLY();
	{
		secrets_wipe(&secrets);
	}
	PG_END_TRY();
	return answer;
}

static Answer
receive(Webhook *webhook)
{
	if (webhook->length > payment_max_webhook_size_kb * 1024)
		return refuse(webhook, 413, "too_large");
	if (!find_psp(webhook))
		return refuse(webhook, 404, "unknown_psp");
	if (webhook->adapter == NULL ||
		webhook->adapter->signing == PSP_SIGNING_NONE)
		return refuse(webhook, 404, "no_webhooks");
	if (webhook->adapter->signing == PSP_SIGNING_ASKED)
		return receive_unverified(webhook);
	if (webhook->secret_count == 0)
		return refuse(webhook, 401, "no_secret");
	return receive_signed(webhook);
}

static Datum
answer_datum(FunctionCallInfo fcinfo, const Answer *answer)
{
	TupleDesc desc;
	Datum	  values[3];
	bool	  nulls[3] = { false, false, false };

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = Int32GetDatum(answer->http_status);
	values[1] = CStringGetTextDatum(answer->content_type);
	values[2] = CStringGetTextDatum(answer->body);
	return HeapTupleGetDatum(
		heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

/*
 * payment.receive_webhook(psp text, headers jsonb, body bytea)
 *	  -> payment.webhook_answer
 */
Datum
payment_receive_webhook(PG_FUNCTION_ARGS)
{
	Webhook webhook;
	Answer	answer;
	bytea  *body;
	int		nest_level;

	refuse_null(fcinfo, 0, "psp");
	refuse_null(fcinfo, 1, "headers");
	refuse_null(fcinfo, 2, "body");
	memset(&webhook, 0, sizeof(webhook));
	webhook.headers = headers_argument(fcinfo, 1);
	webhook.psp_name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	body = PG_GETARG_BYTEA_PP(2);
	webhook.body = VARDATA_ANY(body);
	webhook.length = (int) VARSIZE_ANY_EXHDR(body);

	nest_level = batch_begin();
	answer = receive(&webhook);
	batch_end(nest_level);
	return answer_datum(fcinfo, &answer);
}

/* The bytes come from the table; whatever they were, they were readable. */
static void
take_confirmed(Webhook *webhook)
{
	PspEvents		events;
	const PspEvent *event;

	if (webhook->adapter == NULL || webhook->adapter->read_events == NULL ||
		!webhook->adapter->read_events(webhook->body, webhook->length,
									   webhook->config, &events))
	{
		(void) refuse(webhook, 400, "unreadable");
		return;
	}
	event = &events.events[0];
	webhook_take(&webhook->psp_id, webhook->headers, webhook->body, &event, 1);
}

/*
 * payment.confirm_webhook(webhook uuid, genuine boolean) -> boolean
 */
Datum
payment_confirm_webhook(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID };
	Datum			  psp_id;
	Unverified		  unverified;
	Webhook			  webhook;
	bool			  found;
	int				  nest_level;

	refuse_null(fcinfo, 0, "webhook");
	refuse_null(fcinfo, 1, "genuine");
	memset(&webhook, 0, sizeof(webhook));
	nest_level = batch_begin();
	found = unverified_take(PG_GETARG_UUID_P(0), &unverified);
	if (found)
	{
		webhook.headers = unverified.headers;
		webhook.body = unverified.body;
		webhook.length = unverified.length;
		webhook.psp_name = unverified.psp_name;
		psp_id = UUIDPGetDatum(&unverified.psp_id);
		plan_keep(&plan,
				  "SELECT p.id, p.adapter, p.config, p.webhook_secret_names"
				  " FROM payment.psp AS p WHERE p.id = $1",
				  lengthof(types), types);
		(void) read_psp(&webhook, batch_run(plan, &psp_id, NULL));
		if (PG_GETARG_BOOL(1))
			take_confirmed(&webhook);
		else
			(void) refuse(&webhook, 401, "bad_signature");
	}
	batch_end(nest_level);
	PG_RETURN_BOOL(found);
}
