/*-------------------------------------------------------------------------
 *
 * random_op.c
 *	  Random operations, with a liking for limits and for few accounts.
 *
 *-------------------------------------------------------------------------
 */
#include "model.h"

#include <stdlib.h>
#include <string.h>

#define HOT_ACCOUNTS 4 /* of each currency */
#define MOST_ACCOUNTS 300
#define ACCOUNT_TRIES 50
#define MOST_LOCKS 255

/* splitmix64: short, and good enough */
uint64_t
random_next(Random *random)
{
	uint64_t z = (random->state += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

int
random_below(Random *random, int limit)
{
	return (int) (random_next(random) % (uint64_t) limit);
}

bool
chance(Random *random, int percent)
{
	return random_below(random, 100) < percent;
}

/* accounts of a currency are every third one, those opened first the hot */
int
random_account(Random *random, int currency)
{
	for (int i = 0; i < ACCOUNT_TRIES; i++)
	{
		int among = chance(random, 50) ? HOT_ACCOUNTS * MODEL_CURRENCIES
									   : world.account_count;
		int account =
			random_below(random, among) / MODEL_CURRENCIES * MODEL_CURRENCIES +
			currency;

		if (account < world.account_count && world.names[account].usable)
			return account;
	}
	return currency;
}

/* up to the limit, past it by one, half way, or anything; positive is debit */
int64_t
random_amount(Random *random, int account)
{
	const Account *a = &world.live->accounts[account];
	int64_t		   any = 1 + random_below(random, 100);
	int64_t		   room;
	int			   sign = chance(random, 50) ? 1 : -1;

	if (sign > 0 ? !a->has_max : !a->has_min)
		return sign * any;
	room =
		sign > 0 ? a->max_balance - a->balance : a->balance - a->min_balance;
	if ((sign > 0) == world.names[account].credit_normal)
		room -= model_held(world.live, account);
	if (room <= 0)
		return sign * any;
	switch (random_below(random, 5))
	{
		case 0:
			return sign * room;
		case 1:
			return sign * (room + 1);
		case 2:
			return sign * (room / 2 + 1);
		default:
			return sign * any;
	}
}

/* legs of one currency that sum to zero */
static void
add_legs(Random *random, Op *op, int journal, int currency, int count)
{
	Leg	   *legs = &op->legs[op->leg_count];
	int64_t sum = 0;

	for (int i = 0; i < count; i++)
	{
		legs[i].account = random_account(random, currency);
		legs[i].journal = journal;
		legs[i].amount = random_amount(random, legs[i].account);
		if (i < count - 1)
			sum += legs[i].amount;
	}
	if (sum == 0)
	{
		legs[0].amount += legs[0].amount > 0 ? 1 : -1;
		sum += legs[0].amount > 0 ? 1 : -1;
	}
	legs[count - 1].amount = -sum;
	op->leg_count += count;
}

int32_t
target_name_create(bool reverses, bool one_currency)
{
	TargetName *name;

	if (world.target_count % 1024 == 0)
		world.targets =
			enlarge(world.targets,
					sizeof(TargetName) * (world.target_count + 1024));
	name = &world.targets[world.target_count];
	memset(name, 0, sizeof(TargetName));
	name->reverses = reverses;
	name->one_currency = one_currency;
	return world.target_count++;
}

static bool
is_one_currency(const Op *op)
{
	for (int i = 1; i < op->leg_count && op->legs[i].journal == 0; i++)
	{
		if (world.names[op->legs[i].account].currency !=
			world.names[op->legs[0].account].currency)
			return false;
	}
	return true;
}

static void
fill_journals(Random *random, Op *op, int count)
{
	op->journal_count = count;
	op->legs = allocate(sizeof(Leg) * MODEL_MAX_LEGS);
	for (int journal = 0; journal < count; journal++)
	{
		int currency = random_below(random, MODEL_CURRENCIES);
		int legs = chance(random, 70) ? 2 : 2 + random_below(random, 2);

		add_legs(random, op, journal, currency, legs);
		if (chance(random, 10))
			add_legs(random, op, journal, (currency + 1) % MODEL_CURRENCIES,
					 2);
	}
	op->legs = enlarge(op->legs, sizeof(Leg) * op->leg_count);
	if (chance(random, 40))
		op->target = target_name_create(false, is_one_currency(op));
}

/* what has to be refused: it does not balance, or moves nothing */
static void
spoil(Random *random, Op *op)
{
	Leg *leg = &op->legs[random_below(random, op->leg_count)];

	op->bad = true;
	if (chance(random, 50))
		leg->amount = 0;
	else
		leg->amount += leg->amount == -1 ? 2 : 1;
}

static void
random_limits(Random *random, Op *op)
{
	int64_t balance =
		op->kind == OP_LIMITS ? world.live->accounts[op->account].balance : 0;
	int way = random_below(random, 10);

	op->has_min = way == 1 || way == 2 || way == 5 || way == 6;
	op->has_max = way == 3 || way == 4 || way == 5 || way == 6;
	op->min_balance =
		op->has_min
			? balance - (chance(random, 50) ? 0 : random_below(random, 500))
			: 0;
	op->max_balance =
		op->has_max
			? balance + (chance(random, 50) ? 0 : random_below(random, 500))
			: 0;
	if (op->kind == OP_LIMITS && op->has_min && chance(random, 10))
		op->min_balance += random_below(random, 1000);
}

Op *
open_op_create(Random *random)
{
	Op *op = allocate(sizeof(Op));

	memset(op, 0, sizeof(Op));
	op->kind = OP_OPEN;
	op->target = -1;
	op->account = world.account_count++;
	world.names[op->account].currency = op->account % MODEL_CURRENCIES;
	world.names[op->account].credit_normal = chance(random, 50);
	random_limits(random, op);
	return op;
}

/* an account that is not open is opened sooner than others are frozen */
static void
fill_state(Random *random, Op *op)
{
	for (int i = 0; i < ACCOUNT_TRIES; i++)
	{
		int account = random_below(random, world.account_count);

		if (world.names[account].usable &&
			world.live->accounts[account].state != STATE_OPEN)
		{
			op->account = account;
			op->state = chance(random, 90) ? STATE_OPEN : STATE_CLOSED;
			return;
		}
	}
	op->account =
		random_account(random, random_below(random, MODEL_CURRENCIES));
	op->state = chance(random, 50) ? STATE_FROZEN : STATE_CLOSED;
}

static void
fill_locks(Random *random, Op *op, int count)
{
	op->legs = allocate(sizeof(Leg) * count);
	op->leg_count = count;
	for (int i = 0; i < count; i++)
	{
		op->legs[i].account =
			random_account(random, random_below(random, MODEL_CURRENCIES));
		op->legs[i].amount = op->legs[i].journal = 0;
	}
}

static const struct
{
	OpKind kind;
	int	   weight;
} weights[] = { { OP_POST, 40 },	  { OP_BATCH, 10 },		{ OP_OPEN, 3 },
				{ OP_OPEN_AGAIN, 1 }, { OP_STATE, 4 },		{ OP_LIMITS, 5 },
				{ OP_LOCK, 3 },		  { OP_MERGE, 3 },		{ OP_BALANCE, 6 },
				{ OP_HOLD, 14 },	  { OP_POST_HOLD, 14 }, { OP_VOID, 5 },
				{ OP_EXPIRE, 2 },	  { OP_REVERSE, 16 } };

static OpKind
random_kind(Random *random)
{
	int total = 0;
	int at;

	for (size_t i = 0; i < sizeof(weights) / sizeof(weights[0]); i++)
		total += weights[i].weight;
	at = random_below(random, total);
	for (size_t i = 0;; i++)
	{
		if (at < weights[i].weight)
			return weights[i].kind;
		at -= weights[i].weight;
	}
}

static void
start_op(Op *op, OpKind kind)
{
	memset(op, 0, sizeof(Op));
	op->kind = kind;
	op->target = -1;
}

/* where there is nothing to end or to reverse yet */
static void
post_instead(Random *random, Op *op)
{
	start_op(op, OP_POST);
	fill_journals(random, op, 1);
}

/* the others come before it in its transaction */
static void
fill_op(Random *random, Op *op, const Op *others, int other_count, bool alone)
{
	start_op(op, OP_POST);
	op->kind = random_kind(random);
	/* a change waits for postings: in the middle of a transaction a deadlock */
	if (!alone && (op->kind == OP_STATE || op->kind == OP_LIMITS) &&
		chance(random, 70))
		op->kind = OP_POST;
	if (op->kind == OP_OPEN && world.account_count >= MOST_ACCOUNTS)
		op->kind = OP_POST;
	op->account =
		random_account(random, random_below(random, MODEL_CURRENCIES));
	switch ((OpKind) op->kind)
	{
		case OP_POST:
			fill_journals(random, op, 1);
			break;
		case OP_BATCH:
			fill_journals(random, op,
						  1 + random_below(random, MODEL_MAX_BATCH));
			op->keyed = chance(random, 50);
			break;
		case OP_OPEN:
		{
			Op *opening = open_op_create(random);

			*op = *opening;
			free(opening);
			break;
		}
		case OP_STATE:
			fill_state(random, op);
			break;
		case OP_LIMITS:
			random_limits(random, op);
			break;
		case OP_LOCK:
			fill_locks(random, op, 1 + random_below(random, 5));
			break;
		case OP_HOLD:
			fill_hold(random, op);
			break;
		case OP_POST_HOLD:
		case OP_VOID:
			if (!fill_hold_end(random, op, others, other_count))
				post_instead(random, op);
			break;
		case OP_REVERSE:
			if (!fill_reversal(random, op, others, other_count))
				post_instead(random, op);
			break;
		default:
			break;
	}
	if ((op->kind == OP_POST || op->kind == OP_BATCH) && chance(random, 4))
		spoil(random, op);
}

static void
add_lock(Op *lock, int account)
{
	Leg leg = { 0, account, 0 };

	if (lock->leg_count < MOST_LOCKS)
		lock->legs[lock->leg_count++] = leg;
}

/* first of all lock whatever the others post to */
static void
lock_all(Op *lock, const Op *ops, int count)
{
	start_op(lock, OP_LOCK);
	lock->legs = allocate(sizeof(Leg) * MOST_LOCKS);
	for (int i = 0; i < count; i++)
	{
		for (int leg = 0; leg < ops[i].leg_count; leg++)
			add_lock(lock, ops[i].legs[leg].account);
		if (ops[i].kind == OP_HOLD || ops[i].kind == OP_POST_HOLD)
			add_lock(lock, ops[i].account);
		if (ops[i].kind == OP_REVERSE && !ops[i].own)
		{
			const Target *target = &world.live->targets[ops[i].reversed];

			for (int part = 0; part < target->count; part++)
				add_lock(lock, target->parts[part].account);
		}
	}
}

static void
number_op(Op *op)
{
	if (world.op_count % 65536 == 0)
		world.ops = enlarge(world.ops,
							sizeof(Op *) * ((size_t) world.op_count + 65536));
	op->number = world.op_count;
	world.ops[world.op_count++] = op;
}

void
txn_number(Txn *txn)
{
	if (world.txn_count % 65536 == 0)
		world.txns =
			enlarge(world.txns,
					sizeof(Txn *) * ((size_t) world.txn_count + 65536));
	txn->number = world.txn_count;
	world.txns[world.txn_count++] = txn;
	for (int i = 0; i < txn->op_count; i++)
		number_op(&txn->ops[i]);
	model_reserve(world.live);
}

/* half of them are a single operation */
Txn *
txn_create(Random *random)
{
	Txn *txn = allocate(sizeof(Txn));
	int	 count = chance(random, 50) ? 1 : 1 + random_below(random, 4);

	memset(txn, 0, sizeof(Txn));
	txn->ops = allocate(sizeof(Op) * MODEL_MAX_OPS);
	for (int i = 0; i < count; i++)
		fill_op(random, &txn->ops[i], txn->ops, i, count == 1);
	if (count > 1 && chance(random, 60))
	{
		memmove(&txn->ops[1], &txn->ops[0], sizeof(Op) * count);
		lock_all(&txn->ops[0], &txn->ops[1], count++);
		if (txn->ops[0].leg_count == 0)
			txn->ops[0].kind = OP_BALANCE;
	}
	txn->ops = enlarge(txn->ops, sizeof(Op) * count);
	txn->op_count = count;
	txn_number(txn);
	return txn;
}
