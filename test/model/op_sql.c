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
#include <time.h>

#define UUID_TEXT 36

const char *const currency_codes[MODEL_CURRENCIES] = { "USD", "EUR", "JPY" };

/* what no hold and no journal has */
static const char no_id[] = "00000000-0000-0000-0000-000000000000";

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
append_key(const Op *op, Text *sql)
{
	if (op->keyed)
		text_add(sql, ", idempotency_key => 'model-%u'", op->number);
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
	append_key(op, sql);
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

/* the ledger's clock; a server on this machine has the same */
int64_t
now_us(void)
{
	struct timespec time;

	clock_gettime(CLOCK_REALTIME, &time);
	return (int64_t) time.tv_sec * 1000000 + time.tv_nsec / 1000;
}

/* its key may have been used already, and its row be there */
static void
hold_sql(const Op *op, Text *sql)
{
	const HoldName *hold = &world.holds[op->hold];

	text_add(sql,
			 "WITH made AS MATERIALIZED (SELECT payment.create_hold('%s', "
			 "%lld, subject => '",
			 world.names[op->account].id, (long long) hold->amount);
	append_subject(op, 0, sql);
	text_add_string(sql, "'");
	append_key(op, sql);
	if (hold->expires_at != 0)
		text_add(sql,
				 ", expires_at => '1970-01-01 00:00:00+00'::timestamptz "
				 "+ %lld * interval '1 microsecond'",
				 (long long) hold->expires_at);
	text_add(sql,
			 ")::text AS id), done AS (INSERT INTO model.done SELECT %u, "
			 "id FROM made%s) SELECT id FROM made",
			 op->number, op->keyed ? " ON CONFLICT DO NOTHING" : "");
}

static const char *
id_or_none(const char *id)
{
	return *id ? id : no_id;
}

static void
post_hold_sql(const Op *op, Text *sql)
{
	text_add(sql, "SELECT payment.post_hold('%s', ",
			 id_or_none(world.holds[op->hold].id));
	append_accounts(op, sql);
	if (!op->whole)
	{
		text_add_string(sql, ", ");
		append_amounts(op, sql);
	}
	if (op->close)
		text_add_string(sql, ", close => true");
	append_key(op, sql);
	text_add(sql, ", description => 'op %u')", op->number);
}

static void
reverse_sql(const Op *op, Text *sql)
{
	text_add(sql, "SELECT payment.reverse_journal('%s'",
			 id_or_none(world.targets[op->reversed].id));
	if (op->leg_count > 0)
	{
		text_add_string(sql, ", accounts => ");
		append_accounts(op, sql);
		text_add_string(sql, ", amounts => ");
		append_amounts(op, sql);
	}
	else if (!op->whole)
		text_add(sql, ", %lld", (long long) op->amount);
	append_key(op, sql);
	text_add(sql, ", description => 'op %u')", op->number);
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
			text_add(sql,
					 "SELECT posted, pending, available "
					 "FROM payment.balance('%s')",
					 world.names[op->account].id);
			break;
		case OP_HOLD:
			hold_sql(op, sql);
			break;
		case OP_POST_HOLD:
			post_hold_sql(op, sql);
			break;
		case OP_VOID:
			text_add(sql,
					 "INSERT INTO model.done SELECT %u, "
					 "payment.void_hold('%s')::text RETURNING answer",
					 op->number, id_or_none(world.holds[op->hold].id));
			break;
		case OP_EXPIRE:
			text_add(sql,
					 "INSERT INTO model.done SELECT %u, "
					 "payment.expire_holds(%u)::text RETURNING answer",
					 op->number, 1 + op->number % 20);
			break;
		case OP_REVERSE:
			reverse_sql(op, sql);
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

static void
keep_id(char *id, const char *answer)
{
	memcpy(id, answer, strnlen(answer, UUID_TEXT));
	id[strnlen(answer, UUID_TEXT)] = '\0';
}

static void
balance_answer(const Op *op, const PGresult *result)
{
	int64_t posted = atoll(PQgetvalue(result, 0, 0));
	int64_t pending = atoll(PQgetvalue(result, 0, 1));

	if (atoll(PQgetvalue(result, 0, 2)) != posted - pending || pending < 0)
		fail("op %u: available is not what is posted without what is held",
			 op->number);
	if (world.exact && (posted != normal_side(op->account) ||
						pending != model_held(world.live, op->account)))
		fail("op %u: balance of account %d is %lld, held %lld, not %lld and "
			 "%lld",
			 op->number, op->account, (long long) posted, (long long) pending,
			 (long long) normal_side(op->account),
			 (long long) model_held(world.live, op->account));
}

void
op_answer(const Op *op, const PGresult *result)
{
	if (op->target >= 0)
		keep_id(world.targets[op->target].id, PQgetvalue(result, 0, 0));
	if (op->kind == OP_OPEN)
		keep_id(world.names[op->account].id, PQgetvalue(result, 0, 0));
	else if (op->kind == OP_HOLD)
		keep_id(world.holds[op->hold].id, PQgetvalue(result, 0, 0));
	else if (op->kind == OP_BATCH)
	{
		if (count_elements(PQgetvalue(result, 0, 0)) != op->journal_count)
			fail("op %u: %d journals were posted as %s", op->number,
				 op->journal_count, PQgetvalue(result, 0, 0));
		if (world.exact)
			check_balances(op, PQgetvalue(result, 0, 1),
						   PQgetvalue(result, 0, 2));
	}
	else if (op->kind == OP_BALANCE)
		balance_answer(op, result);
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
		case OP_HOLD:
			return is_one_of(sqlstate, world.holds[op->hold].expires_at != 0
										   ? "PY001 PY201 PY202"
										   : "PY201 PY202");
		case OP_POST_HOLD:
			return (op->own && is_one_of(sqlstate, "PY012")) ||
				   (op->bad && is_one_of(sqlstate, "PY003 PY200")) ||
				   is_one_of(sqlstate, "PY201 PY202 PY206 PY207");
		case OP_VOID:
			return (op->own && is_one_of(sqlstate, "PY012")) ||
				   is_one_of(sqlstate, "PY206");
		case OP_REVERSE:
			if (world.targets[op->reversed].reverses &&
				is_one_of(sqlstate, "PY209"))
				return true;
			return (op->own && is_one_of(sqlstate, "PY012")) ||
				   (!world.targets[op->reversed].one_currency &&
					is_one_of(sqlstate, "PY001")) ||
				   is_one_of(sqlstate, "PY201 PY202 PY208");
		default:
			return false;
	}
}
