/*-------------------------------------------------------------------------
 *
 * check.c
 *	  Afterwards: compares the ledger with what was asked of it and told.
 *
 *-------------------------------------------------------------------------
 */
#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIME_OF_COMMIT \
	"(extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1e6)::bigint"

static PGconn *
connect_or_exit(const char *conninfo)
{
	PGconn *conn = PQconnectdb(conninfo);

	if (PQstatus(conn) == CONNECTION_OK)
		return conn;
	fprintf(stderr, "%s", PQerrorMessage(conn));
	exit(2);
}

/* row by row, so that a long run's rows need not be here all at once */
void
for_each_row(PGconn *conn, const char *sql, void (*row)(const PGresult *))
{
	PGresult *result;

	if (!PQsendQuery(conn, sql) || !PQsetSingleRowMode(conn))
		fail("%s: %s", sql, PQerrorMessage(conn));
	while ((result = PQgetResult(conn)) != NULL)
	{
		if (PQresultStatus(result) == PGRES_SINGLE_TUPLE)
			row(result);
		else if (PQresultStatus(result) != PGRES_TUPLES_OK)
			fail("%s: %s", sql, PQresultErrorMessage(result));
		PQclear(result);
	}
}

static Txn **txn_of_op;

static void
index_txns(void)
{
	txn_of_op = allocate(sizeof(Txn *) * (world.op_count + 1));
	for (uint32_t i = 0; i < world.txn_count; i++)
	{
		for (int op = 0; op < world.txns[i]->op_count; op++)
			txn_of_op[world.txns[i]->ops[op].number] = world.txns[i];
	}
}

/* rows of one transaction bear one timestamp */
static void
note_time(Op *op, const char *time)
{
	Txn	   *txn = txn_of_op[op->number];
	int64_t committed_at = atoll(time);

	if (committed_at == 0 ||
		(txn->committed_at != 0 && txn->committed_at != committed_at))
		fail("op %u was committed at %s, another of its transaction at %lld",
			 op->number, time, (long long) txn->committed_at);
	txn->committed_at = committed_at;
}

static void
find(Op *op, int journal, const char *time)
{
	if (op->found & (1u << journal))
		op->found_wrong = true;
	op->found |= 1u << journal;
	note_time(op, time);
}

static void
compare_entries(Op *op, int journal, const char *entries)
{
	Text *expected = text_create();
	int	  first = 0;
	int	  end;

	while (first < op->leg_count && op->legs[first].journal != journal)
		first++;
	for (end = first; end < op->leg_count && op->legs[end].journal == journal;
		 end++)
		continue;
	describe_legs(&op->legs[first], end - first, expected);
	if (strcmp(expected->data, entries) != 0)
	{
		op->found_wrong = true;
		printf("# op %u: entries are %s, not %s\n", op->number, entries,
			   expected->data);
	}
	text_free(expected);
}

/* what it posts or reverses, and then the model has to say how much of it */
static void
note_entries(Op *op, const char *of, const char *entries)
{
	const char *id = op->kind == OP_REVERSE ? world.targets[op->reversed].id
											: world.holds[op->hold].id;

	if (strcmp(id, of) != 0)
	{
		op->found_wrong = true;
		printf("# op %u: the journal is of %s, not %s\n", op->number, of, id);
	}
	op->entries = allocate(strlen(entries) + 1);
	memcpy(op->entries, entries, strlen(entries) + 1);
}

