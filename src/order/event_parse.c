/*-------------------------------------------------------------------------
 *
 * event_parse.c
 *	  From JSON to payment events, refusing whatever is not clear.
 *
 * Every error says where it was found, as in events[3].orders[1].amount;
 * positions count from 1, as SQL does.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "money.h"
#include "order/event.h"
#include "order/hosted.h"
#include "order/idempotency.h"
#include "order/json_object.h"
#include "payment.h"
#include "text_guard.h"

#define UUID_TEXT_LENGTH 36
#define MAX_AMOUNT_TEXT 64

char *
event_path(const EventPlace *place, const char *field)
{
	const char *dot = *field != '\0' ? "." : "";

	if (place->event > 0 && place->order > 0)
		return psprintf("events[%d].orders[%d]%s%s", place->event,
						place->order, dot, field);
	if (place->event > 0)
		return psprintf("events[%d]%s%s", place->event, dot, field);
	if (place->order > 0)
		return psprintf("orders[%d]%s%s", place->order, dot, field);
	return pstrdup(field);
}

static void
pg_attribute_noreturn()
	refuse_missing(const EventPlace *place, const char *field)
{
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
			 errmsg("\"%s\" is missing", event_path(place, field)),
			 errdetail("It is required."), errhint("Pass a value for it.")));
}

static void
pg_attribute_noreturn()
	refuse_empty(const EventPlace *place, const char *field)
{
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
			 errmsg("\"%s\" must not be empty", event_path(place, field)),
			 errdetail("It holds nothing."),
			 errhint("Pass a value for it, or leave it away where it is "
					 "optional.")));
}

static void
pg_attribute_noreturn()
	refuse_kind(const EventPlace *place, const char *field,
				const JsonbValue *value, const char *wanted)
{
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
			 errmsg("\"%s\" must be %s", event_path(place, field), wanted),
			 errdetail("It is %s.", jsonb_kind(value)),
			 errhint("Pass it as the function's comment describes.")));
}

/* The path is only put together for an error: texts are many. */
void
event_check_optional(const EventPlace *place, const char *field,
					 const char *value)
{
	int length;

	if (value == NULL)
		return;
	length = strlen(value);
	if (length == 0)
		refuse_empty(place, field);
	if (length > payment_max_text_bytes || contains_card_number(value, length))
		check_text(event_path(place, field), value, length);
}

void
event_check_text(const EventPlace *place, const char *field, const char *value)
{
	if (value == NULL)
		refuse_missing(place, field);
	event_check_optional(place, field, value);
}

bool
event_text_to_uuid(const char *text, pg_uuid_t *id)
{
	if (strlen(text) != UUID_TEXT_LENGTH)
		return false;
	for (int i = 0; i < UUID_TEXT_LENGTH; i++)
	{
		bool hyphen = i == 8 || i == 13 || i == 18 || i == 23;

		if (hyphen ? text[i] != '-' : !isxdigit((unsigned char) text[i]))
			return false;
	}
	*id = *DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(text)));
	return true;
}

Jsonb *
event_empty_metadata(void)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

static const char *
read_text(const JsonField *field, const EventPlace *place)
{
	if (!field->present)
		return NULL;
	if (field->value.type != jbvString)
		refuse_kind(place, field->key, &field->value, "a string");
	return jsonb_string(&field->value);
}

static Jsonb *
read_metadata(JsonField *field, const EventPlace *place)
{
	Jsonb *metadata;

	if (!field->present)
		return NULL;
	if (jsonb_object_of(&field->value) == NULL)
		refuse_kind(place, field->key, &field->value, "an object");
	metadata = JsonbValueToJsonb(&field->value);
	check_metadata(event_path(place, field->key), metadata);
	return metadata;
}

static void
read_seller(JsonField *field, const EventPlace *place, SellerName *seller)
{
	JsonbContainer *object;
	JsonField		fields[] = { { .key = "reference" },
								 { .key = "name" },
								 { .key = "metadata" } };

	if (!field->present)
		refuse_missing(place, "seller");
	object = jsonb_object_of(&field->value);
	if (object == NULL && field->value.type != jbvString)
		refuse_kind(place, "seller", &field->value, "a string or an object");
	if (object == NULL)
		seller->reference = jsonb_string(&field->value);
	else
	{
		jsonb_read_object(object, fields, lengthof(fields),
						  event_path(place, "seller"));
		seller->reference = read_text(&fields[0], place);
		seller->name = read_text(&fields[1], place);
		seller->metadata = read_metadata(&fields[2], place);
		seller->with_details = true;
		event_check_optional(place, "seller.name", seller->name);
	}
	event_check_text(place, "seller", seller->reference);
	seller->is_uuid = event_text_to_uuid(seller->reference, &seller->id);
}

