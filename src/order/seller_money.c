/*-------------------------------------------------------------------------
 *
 * seller_money.c
 *	  From where a seller's part of money that goes back is taken, and where a
 *	  seller's credits go.
 *
 * A seller who was paid out has nothing left that a refund could come from: the
 * platform lends it, as seller_receivable, and is paid back from whatever the
 * seller earns next.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "ledger/ledger.h"
#include "order/batch.h"
#include "order/plan.h"
#include "order/seller_money.h"

typedef struct SellerAccounts
{
	pg_uuid_t ids[3]; /* pending, available, receivable */
} SellerAccounts;

enum
{
	PENDING,
	AVAILABLE,
	RECEIVABLE
};

static void
find_accounts(SellerAccounts *accounts, const pg_uuid_t *seller_id,
			  const char *currency)
{
	ledger_chart_account(ACCOUNT_SELLER_PENDING, seller_id, currency,
						 &accounts->ids[PENDING]);
	ledger_chart_account(ACCOUNT_SELLER_AVAILABLE, seller_id, currency,
						 &accounts->ids[AVAILABLE]);
	ledger_chart_account(ACCOUNT_SELLER_RECEIVABLE, seller_id, currency,
						 &accounts->ids[RECEIVABLE]);
}

/* Pending too: the posting that follows may need it, and locks in order. */
static void
lock_accounts(SellerAccounts *accounts, const pg_uuid_t *seller_id,
			  const char *currency)
{
	find_accounts(accounts, seller_id, currency);
	ledger_lock_accounts(accounts->ids, lengthof(accounts->ids));
}

static int
seller_compare(const void *a, const void *b)
{
	const SellerKey *left = a;
	const SellerKey *right = b;
	int				 order = uuid_compare(&left->seller_id, &right->seller_id);

	return order ? order : strcmp(left->currency, right->currency);
}

void
sellers_lock(SellerKey *sellers, int count)
{
	SellerAccounts *accounts = palloc(Max(count, 1) * sizeof(SellerAccounts));
	int				unique = 0;

	/* sorted, so that missing accounts are made in one order, too */
	qsort(sellers, count, sizeof(SellerKey), seller_compare);
	for (int i = 0; i < count; i++)
	{
		if (i == 0 || seller_compare(&sellers[i - 1], &sellers[i]) != 0)
			find_accounts(&accounts[unique++], &sellers[i].seller_id,
						  sellers[i].currency);
	}
	if (unique > 1)
		ledger_lock_accounts(accounts->ids,
							 unique * (int) lengthof(accounts->ids));
}

/* Most sellers have never owed anything: nothing is locked for them. */
static bool
has_owed(const pg_uuid_t *seller_id, const char *currency)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID, TEXTOID };
	Datum			  values[] = { UUIDPGetDatum(seller_id),
								   CStringGetTextDatum(currency) };

	return batch_run(plan_keep(&plan,
							   "SELECT FROM payment.account"
							   " WHERE code = 'seller_receivable'"
							   " AND owner = $1 AND currency = $2",
							   lengthof(types), types),
					 values, NULL) > 0;
}

/* as much of the amount as the balance, debit positive, covers */
static int64
covered(int128 balance, int64 amount)
{
	return (int64) Min(Max(balance, 0), (int128) amount);
}

SellerMoney
seller_debit(const pg_uuid_t *seller_id, const char *currency, int64 amount,
			 int64 taken_before)
{
	SellerAccounts accounts;
	SellerMoney	   money = { 0, 0 };

	if (amount == 0)
		return money;
	lock_accounts(&accounts, seller_id, currency);
	money.available =
		covered(-ledger_balance(&accounts.ids[AVAILABLE]) -
					ledger_held(&accounts.ids[AVAILABLE]) - taken_before,
				amount);
	money.receivable = amount - money.available;
	return money;
}

SellerMoney
seller_credit(const pg_uuid_t *seller_id, const char *currency, int64 amount)
{
	SellerAccounts accounts;
	SellerMoney	   money = { .available = amount };

	if (amount == 0 || !has_owed(seller_id, currency))
		return money;
	lock_accounts(&accounts, seller_id, currency);
	money.receivable =
		covered(ledger_balance(&accounts.ids[RECEIVABLE]), amount);
	money.available = amount - money.receivable;
	return money;
}