/* subject, entries as "code amount,...", time, what it is of, description */
static void
found_journal(const PGresult *row)
{
	const char *subject = PQgetvalue(row, 0, 0);
	const char *entries = PQgetvalue(row, 0, 1);
	unsigned	number;
	unsigned	journal = 0;
	bool		is_of = sscanf(PQgetvalue(row, 0, 4), "op %u", &number) == 1;
	Op		   *op;

	if ((!is_of &&
		 sscanf(subject, "%8x-0000-7000-8000-%12x", &number, &journal) != 2) ||
		number >= world.op_count ||
		journal >= world.ops[number]->journal_count ||
		is_of != (world.ops[number]->kind == OP_POST_HOLD ||
				  world.ops[number]->kind == OP_REVERSE))
	{
		fail("a journal that nobody posted: subject %s, %s", subject, entries);
		return;
	}
	op = world.ops[number];
	if (is_of)
		note_entries(op, PQgetvalue(row, 0, 3), entries);
	else
		compare_entries(op, (int) journal, entries);
	find(op, (int) journal, PQgetvalue(row, 0, 2));
}

static void
found_done(const PGresult *row)
{
	unsigned long number = strtoul(PQgetvalue(row, 0, 0), NULL, 10);

	if (number >= world.op_count)
		fail("a row of an operation that nobody asked for: %lu", number);
	else
		find(world.ops[number], 0, PQgetvalue(row, 0, 1));
}

static uint32_t
expected_rows(const Op *op)
{
	switch ((OpKind) op->kind)
	{
		case OP_POST:
		case OP_BATCH:
		case OP_POST_HOLD:
		case OP_REVERSE:
			return (1u << op->journal_count) - 1;
		case OP_OPEN:
		case OP_OPEN_AGAIN:
		case OP_STATE:
		case OP_LIMITS:
		case OP_HOLD:
		case OP_VOID:
		case OP_EXPIRE:
			return 1;
		default:
			return 0;
	}
}

/* an operation that happened is there in full, another one not at all */
static bool
is_there(const Txn *txn, bool committed)
{
	for (int i = 0; i < txn->op_count; i++)
	{
		const Op *op = &txn->ops[i];
		uint32_t  expected = committed && op->happened ? expected_rows(op) : 0;

		if (op->found_wrong || op->found != expected)
			return false;
	}
	return true;
}

static void
describe_txn(const Txn *txn)
{
	Text *description = text_create();

	for (int i = 0; i < txn->op_count; i++)
	{
		const Op *op = &txn->ops[i];

		text_add(description, "\n#   %s, found %x%s: ",
				 op->happened ? "happened" : "did not happen", op->found,
				 op->found_wrong ? " wrong" : "");
		describe_op(op, description);
	}
	printf("# transaction %u, outcome %d, committed at %lld%s\n", txn->number,
		   txn->outcome, (long long) txn->committed_at, description->data);
	text_free(description);
}

/* those in doubt become committed or absent */
static void
check_outcomes(void)
{
	int wrong[OUTCOME_DOUBT + 1] = { 0 };
	int total[OUTCOME_DOUBT + 1] = { 0 };
	int doubts_there = 0;

	for (uint32_t i = 0; i < world.txn_count; i++)
	{
		Txn *txn = world.txns[i];
		bool there = txn->outcome != OUTCOME_ABSENT && is_there(txn, true);
		bool absent =
			txn->outcome != OUTCOME_COMMITTED && is_there(txn, false);

		total[txn->outcome]++;
		if (!there && !absent && wrong[txn->outcome]++ < 3)
			describe_txn(txn);
		if (txn->outcome == OUTCOME_DOUBT)
		{
			doubts_there += there && !absent;
			txn->outcome = there ? OUTCOME_COMMITTED : OUTCOME_ABSENT;
		}
	}
	test(wrong[OUTCOME_COMMITTED] == 0 && total[OUTCOME_COMMITTED] > 0,
		 "each of %d acknowledged transactions is there, exactly once",
		 total[OUTCOME_COMMITTED]);
	test(wrong[OUTCOME_ABSENT] == 0,
		 "nothing of %d refused or rolled back ones is there",
		 total[OUTCOME_ABSENT]);
	test(wrong[OUTCOME_DOUBT] == 0 && total[OUTCOME_NONE] == 0,
		 "%d in doubt are there wholly (%d) or not at all",
		 total[OUTCOME_DOUBT], doubts_there);
}

