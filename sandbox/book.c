/*
 * book.c
 *		The shelves, the lock, and finding things by id.
 */
#include "book.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "buf.h"
#include "hash.h"
#include "journal.h"
#include "random.h"
#include "timer.h"

Book book;

/* All ids share one table: their prefixes tell them apart. */
static Hash			   by_id;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

int64_t
clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void
book_lock(void)
{
	int64_t now_ms;

	pthread_mutex_lock(&lock);
	now_ms = clock_ms();
	if (now_ms > book.now_ms)
		book.now_ms = now_ms;
	timer_run_due(book.now_ms);
}

void
book_unlock(void)
{
	journal_commit();
	pthread_mutex_unlock(&lock);
}

void
book_shelve(Shelf *shelf, void *object, const char *id)
{
	if (shelf->count == NONE - 1)
		die("the book is full");
	if (shelf->count == shelf->cap)
	{
		shelf->cap = shelf->cap ? shelf->cap * 2 : 256;
		shelf->objects = xrealloc(shelf->objects, shelf->cap * sizeof(void *));
	}
	shelf->objects[shelf->count++] = object;
	hash_put(&by_id, id, object);
}

typedef enum Kind
{
	KIND_INTENT,
	KIND_CHARGE,
	KIND_PAYOUT,
	KIND_MODIFICATION,
	KIND_NOTIFICATION,
	KIND_SESSION,
	KIND_DISPUTE,
	KIND_COUNT
} Kind;

/*
 * Stripe's ids say what they are. The others do not, so in the book they have
 * a prefix up to a colon, which is not shown.
 */
static const struct
{
	const char *name;
	const char *prefixes[KIND_COUNT];
	int			capitals; /* length of an id made of capitals and digits */
} psps[PSP_COUNT] = {
	[PSP_STRIPE] = { "stripe",
					 { "pi_", "ch_", "po_", "re_", "evt_", "cs_", "dp_" },
					 0 },
	[PSP_ADYEN] = { "adyen",
					{ "ap:", "ac:", "at:", "am:", "an:", "as:", "ad:" },
					16 },
	[PSP_PAYPAL] = { "paypal",
					 { "po:", "pc:", "pb:", "pr:", "pn:", "ps:", "pd:" },
					 17 }
};

static void
new_id(char *id, Psp psp, Kind kind)
{
	if (psps[psp].capitals == 0)
		random_id(id, ID_SIZE, psps[psp].prefixes[kind]);
	else
		random_capitals(id, ID_SIZE, psps[psp].prefixes[kind],
						psps[psp].capitals);
}

const char *
psp_name(Psp psp)
{
	return psps[psp].name;
}

Psp
charge_psp(const Charge *charge)
{
	return book_intent(charge->intent)->psp;
}

const char *
public_id(const char *id)
{
	const char *colon = strchr(id, ':');

	return colon ? colon + 1 : id;
}

Intent *
book_new_intent(Psp psp)
{
	Intent *intent = xcalloc(1, sizeof(Intent));

	new_id(intent->id, psp, KIND_INTENT);
	intent->psp = (uint8_t) psp;
	random_id(intent->secret, ID_SIZE, "secret_");
	intent->number = book.intents.count;
	intent->latest_charge = NONE;
	intent->session = NONE;
	intent->customer = NONE;
	intent->created_ms = book.now_ms;
	book_shelve(&book.intents, intent, intent->id);
	return intent;
}

Charge *
book_new_charge(Intent *intent)
{
	Charge *charge = xcalloc(1, sizeof(Charge));

	new_id(charge->id, intent->psp, KIND_CHARGE);
	charge->number = book.charges.count;
	charge->intent = intent->number;
	charge->balance_tx = NONE;
	charge->dispute = NONE;
	charge->authorization = NONE;
	charge->last_capture = NONE;
	charge->is_final = true;
	charge->currency = intent->currency;
	charge->amount = intent->amount;
	charge->created_ms = book.now_ms;
	charge->payment_method = xstrdup(intent->payment_method);
	intent->latest_charge = charge->number;
	book_shelve(&book.charges, charge, charge->id);
	return charge;
}

Payout *
book_new_payout(Psp psp)
{
	Payout *payout = xcalloc(1, sizeof(Payout));

	new_id(payout->id, psp, KIND_PAYOUT);
	payout->psp = (uint8_t) psp;
	payout->number = book.payouts.count;
	payout->balance_tx = NONE;
	payout->failure_balance_tx = NONE;
	payout->settlement = NONE;
	payout->created_ms = book.now_ms;
	book_shelve(&book.payouts, payout, payout->id);
	return payout;
}