void
event_set_currency(EventOrder *order, const char *currency,
				   const EventPlace *place)
{
	event_check_text(place, "currency", currency);
	if (strlen(currency) == CURRENCY_CODE_LENGTH &&
		currency_exponent(currency) >= 0)
	{
		strlcpy(order->currency, currency, sizeof(order->currency));
		return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_INVALID_CURRENCY),
			 errmsg("\"%s\" is no currency", event_path(place, "currency")),
			 errdetail("ISO 4217 has no such code in use."),
			 errhint("Write three upper-case letters, as in EUR.")));
}

static void
check_amount(int64 amount, const EventPlace *place)
{
	if (amount <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_INVALID_AMOUNT),
				 errmsg("\"%s\" must be positive",
						event_path(place, "amount")),
				 errdetail("It is " INT64_FORMAT " minor units.", amount),
				 errhint("Money goes back by refunds, not by negative "
						 "payments.")));
}

/* A number counts minor units, a string is decimal in major units. */
static int64
read_amount(JsonField *field, const char *currency, const EventPlace *place)
{
	bool  in_minor = field->present && field->value.type == jbvNumeric;
	int	  exponent = in_minor ? 0 : currency_exponent(currency);
	int64 amount = 0;
	bool  overflow = false;
	char *text;

	if (!field->present)
		refuse_missing(place, "amount");
	if (!in_minor && field->value.type != jbvString)
		refuse_kind(place, "amount", &field->value, "a number or a string");
	text = in_minor ? jsonb_number_text(&field->value)
					: jsonb_string(&field->value);

	if ((!in_minor || strchr(text, '.') == NULL) &&
		money_parse(text, strlen(text), exponent, &amount, &overflow))
		return amount;
	if (overflow)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_AMOUNT_OVERFLOW),
				 errmsg("\"%s\" is too large", event_path(place, "amount")),
				 errdetail("The largest amount has " INT64_FORMAT
						   " minor units.",
						   PG_INT64_MAX),
				 errhint("Check the unit: numbers count minor units.")));
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_INVALID_AMOUNT),
			 errmsg("\"%s\" is no amount", event_path(place, "amount")),
			 errdetail("The currency %s has %d decimals.", currency,
					   currency_exponent(currency)),
			 errhint("Write a whole number of minor units (1234), or a string "
					 "of major units with a decimal point (\"12.34\").")));
}

static void
read_order(JsonbContainer *object, EventOrder *order, const EventPlace *place,
		   Jsonb *empty)
{
	JsonField fields[] = { { .key = "seller" },		 { .key = "amount" },
						   { .key = "currency" },	 { .key = "reference" },
						   { .key = "description" }, { .key = "metadata" } };

	jsonb_read_object(object, fields, lengthof(fields), event_path(place, ""));
	read_seller(&fields[0], place, &order->seller);
	event_set_currency(order, read_text(&fields[2], place), place);
	order->amount = read_amount(&fields[1], order->currency, place);
	check_amount(order->amount, place);
	order->reference = read_text(&fields[3], place);
	event_check_optional(place, "reference", order->reference);
	order->description = read_text(&fields[4], place);
	event_check_optional(place, "description", order->description);
	order->metadata = read_metadata(&fields[5], place);
	if (order->metadata == NULL)
		order->metadata = empty;
}

static void
check_order_count(int count, const EventPlace *place)
{
	if (count == 0)
		refuse_empty(place, "orders");
	if (count > payment_max_orders_per_payment)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_LIMIT_EXCEEDED),
						errmsg("\"%s\" has too many orders",
							   event_path(place, "orders")),
						errdetail("It has %d, the limit is %d.", count,
								  payment_max_orders_per_payment),
						errhint("Make several payments of it, or raise "
								"payment.max_orders_per_payment.")));
}

