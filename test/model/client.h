/*-------------------------------------------------------------------------
 *
 * client.h
 *	  One connection, and the transaction that it is at.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_TEST_CLIENT_H
#define PAYMENT_TEST_CLIENT_H

#include "model.h"

#define MAX_STEPS (4 * MODEL_MAX_OPS + 4)
#define MAX_DEPTH 3

typedef enum StepKind
{
	STEP_BEGIN,
	STEP_OP,
	STEP_SAVEPOINT,
	STEP_RELEASE,
	STEP_ROLLBACK_TO,
	STEP_COMMIT,
	STEP_ROLLBACK,
	STEP_PREPARE,
	STEP_COMMIT_PREPARED
} StepKind;

typedef struct Step
{
	StepKind kind;
	int		 op; /* of STEP_OP */
} Step;

typedef enum ClientState
{
	CLIENT_AWAY,	/* to connect at wake_at */
	CLIENT_READY,	/* nothing under way */
	CLIENT_BUSY,	/* an answer is to come */
	CLIENT_ABORTING /* ROLLBACK sent, then the transaction begins again */
} ClientState;

typedef struct Client
{
	int			number;
	Random		random;
	PGconn	   *conn;
	ClientState state;
	double		wake_at;
	double		busy_since;
	PGresult   *result; /* of the statement under way */

	Txn		   *txn;
	bool		alone; /* one operation without BEGIN */
	const char *isolation;
	Step		steps[MAX_STEPS];
	int			step_count;
	int			step;
	int			tries;
	bool		again;	 /* keyed, in doubt: to be sent again */
	bool		refused; /* rolling back for good */
	bool		settle;	 /* prepared: find out what came of it */
	int			depth;	 /* of savepoints */
	int			undos[MAX_DEPTH + 1];
	const char *expected; /* of the only client's operation */
} Client;

typedef struct Counts
{
	uint64_t committed;
	uint64_t rolled_back;
	uint64_t refused;
	uint64_t retried;
	uint64_t given_up;
	uint64_t doubts;
	uint64_t lost;
	uint64_t sent_again;
	uint64_t ops[OP_KIND_COUNT];
	uint64_t refused_ops[OP_KIND_COUNT];
} Counts;

extern Counts counts;
extern Undo	  live_undo;

extern double now_s(void);
/* load.c: for messages of connections that are meant to break */
extern void say_nothing(void *argument, const char *message);
extern bool client_connect(Client *client, const char *conninfo);
/* begin the next transaction, or go on with the one that is not done */
extern void client_start(Client *client);
/* the connection has something to say */
extern void client_read(Client *client);
extern bool client_is_idle(const Client *client);

#endif /* PAYMENT_TEST_CLIENT_H */