BalanceTx *
book_new_balance_tx(BalanceTxType type, uint32_t source, int32_t currency,
					int64_t amount, int64_t fee)
{
	BalanceTx *tx = xcalloc(1, sizeof(BalanceTx));

	random_id(tx->id, ID_SIZE, "txn_");
	tx->number = book.balance_txs.count;
	tx->type = (uint8_t) type;
	tx->source = source;
	tx->settlement = NONE;
	tx->currency = currency;
	tx->amount = amount;
	tx->fee = fee;
	tx->created_ms = book.now_ms;
	book_shelve(&book.balance_txs, tx, tx->id);
	journal_balance_tx(tx);
	return tx;
}

Settlement *
book_new_settlement(void)
{
	Settlement *settlement = xcalloc(1, sizeof(Settlement));

	random_id(settlement->id, ID_SIZE, "set_");
	settlement->number = book.settlements.count;
	settlement->created_ms = book.now_ms;
	book_shelve(&book.settlements, settlement, settlement->id);
	return settlement;
}

Modification *
book_new_modification(Psp psp, ModificationKind kind, const Charge *charge)
{
	Modification *modification = xcalloc(1, sizeof(Modification));

	new_id(modification->id, psp, KIND_MODIFICATION);
	modification->number = book.modifications.count;
	modification->psp = (uint8_t) psp;
	modification->kind = (uint8_t) kind;
	modification->charge = charge->number;
	modification->balance_tx = NONE;
	modification->failure_balance_tx = NONE;
	modification->currency = charge->currency;
	modification->created_ms = book.now_ms;
	book_shelve(&book.modifications, modification, modification->id);
	return modification;
}

Notification *
book_new_notification(Psp psp)
{
	Notification *notification = xcalloc(1, sizeof(Notification));

	new_id(notification->id, psp, KIND_NOTIFICATION);
	notification->number = book.notifications.count;
	notification->psp = (uint8_t) psp;
	notification->created_ms = book.now_ms;
	book_shelve(&book.notifications, notification, notification->id);
	return notification;
}

Customer *
book_new_customer(void)
{
	Customer *customer = xcalloc(1, sizeof(Customer));

	random_id(customer->id, ID_SIZE, "cus_");
	customer->number = book.customers.count;
	customer->created_ms = book.now_ms;
	book_shelve(&book.customers, customer, customer->id);
	return customer;
}

SavedMethod *
book_new_saved_method(void)
{
	SavedMethod *saved = xcalloc(1, sizeof(SavedMethod));

	random_id(saved->id, ID_SIZE, "pm_");
	saved->number = book.saved_methods.count;
	saved->created_ms = book.now_ms;
	book_shelve(&book.saved_methods, saved, saved->id);
	return saved;
}

Setup *
book_new_setup(void)
{
	Setup *setup = xcalloc(1, sizeof(Setup));

	random_id(setup->id, ID_SIZE, "seti_");
	setup->number = book.setups.count;
	setup->customer = NONE;
	setup->method = NONE;
	setup->created_ms = book.now_ms;
	book_shelve(&book.setups, setup, setup->id);
	return setup;
}

Session *
book_new_session(Psp psp)
{
	Session *session = xcalloc(1, sizeof(Session));

	new_id(session->id, psp, KIND_SESSION);
	session->number = book.sessions.count;
	session->psp = (uint8_t) psp;
	session->intent = NONE;
	session->setup = NONE;
	session->customer = NONE;
	session->created_ms = book.now_ms;
	book_shelve(&book.sessions, session, session->id);
	return session;
}

Dispute *
book_new_dispute(const Charge *charge)
{
	Dispute *dispute = xcalloc(1, sizeof(Dispute));

	new_id(dispute->id, charge_psp(charge), KIND_DISPUTE);
	dispute->number = book.disputes.count;
	dispute->charge = charge->number;
	dispute->currency = charge->currency;
	dispute->created_ms = book.now_ms;
	book_shelve(&book.disputes, dispute, dispute->id);
	return dispute;
}

static void *
find(const char *id, const char *prefix)
{
	return strncmp(id, prefix, strlen(prefix)) == 0 ? hash_get(&by_id, id)
													: NULL;
}