static void
read_orders(Event *event, JsonbContainer *orders)
{
	JsonbIterator	  *iterator = JsonbIteratorInit(orders);
	JsonbIteratorToken token;
	JsonbValue		   value;
	EventPlace		   place = { event->place.event, 0 };
	Jsonb			  *empty = event_empty_metadata();

	event->order_count = JsonContainerSize(orders);
	check_order_count(event->order_count, &event->place);
	event->orders = palloc0(sizeof(EventOrder) * event->order_count);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token != WJB_ELEM)
			continue;
		place.order++;
		if (jsonb_object_of(&value) == NULL)
			refuse_kind(&place, "", &value, "an object");
		read_order(jsonb_object_of(&value), &event->orders[place.order - 1],
				   &place, empty);
	}
	Assert(place.order == event->order_count);
}

static void
check_key(const Event *event)
{
	if (event->key == NULL)
		refuse_missing(&event->place, "idempotency_key");
	check_idempotency_key(event->key, strlen(event->key));
}

/* {"psp name": "token", ...} */
static void
check_tokens(const Event *event)
{
	const EventPlace  *place = &event->place;
	JsonbIterator	  *iterator;
	JsonbIteratorToken token;
	JsonbValue		   value;
	const char		  *field = "payment_methods";

	iterator = JsonbIteratorInit(&event->payment_methods->root);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			char *name = jsonb_string(&value);

			event_check_text(place, "payment_methods", name);
			field = psprintf("payment_methods.%s", name);
		}
		else if (token == WJB_VALUE)
		{
			if (value.type != jbvString)
				refuse_kind(place, field, &value, "a string");
			event_check_text(place, field, jsonb_string(&value));
		}
	}
}

/* What the payer pays with is chosen at the page. */
static void
check_hosted(Event *event)
{
	if (event->payment_method || event->payment_methods)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
				 errmsg("\"hosted\" and a payment method exclude each "
						"other"),
				 errdetail("The payer chooses the payment method at the PSP's "
						   "page."),
				 errhint("Pass only one of them.")));
	event->hosted = hosted_parse(&event->place, event->hosted_json);
	event->payment_method = HOSTED_PAYMENT_METHOD;
}

static void
check_methods(Event *event)
{
	const EventPlace *place = &event->place;

	if (event->hosted_json)
	{
		check_hosted(event);
		return;
	}
	if (event->payment_methods == NULL)
	{
		event_check_text(place, "payment_method", event->payment_method);
		return;
	}
	if (event->payment_method)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
				 errmsg("\"%s\" and \"%s\" exclude each other",
						event_path(place, "payment_method"),
						event_path(place, "payment_methods")),
				 errdetail("A payment method's name is worth something at one "
						   "PSP only."),
				 errhint("Pass one name, or one for each PSP.")));
	if (JB_ROOT_COUNT(event->payment_methods) == 0)
		refuse_empty(place, "payment_methods");
	check_tokens(event);
}

/* one of two words; NULL: the first of them */
static const char *
check_word(const Event *event, const char *field, const char *word,
		   const char *first, const char *second)
{
	if (word == NULL || strcmp(word, first) == 0)
		return first;
	if (strcmp(word, second) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
				 errmsg("\"%s\" is not valid",
						event_path(&event->place, field)),
				 errdetail("It must be \"%s\" or \"%s\".", first, second),
				 errhint("Leave it away for \"%s\".", first)));
	return second;
}

