/*-------------------------------------------------------------------------
 *
 * op_sql.c
 *	  An operation as SQL, and what its answer must look like.
 *
 * A journal is found again by its subject, which holds the operation's number.
 * Whatever leaves no journal adds a row to model.done, in its transaction.
 *
 *-------------------------------------------------------------------------
 */
#include "model.h"

#include <stdlib.h>
#include <string.h>

const char *const currency_codes[MODEL_CURRENCIES] = { "USD", "EUR", "JPY" };

static const char *const state_names[] = { "open", "frozen", "closed" };

static void
append_accounts(const Op *op, Text *sql)
{
	text_add_string(sql, "'{");
	for (int i = 0; i < op->leg_count; i++)
		text_add(sql, "%s%s", i ? "," : "",
				 world.names[op->legs[i].account].id);
	text_add_string(sql, "}'::uuid[]");
}

static void
append_amounts(const Op *op, Text *sql)
{
	text_add_string(sql, "'{");
	for (int i = 0; i < op->leg_count; i++)
		text_add(sql, "%s%lld", i ? "," : "", (long long) op->legs[i].amount);
	text_add_string(sql, "}'::bigint[]");
}

static void
append_subject(const Op *op, int journal, Text *sql)
{
	text_add(sql, "%08x-0000-7000-8000-%012x", op->number, journal);
}

static void
append_limits(const Op *op, Text *sql)
{
	if (op->has_min)
		text_add(sql, ", %lld", (long long) op->min_balance);
	else
		text_add_string(sql, ", NULL");
	if (op->has_max)
		text_add(sql, ", %lld", (long long) op->max_balance);
	else
		text_add_string(sql, ", NULL");
}

static void
batch_sql(const Op *op, Text *sql)
{
	text_add_string(sql, "SELECT array_to_string(p.journal_ids, ','), "
						 "array_to_string(p.account_ids, ','), "
						 "array_to_string(p.balances, ',') "
						 "FROM payment.post_journals('{");
	for (int i = 0; i < op->journal_count; i++)
		text_add(sql, "%smodel", i ? "," : "");
	text_add_string(sql, "}', '{");
	for (int i = 0; i < op->leg_count; i++)
		text_add(sql, "%s%d", i ? "," : "", op->legs[i].journal + 1);
	text_add_string(sql, "}', ");
	append_accounts(op, sql);
	text_add_string(sql, ", ");
	append_amounts(op, sql);
	text_add_string(sql, ", subjects => '{");
	for (int i = 0; i < op->journal_count; i++)
	{
		text_add_string(sql, i ? "," : "");
		append_subject(op, i, sql);
	}
	text_add_string(sql, "}'");
	if (op->keyed)
		text_add(sql, ", idempotency_key => 'model-%u'", op->number);
	text_add_string(sql, ") AS p");
}

static void
open_sql(const Op *op, Text *sql)
{
	const AccountName *name = &world.names[op->account];

	text_add(sql,
			 "INSERT INTO model.done SELECT %u, "
			 "payment.open_account('m%d', '%s', '%s', NULL",
			 op->number, op->account,
			 name->credit_normal ? "liability" : "asset",
			 currency_codes[name->currency]);
	append_limits(op, sql);
	text_add_string(sql, ")::text RETURNING answer");
}

static void
change_sql(const Op *op, Text *sql)
{
	text_add(sql,
			 "INSERT INTO model.done SELECT %u, "
			 "payment.set_account_%s('%s'",
			 op->number, op->kind == OP_STATE ? "state" : "limits",
			 world.names[op->account].id);
	if (op->kind == OP_STATE)
		text_add(sql, ", '%s'", state_names[op->state]);
	else
		append_limits(op, sql);
	text_add_string(sql, ")::text RETURNING answer");
}

