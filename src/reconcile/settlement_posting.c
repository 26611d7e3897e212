/*-------------------------------------------------------------------------
 *
 * settlement_posting.c
 *	  What settlement lines mean for the ledger.
 *
 * A file says what the PSP is about to pay to our bank: the sum of its lines'
 * net amounts leaves psp_receivable and is in transit, fees taken on the way
 * are an expense.  So after a file psp_receivable holds what is not settled
 * yet, and nothing else:
 *
 *	  charges, refunds, adjustments	 receivable -gross, fee +fee, transit +net
 *	  disputes	the same without the fee, which the chargeback's own posting
 *				has taken from the receivable already
 *	  the PSP's own charges	 fee +(fee - gross), transit +net
 *	  all other lines	 fee +fee, transit +net
 *	  lines reported before	 transit +net
 *	  payouts	nothing: they are the sum of the others
 *
 * What is missing to zero has no cause we know of (an arithmetic error of the
 * file, a line of an unknown category, a line twice) and goes to
 * recon_suspense, where people look.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "ledger/ledger.h"
#include "money.h"
#include "reconcile/settlement_posting.h"

#define LEGS_MAX 4

static SettlementPosting *
find_posting(List **postings, const char *currency)
{
	SettlementPosting *posting;
	ListCell		  *cell;

	foreach (cell, *postings)
	{
		posting = lfirst(cell);
		if (strcmp(posting->currency, currency) == 0)
			return posting;
	}
	posting = palloc0(sizeof(SettlementPosting));
	strlcpy(posting->currency, currency, sizeof(posting->currency));
	*postings = lappend(*postings, posting);
	return posting;
}

static void
subtract(int64 *total, int64 amount)
{
	*total = money_add(*total, money_negate(amount));
}

List *
settlement_posting_add(List *postings, const SettlementLine *line,
					   bool repeated)
{
	SettlementPosting *posting;

	if (line->kind == SETTLEMENT_PAYOUT)
		return postings;

	posting = find_posting(&postings, line->currency);
	posting->in_transit = money_add(posting->in_transit, line->net);
	if (repeated)
		return postings;

	switch (line->kind)
	{
		case SETTLEMENT_CHARGE:
		case SETTLEMENT_REFUND:
		case SETTLEMENT_ADJUSTMENT:
			subtract(&posting->receivable, line->gross);
			posting->fee = money_add(posting->fee, line->fee);
			break;
		case SETTLEMENT_DISPUTE:
			subtract(&posting->receivable, line->gross);
			posting->receivable = money_add(posting->receivable, line->fee);
			break;
		case SETTLEMENT_FEE:
			posting->fee = money_add(posting->fee, line->fee);
			subtract(&posting->fee, line->gross);
			break;
		case SETTLEMENT_OTHER:
			posting->fee = money_add(posting->fee, line->fee);
			break;
		case SETTLEMENT_PAYOUT:
			break;
	}
	return postings;
}

static void
add_leg(LedgerJournal *journal, AccountCode code, const pg_uuid_t *psp_id,
		const char *currency, int64 amount)
{
	LedgerLeg *leg = &journal->legs[journal->leg_count];

	if (amount == 0)
		return;
	ledger_chart_account(code, psp_id, currency, &leg->account_id);
	leg->amount = amount;
	journal->leg_count++;
}

void
settlement_posting_post(List *postings, const pg_uuid_t *psp_id,
						const pg_uuid_t *file_id, const char *file_name)
{
	LedgerJournal *journals;
	ListCell	  *cell;
	int			   count = 0;

	journals = palloc0(sizeof(LedgerJournal) * Max(list_length(postings), 1));
	foreach (cell, postings)
	{
		SettlementPosting *posting = lfirst(cell);
		LedgerJournal	  *journal = &journals[count];
		int64			   rest;

		rest = money_add(posting->receivable, posting->fee);
		rest = money_negate(money_add(rest, posting->in_transit));
		journal->kind = "settlement";
		journal->subject = *file_id;
		journal->has_subject = true;
		journal->description = file_name;
		journal->legs = palloc(sizeof(LedgerLeg) * LEGS_MAX);
		journal->leg_count = 0;
		add_leg(journal, ACCOUNT_PSP_FEE, psp_id, posting->currency,
				posting->fee);
		add_leg(journal, ACCOUNT_SETTLEMENT_IN_TRANSIT, psp_id,
				posting->currency, posting->in_transit);
		add_leg(journal, ACCOUNT_PSP_RECEIVABLE, psp_id, posting->currency,
				posting->receivable);
		add_leg(journal, ACCOUNT_RECON_SUSPENSE, psp_id, posting->currency,
				rest);
		if (journal->leg_count > 0)
			count++;
	}
	if (count > 0)
		ledger_post(journals, count);
}
