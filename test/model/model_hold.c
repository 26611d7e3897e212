/*-------------------------------------------------------------------------
 *
 * model_hold.c
 *	  The rules for holds.
 *
 *-------------------------------------------------------------------------
 */
#include "model.h"

#include <string.h>

#define LONGEST_EXPIRING_US 5000000 /* after it was thought of */

static const HoldName *
hold_name(int hold)
{
	return &world.holds[hold];
}

static bool
is_over(int hold, int64_t at)
{
	return hold_name(hold)->expires_at != 0 &&
		   hold_name(hold)->expires_at <= at;
}

int64_t
hold_rest(const Model *model, int hold)
{
	const Hold *h;

	if (hold >= model->hold_capacity)
		return 0;
	h = &model->holds[hold];
	if (h->exists && h->state == HOLD_OPEN)
		return hold_name(hold)->amount - h->posted;
	return 0;
}

/* those that expire do so soon, so only the newest can still count */
int64_t
model_held(const Model *model, int account)
{
	int64_t held = model->accounts[account].held;

	for (int at = world.newest_expiring[account]; at > 0;
		 at = hold_name(at - 1)->older)
	{
		if (hold_name(at - 1)->expires_at < model->at - LONGEST_EXPIRING_US)
			break;
		if (!is_over(at - 1, model->at))
			held += hold_rest(model, at - 1);
	}
	return held;
}

/* a hold that never expires is summed up with its account */
static void
change_hold(Model *model, int hold, const Hold *after, Undo *undo)
{
	int64_t before = hold_rest(model, hold);
	int		account = hold_name(hold)->account;

	save_hold(undo, model, hold);
	model->holds[hold] = *after;
	if (hold_name(hold)->expires_at != 0)
		return;
	save_account(undo, model, account);
	model->accounts[account].held += hold_rest(model, hold) - before;
}

const char *
apply_hold(Model *model, const Op *op, Undo *undo)
{
	const Account *account = &model->accounts[op->account];
	bool		   is_debit = !world.names[op->account].credit_normal;
	Hold		   hold = { true, HOLD_OPEN, 0 };
	int64_t		   after;

	if (!model->forced)
	{
		if (is_over(op->hold, op->sent_at))
			return "PY001";
		if (!account->exists)
			return "PY204";
		if (account->state != STATE_OPEN)
			return "PY201";
		after = model_held(model, op->account) + hold_name(op->hold)->amount;
		if (is_debit ? account->has_min &&
						   account->balance - after < account->min_balance
					 : account->has_max &&
						   account->balance + after > account->max_balance)
			return "PY202";
	}
	change_hold(model, op->hold, &hold, undo);
	return SQLSTATE_OK;
}

static const char *
check_open(const Model *model, const Op *op)
{
	const Hold *hold = &model->holds[op->hold];

	if (!hold->exists)
		return "PY012";
	if (model->forced)
		return SQLSTATE_OK;
	if (hold->state != HOLD_OPEN || is_over(op->hold, op->sent_at))
		return "PY206";
	return SQLSTATE_OK;
}

/* the held account's leg comes first; the others are op's */
static int64_t
posted_part(const Model *model, const Op *op, Leg *legs)
{
	bool	is_debit = !world.names[op->account].credit_normal;
	int64_t part = 0;

	for (int i = 0; i < op->leg_count; i++)
	{
		legs[i + 1] = op->legs[i];
		if (op->whole)
			legs[i + 1].amount = is_debit ? hold_rest(model, op->hold)
										  : -hold_rest(model, op->hold);
		if (op->whole || world.names[op->legs[i].account].currency ==
							 world.names[op->account].currency)
			part += is_debit ? legs[i + 1].amount : -legs[i + 1].amount;
	}
	legs[0].account = op->account;
	legs[0].journal = 0;
	legs[0].amount = is_debit ? -part : part;
	return part;
}

const char *
apply_post_hold(Model *model, const Op *op, Undo *undo)
{
	const char *verdict = check_open(model, op);
	Undo		nothing = { NULL, 0, 0 };
	Undo	   *changes = undo ? undo : &nothing;
	int			saved = changes->count;
	Leg			legs[MODEL_MAX_PARTS];
	Hold		after;
	int64_t		part;

	if (strcmp(verdict, SQLSTATE_OK) != 0)
		return verdict;
	after = model->holds[op->hold];
	part = posted_part(model, op, legs);
	if (!model->forced && part > hold_rest(model, op->hold))
		return "PY207";
	if (!model->forced && part <= 0)
		return "PY003";
	after.posted += part;
	if (op->close || after.posted == hold_name(op->hold)->amount)
		after.state = HOLD_POSTED;
	/* what is posted is held no longer when the limit is checked */
	change_hold(model, op->hold, &after, changes);
	verdict = model_post(model, legs, op->leg_count + 1, 1, changes);
	if (strcmp(verdict, SQLSTATE_OK) == 0 &&
		!entries_are(op, legs, op->leg_count + 1))
		verdict = "other entries";
	if (strcmp(verdict, SQLSTATE_OK) == 0)
		target_add(model, op, legs, op->leg_count + 1, changes);
	else
		undo_to(changes, saved, model);
	return verdict;
}

/* again, it does nothing */
const char *
apply_void(Model *model, const Op *op, Undo *undo)
{
	Hold		after = model->holds[op->hold];
	const char *verdict;

	if (after.exists && after.state == HOLD_VOIDED)
		return SQLSTATE_OK;
	verdict = check_open(model, op);
	if (strcmp(verdict, SQLSTATE_OK) != 0)
		return verdict;
	after.state = HOLD_VOIDED;
	change_hold(model, op->hold, &after, undo);
	return SQLSTATE_OK;
}