void
op_sql(const Op *op, Text *sql)
{
	text_reset(sql);
	switch ((OpKind) op->kind)
	{
		case OP_POST:
			text_add_string(sql, "SELECT payment.post_journal('model', ");
			append_accounts(op, sql);
			text_add_string(sql, ", ");
			append_amounts(op, sql);
			text_add_string(sql, ", '");
			append_subject(op, 0, sql);
			text_add_string(sql, "')");
			break;
		case OP_BATCH:
			batch_sql(op, sql);
			break;
		case OP_OPEN:
		case OP_OPEN_AGAIN:
			open_sql(op, sql);
			break;
		case OP_STATE:
		case OP_LIMITS:
			change_sql(op, sql);
			break;
		case OP_LOCK:
			text_add_string(sql, "SELECT payment.lock_accounts(");
			append_accounts(op, sql);
			text_add_string(sql, ")");
			break;
		case OP_MERGE:
			text_add_string(sql, "SELECT payment.merge_balance_slots(1000)");
			break;
		case OP_BALANCE:
			text_add(sql, "SELECT posted FROM payment.balance('%s')",
					 world.names[op->account].id);
			break;
		case OP_KIND_COUNT:
			break;
	}
}

static int64_t
normal_side(int account)
{
	int64_t balance = world.live->accounts[account].balance;

	return world.names[account].credit_normal ? -balance : balance;
}

/* of the only client, the model knows every balance */
static void
check_balances(const Op *op, char *ids, char *balances)
{
	char *id_rest;
	char *balance_rest;
	char *id = strtok_r(ids, ",", &id_rest);
	char *balance = strtok_r(balances, ",", &balance_rest);
	int	  count = 0;

	for (; id && balance; id = strtok_r(NULL, ",", &id_rest),
						  balance = strtok_r(NULL, ",", &balance_rest))
	{
		int account = -1;

		for (int i = 0; i < op->leg_count; i++)
		{
			if (strcmp(world.names[op->legs[i].account].id, id) == 0)
				account = op->legs[i].account;
		}
		count++;
		if (account < 0)
			fail("op %u returned the balance of account %s, which it does not "
				 "touch",
				 op->number, id);
		else if (atoll(balance) != normal_side(account))
			fail("op %u returned the balance %s of account %d, not %lld",
				 op->number, balance, account,
				 (long long) normal_side(account));
	}
	if (count == 0 || id || balance)
		fail("op %u returned no balances, or too many", op->number);
}

static int
count_elements(const char *list)
{
	int count = *list != '\0';

	for (; *list; list++)
		count += *list == ',';
	return count;
}

void
op_answer(const Op *op, const PGresult *result)
{
	if (op->kind == OP_OPEN)
		snprintf(world.names[op->account].id,
				 sizeof(world.names[op->account].id), "%s",
				 PQgetvalue(result, 0, 0));
	else if (op->kind == OP_BATCH)
	{
		if (count_elements(PQgetvalue(result, 0, 0)) != op->journal_count)
			fail("op %u: %d journals were posted as %s", op->number,
				 op->journal_count, PQgetvalue(result, 0, 0));
		if (world.exact)
			check_balances(op, PQgetvalue(result, 0, 1),
						   PQgetvalue(result, 0, 2));
	}
	else if (op->kind == OP_BALANCE && world.exact &&
			 atoll(PQgetvalue(result, 0, 0)) != normal_side(op->account))
		fail("op %u: balance of account %d is %s, not %lld", op->number,
			 op->account, PQgetvalue(result, 0, 0),
			 (long long) normal_side(op->account));
}

static bool
is_one_of(const char *sqlstate, const char *list)
{
	return strlen(sqlstate) == 5 && strstr(list, sqlstate) != NULL;
}

bool
op_may_fail(const Op *op, const char *sqlstate)
{
	switch ((OpKind) op->kind)
	{
		case OP_POST:
		case OP_BATCH:
			return is_one_of(sqlstate,
							 op->bad ? "PY003 PY200 PY201" : "PY201 PY202");
		case OP_OPEN_AGAIN:
			return is_one_of(sqlstate, "PY205");
		case OP_STATE:
			return is_one_of(sqlstate, "PY303");
		case OP_LIMITS:
			return is_one_of(sqlstate, "PY001 PY202");
		default:
			return false;
	}
}
