/*
 * customer.c
 *		Customers and what they have saved to pay with again.
 */
#include "customer.h"

#include <stdlib.h>
#include <string.h>

#include "journal.h"
#include "json.h"
#include "payment_intent.h"
#include "stripe_event.h"

#define TEXT_MAX 512

typedef struct CustomerParams
{
	const char *email;
	const char *name;
} CustomerParams;

bool
customer_prepare_create(Request *request)
{
	CustomerParams *params = xcalloc(1, sizeof(CustomerParams));

	request->prepared = params;
	return param_text(request, "email", TEXT_MAX, &params->email) &&
		   param_text(request, "name", TEXT_MAX, &params->name) &&
		   param_metadata(request) && params_known(request);
}

void
customer_create(Request *request)
{
	const CustomerParams *params = request->prepared;
	Customer			 *customer = book_new_customer();

	request->executed = true;
	customer->email = xstrdup(params->email);
	customer->name = xstrdup(params->name);
	request_metadata(request, &customer->metadata);
	journal_customer(customer);
	customer_json(&request->answer.body, NULL, customer);
}

void
customer_json(Buf *b, const char *key, const Customer *customer)
{
	json_open(b, key, '{');
	json_str(b, "id", customer->id);
	json_str(b, "object", "customer");
	json_int(b, "created", customer->created_ms / 1000);
	json_str(b, "email", customer->email);
	json_bool(b, "livemode", false);
	metadata_json(b, &customer->metadata);
	json_str(b, "name", customer->name);
	json_close(b, '}');
}

bool
customer_prepare_get(Request *request)
{
	if (!params_known(request))
		return false;
	return book_find_customer(request->id) != NULL ||
		   answer_missing_object(request, "customer", "customer", request->id);
}

void
customer_get(Request *request)
{
	customer_json(&request->answer.body, NULL,
				  book_find_customer(request->id));
}

bool
customer_param(Request *request, uint32_t *customer)
{
	const char	   *id = form_take(request->params, "customer");
	const Customer *found;

	*customer = NONE;
	if (id == NULL)
		return true;
	found = book_find_customer(id);
	if (found == NULL)
		return answer_invalid(request, "resource_missing", "customer",
							  "No such customer: '%.100s'", id);
	*customer = found->number;
	return true;
}

void
setup_intent_json(Buf *b, const char *key, const Setup *setup)
{
	const char *method =
		setup->method == NONE ? NULL : book_saved_method(setup->method)->id;

	json_open(b, key, '{');
	json_str(b, "id", setup->id);
	json_str(b, "object", "setup_intent");
	json_int(b, "created", setup->created_ms / 1000);
	json_str(b, "customer",
			 setup->customer == NONE ? NULL
									 : book_customer(setup->customer)->id);
	json_bool(b, "livemode", false);
	metadata_json(b, &setup->metadata);
	json_str(b, "payment_method", method);
	json_str(b, "status", method ? "succeeded" : "requires_payment_method");
	json_str(b, "usage", "off_session");
	json_close(b, '}');
}

bool
setup_intent_prepare_get(Request *request)
{
	if (!params_known(request))
		return false;
	return book_find_setup(request->id) != NULL ||
		   answer_missing_object(request, "intent", "setup_intent",
								 request->id);
}

void
setup_intent_get(Request *request)
{
	setup_intent_json(&request->answer.body, NULL,
					  book_find_setup(request->id));
}

bool
payment_method_prepare_get(Request *request)
{
	if (!params_known(request))
		return false;
	return book_find_saved_method(request->id) != NULL ||
		   answer_missing_object(request, "payment_method", "payment_method",
								 request->id);
}

void
payment_method_get(Request *request)
{
	const SavedMethod *saved = book_find_saved_method(request->id);
	const TestMethod  *method = test_method_find(saved->method);
	Buf				  *b = &request->answer.body;

	json_open(b, NULL, '{');
	json_str(b, "id", saved->id);
	json_str(b, "object", "payment_method");
	json_open(b, "card", '{');
	json_str(b, "brand", method->brand);
	json_str(b, "last4", method->last4);
	json_close(b, '}');
	json_int(b, "created", saved->created_ms / 1000);
	json_str(b, "customer", book_customer(saved->customer)->id);
	json_bool(b, "livemode", false);
	json_str(b, "type", "card");
	json_close(b, '}');
}

SavedMethod *
customer_save_method(uint32_t customer, const char *method)
{
	SavedMethod *saved = book_new_saved_method();

	saved->customer = customer;
	saved->method = xstrdup(method);
	journal_saved_method(saved);
	return saved;
}

const TestMethod *
payment_method_find(const char *id)
{
	const SavedMethod *saved = book_find_saved_method(id);

	return test_method_find(saved ? saved->method : id);
}

bool
payment_method_is_usable(Request *request, const char *id, uint32_t customer)
{
	const SavedMethod *saved = book_find_saved_method(id);

	if (payment_method_find(id) == NULL)
		return answer_invalid(request, "resource_missing", "payment_method",
							  "No such PaymentMethod: '%.100s'", id);
	return saved == NULL || saved->customer == customer ||
		   answer_invalid(request, NULL, "payment_method",
						  "This PaymentMethod belongs to another customer, "
						  "whom the parameter customer has to name.");
}
