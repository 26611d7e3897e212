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
	"post",	 "batch",	"open", "open again", "state", "limits", "lock",
	"merge", "balance", "hold", "post hold",  "void",  "expire", "reverse"
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
	if (op->kind >= OP_HOLD && op->kind <= OP_VOID)
		text_add(out, " hold %d of %lld until %lld", op->hold,
				 (long long) world.holds[op->hold].amount,
				 (long long) world.holds[op->hold].expires_at);
	if (op->kind == OP_REVERSE)
		text_add(out, " of journal %d amount %lld", op->reversed,
				 (long long) op->amount);
	if (op->target >= 0)
		text_add(out, " is journal %d", op->target);
	if (op->whole || op->close)
		text_add(out, " whole %d close %d", op->whole, op->close);
	if (op->entries)
		text_add(out, " entries %s", op->entries);
}

Model *
model_create(void)
{
	Model *model = allocate(sizeof(Model));

	memset(model, 0, sizeof(Model));
	return model;
}

static void *
reserve(void *array, int *capacity, int count, size_t size)
{
	int before = *capacity;

	if (count <= before)
		return array;
	*capacity = count < 1024 ? 1024 : count * 2;
	array = enlarge(array, size * *capacity);
	memset((char *) array + size * before, 0, size * (*capacity - before));
	return array;
}

void
model_reserve(Model *model)
{
	model->holds = reserve(model->holds, &model->hold_capacity,
						   world.hold_count, sizeof(Hold));
	model->targets = reserve(model->targets, &model->target_capacity,
							 world.target_count, sizeof(Target));
}

static struct UndoEntry *
save(Undo *undo, int what, int number)
{
	struct UndoEntry *entry;

	if (undo->count == undo->capacity)
	{
		undo->capacity = undo->capacity ? undo->capacity * 2 : 64;
		undo->entries =
			enlarge(undo->entries, sizeof(*undo->entries) * undo->capacity);
	}
	entry = &undo->entries[undo->count++];
	entry->what = what;
	entry->number = number;
	return entry;
}

void
save_account(Undo *undo, const Model *model, int account)
{
	if (undo)
		save(undo, UNDO_ACCOUNT, account)->before.account =
			model->accounts[account];
}

void
save_hold(Undo *undo, const Model *model, int hold)
{
	if (undo)
		save(undo, UNDO_HOLD, hold)->before.hold = model->holds[hold];
}

void
save_target(Undo *undo, const Model *model, int target)
{
	if (undo)
		save(undo, UNDO_TARGET, target)->before.target =
			model->targets[target];
}

void
undo_to(Undo *undo, int count, Model *model)
{
	while (undo->count > count)
	{
		const struct UndoEntry *entry = &undo->entries[--undo->count];

		if (entry->what == UNDO_ACCOUNT)
			model->accounts[entry->number] = entry->before.account;
		else if (entry->what == UNDO_HOLD)
			model->holds[entry->number] = entry->before.hold;
		else
			model->targets[entry->number] = entry->before.target;
	}
}

/* the leg is the first one of its account; *delta is what all of them add */
static bool
is_first_leg(const Leg *legs, int leg_count, int leg, int64_t *delta)
{
	*delta = 0;
	for (int i = 0; i < leg_count; i++)
	{
		if (legs[i].account != legs[leg].account)
			continue;
		if (i < leg)
			return false;
		*delta += legs[i].amount;
	}
	return true;
}

static bool
is_balanced(const Leg *legs, int leg_count, int journal_count)
{
	int64_t sums[MODEL_MAX_BATCH][MODEL_CURRENCIES] = { 0 };

	for (int i = 0; i < leg_count; i++)
		sums[legs[i].journal][world.names[legs[i].account].currency] +=
			legs[i].amount;
	for (int journal = 0; journal < journal_count; journal++)
	{
		for (int currency = 0; currency < MODEL_CURRENCIES; currency++)
		{
			if (sums[journal][currency] != 0)
				return false;
		}
	}
	return true;
}