static void *
find_of(Psp psp, Kind kind, const char *id)
{
	const char *prefix = psps[psp].prefixes[kind];
	char		full[2 * ID_SIZE];

	if (psps[psp].capitals == 0)
		return find(id, prefix);
	if (strlen(id) != (size_t) psps[psp].capitals)
		return NULL;
	snprintf(full, sizeof(full), "%s%s", prefix, id);
	return hash_get(&by_id, full);
}

Intent *
book_find_intent(Psp psp, const char *id)
{
	return find_of(psp, KIND_INTENT, id);
}

Charge *
book_find_charge(Psp psp, const char *id)
{
	return find_of(psp, KIND_CHARGE, id);
}

Payout *
book_find_payout(Psp psp, const char *id)
{
	return find_of(psp, KIND_PAYOUT, id);
}

Modification *
book_find_modification(Psp psp, const char *id)
{
	return find_of(psp, KIND_MODIFICATION, id);
}

Notification *
book_find_notification(Psp psp, const char *id)
{
	return find_of(psp, KIND_NOTIFICATION, id);
}

Customer *
book_find_customer(const char *id)
{
	return find(id, "cus_");
}

SavedMethod *
book_find_saved_method(const char *id)
{
	return find(id, "pm_");
}

Setup *
book_find_setup(const char *id)
{
	return find(id, "seti_");
}

Session *
book_find_session(Psp psp, const char *id)
{
	return find_of(psp, KIND_SESSION, id);
}

Dispute *
book_find_dispute(Psp psp, const char *id)
{
	return find_of(psp, KIND_DISPUTE, id);
}

BalanceTx *
book_find_balance_tx(const char *id)
{
	return find(id, "txn_");
}

Settlement *
book_find_settlement(const char *id)
{
	return find(id, "set_");
}

static void *
at(const Shelf *shelf, uint32_t number)
{
	if (number >= shelf->count)
		die("object %u of %u asked for", number, shelf->count);
	return shelf->objects[number];
}

Intent *
book_intent(uint32_t number)
{
	return at(&book.intents, number);
}

Charge *
book_charge(uint32_t number)
{
	return at(&book.charges, number);
}

Payout *
book_payout(uint32_t number)
{
	return at(&book.payouts, number);
}

BalanceTx *
book_balance_tx(uint32_t number)
{
	return at(&book.balance_txs, number);
}

Settlement *
book_settlement(uint32_t number)
{
	return at(&book.settlements, number);
}

Modification *
book_modification(uint32_t number)
{
	return at(&book.modifications, number);
}

Notification *
book_notification(uint32_t number)
{
	return at(&book.notifications, number);
}

Customer *
book_customer(uint32_t number)
{
	return at(&book.customers, number);
}

SavedMethod *
book_saved_method(uint32_t number)
{
	return at(&book.saved_methods, number);
}

Setup *
book_setup(uint32_t number)
{
	return at(&book.setups, number);
}

Session *
book_session(uint32_t number)
{
	return at(&book.sessions, number);
}

Dispute *
book_dispute(uint32_t number)
{
	return at(&book.disputes, number);
}

const char *
metadata_get(const Metadata *metadata, const char *key)
{
	for (uint32_t i = 0; i < metadata->count; i++)
	{
		if (strcmp(metadata->items[i].key, key) == 0)
			return metadata->items[i].value;
	}
	return NULL;
}

void
metadata_add(Metadata *metadata, const char *key, const char *value)
{
	size_t size = (metadata->count + 1) * sizeof(MetaItem);

	metadata->items = xrealloc(metadata->items, size);
	metadata->items[metadata->count].key = xstrdup(key);
	metadata->items[metadata->count].value = xstrdup(value);
	metadata->count++;
}

void
metadata_set(Metadata *metadata, const char *key, const char *value)
{
	for (uint32_t i = 0; i < metadata->count; i++)
	{
		if (strcmp(metadata->items[i].key, key) != 0)
			continue;
		free(metadata->items[i].value);
		metadata->items[i].value = xstrdup(value);
		return;
	}
	metadata_add(metadata, key, value);
}

void
metadata_free(Metadata *metadata)
{
	for (uint32_t i = 0; i < metadata->count; i++)
	{
		free(metadata->items[i].key);
		free(metadata->items[i].value);
	}
	free(metadata->items);
	memset(metadata, 0, sizeof(*metadata));
}
