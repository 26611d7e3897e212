/*-------------------------------------------------------------------------
 *
 * model_reversal.c
 *	  The rules for taking journals back.
 *
 *-------------------------------------------------------------------------
 */
#include "model.h"

#include <stdlib.h>
#include <string.h>

void
describe_legs(const Leg *legs, int leg_count, Text *out)
{
	for (int i = 0; i < leg_count; i++)
		text_add(out, "%sm%d %lld", i ? "," : "", legs[i].account,
				 (long long) legs[i].amount);
}

bool
entries_are(const Op *op, const Leg *legs, int leg_count)
{
	Text *text;
	bool  same;

	if (op->entries == NULL)
		return true;
	text = text_create();
	describe_legs(legs, leg_count, text);
	same = strcmp(op->entries, text->data) == 0;
	text_free(text);
	return same;
}

static int
compare_parts(const void *a, const void *b)
{
	return strcmp(world.names[((const TargetPart *) a)->account].id,
				  world.names[((const TargetPart *) b)->account].id);
}

/* the operation's first journal, if it is one to be reversed */
void
target_add(Model *model, const Op *op, const Leg *legs, int leg_count,
		   Undo *undo)
{
	Target *target;

	if (op->target < 0)
		return;
	save_target(undo, model, op->target);
	target = &model->targets[op->target];
	memset(target, 0, sizeof(Target));
	target->exists = true;
	for (int i = 0; i < leg_count && legs[i].journal == 0; i++)
	{
		int part = 0;

		while (part < target->count &&
			   target->parts[part].account != legs[i].account)
			part++;
		if (part == target->count)
			target->parts[target->count++].account = legs[i].account;
		target->parts[part].left += legs[i].amount;
	}
	qsort(target->parts, target->count, sizeof(TargetPart), compare_parts);
}

/* each account's legs go against what is left of it, and not beyond */
static bool
are_left(const Target *target, const Op *op, int64_t *taken)
{
	for (int i = 0; i < op->leg_count; i++)
	{
		int part = 0;

		while (part < target->count &&
			   target->parts[part].account != op->legs[i].account)
			part++;
		if (part == target->count)
			return false;
		taken[part] += op->legs[i].amount;
	}
	for (int i = 0; i < target->count; i++)
	{
		int64_t left = target->parts[i].left;

		if (left >= 0 ? taken[i] > 0 || left + taken[i] < 0
					  : taken[i] < 0 || left + taken[i] > 0)
			return false;
	}
	return true;
}

static int64_t
share(int64_t sum, int64_t amount, int64_t whole)
{
	return (2 * sum * amount + whole) / (2 * whole);
}

/* the same part of all debits and credits, rounded as sums */
static const char *
take_amount(const Target *target, const Op *op, int64_t *taken)
{
	int64_t whole = 0;
	int64_t debits = 0;
	int64_t credits = 0;

	if (!world.targets[op->reversed].one_currency)
		return "PY001";
	for (int i = 0; i < target->count; i++)
		whole += target->parts[i].left > 0 ? target->parts[i].left : 0;
	if (whole == 0 || op->amount > whole)
		return "PY208";
	for (int i = 0; i < target->count; i++)
	{
		int64_t	 left = target->parts[i].left;
		int64_t *sum = left > 0 ? &debits : &credits;
		int64_t	 before = share(*sum, op->amount, whole);

		*sum += llabs(left);
		taken[i] = share(*sum, op->amount, whole) - before;
		if (left > 0)
			taken[i] = -taken[i];
	}
	return SQLSTATE_OK;
}

/* what it takes of each part, and the legs that do so */
static const char *
plan_reversal(const Target *target, const Op *op, int64_t *taken, Leg *legs,
			  int *leg_count)
{
	if (op->leg_count > 0)
	{
		*leg_count = op->leg_count;
		memcpy(legs, op->legs, sizeof(Leg) * op->leg_count);
		return are_left(target, op, taken) ? SQLSTATE_OK : "PY208";
	}
	if (op->whole)
	{
		for (int i = 0; i < target->count; i++)
			taken[i] = -target->parts[i].left;
	}
	else
	{
		const char *verdict = take_amount(target, op, taken);

		if (strcmp(verdict, SQLSTATE_OK) != 0)
			return verdict;
	}
	*leg_count = 0;
	for (int i = 0; i < target->count; i++)
	{
		if (taken[i] == 0)
			continue;
		legs[*leg_count].account = target->parts[i].account;
		legs[*leg_count].journal = 0;
		legs[(*leg_count)++].amount = taken[i];
	}
	return *leg_count > 0 ? SQLSTATE_OK : "PY208";
}

const char *
apply_reversal(Model *model, const Op *op, Undo *undo)
{
	Target	   *target = &model->targets[op->reversed];
	int64_t		taken[MODEL_MAX_PARTS] = { 0 };
	Leg			legs[MODEL_MAX_PARTS];
	int			leg_count = 0;
	const char *verdict;

	if (!target->exists)
		return "PY012";
	if (world.targets[op->reversed].reverses)
		return "PY209";
	verdict = plan_reversal(target, op, taken, legs, &leg_count);
	/* what is forced in another order may find less than there was */
	if (strcmp(verdict, SQLSTATE_OK) != 0)
		return verdict;
	if (!entries_are(op, legs, leg_count) && !model->forced)
		return "other entries";
	verdict = model_post(model, legs, leg_count, 1, undo);
	if (strcmp(verdict, SQLSTATE_OK) != 0)
		return verdict;
	save_target(undo, model, op->reversed);
	for (int i = 0; i < target->count; i++)
		target->parts[i].left += taken[i];
	target_add(model, op, legs, leg_count, undo);
	return SQLSTATE_OK;
}