static int
compare_times(const void *a, const void *b)
{
	const Txn *x = *(Txn *const *) a;
	const Txn *y = *(Txn *const *) b;

	if (x->committed_at != y->committed_at)
		return x->committed_at < y->committed_at ? -1 : 1;
	return x->number < y->number ? -1 : x->number > y->number;
}

static bool
replay_txn(Model *model, const Txn *txn, bool tell)
{
	static Undo undo;

	undo.count = 0;
	model->at = txn->committed_at;
	for (int i = 0; i < txn->op_count; i++)
	{
		const Op   *op = &txn->ops[i];
		const char *verdict;

		if (!op->happened)
			continue;
		verdict = model_apply(model, op, &undo);
		if (strcmp(verdict, SQLSTATE_OK) == 0)
			continue;
		if (tell)
		{
			printf("# op %u was committed where the model says %s\n",
				   op->number, verdict);
			describe_txn(txn);
		}
		undo_to(&undo, 0, model);
		return false;
	}
	return true;
}

/* of the same microsecond the order is not known: any that works will do */
static int
replay_group(Model *model, Txn **txns, int count)
{
	bool progress = true;

	while (progress && count > 0)
	{
		progress = false;
		for (int i = 0; i < count;)
		{
			if (!replay_txn(model, txns[i], false))
			{
				i++;
				continue;
			}
			memmove(&txns[i], &txns[i + 1], sizeof(Txn *) * (count - i - 1));
			count--;
			progress = true;
		}
	}
	return count;
}

static Model *
replay(void)
{
	Model *model = model_create();
	Txn	 **order = allocate(sizeof(Txn *) * (world.txn_count + 1));
	int	   count = 0;
	int	   rejected = 0;

	model_reserve(model);
	for (uint32_t i = 0; i < world.txn_count; i++)
	{
		if (world.txns[i]->outcome == OUTCOME_COMMITTED &&
			world.txns[i]->committed_at != 0)
			order[count++] = world.txns[i];
	}
	qsort(order, count, sizeof(Txn *), compare_times);
	for (int first = 0, end; first < count; first = end)
	{
		int left;

		for (end = first + 1; end < count && order[end]->committed_at ==
												 order[first]->committed_at;
			 end++)
			continue;
		left = replay_group(model, &order[first], end - first);
		for (int i = first; i < first + left; i++)
		{
			replay_txn(model, order[i], rejected < 3);
			for (int op = 0; op < order[i]->op_count; op++)
			{
				if (order[i]->ops[op].happened)
					model_force(model, &order[i]->ops[op]);
			}
		}
		rejected += left;
	}
	free(order);
	if (world.clock_stepped)
		printf(
			"ok - # skip the clock stepped back: order of commits unknown\n");
	else
		test(rejected == 0,
			 "the model accepts %d transactions one after another, in the "
			 "order of their commits",
			 count);
	return model;
}

static Model *replayed;
static int	  balances_wrong;
static int	  balances_seen;

static bool
is_limit(const PGresult *row, int column, bool has, int64_t limit)
{
	if (PQgetisnull(row, 0, column))
		return !has;
	return has && atoll(PQgetvalue(row, 0, column)) == limit;
}