void
event_prepare_pay_in(Event *event, JsonbContainer *orders, int orders_size)
{
	const EventPlace *place = &event->place;
	Fingerprint		  fingerprint;

	event->type = EVENT_PAY_IN;
	check_key(event);
	event_check_text(place, "payer", event->payer);
	event_check_optional(place, "psp", event->psp);
	check_methods(event);
	event->capture =
		check_word(event, "capture", event->capture, "automatic", "manual");
	event->on_partial_failure =
		check_word(event, "on_partial_failure", event->on_partial_failure,
				   "keep", "all_or_nothing");
	if (event->metadata == NULL)
		event->metadata = event_empty_metadata();
	read_orders(event, orders);
	fingerprint_begin(&fingerprint);
	fingerprint_text(&fingerprint, event->payer);
	fingerprint_text(&fingerprint, event->psp);
	fingerprint_text(&fingerprint, event->payment_method);
	if (event->payment_methods)
		fingerprint_json(&fingerprint, &event->payment_methods->root,
						 VARSIZE(event->payment_methods) - VARHDRSZ);
	if (event->hosted_json)
		fingerprint_json(&fingerprint, &event->hosted_json->root,
						 VARSIZE(event->hosted_json) - VARHDRSZ);
	fingerprint_json(&fingerprint, &event->metadata->root,
					 VARSIZE(event->metadata) - VARHDRSZ);
	fingerprint_json(&fingerprint, orders, orders_size);
	/* what is as it ever was leaves the fingerprints as they were */
	if (strcmp(event->capture, "automatic") != 0)
		fingerprint_text(&fingerprint, event->capture);
	if (strcmp(event->on_partial_failure, "keep") != 0)
		fingerprint_text(&fingerprint, event->on_partial_failure);
	fingerprint_end(&fingerprint, event->fingerprint);
}

void
event_prepare_pay_out(Event *event)
{
	const EventPlace *place = &event->place;
	EventOrder		 *order = event->orders;
	Fingerprint		  fingerprint;

	Assert(event->order_count == 1);
	event->type = EVENT_PAY_OUT;
	check_key(event);
	check_amount(order->amount, place);
	event_check_text(place, "destination", event->destination);
	event_check_optional(place, "psp", event->psp);

	fingerprint_begin(&fingerprint);
	fingerprint_text(&fingerprint, order->seller.reference);
	fingerprint_text(&fingerprint, psprintf(INT64_FORMAT, order->amount));
	fingerprint_text(&fingerprint, order->currency);
	fingerprint_text(&fingerprint, event->destination);
	fingerprint_text(&fingerprint, event->psp);
	fingerprint_end(&fingerprint, event->fingerprint);
}

/* metadata || {"payer": object} */
static Jsonb *
metadata_with_payer(Jsonb *metadata, JsonbValue *payer,
					const EventPlace *place)
{
	JsonbParseState *state = NULL;
	JsonbValue		 key = { .type = jbvString };
	char			 name[] = "payer";
	Jsonb			*addition;

	key.val.string.val = name;
	key.val.string.len = strlen(name);
	if (metadata != NULL &&
		findJsonbValueFromContainer(&metadata->root, JB_FOBJECT, &key))
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("\"%s\" has a payer, too",
							   event_path(place, "metadata")),
						errdetail("The payer's details are kept there."),
						errhint("Pass the payer once.")));

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	pushJsonbValue(&state, WJB_KEY, &key);
	pushJsonbValue(&state, WJB_VALUE, payer);
	addition = JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
	if (metadata == NULL)
		return addition;
	return DatumGetJsonbP(DirectFunctionCall2(jsonb_concat,
											  JsonbPGetDatum(metadata),
											  JsonbPGetDatum(addition)));
}

/* A payer is a reference, or an object with one and details as one likes. */
static void
read_payer(Event *event, JsonField *field)
{
	JsonbContainer *object;
	JsonbValue		buffer;
	JsonField		reference = { .key = "payer.reference" };

	if (!field->present)
		return;
	object = jsonb_object_of(&field->value);
	if (object == NULL && field->value.type != jbvString)
		refuse_kind(&event->place, "payer", &field->value,
					"a string or an object");
	if (object == NULL)
	{
		event->payer = jsonb_string(&field->value);
		return;
	}
	if (getKeyJsonValueFromContainer(object, "reference", strlen("reference"),
									 &buffer) == NULL)
		refuse_missing(&event->place, "payer.reference");
	reference.value = buffer;
	reference.present = true;
	event->payer = read_text(&reference, &event->place);
	event->metadata =
		metadata_with_payer(event->metadata, &field->value, &event->place);
	check_metadata(event_path(&event->place, "payer"), event->metadata);
}

