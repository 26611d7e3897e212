/*-------------------------------------------------------------------------
 *
 * client.c
 *	  Takes a transaction through its steps, whatever comes in between.
 *
 *	refused					back to the savepoint, else the transaction is over
 *	serialization failure,
 *	deadlock, cancelled		from the start again
 *	connection lost			absent, unless the commit was under way: in doubt
 *
 * A single operation with an idempotency key is sent again when it is in doubt,
 * and a prepared transaction is looked up: then both are no longer in doubt.
 *
 *-------------------------------------------------------------------------
 */
#include "client.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_TRIES 20
#define RECONNECT_S 0.05

Counts counts;
Undo   live_undo;

static Text *text = NULL;

double
now_s(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static bool
client_chance(Client *client, int percent)
{
	return random_below(&client->random, 100) < percent;
}

static void
add_step(Client *client, StepKind kind, int op)
{
	client->steps[client->step_count].kind = kind;
	client->steps[client->step_count++].op = op;
}

/* BEGIN, operations with savepoints here and there, and how it ends */
static void
plan_steps(Client *client)
{
	static const char *const isolations[] = { "READ COMMITTED",
											  "REPEATABLE READ",
											  "SERIALIZABLE" };
	int						 depth = 0;

	client->isolation = isolations[random_below(&client->random, 3)];
	client->step_count = 0;
	client->alone = client->txn->op_count == 1 && client_chance(client, 80);
	if (client->alone)
	{
		add_step(client, STEP_OP, 0);
		return;
	}
	add_step(client, STEP_BEGIN, 0);
	for (int i = 0; i < client->txn->op_count; i++)
	{
		if (depth < MAX_DEPTH && client_chance(client, 30))
		{
			add_step(client, STEP_SAVEPOINT, 0);
			depth++;
		}
		add_step(client, STEP_OP, i);
		while (depth > 0 && client_chance(client, 50))
		{
			add_step(client,
					 client_chance(client, 50) ? STEP_RELEASE
											   : STEP_ROLLBACK_TO,
					 0);
			depth--;
		}
	}
	if (client_chance(client, 15))
		add_step(client, STEP_ROLLBACK, 0);
	else if (client_chance(client, 5))
	{
		add_step(client, STEP_PREPARE, 0);
		add_step(client, STEP_COMMIT_PREPARED, 0);
	}
	else
		add_step(client, STEP_COMMIT, 0);
}

static void
send_sql(Client *client, const char *sql)
{
	client->busy_since = now_s();
	client->state = CLIENT_BUSY;
	/* when this fails, reading says so */
	PQsendQuery(client->conn, sql);
	PQflush(client->conn);
}

/* what is sent again may have been done the first time */
static void
note_sending(Client *client, Op *op)
{
	if (!client->again)
		op->sent_at = now_us();
	world.live->at = now_us();
}

static void
send_step(Client *client)
{
	const Step *step = &client->steps[client->step];

	text_reset(text);
	switch (step->kind)
	{
		case STEP_BEGIN:
			text_add(text, "BEGIN ISOLATION LEVEL %s", client->isolation);
			break;
		case STEP_OP:
			note_sending(client, &client->txn->ops[step->op]);
			op_sql(&client->txn->ops[step->op], text);
			if (world.exact)
				client->expected =
					model_apply(world.live, &client->txn->ops[step->op],
								&live_undo);
			break;
		case STEP_SAVEPOINT:
			text_add(text, "SAVEPOINT s%d", client->depth + 1);
			break;
		case STEP_RELEASE:
			text_add(text, "RELEASE s%d", client->depth);
			break;
		case STEP_ROLLBACK_TO:
			text_add(text, "ROLLBACK TO s%d", client->depth);
			break;
		case STEP_COMMIT:
			text_add_string(text, "COMMIT");
			break;
		case STEP_ROLLBACK:
			text_add_string(text, "ROLLBACK");
			break;
		case STEP_PREPARE:
			text_add(text, "PREPARE TRANSACTION 'model-%u'",
					 client->txn->number);
			break;
		case STEP_COMMIT_PREPARED:
			text_add(text, "COMMIT PREPARED 'model-%u'", client->txn->number);
			break;
	}
	send_sql(client, text->data);
}

/* operations from the step back to the innermost savepoint, or all */
static void
forget_ops(Client *client, bool all)
{
	int depth = 0;

	for (int i = client->step - 1; i >= 0; i--)
	{
		StepKind kind = client->steps[i].kind;

		if (kind == STEP_OP)
			client->txn->ops[client->steps[i].op].happened = false;
		else if (kind == STEP_RELEASE || kind == STEP_ROLLBACK_TO)
			depth++;
		else if (kind == STEP_SAVEPOINT && !all && depth-- == 0)
			break;
	}
	if (world.exact)
		undo_to(&live_undo, all ? 0 : client->undos[client->depth],
				world.live);
}

/* what it made can be posted to, ended or reversed by others */
static void
make_usable(const Op *op)
{
	if (op->kind == OP_OPEN)
		world.names[op->account].usable = true;
	else if (op->kind == OP_HOLD)
		world.holds[op->hold].usable = true;
	if (op->target >= 0)
		world.targets[op->target].usable = true;
}

static void
end_txn(Client *client, Outcome outcome)
{
	Txn *txn = client->txn;

	txn->outcome = outcome;
	if (outcome == OUTCOME_ABSENT)
	{
		for (int i = 0; i < txn->op_count; i++)
			txn->ops[i].happened = false;
	}
	for (int i = 0; outcome == OUTCOME_COMMITTED && i < txn->op_count; i++)
	{
		if (!txn->ops[i].happened)
			continue;
		if (!world.exact)
			model_force(world.live, &txn->ops[i]);
		make_usable(&txn->ops[i]);
	}
	counts.committed += outcome == OUTCOME_COMMITTED;
	counts.doubts += outcome == OUTCOME_DOUBT;
	live_undo.count = 0;
	client->txn = NULL;
	client->again = client->settle = client->refused = false;
	client->state = CLIENT_READY;
}

static void
begin_again(Client *client)
{
	for (int i = 0; i < client->txn->op_count; i++)
		client->txn->ops[i].happened = false;
	client->step = 0;
	client->depth = 0;
}

static void
next_try(Client *client)
{
	if (world.exact)
		undo_to(&live_undo, 0, world.live);
	if (client->tries++ < MAX_TRIES || client->again)
	{
		counts.retried++;
		begin_again(client);
		client->state = CLIENT_READY;
		return;
	}
	counts.given_up++;
	end_txn(client, OUTCOME_ABSENT);
}

/* what of the transaction is there, now that the connection is gone? */
static void
connection_lost(Client *client)
{
	Txn *txn = client->txn;
	bool sent = client->state == CLIENT_BUSY;

	PQfinish(client->conn);
	client->conn = NULL;
	client->wake_at = now_s() + RECONNECT_S;
	counts.lost++;
	if (txn != NULL && !client->settle)
	{
		StepKind kind = client->steps[client->step].kind;

		if (sent && client->alone)
		{
			txn->ops[0].happened = true;
			client->again = txn->ops[0].keyed;
			if (!client->again)
				end_txn(client, OUTCOME_DOUBT);
			else
				begin_again(client);
		}
		else if (client->again)
			begin_again(client);
		else if (sent && kind == STEP_COMMIT)
			end_txn(client, OUTCOME_DOUBT);
		else if (kind == STEP_PREPARE || kind == STEP_COMMIT_PREPARED)
			client->settle = true;
		else
			end_txn(client, OUTCOME_ABSENT);
	}
	client->state = CLIENT_AWAY;
}

bool
client_connect(Client *client, const char *conninfo)
{
	PGresult *result;

	if (text == NULL)
		text = text_create();
	client->conn = PQconnectdb(conninfo);
	PQsetNoticeProcessor(client->conn, say_nothing, NULL);
	if (PQstatus(client->conn) == CONNECTION_OK)
	{
		/* a few wait for no lock for long, to be turned away in the middle */
		result = PQexec(client->conn, client->number % 5 == 4
										  ? "SET lock_timeout = '20ms'"
										  : "SET lock_timeout = 0");
		PQclear(result);
	}
	if (PQstatus(client->conn) == CONNECTION_OK &&
		PQsetnonblocking(client->conn, 1) == 0)
	{
		client->state = CLIENT_READY;
		return true;
	}
	PQfinish(client->conn);
	client->conn = NULL;
	client->wake_at = now_s() + RECONNECT_S;
	return false;
}

/*
 * A prepared transaction is still there: it is committed now.  Or it is not,
 * and then it was committed if, and only if, that was asked for.
 */
static void
send_settlement(Client *client)
{
	text_reset(text);
	text_add(text,
			 "SELECT count(*) FROM pg_prepared_xacts "
			 "WHERE gid = 'model-%u'",
			 client->txn->number);
	send_sql(client, text->data);
}

static void
settled(Client *client, const PGresult *result)
{
	if (PQresultStatus(result) != PGRES_TUPLES_OK)
	{
		client->state = CLIENT_READY;
		return;
	}
	client->settle = false;
	if (strcmp(PQgetvalue(result, 0, 0), "1") == 0)
	{
		while (client->steps[client->step].kind != STEP_COMMIT_PREPARED)
			client->step++;
		client->state = CLIENT_READY;
	}
	else
		end_txn(client, client->steps[client->step].kind == STEP_PREPARE
							? OUTCOME_ABSENT
							: OUTCOME_COMMITTED);
}

static void
start_txn(Client *client)
{
	client->txn = txn_create(&client->random);
	client->tries = 0;
	client->step = 0;
	client->depth = 0;
	client->undos[0] = 0;
	plan_steps(client);
}

void
client_start(Client *client)
{
	if (client->txn == NULL)
		start_txn(client);
	if (client->settle)
		send_settlement(client);
	else
	{
		if (client->again)
			counts.sent_again++;
		send_step(client);
	}
}

bool
client_is_idle(const Client *client)
{
	return client->txn == NULL && client->state == CLIENT_READY;
}

static bool
is_retryable(const char *sqlstate)
{
	/* serialization failure, deadlock, lock timeout, cancelled */
	return strcmp(sqlstate, "40001") == 0 || strcmp(sqlstate, "40P01") == 0 ||
		   strcmp(sqlstate, "55P03") == 0 || strcmp(sqlstate, "57014") == 0;
}

static void
step_succeeded(Client *client, const PGresult *result)
{
	const Step *step = &client->steps[client->step];
	Op		   *op = &client->txn->ops[step->op];

	switch (step->kind)
	{
		case STEP_OP:
			op->happened = true;
			counts.ops[op->kind]++;
			if (op->bad)
				fail("op %u was accepted, and should not have been",
					 op->number);
			op_answer(op, result);
			break;
		case STEP_SAVEPOINT:
			client->undos[++client->depth] = live_undo.count;
			break;
		case STEP_RELEASE:
			client->depth--;
			break;
		case STEP_ROLLBACK_TO:
			forget_ops(client, false);
			client->depth--;
			break;
		case STEP_ROLLBACK:
			forget_ops(client, true);
			counts.rolled_back++;
			break;
		case STEP_COMMIT:
			if (strcmp(PQcmdStatus((PGresult *) result), "COMMIT") != 0)
				fail("COMMIT was answered by %s",
					 PQcmdStatus((PGresult *) result));
			break;
		default:
			break;
	}
	if (++client->step == client->step_count)
		end_txn(client, step->kind == STEP_ROLLBACK ? OUTCOME_ABSENT
													: OUTCOME_COMMITTED);
	else
		client->state = CLIENT_READY;
}

static void
roll_back(Client *client)
{
	send_sql(client, "ROLLBACK");
	client->state = CLIENT_ABORTING;
}

/* go to where the innermost savepoint ends, and roll back to it */
static void
leave_savepoint(Client *client)
{
	int depth = 1;
	int end = client->step;

	while (depth > 0)
	{
		StepKind kind = client->steps[++end].kind;

		if (kind == STEP_SAVEPOINT)
			depth++;
		else if (kind == STEP_RELEASE || kind == STEP_ROLLBACK_TO)
			depth--;
		else if (kind >= STEP_COMMIT)
			break;
	}
	/* one that is not closed before the end is closed here */
	if (depth > 0)
	{
		memmove(&client->steps[end + 1], &client->steps[end],
				sizeof(Step) * (client->step_count - end));
		client->step_count++;
	}
	forget_ops(client, false);
	client->steps[end].kind = STEP_ROLLBACK_TO;
	client->undos[client->depth] = live_undo.count;
	/* the operations in between are skipped */
	memmove(&client->steps[client->step + 1], &client->steps[end],
			sizeof(Step) * (client->step_count - end));
	client->step_count -= end - client->step - 1;
	client->step++;
	client->state = CLIENT_READY;
}

static void
op_refused(Client *client, const Op *op, const char *sqlstate,
		   const char *message)
{
	counts.refused_ops[op->kind]++;
	if (!op_may_fail(op, sqlstate))
	{
		Text *description = text_create();

		describe_op(op, description);
		fail("%s failed: %s %s", description->data, sqlstate, message);
		text_free(description);
	}
	if (client->alone)
	{
		counts.refused++;
		end_txn(client, OUTCOME_ABSENT);
	}
	else if (client->depth > 0)
		leave_savepoint(client);
	else
	{
		counts.refused++;
		client->refused = true;
		roll_back(client);
	}
}

static void
step_failed(Client *client, const PGresult *result)
{
	const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	const Step *step = &client->steps[client->step];

	if (sqlstate == NULL)
		sqlstate = "?";
	if (is_retryable(sqlstate))
	{
		if (step->kind == STEP_COMMIT_PREPARED)
			client->state = CLIENT_READY;
		else if (client->alone || step->kind == STEP_COMMIT ||
				 step->kind == STEP_PREPARE)
			next_try(client);
		else
			roll_back(client);
	}
	else if (step->kind == STEP_OP)
		op_refused(client, &client->txn->ops[step->op], sqlstate, message);
	else
	{
		fail("step %d failed: %s %s", step->kind, sqlstate, message);
		roll_back(client);
	}
}

static void
check_expected(Client *client, const PGresult *result)
{
	const Step *step = &client->steps[client->step];
	const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	if (!world.exact || step->kind != STEP_OP || client->settle)
		return;
	if (sqlstate == NULL)
		sqlstate = SQLSTATE_OK;
	if (strcmp(sqlstate, client->expected) != 0)
	{
		Text *description = text_create();

		describe_op(&client->txn->ops[step->op], description);
		fail("%s: the model says %s, the ledger %s", description->data,
			 client->expected, sqlstate);
		text_free(description);
	}
}

static void
statement_done(Client *client, const PGresult *result)
{
	ExecStatusType status = PQresultStatus(result);

	if (client->state == CLIENT_ABORTING)
	{
		client->step = client->step_count;
		forget_ops(client, true);
		if (client->refused)
			end_txn(client, OUTCOME_ABSENT);
		else
			next_try(client);
		return;
	}
	if (client->settle)
	{
		settled(client, result);
		return;
	}
	check_expected(client, result);
	if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK)
		step_succeeded(client, result);
	else
		step_failed(client, result);
}

void
client_read(Client *client)
{
	bool alive = PQconsumeInput(client->conn) != 0;

	while (alive && client->state >= CLIENT_BUSY && !PQisBusy(client->conn))
	{
		PGresult *result = PQgetResult(client->conn);

		alive = PQstatus(client->conn) == CONNECTION_OK;
		if (result != NULL)
		{
			PQclear(client->result);
			client->result = result;
			continue;
		}
		if (!alive)
			break;
		if (client->result == NULL)
			fail("a statement had no result");
		else
			statement_done(client, client->result);
		PQclear(client->result);
		client->result = NULL;
	}
	if (alive)
		return;
	PQclear(client->result);
	client->result = NULL;
	connection_lost(client);
}
