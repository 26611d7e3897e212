/*-------------------------------------------------------------------------
 *
 * posting.c
 *	  Journals of business events, written down by account code and owner and
 *	  posted together.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "order/batch.h"
#include "order/posting.h"

typedef struct Account
{
	AccountCode code;
	bool		has_owner;
	pg_uuid_t	owner;
	const char *currency;
	pg_uuid_t	id;
} Account;

static Account
account_of(const Posting *posting, const PostingLeg *leg)
{
	Account account = { .code = leg->code,
						.currency = leg->currency ? leg->currency
												  : posting->currency };

	if (leg->owner)
	{
		account.has_owner = true;
		account.owner = *leg->owner;
	}
	return account;
}

static int
account_compare(const void *a, const void *b)
{
	const Account *left = a;
	const Account *right = b;
	int			   order;

	if (left->code != right->code)
		return left->code < right->code ? -1 : 1;
	order = uuid_compare(&left->owner, &right->owner);
	if (order == 0)
		order = strcmp(left->currency, right->currency);
	return order;
}

/*
 * Each account once, sorted: two transactions that both have to make some
 * accounts make them in the same order, and never wait for each other in a
 * ring.
 */
static Account *
resolve_accounts(const Posting *postings, int count, int *account_count)
{
	Account *accounts =
		palloc((Size) count * POSTING_MAX_LEGS * sizeof(Account));
	int total = 0;
	int unique = 0;

	for (int i = 0; i < count; i++)
	{
		for (int leg = 0; leg < postings[i].leg_count; leg++)
			accounts[total++] =
				account_of(&postings[i], &postings[i].legs[leg]);
	}
	qsort(accounts, total, sizeof(Account), account_compare);
	for (int i = 0; i < total; i++)
	{
		if (unique == 0 ||
			account_compare(&accounts[unique - 1], &accounts[i]) != 0)
			accounts[unique++] = accounts[i];
	}
	for (int i = 0; i < unique; i++)
		ledger_chart_account(accounts[i].code,
							 accounts[i].has_owner ? &accounts[i].owner : NULL,
							 accounts[i].currency, &accounts[i].id);
	*account_count = unique;
	return accounts;
}

static void
fill_journal(LedgerJournal *journal, const Posting *posting,
			 const Account *accounts, int account_count)
{
	LedgerLeg *legs = palloc(posting->leg_count * sizeof(LedgerLeg));

	memset(journal, 0, sizeof(LedgerJournal));
	journal->kind = posting->kind;
	journal->subject = posting->subject;
	journal->has_subject = true;
	journal->legs = legs;
	for (int i = 0; i < posting->leg_count; i++)
	{
		Account		   key = account_of(posting, &posting->legs[i]);
		const Account *account;

		if (posting->legs[i].amount == 0)
			continue;
		account = bsearch(&key, accounts, account_count, sizeof(Account),
						  account_compare);
		Assert(account != NULL);
		legs[journal->leg_count].account_id = account->id;
		legs[journal->leg_count].amount = posting->legs[i].amount;
		journal->leg_count++;
	}
}

void
posting_post(const Posting *postings, int count)
{
	LedgerJournal *journals;
	Account		  *accounts;
	int			   account_count;

	if (count == 0)
		return;
	accounts = resolve_accounts(postings, count, &account_count);
	journals = palloc((Size) count * sizeof(LedgerJournal));
	for (int i = 0; i < count; i++)
		fill_journal(&journals[i], &postings[i], accounts, account_count);
	ledger_post(journals, count);
}
