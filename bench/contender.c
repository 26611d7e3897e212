/*-------------------------------------------------------------------------
 *
 * contender.c
 *	  The statements that are measured, and their parameters.
 *
 * Every way takes one round trip and one prepared statement for each
 * transaction, with parameters in binary: as an application would do it that
 * has been written with care.  Ids of the references' journals come from the
 * client, which is how such an application saves itself a RETURNING; those of
 * the ledger are made by the ledger.
 *
 *-------------------------------------------------------------------------
 */
#include "contender.h"

#include <err.h>
#include <stdlib.h>
#include <string.h>

#define BENCH_KIND "bench"

typedef struct WayEntry
{
	const char *name;
	int			parameter_count;
	const char *statement;
} WayEntry;

/* clang-format off */
static const WayEntry ways[WAY_COUNT] = {
	[WAY_LEDGER] = { "ledger", 3,
		"SELECT payment.post_journal($1::text, $2::uuid[], $3::bigint[])" },
	[WAY_LEDGER_BATCH] = { "ledger-batch", 4,
		"SELECT payment.post_journals($1::text[], $2::integer[], $3::uuid[], $4::bigint[],"
		" return_balances => false)" },
	[WAY_BARE] = { "bare", 6,
		"WITH j AS (INSERT INTO bare.journal (id, kind, effective_at, recorded_at)"
		" VALUES ($1::uuid, $2::text, now(), now()))"
		" INSERT INTO bare.entry (journal_id, leg, account_id, amount)"
		" VALUES ($1, 1, $3::uuid, $4::bigint), ($1, 2, $5::uuid, $6::bigint)" },
	[WAY_BARE_BATCH] = { "bare-batch", 6,
		"WITH j AS (INSERT INTO bare.journal (id, kind, effective_at, recorded_at)"
		" SELECT id, kind, now(), now() FROM unnest($1::uuid[], $2::text[]) u (id, kind))"
		" INSERT INTO bare.entry (journal_id, leg, account_id, amount)"
		" SELECT * FROM unnest($3::uuid[], $4::smallint[], $5::uuid[], $6::bigint[])" },
	[WAY_KEPT] = { "kept", 6,
		"WITH j AS (INSERT INTO bare.journal (id, kind, effective_at, recorded_at)"
		" VALUES ($1::uuid, $2::text, now(), now())),"
		" e AS (INSERT INTO bare.entry (journal_id, leg, account_id, amount)"
		" VALUES ($1, 1, $3::uuid, $4::bigint), ($1, 2, $5::uuid, $6::bigint))"
		" UPDATE bare.balance b SET balance = b.balance + m.amount"
		" FROM (VALUES ($3, $4), ($5, $6)) m (account_id, amount) WHERE b.account_id = m.account_id" },
	[WAY_LOCKED] = { "locked", 3,
		"SELECT locked.transfer($1::bigint, $2::bigint, $3::bigint)" },
};
/* clang-format on */

const char *
way_name(Way way)
{
	return ways[way].name;
}

const char *
way_statement(Way way)
{
	return ways[way].statement;
}

int
way_parameter_count(Way way)
{
	return ways[way].parameter_count;
}

int
way_journals(Way way)
{
	return way == WAY_LEDGER_BATCH || way == WAY_BARE_BATCH ? BATCH_JOURNALS
															: 1;
}

/* way/accounts[@database] */
void
contender_parse(Contender *contender, char *spec, const char *database)
{
	char *accounts;
	char *at;

	contender->name = strdup(spec);
	contender->database = database;
	at = strchr(spec, '@');
	if (at)
	{
		*at = '\0';
		contender->database = at + 1;
	}
	accounts = strchr(spec, '/');
	if (accounts == NULL)
		errx(2, "not a contender: %s", spec);
	*accounts++ = '\0';
	for (contender->way = 0; contender->way < WAY_COUNT; contender->way++)
	{
		if (strcmp(spec, ways[contender->way].name) == 0)
			break;
	}
	if (contender->way == WAY_COUNT ||
		!pick_distribution(accounts, &contender->distribution))
		errx(2, "no such contender: %s", contender->name);
}

static void
put_uuid(Parameters *p, const Uuid *id)
{
	parameter_begin(p);
	put_bytes(p, id, UUID_BYTES);
}

static void
put_kind(Parameters *p)
{
	parameter_begin(p);
	put_bytes(p, BENCH_KIND, strlen(BENCH_KIND));
}

static void
put_amount(Parameters *p, int64_t amount)
{
	parameter_begin(p);
	put_int64(p, amount);
}

static void
put_uuid_element(Parameters *p, const Uuid *id)
{
	put_int32(p, UUID_BYTES);
	put_bytes(p, id, UUID_BYTES);
}

static void
put_amount_element(Parameters *p, int64_t amount)
{
	put_int32(p, sizeof(amount));
	put_int64(p, amount);
}

/* post_journal(kind, accounts, amounts) */
static void
put_ledger(Parameters *p, const Uuid *ids, int debit, int credit)
{
	int64_t amount = pick_amount();

	put_kind(p);
	parameter_array_begin(p, TYPE_UUID, 2);
	put_uuid_element(p, &ids[debit]);
	put_uuid_element(p, &ids[credit]);
	parameter_array_begin(p, TYPE_INT8, 2);
	put_amount_element(p, amount);
	put_amount_element(p, -amount);
}