/* code, state, min, max, posted, entries, slots, pending, available */
static void
found_account(const PGresult *row)
{
	static const char *const states[] = { "open", "frozen", "closed" };
	const char				*code = PQgetvalue(row, 0, 0);
	int						 number = atoi(code + 1);
	const Account			*account = &replayed->accounts[number];
	int64_t					 posted = atoll(PQgetvalue(row, 0, 4));
	int64_t					 held = atoll(PQgetvalue(row, 0, 7));
	int64_t					 sign;

	sign = number < world.account_count && world.names[number].credit_normal
			   ? -1
			   : 1;
	balances_seen++;
	if (account->exists &&
		strcmp(states[account->state], PQgetvalue(row, 0, 1)) == 0 &&
		is_limit(row, 2, account->has_min, account->min_balance) &&
		is_limit(row, 3, account->has_max, account->max_balance) &&
		posted * sign == account->balance &&
		atoll(PQgetvalue(row, 0, 5)) == account->balance &&
		atoll(PQgetvalue(row, 0, 6)) == account->balance &&
		held == model_held(replayed, number) &&
		atoll(PQgetvalue(row, 0, 8)) == posted - held)
		return;
	balances_wrong++;
	printf("# %s is %s, min %s, max %s, balance %s, entries %s, slots %s, "
		   "held %s; "
		   "the model has state %d, min %lld, max %lld, balance %lld, held "
		   "%lld\n",
		   code, PQgetvalue(row, 0, 1), PQgetvalue(row, 0, 2),
		   PQgetvalue(row, 0, 3), PQgetvalue(row, 0, 4), PQgetvalue(row, 0, 5),
		   PQgetvalue(row, 0, 6), PQgetvalue(row, 0, 7), account->state,
		   (long long) account->min_balance, (long long) account->max_balance,
		   (long long) account->balance,
		   (long long) model_held(replayed, number));
}

static int rows_seen;

static void
found_wrong(const PGresult *row)
{
	if (rows_seen++ < 10)
		printf("# %s %s %s %s %s\n", PQgetvalue(row, 0, 0),
			   PQgetvalue(row, 0, 1), PQgetvalue(row, 0, 2),
			   PQgetvalue(row, 0, 3), PQgetvalue(row, 0, 4));
}

static void
check_rows(PGconn *conn)
{
	for_each_row(conn,
				 "SELECT j.subject, string_agg(a.code || ' ' || e.amount, ',' "
				 "ORDER BY e.leg), j.committed_at, coalesce(j.reverses, "
				 "j.subject), j.description FROM (SELECT id, subject, "
				 "reverses, description, " TIME_OF_COMMIT
				 " AS committed_at FROM payment.journal) j "
				 "LEFT JOIN payment.entry e ON e.journal_id = j.id "
				 "LEFT JOIN payment.account a ON a.id = e.account_id "
				 "GROUP BY j.id, j.subject, j.committed_at, j.reverses, "
				 "j.description",
				 found_journal);
	for_each_row(conn, "SELECT op, " TIME_OF_COMMIT " FROM model.done",
				 found_done);
}

void
check_all(const char *conninfo)
{
	PGconn *conn = connect_or_exit(conninfo);

	index_txns();
	check_rows(conn);
	check_outcomes();
	replayed = replay();
	wait_for_expiry(replayed);

	for_each_row(conn,
				 "SELECT a.code, a.state, a.min_balance, a.max_balance, "
				 "b.posted, e.amount, s.balance, b.pending, b.available "
				 "FROM payment.account a CROSS JOIN LATERAL "
				 "payment.balance(a.id) b LEFT JOIN (SELECT account_id, "
				 "sum(amount) AS amount FROM payment.entry GROUP BY 1) e "
				 "ON e.account_id = a.id LEFT JOIN (SELECT account_id, "
				 "sum(balance) AS balance FROM payment.balance_slot "
				 "GROUP BY 1) s ON s.account_id = a.id",
				 found_account);
	test(balances_seen > 0 && balances_wrong == 0,
		 "limits, state, balance and what is held of %d accounts are the "
		 "model's",
		 balances_seen);
	check_holds(conn, replayed);

	rows_seen = 0;
	for_each_row(conn,
				 "SELECT currency, sum(debit), sum(credit), '', '' "
				 "FROM payment.trial_balance() GROUP BY currency "
				 "HAVING sum(debit) <> sum(credit)",
				 found_wrong);
	test(rows_seen == 0, "money was neither made nor lost, in no currency");
	rows_seen = 0;
	for_each_row(conn, "SELECT * FROM payment.verify()", found_wrong);
	test(rows_seen == 0, "verify() finds nothing");
	PQfinish(conn);
}
