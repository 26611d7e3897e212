/*-------------------------------------------------------------------------
 *
 * model.h
 *	  A ledger in a few lines, to compare the real one with.
 *
 * Very many clients run random transactions.  What each of them asked for and
 * was told is kept.  Afterwards:
 *
 *	- what was acknowledged is in the ledger exactly once, as it was asked
 *	  for; what was refused or rolled back is not; and of what is in doubt
 *	  (the connection broke during the commit) there is all or nothing;
 *	- the committed transactions are applied to the model one by one in the
 *	  order of their commit timestamps, and the model, which knows nothing of
 *	  locks, slots or snapshots, has to accept each.
 *
 * Why that order: a timestamp is taken before the commit can be seen and
 * before its locks are released.  A transaction that had to wait for another
 * one, or that relied on what it saw of it, therefore has the later one.  So
 * whenever the ledger allowed something because of what was committed, the
 * model knows that much at least.  (It may know more: a payment in that
 * committed a moment before a payment out that had not seen it.)  That needs
 * a clock that does not step back; load.c looks after that.
 *
 * With one client, what the model says is compared with each answer.
 *
 * Holds end by themselves when their time is over, and what the ledger's clock
 * said at that moment is not known afterwards.  So the model counts a hold for
 * as long as the transaction's commit shows that it must have counted, and
 * takes it for open unless it was over before the operation was sent.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_TEST_MODEL_H
#define PAYMENT_TEST_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include <libpq-fe.h>

#define MODEL_MAX_ACCOUNTS 20000
#define MODEL_MAX_LEGS 40 /* of one operation */
#define MODEL_MAX_BATCH 8 /* journals */
#define MODEL_MAX_OPS 5	  /* of one transaction */
#define MODEL_MAX_PARTS 5 /* accounts of one journal */
#define MODEL_CURRENCIES 3
#define SQLSTATE_OK "00000"

typedef enum AccountState
{
	STATE_OPEN,
	STATE_FROZEN,
	STATE_CLOSED
} AccountState;

/* what never changes of an account */
typedef struct AccountName
{
	char id[40]; /* empty while nobody was told */
	int	 currency;
	bool credit_normal;
	bool usable; /* its opening was acknowledged */
} AccountName;

typedef struct Account
{
	bool		 exists;
	bool		 has_min;
	bool		 has_max;
	AccountState state;
	int64_t		 min_balance;
	int64_t		 max_balance;
	int64_t		 balance;
	int64_t		 held; /* by holds that never expire */
} Account;

/* what never changes of a hold */
typedef struct HoldName
{
	char	id[40];
	bool	usable;
	int32_t account;
	int32_t older; /* of the account's holds that expire, the one before */
	int64_t amount;
	int64_t expires_at; /* µs since 1970; 0: never */
} HoldName;

typedef enum HoldState
{
	HOLD_OPEN,
	HOLD_POSTED,
	HOLD_VOIDED
} HoldState;

typedef struct Hold
{
	bool	  exists;
	HoldState state;
	int64_t	  posted;
} Hold;

/* a journal that may be reversed, or tried to */
typedef struct TargetName
{
	char id[40];
	bool usable;
	bool reverses; /* another one, so it cannot be reversed itself */
	bool one_currency;
} TargetName;

typedef struct TargetPart
{
	int32_t account;
	int64_t left; /* of what the journal did to it */
} TargetPart;

typedef struct Target
{
	bool	   exists;
	uint8_t	   count;
	TargetPart parts[MODEL_MAX_PARTS]; /* ascending by the account's id */
} Target;

typedef struct Model
{
	int64_t at;		/* µs since 1970: what is over by then does not count */
	bool	forced; /* whatever happens is right */
	Account accounts[MODEL_MAX_ACCOUNTS];
	Hold   *holds;
	int		hold_capacity;
	Target *targets;
	int		target_capacity;
} Model;

typedef enum OpKind
{
	OP_POST,
	OP_BATCH,
	OP_OPEN,
	OP_OPEN_AGAIN,
	OP_STATE,
	OP_LIMITS,
	OP_LOCK,
	OP_MERGE,
	OP_BALANCE,
	OP_HOLD,
	OP_POST_HOLD,
	OP_VOID,
	OP_EXPIRE,
	OP_REVERSE,
	OP_KIND_COUNT
} OpKind;

typedef struct Leg
{
	int64_t amount;
	int32_t account;
	int32_t journal; /* of the operation, from 0 */
} Leg;

typedef struct Op
{
	uint32_t number; /* unique; the journals' subjects hold it */
	uint8_t	 kind;
	uint8_t	 journal_count;
	uint8_t	 leg_count;
	uint8_t	 state;
	bool	 keyed;	   /* with an idempotency key */
	bool	 bad;	   /* to be refused, whatever the ledger holds */
	bool	 happened; /* and was not rolled back to a savepoint */
	bool	 has_min;  /* of OP_OPEN and OP_LIMITS */
	bool	 has_max;
	bool	 whole; /* of OP_POST_HOLD and OP_REVERSE: all that is left */
	bool	 close; /* of OP_POST_HOLD */
	bool	 own;	/* its hold or journal is of the same transaction */
	int32_t	 account;
	int32_t	 hold;	   /* made, posted or voided */
	int32_t	 reversed; /* target of OP_REVERSE */
	int32_t	 target;   /* that its first journal is, or -1 */
	int64_t	 min_balance;
	int64_t	 max_balance;
	int64_t	 amount;  /* to reverse, unless whole or with legs */
	int64_t	 sent_at; /* µs since 1970, at first */
	Leg		*legs;

	/* what the check finds: journals and rows of model.done */
	uint32_t found; /* a bit for each */
	bool	 found_wrong;
	char	*entries; /* where the model has to say what they must be */
} Op;

