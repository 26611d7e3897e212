/*-------------------------------------------------------------------------
 *
 * random_hold.c
 *	  Random operations on holds and journals that exist.
 *
 * They have to meet, so most of them choose among a few, the same for all
 * clients for a while.
 *
 *-------------------------------------------------------------------------
 */
#include "model.h"

#include <stdlib.h>
#include <string.h>

#define HOT_PERIOD 32 /* new ones, until others are hot */
#define HOT_ONES 3
#define RECENT_ONES 300
#define FIND_TRIES 40
#define LIMIT_TRIES 4
#define MAX_LIFE_US 150000

static int64_t
debits_left(const Target *target)
{
	int64_t left = 0;

	for (int i = 0; i < target->count; i++)
		left += target->parts[i].left > 0 ? target->parts[i].left : 0;
	return left;
}

/* a number below count, most often one of the hot */
static int
random_recent(Random *random, int count)
{
	int hot_end = count / HOT_PERIOD * HOT_PERIOD;

	if (hot_end > 0 && chance(random, 70))
		return hot_end - 1 - random_below(random, HOT_ONES);
	return count - 1 -
		   random_below(random, count < RECENT_ONES ? count : RECENT_ONES);
}

/* preferably one that is open still */
static int
random_hold(Random *random)
{
	int found = -1;

	for (int i = 0; i < FIND_TRIES && world.hold_count > 0; i++)
	{
		int hold = random_recent(random, world.hold_count);

		if (!world.holds[hold].usable)
			continue;
		found = hold;
		if (hold_rest(world.live, hold) > 0 || chance(random, 10))
			break;
	}
	return found;
}

static int
random_target(Random *random)
{
	int found = -1;

	for (int i = 0; i < FIND_TRIES && world.target_count > 0; i++)
	{
		int target = random_recent(random, world.target_count);

		if (!world.targets[target].usable)
			continue;
		found = target;
		if (debits_left(&world.live->targets[target]) > 0 ||
			chance(random, 10))
			break;
	}
	return found;
}

/* all of it, one too many, about half, or anything */
static int64_t
random_part(Random *random, int64_t whole)
{
	if (whole <= 0)
		return 1;
	switch (random_below(random, 6))
	{
		case 0:
			return whole;
		case 1:
			return whole + 1;
		case 2:
			return whole / 2 + 1;
		default:
			return 1 + random_below(random, whole < 100 ? (int) whole : 100);
	}
}

static void
give_legs(Op *op, const Leg *legs, int count)
{
	op->leg_count = count;
	op->legs = allocate(sizeof(Leg) * count);
	memcpy(op->legs, legs, sizeof(Leg) * count);
}

/* where what is held can collide with a limit */
static bool
is_limited(int account)
{
	return world.names[account].credit_normal
			   ? world.live->accounts[account].has_max
			   : world.live->accounts[account].has_min;
}

void
fill_hold(Random *random, Op *op)
{
	HoldName *hold;

	if (world.hold_count % 1024 == 0)
		world.holds =
			enlarge(world.holds, sizeof(HoldName) * (world.hold_count + 1024));
	for (int i = 0; i < LIMIT_TRIES && !is_limited(op->account); i++)
		op->account =
			random_account(random, world.names[op->account].currency);
	op->hold = world.hold_count++;
	hold = &world.holds[op->hold];
	memset(hold, 0, sizeof(HoldName));
	hold->account = op->account;
	hold->amount = llabs(random_amount(random, op->account));
	op->keyed = chance(random, 30);
	/* the only client has to know each answer before, so it knows no hurry */
	if (world.exact || !chance(random, 30))
		return;
	hold->expires_at = now_us() + 1 + random_below(random, MAX_LIFE_US);
	hold->older = world.newest_expiring[op->account];
	world.newest_expiring[op->account] = op->hold + 1;
	if (hold->expires_at > world.last_expiry)
		world.last_expiry = hold->expires_at;
}

