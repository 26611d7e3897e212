/*-------------------------------------------------------------------------
 *
 * check_holds.c
 *	  Afterwards: holds are the model's, and neither they nor journals were
 *	  used up beyond what there was.
 *
 *-------------------------------------------------------------------------
 */
#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const Model *replayed;
static bool		   *seen;
static int			holds_seen;
static int			holds_wrong;
static int			holds_expired;
static int			holds_in_parts;

static bool
is_state(const Hold *hold, int64_t expires_at, const char *state)
{
	static const char *const states[] = { "open", "posted", "voided" };

	/* whether somebody wrote so makes no difference */
	if (hold->state == HOLD_OPEN && expires_at != 0 &&
		strcmp(state, "expired") == 0)
		return true;
	return strcmp(states[hold->state], state) == 0;
}

/* subject, code, amount, posted, state, expires_at */
static void
found_hold(const PGresult *row)
{
	unsigned		number;
	const Op	   *op;
	const HoldName *name;
	const Hold	   *hold;

	holds_seen++;
	if (sscanf(PQgetvalue(row, 0, 0), "%8x-0000-7000-8000-", &number) != 1 ||
		number >= world.op_count || world.ops[number]->kind != OP_HOLD)
	{
		fail("a hold that nobody made: subject %s", PQgetvalue(row, 0, 0));
		return;
	}
	op = world.ops[number];
	name = &world.holds[op->hold];
	hold = &replayed->holds[op->hold];
	if (strcmp(PQgetvalue(row, 0, 4), "expired") == 0)
		holds_expired++;
	if (hold->posted > 0 && hold->posted < name->amount)
		holds_in_parts++;
	if (!seen[op->hold] && hold->exists &&
		atoi(PQgetvalue(row, 0, 1) + 1) == name->account &&
		atoll(PQgetvalue(row, 0, 2)) == name->amount &&
		atoll(PQgetvalue(row, 0, 3)) == hold->posted &&
		is_state(hold, name->expires_at, PQgetvalue(row, 0, 4)) &&
		atoll(PQgetvalue(row, 0, 5)) == name->expires_at)
	{
		seen[op->hold] = true;
		return;
	}
	if (holds_wrong++ < 10)
		printf("# hold of op %u on %s: %s of %s posted, %s, until %s; the "
			   "model has %lld of %lld, state %d, exists %d, seen before %d\n",
			   number, PQgetvalue(row, 0, 1), PQgetvalue(row, 0, 3),
			   PQgetvalue(row, 0, 2), PQgetvalue(row, 0, 4),
			   PQgetvalue(row, 0, 5), (long long) hold->posted,
			   (long long) name->amount, hold->state, hold->exists,
			   seen[op->hold]);
}

static void
check_each(PGconn *conn)
{
	int expected = 0;

	seen = allocate(world.hold_count + 1);
	memset(seen, 0, world.hold_count + 1);
	for_each_row(conn,
				 "SELECT h.subject, a.code, h.amount, h.posted, h.state, "
				 "coalesce((extract(epoch FROM h.expires_at) * "
				 "1000000)::bigint, 0) FROM payment.hold h "
				 "JOIN payment.account a ON a.id = h.account_id",
				 found_hold);
	for (int i = 0; i < world.hold_count; i++)
		expected += replayed->holds[i].exists;
	test(holds_wrong == 0 && holds_seen == expected && holds_seen > 0,
		 "%d holds are the model's, each once (%d expired, %d posted in part)",
		 holds_seen, holds_expired, holds_in_parts);
	free(seen);
}

static int sums_wrong;

static void
found_excess(const PGresult *row)
{
	if (sums_wrong++ < 10)
		printf("# %s: %s of %s\n", PQgetvalue(row, 0, 0),
			   PQgetvalue(row, 0, 1), PQgetvalue(row, 0, 2));
}

/* from the entries alone, so that not even the model is believed */
static void
check_sums(PGconn *conn)
{
	for_each_row(
		conn,
		"SELECT 'hold ' || h.id, h.posted || ' posted, entries ' || "
		"coalesce(s.amount::text, 'none'), h.amount "
		"FROM payment.hold h LEFT JOIN (SELECT j.subject, "
		"e.account_id, sum(e.amount) AS amount FROM payment.journal j "
		"JOIN payment.entry e ON e.journal_id = j.id "
		"WHERE j.kind = 'hold_posted' GROUP BY 1, 2) s "
		"ON s.subject = h.id AND s.account_id = h.account_id "
		"WHERE h.posted > h.amount "
		"OR h.posted <> abs(coalesce(s.amount, 0))",
		found_excess);
	test(sums_wrong == 0, "no more was posted of any hold than was held, and "
						  "as much as it says");

	sums_wrong = 0;
	for_each_row(conn,
				 "SELECT 'journal ' || original || ' on ' || account_id, "
				 "reversed, posted FROM (SELECT coalesce(j.reverses, j.id) AS "
				 "original, e.account_id, coalesce(sum(e.amount) FILTER "
				 "(WHERE j.reverses IS NULL), 0) AS posted, sum(e.amount) "
				 "FILTER (WHERE j.reverses IS NOT NULL) AS reversed "
				 "FROM payment.journal j JOIN payment.entry e "
				 "ON e.journal_id = j.id GROUP BY 1, 2) s "
				 "WHERE reversed IS NOT NULL AND (abs(reversed) > abs(posted) "
				 "OR sign(reversed) = sign(posted) AND reversed <> 0)",
				 found_excess);
	test(sums_wrong == 0, "no more was reversed of any journal than it moved");
}

static int64_t told;

static void
found_told(const PGresult *row)
{
	int64_t		  count = atoll(PQgetvalue(row, 0, 1));
	unsigned long number = strtoul(PQgetvalue(row, 0, 0), NULL, 10);

	if (number < world.op_count && world.ops[number]->kind == OP_EXPIRE)
		told += count;
}

void
check_holds(PGconn *conn, const Model *model)
{
	replayed = model;
	check_each(conn);
	check_sums(conn);
	for_each_row(conn,
				 "SELECT op, answer FROM model.done WHERE answer ~ '^\\d+$'",
				 found_told);
	/* the worker expires some beside us */
	test(told <= holds_expired,
		 "%lld of %d holds that expired were said to, none of them twice",
		 (long long) told, holds_expired);
}

/* until each hold that expires has done so */
void
wait_for_expiry(Model *model)
{
	while (now_us() <= world.last_expiry)
		usleep(10000);
	model->at = now_us();
}