typedef enum Outcome
{
	OUTCOME_NONE, /* under way */
	OUTCOME_ABSENT,
	OUTCOME_COMMITTED,
	OUTCOME_DOUBT
} Outcome;

typedef struct Txn
{
	uint32_t number;
	uint8_t	 outcome;
	uint8_t	 op_count;
	int64_t	 committed_at; /* µs, found by the check */
	Op		*ops;
} Txn;

/* a state before an operation, to go back to */
typedef struct Undo
{
	struct UndoEntry
	{
		enum
		{
			UNDO_ACCOUNT,
			UNDO_HOLD,
			UNDO_TARGET
		} what;
		int32_t number;
		union
		{
			Account account;
			Hold	hold;
			Target	target;
		} before;
	} * entries;
	int count;
	int capacity;
} Undo;

typedef struct Random
{
	uint64_t state;
} Random;

/* shared by all */
typedef struct World
{
	uint64_t	seed;
	bool		exact; /* one client: each answer is known before */
	AccountName names[MODEL_MAX_ACCOUNTS];
	int			account_count;
	int32_t		newest_expiring[MODEL_MAX_ACCOUNTS]; /* hold + 1 */
	HoldName   *holds;
	int			hold_count;
	int64_t		last_expiry; /* µs since 1970 */
	TargetName *targets;
	int			target_count;
	Model	   *live; /* what was acknowledged, roughly in order */
	Txn		  **txns;
	uint32_t	txn_count;
	Op		  **ops; /* by number */
	uint32_t	op_count;
	int			failures;
	bool		clock_stepped; /* back */
} World;

extern World world;

/* a string that grows */
typedef struct Text
{
	char  *data;
	size_t length;
	size_t capacity;
} Text;

/* main.c */
extern void fail(const char *format, ...)
	__attribute__((format(printf, 1, 2)));
extern void test(bool passed, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
extern void *allocate(size_t size);
extern void *enlarge(void *memory, size_t size);


/* text.c */
extern Text *text_create(void);
extern void	 text_free(Text *text);
extern void	 text_reset(Text *text);
extern void	 text_add_string(Text *text, const char *string);
extern void	 text_add(Text *text, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* model.c */
/* room for all holds and targets there are names for */
extern Model *model_create(void);
extern void	  model_reserve(Model *model);
/* SQLSTATE_OK, and the model is changed; or why not, and it is not */
extern const char *model_apply(Model *model, const Op *op, Undo *undo);
/* no questions asked */
extern void model_force(Model *model, const Op *op);
extern void save_account(Undo *undo, const Model *model, int account);
extern void save_hold(Undo *undo, const Model *model, int hold);
extern void save_target(Undo *undo, const Model *model, int target);
/* journals that end at their legs: all or none of them */
extern const char *model_post(Model *model, const Leg *legs, int leg_count,
							  int journal_count, Undo *undo);
extern void		   undo_to(Undo *undo, int count, Model *model);
extern const char *op_kind_name(int kind);
extern void		   describe_op(const Op *op, Text *out);

/* model_hold.c */
/* what is held of it and counts */
extern int64_t	   model_held(const Model *model, int account);
extern const char *apply_hold(Model *model, const Op *op, Undo *undo);
extern const char *apply_post_hold(Model *model, const Op *op, Undo *undo);
extern const char *apply_void(Model *model, const Op *op, Undo *undo);
extern int64_t	   hold_rest(const Model *model, int hold);

/* model_reversal.c */
extern void		   target_add(Model *model, const Op *op, const Leg *legs,
							  int leg_count, Undo *undo);
extern const char *apply_reversal(Model *model, const Op *op, Undo *undo);
/* "m1 5,m2 -5" */
extern void describe_legs(const Leg *legs, int leg_count, Text *out);
/* the ledger's entries, where they are known, are these */
extern bool entries_are(const Op *op, const Leg *legs, int leg_count);

/* random_op.c */
extern uint64_t random_next(Random *random);
extern int		random_below(Random *random, int limit);
extern Txn	   *txn_create(Random *random);
extern Op	   *open_op_create(Random *random);
extern void		txn_number(Txn *txn);
extern int		random_account(Random *random, int currency);
extern bool		chance(Random *random, int percent);
extern int64_t	random_amount(Random *random, int account);
extern int32_t	target_name_create(bool reverses, bool one_currency);

/* random_hold.c */
/* false when there is nothing to do it to; the others are of its transaction */
extern void fill_hold(Random *random, Op *op);
extern bool fill_hold_end(Random *random, Op *op, const Op *others, int count);
extern bool fill_reversal(Random *random, Op *op, const Op *others, int count);

/* op_sql.c */
extern const char *const currency_codes[MODEL_CURRENCIES];
extern int64_t			 now_us(void);
extern void				 op_sql(const Op *op, Text *sql);
/* the answer to an operation that succeeded */
extern void op_answer(const Op *op, const PGresult *result);
/* may the ledger refuse it like this? */
extern bool op_may_fail(const Op *op, const char *sqlstate);

/* load.c */
typedef struct Load
{
	const char *conninfo;
	int			clients;
	int			seconds;
	int			backend_kills;
	uint64_t	max_txns;
} Load;

extern void load_run(const Load *load);

/* check.c */
extern void for_each_row(PGconn *conn, const char *sql,
						 void (*row)(const PGresult *));
extern void check_all(const char *conninfo);

/* check_holds.c */
extern void check_holds(PGconn *conn, const Model *model);
extern void wait_for_expiry(Model *model);

#endif /* PAYMENT_TEST_MODEL_H */