static void
parse_pay_in(Event *event, JsonbContainer *object)
{
	JsonField fields[] = {
		{ .key = "idempotency_key" }, { .key = "payment_type" },
		{ .key = "payer" },			  { .key = "psp" },
		{ .key = "payment_method" },  { .key = "orders" },
		{ .key = "metadata" },		  { .key = "payment_methods" },
		{ .key = "capture" },		  { .key = "on_partial_failure" },
		{ .key = "hosted" }
	};
	JsonbContainer *orders;

	jsonb_read_object(object, fields, lengthof(fields),
					  event_path(&event->place, ""));
	event->key = read_text(&fields[0], &event->place);
	event->metadata = read_metadata(&fields[6], &event->place);
	read_payer(event, &fields[2]);
	event->psp = read_text(&fields[3], &event->place);
	event->payment_method = read_text(&fields[4], &event->place);
	event->payment_methods = read_metadata(&fields[7], &event->place);
	event->capture = read_text(&fields[8], &event->place);
	event->on_partial_failure = read_text(&fields[9], &event->place);
	event->hosted_json = read_metadata(&fields[10], &event->place);
	if (!fields[5].present)
		refuse_missing(&event->place, "orders");
	orders = jsonb_array_of(&fields[5].value);
	if (orders == NULL)
		refuse_kind(&event->place, "orders", &fields[5].value, "an array");
	event_prepare_pay_in(event, orders, fields[5].value.val.binary.len);
}

static void
parse_pay_out(Event *event, JsonbContainer *object)
{
	JsonField	fields[] = { { .key = "idempotency_key" },
							 { .key = "payment_type" },
							 { .key = "seller" },
							 { .key = "amount" },
							 { .key = "currency" },
							 { .key = "destination" },
							 { .key = "psp" } };
	EventOrder *order = palloc0(sizeof(EventOrder));

	jsonb_read_object(object, fields, lengthof(fields),
					  event_path(&event->place, ""));
	event->key = read_text(&fields[0], &event->place);
	event->orders = order;
	event->order_count = 1;
	read_seller(&fields[2], &event->place, &order->seller);
	event_set_currency(order, read_text(&fields[4], &event->place),
					   &event->place);
	order->amount = read_amount(&fields[3], order->currency, &event->place);
	event->destination = read_text(&fields[5], &event->place);
	event->psp = read_text(&fields[6], &event->place);
	event_prepare_pay_out(event);
}

static void
parse_event(Event *event, JsonbContainer *object)
{
	JsonbValue buffer;
	JsonField  type = { .key = "payment_type" };
	char	  *name;

	if (getKeyJsonValueFromContainer(object, type.key, strlen(type.key),
									 &buffer) == NULL)
		refuse_missing(&event->place, type.key);
	type.value = buffer;
	type.present = true;
	name = unconstify(char *, read_text(&type, &event->place));
	if (strcmp(name, "pay_in") == 0)
		parse_pay_in(event, object);
	else if (strcmp(name, "pay_out") == 0)
		parse_pay_out(event, object);
	else
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
				 errmsg("\"%s\" is no payment type",
						event_path(&event->place, type.key)),
				 errdetail("There are pay_in and pay_out."),
				 errhint("pay_in takes money from a payer, pay_out gives a "
						 "seller's money to the seller.")));
}

static void
check_event_count(int count)
{
	if (count > payment_max_events_per_submit)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_LIMIT_EXCEEDED),
						errmsg("too many events in one call"),
						errdetail("There are %d, the limit is %d.", count,
								  payment_max_events_per_submit),
						errhint("Submit them in several calls, or raise "
								"payment.max_events_per_submit.")));
}

int
event_parse_all(Jsonb *events, Event **result)
{
	JsonbIterator	  *iterator;
	JsonbIteratorToken token;
	JsonbValue		   value;
	int				   count = 0;

	if (JB_ROOT_IS_OBJECT(events))
	{
		*result = palloc0(sizeof(Event));
		(*result)->place.event = 1;
		parse_event(*result, &events->root);
		return 1;
	}
	if (JB_ROOT_IS_SCALAR(events))
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("\"events\" must be an array or an object"),
						errdetail("It is a single value."),
						errhint("Pass an array of events, or one event.")));

	check_event_count(JB_ROOT_COUNT(events));
	*result = palloc0(sizeof(Event) * JB_ROOT_COUNT(events));
	iterator = JsonbIteratorInit(&events->root);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token != WJB_ELEM)
			continue;
		(*result)[count].place.event = count + 1;
		if (jsonb_object_of(&value) == NULL)
			refuse_kind(&(*result)[count].place, "", &value, "an object");
		parse_event(&(*result)[count], jsonb_object_of(&value));
		count++;
	}
	return count;
}
