/*-------------------------------------------------------------------------
 *
 * model.c
 *	  The rules of the ledger, one operation at a time.
 *
 *-------------------------------------------------------------------------
 */
#include "model.h"

#include <stdlib.h>
#include <string.h>

static const char *const kind_names[OP_KIND_COUNT] = {
	"post",	  "batch", "open",	"open again", "state",
	"limits", "lock",  "merge", "balance"
};

const char *
op_kind_name(int kind)
{
	return kind_names[kind];
}

void
describe_op(const Op *op, Text *out)
{
	text_add(out, "op %u %s account %d", op->number, kind_names[op->kind],
			 op->account);
	for (int i = 0; i < op->leg_count; i++)
		text_add(out, " [%d: %d %+lld]", op->legs[i].journal,
				 op->legs[i].account, (long long) op->legs[i].amount);
	if (op->kind == OP_LIMITS || op->kind == OP_OPEN)
		text_add(out, " min %d %lld max %d %lld", op->has_min,
				 (long long) op->min_balance, op->has_max,
				 (long long) op->max_balance);
	if (op->kind == OP_STATE)
		text_add(out, " state %d", op->state);
}

static void
save(Undo *undo, Model *model, int account)
{
	if (undo == NULL)
		return;
	if (undo->count == undo->capacity)
	{
		undo->capacity = undo->capacity ? undo->capacity * 2 : 64;
		undo->entries =
			enlarge(undo->entries, sizeof(*undo->entries) * undo->capacity);
	}
	undo->entries[undo->count].number = account;
	undo->entries[undo->count++].before = model->accounts[account];
}

void
undo_to(Undo *undo, int count, Model *model)
{
	while (undo->count > count)
	{
		undo->count--;
		model->accounts[undo->entries[undo->count].number] =
			undo->entries[undo->count].before;
	}
}

/* the leg is the first one of its account; *delta is what all of them add */
static bool
is_first_leg(const Op *op, int leg, int64_t *delta)
{
	*delta = 0;
	for (int i = 0; i < op->leg_count; i++)
	{
		if (op->legs[i].account != op->legs[leg].account)
			continue;
		if (i < leg)
			return false;
		*delta += op->legs[i].amount;
	}
	return true;
}

static bool
is_balanced(const Op *op)
{
	int64_t sums[MODEL_MAX_BATCH][MODEL_CURRENCIES] = { 0 };

	for (int i = 0; i < op->leg_count; i++)
		sums[op->legs[i].journal][world.names[op->legs[i].account].currency] +=
			op->legs[i].amount;
	for (int journal = 0; journal < op->journal_count; journal++)
	{
		for (int currency = 0; currency < MODEL_CURRENCIES; currency++)
		{
			if (sums[journal][currency] != 0)
				return false;
		}
	}
	return true;
}

static const char *
apply_posting(Model *model, const Op *op, Undo *undo)
{
	int64_t delta;

	for (int i = 0; i < op->leg_count; i++)
	{
		if (op->legs[i].amount == 0)
			return "PY003";
	}
	for (int i = 0; i < op->leg_count; i++)
	{
		const Account *account = &model->accounts[op->legs[i].account];

		if (!account->exists)
			return "PY204";
		if (account->state != STATE_OPEN)
			return "PY201";
	}
	if (!is_balanced(op))
		return "PY200";
	for (int i = 0; i < op->leg_count; i++)
	{
		const Account *account = &model->accounts[op->legs[i].account];
		int64_t		   after;

		if (!is_first_leg(op, i, &delta))
			continue;
		after = account->balance + delta;
		if ((delta < 0 && account->has_min && after < account->min_balance) ||
			(delta > 0 && account->has_max && after > account->max_balance))
			return "PY202";
	}
	for (int i = 0; i < op->leg_count; i++)
	{
		save(undo, model, op->legs[i].account);
		model->accounts[op->legs[i].account].balance += op->legs[i].amount;
	}
	return SQLSTATE_OK;
}

static void
set_limits(Account *account, const Op *op)
{
	account->has_min = op->has_min;
	account->has_max = op->has_max;
	account->min_balance = op->min_balance;
	account->max_balance = op->max_balance;
}

static const char *
apply_change(Model *model, const Op *op, Undo *undo)
{
	Account *account = &model->accounts[op->account];

	if (op->kind == OP_OPEN)
	{
		save(undo, model, op->account);
		memset(account, 0, sizeof(Account));
		account->exists = true;
		set_limits(account, op);
		return SQLSTATE_OK;
	}
	if (!account->exists)
		return "PY204";
	if (op->kind == OP_STATE)
	{
		if (op->state == STATE_CLOSED && account->balance != 0)
			return "PY303";
		save(undo, model, op->account);
		account->state = op->state;
		return SQLSTATE_OK;
	}
	if (op->has_min && op->has_max && op->min_balance > op->max_balance)
		return "PY001";
	if ((op->has_min && account->balance < op->min_balance) ||
		(op->has_max && account->balance > op->max_balance))
		return "PY202";
	save(undo, model, op->account);
	set_limits(account, op);
	return SQLSTATE_OK;
}

const char *
model_apply(Model *model, const Op *op, Undo *undo)
{
	switch ((OpKind) op->kind)
	{
		case OP_POST:
		case OP_BATCH:
			return apply_posting(model, op, undo);
		case OP_OPEN:
		case OP_STATE:
		case OP_LIMITS:
			return apply_change(model, op, undo);
		case OP_OPEN_AGAIN:
			return "PY205";
		case OP_LOCK:
		case OP_MERGE:
		case OP_BALANCE:
		case OP_KIND_COUNT:
			break;
	}
	return SQLSTATE_OK;
}

void
model_force(Model *model, const Op *op)
{
	if (op->kind == OP_POST || op->kind == OP_BATCH)
	{
		for (int i = 0; i < op->leg_count; i++)
			model->accounts[op->legs[i].account].balance += op->legs[i].amount;
	}
	else if (op->kind == OP_STATE)
		model->accounts[op->account].state = op->state;
	else if (op->kind == OP_LIMITS)
		set_limits(&model->accounts[op->account], op);
	else
		model_apply(model, op, NULL);
}