/*
 * journal, kind, and account and amount of two entries; ascending by account,
 * so that updates of balances do not deadlock
 */
static void
put_bare(Parameters *p, const Uuid *ids, int debit, int credit)
{
	int64_t amount = pick_amount();
	Uuid	journal;

	if (memcmp(&ids[debit], &ids[credit], UUID_BYTES) > 0)
	{
		int swapped = debit;

		debit = credit;
		credit = swapped;
		amount = -amount;
	}
	pick_id(&journal);
	put_uuid(p, &journal);
	put_kind(p);
	put_uuid(p, &ids[debit]);
	put_amount(p, amount);
	put_uuid(p, &ids[credit]);
	put_amount(p, -amount);
}

static void
put_locked(Parameters *p, int debit, int credit)
{
	put_amount(p, debit + 1);
	put_amount(p, credit + 1);
	put_amount(p, pick_amount());
}

typedef struct Batch
{
	Uuid	journal[BATCH_JOURNALS];
	int		account[2 * BATCH_JOURNALS];
	int64_t amount[2 * BATCH_JOURNALS];
} Batch;

static void
pick_batch(Distribution distribution, Batch *batch)
{
	for (int i = 0; i < BATCH_JOURNALS; i++)
	{
		pick_id(&batch->journal[i]);
		pick_accounts(distribution, &batch->account[2 * i],
					  &batch->account[2 * i + 1]);
		batch->amount[2 * i] = pick_amount();
		batch->amount[2 * i + 1] = -batch->amount[2 * i];
	}
}

static void
put_batch_kinds(Parameters *p)
{
	parameter_array_begin(p, TYPE_TEXT, BATCH_JOURNALS);
	for (int i = 0; i < BATCH_JOURNALS; i++)
	{
		put_int32(p, (int32_t) strlen(BENCH_KIND));
		put_bytes(p, BENCH_KIND, strlen(BENCH_KIND));
	}
}

static void
put_batch_entries(Parameters *p, const Batch *batch, const Uuid *ids)
{
	parameter_array_begin(p, TYPE_UUID, 2 * BATCH_JOURNALS);
	for (int i = 0; i < 2 * BATCH_JOURNALS; i++)
		put_uuid_element(p, &ids[batch->account[i]]);
	parameter_array_begin(p, TYPE_INT8, 2 * BATCH_JOURNALS);
	for (int i = 0; i < 2 * BATCH_JOURNALS; i++)
		put_amount_element(p, batch->amount[i]);
}

/* post_journals(kinds, journals, accounts, amounts) */
static void
put_ledger_batch(Parameters *p, const Batch *batch, const Uuid *ids)
{
	put_batch_kinds(p);
	parameter_array_begin(p, TYPE_INT4, 2 * BATCH_JOURNALS);
	for (int i = 0; i < 2 * BATCH_JOURNALS; i++)
	{
		put_int32(p, sizeof(int32_t));
		put_int32(p, i / 2 + 1);
	}
	put_batch_entries(p, batch, ids);
}

/* journals, kinds, and of entries: journal, leg, account, amount */
static void
put_bare_batch(Parameters *p, const Batch *batch, const Uuid *ids)
{
	parameter_array_begin(p, TYPE_UUID, BATCH_JOURNALS);
	for (int i = 0; i < BATCH_JOURNALS; i++)
		put_uuid_element(p, &batch->journal[i]);
	put_batch_kinds(p);
	parameter_array_begin(p, TYPE_UUID, 2 * BATCH_JOURNALS);
	for (int i = 0; i < 2 * BATCH_JOURNALS; i++)
		put_uuid_element(p, &batch->journal[i / 2]);
	parameter_array_begin(p, TYPE_INT2, 2 * BATCH_JOURNALS);
	for (int i = 0; i < 2 * BATCH_JOURNALS; i++)
	{
		put_int32(p, sizeof(int16_t));
		put_int16(p, (int16_t) (i % 2 + 1));
	}
	put_batch_entries(p, batch, ids);
}

void
contender_parameters(const Contender *contender, const Uuid *ids,
					 Parameters *p)
{
	static Batch batch;
	int			 debit;
	int			 credit;

	parameters_clear(p);
	if (way_journals(contender->way) > 1)
		pick_batch(contender->distribution, &batch);
	else
		pick_accounts(contender->distribution, &debit, &credit);
	switch (contender->way)
	{
		case WAY_LEDGER:
			put_ledger(p, ids, debit, credit);
			break;
		case WAY_LEDGER_BATCH:
			put_ledger_batch(p, &batch, ids);
			break;
		case WAY_BARE:
		case WAY_KEPT:
			put_bare(p, ids, debit, credit);
			break;
		case WAY_BARE_BATCH:
			put_bare_batch(p, &batch, ids);
			break;
		case WAY_LOCKED:
			put_locked(p, debit, credit);
			break;
		case WAY_COUNT:
			break;
	}
}