static int
other_account(Random *random, int account, int currency)
{
	for (int i = 0; i < FIND_TRIES; i++)
	{
		int other = random_account(random, currency);

		if (other != account)
			return other;
	}
	return account < MODEL_CURRENCIES ? account + MODEL_CURRENCIES
									  : account - MODEL_CURRENCIES;
}

static void
fill_counter_legs(Random *random, Op *op, int64_t rest)
{
	int		currency = world.names[op->account].currency;
	int64_t sign = world.names[op->account].credit_normal ? -1 : 1;
	int64_t part = random_part(random, rest);
	int		count = part > 1 && chance(random, 30) ? 2 : 1;
	Leg		legs[2] = { 0 };

	op->whole = chance(random, 35);
	op->close = !op->whole && chance(random, 15);
	if (op->whole)
		count = 1;
	op->bad = chance(random, 4);
	for (int i = 0; i < count; i++)
		legs[i].account =
			other_account(random, op->account,
						  op->bad ? (currency + 1) % MODEL_CURRENCIES
								  : currency);
	if (!op->whole)
	{
		legs[0].amount = sign * (count == 2 ? part / 2 : part);
		legs[1].amount = count == 2 ? sign * (part - part / 2) : 0;
	}
	give_legs(op, legs, count);
}

static int
own_hold(const Op *others, int count)
{
	for (int i = count - 1; i >= 0; i--)
	{
		if (others[i].kind == OP_HOLD)
			return others[i].hold;
	}
	return -1;
}

bool
fill_hold_end(Random *random, Op *op, const Op *others, int count)
{
	int64_t rest;

	op->hold = chance(random, 70) ? own_hold(others, count) : -1;
	op->own = op->hold >= 0;
	if (!op->own)
		op->hold = random_hold(random);
	if (op->hold < 0)
		return false;
	op->account = world.holds[op->hold].account;
	if (op->kind != OP_POST_HOLD)
		return true;
	rest = op->own ? world.holds[op->hold].amount
				   : hold_rest(world.live, op->hold);
	fill_counter_legs(random, op, rest);
	op->keyed = chance(random, 30);
	op->journal_count = 1;
	if (chance(random, 40))
		op->target = target_name_create(false, true);
	return true;
}

/* some of what is left of two accounts */
static bool
fill_reversed_legs(Random *random, Op *op, const Target *target)
{
	for (int i = 0; i < FIND_TRIES && target->count > 0; i++)
	{
		const TargetPart *a =
			&target->parts[random_below(random, target->count)];
		const TargetPart *b =
			&target->parts[random_below(random, target->count)];
		int64_t least = a->left < -b->left ? a->left : -b->left;
		int64_t part;
		Leg		legs[2] = { 0 };

		if (least <= 0 || world.names[a->account].currency !=
							  world.names[b->account].currency)
			continue;
		part = random_part(random, least);
		legs[0].account = a->account;
		legs[0].amount = -part;
		legs[1].account = b->account;
		legs[1].amount = part;
		if (chance(random, 3))
			legs[1].account =
				random_account(random, world.names[b->account].currency);
		give_legs(op, legs, 2);
		return true;
	}
	return false;
}

static int
own_target(const Op *others, int count)
{
	for (int i = count - 1; i >= 0; i--)
	{
		if (others[i].target >= 0)
			return others[i].target;
	}
	return -1;
}

bool
fill_reversal(Random *random, Op *op, const Op *others, int count)
{
	const Target *live;

	op->reversed = chance(random, 50) ? own_target(others, count) : -1;
	op->own = op->reversed >= 0;
	if (!op->own)
		op->reversed = random_target(random);
	if (op->reversed < 0)
		return false;
	op->keyed = chance(random, 30);
	op->journal_count = 1;
	if (chance(random, 10))
		op->target = target_name_create(true, true);
	op->whole = op->own || chance(random, 25);
	if (op->whole)
		return true;
	live = &world.live->targets[op->reversed];
	if (chance(random, 30) && fill_reversed_legs(random, op, live))
		return true;
	op->amount = random_part(random, debits_left(live));
	return true;
}