/* what is held counts on the side where money leaves the account */
static bool
keeps_limits(const Model *model, int number, int64_t balance, int64_t delta)
{
	const Account *account = &model->accounts[number];
	bool		   is_debit = !world.names[number].credit_normal;
	int64_t		   held = model_held(model, number);

	if (delta <= 0 && account->has_min &&
		balance - (is_debit ? held : 0) < account->min_balance)
		return false;
	return !(delta >= 0 && account->has_max &&
			 balance + (is_debit ? 0 : held) > account->max_balance);
}

static const char *
check_posting(const Model *model, const Leg *legs, int leg_count,
			  int journal_count)
{
	int64_t delta;

	for (int i = 0; i < leg_count; i++)
	{
		if (legs[i].amount == 0)
			return "PY003";
	}
	for (int i = 0; i < leg_count; i++)
	{
		const Account *account = &model->accounts[legs[i].account];

		if (!account->exists)
			return "PY204";
		if (account->state != STATE_OPEN)
			return "PY201";
	}
	if (!is_balanced(legs, leg_count, journal_count))
		return "PY200";
	for (int i = 0; i < leg_count; i++)
	{
		int number = legs[i].account;

		if (is_first_leg(legs, leg_count, i, &delta) && delta != 0 &&
			!keeps_limits(model, number,
						  model->accounts[number].balance + delta, delta))
			return "PY202";
	}
	return SQLSTATE_OK;
}

const char *
model_post(Model *model, const Leg *legs, int leg_count, int journal_count,
		   Undo *undo)
{
	const char *verdict =
		model->forced ? SQLSTATE_OK
					  : check_posting(model, legs, leg_count, journal_count);

	if (strcmp(verdict, SQLSTATE_OK) != 0)
		return verdict;
	for (int i = 0; i < leg_count; i++)
	{
		save_account(undo, model, legs[i].account);
		model->accounts[legs[i].account].balance += legs[i].amount;
	}
	return SQLSTATE_OK;
}

static const char *
apply_posting(Model *model, const Op *op, Undo *undo)
{
	const char *verdict =
		model_post(model, op->legs, op->leg_count, op->journal_count, undo);

	if (strcmp(verdict, SQLSTATE_OK) == 0)
		target_add(model, op, op->legs, op->leg_count, undo);
	return verdict;
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
	Account	 before;
	Account	 after;

	if (op->kind == OP_OPEN)
	{
		save_account(undo, model, op->account);
		memset(account, 0, sizeof(Account));
		account->exists = true;
		set_limits(account, op);
		return SQLSTATE_OK;
	}
	if (!account->exists)
		return "PY204";
	if (op->kind == OP_STATE)
	{
		if (op->state == STATE_CLOSED && !model->forced &&
			(account->balance != 0 || model_held(model, op->account) != 0))
			return "PY303";
		save_account(undo, model, op->account);
		account->state = op->state;
		return SQLSTATE_OK;
	}
	if (op->has_min && op->has_max && op->min_balance > op->max_balance)
		return "PY001";
	before = *account;
	set_limits(account, op);
	if (!model->forced &&
		!keeps_limits(model, op->account, account->balance, 0))
	{
		*account = before;
		return "PY202";
	}
	after = *account;
	*account = before;
	save_account(undo, model, op->account);
	*account = after;
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
		case OP_HOLD:
			return apply_hold(model, op, undo);
		case OP_POST_HOLD:
			return apply_post_hold(model, op, undo);
		case OP_VOID:
			return apply_void(model, op, undo);
		case OP_REVERSE:
			return apply_reversal(model, op, undo);
		case OP_LOCK:
		case OP_MERGE:
		case OP_BALANCE:
		case OP_EXPIRE: /* makes no difference */
		case OP_KIND_COUNT:
			break;
	}
	return SQLSTATE_OK;
}

void
model_force(Model *model, const Op *op)
{
	model->forced = true;
	model_apply(model, op, NULL);
	model->forced = false;
}
