/*-------------------------------------------------------------------------
 *
 * shared.h
 *	  Shared memory of the worker: who dispatches which database, and who
 *	  wants to be dispatched.
 *
 * A slot's identity (state, database, pid, latch) is written under the mutex.
 * A committing backend reads database and latch without it: at worst it wakes
 * a process for nothing, or takes the way over the launcher.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_WORKER_SHARED_H
#define PAYMENT_WORKER_SHARED_H

#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/latch.h"
#include "storage/s_lock.h"

/* databases that may ask for a dispatcher at the same time */
#define WORKER_MAX_HINTS 64
#define WORKER_ERROR_SIZE 256

typedef enum SlotState
{
	SLOT_FREE,
	SLOT_STARTING, /* registered by the launcher, not attached yet */
	SLOT_RUNNING,
	SLOT_LEFT /* the process is gone, its verdict not read yet */
} SlotState;

/* what a dispatcher found, left behind for the launcher */
typedef enum SlotVerdict
{
	VERDICT_NONE,	 /* it died, or could not start */
	VERDICT_ABSENT,	 /* the database has no extension */
	VERDICT_YIELDED, /* it made room for somebody: try again soon */
	VERDICT_NO_ROOM	 /* it has, but payment.max_databases are served already */
} SlotVerdict;

typedef struct DispatcherSlot
{
	SlotState	state;
	SlotVerdict verdict;
	uint32		generation; /* tells this use of the slot from earlier ones */
	Oid			database_id;
	pid_t		pid;
	Latch	   *latch;	/* NULL: not to be woken */
	bool		serves; /* counts against payment.max_databases */
	TimestampTz registered_at;
	TimestampTz started_at;

	/* for payment.worker_status */
	pg_atomic_uint64 heartbeat_at; /* TimestampTz */
	pg_atomic_uint32 in_flight;
	pg_atomic_uint64 sent;
	pg_atomic_uint64 recorded;
	pg_atomic_uint64 succeeded;
	pg_atomic_uint64 declined;
	pg_atomic_uint64 unknown;
	pg_atomic_uint64 retried;
	pg_atomic_uint32 milli_rate; /* requests in 1000 seconds */
	pg_atomic_uint32 breakers_open;

	pg_atomic_uint64 events; /* commits with events, since the start */

	TimestampTz error_at;					/* under the mutex */
	char		error[WORKER_ERROR_SIZE];	/* under the mutex */
	char		refusal[WORKER_ERROR_SIZE]; /* under the mutex; empty: none */
} DispatcherSlot;

typedef struct WorkerShared
{
	slock_t mutex;
	pid_t	launcher_pid;
	Latch  *launcher_latch; /* NULL while there is no launcher */

	/* databases with work but without a dispatcher */
	int	 hint_count;
	bool hints_lost; /* there were too many: look everywhere */
	Oid	 hints[WORKER_MAX_HINTS];

	/* webhooks that were refused; 0: nobody has counted yet */
	pg_atomic_uint64 rejections;

	/* payment.max_databases, and one to look into databases with */
	int			   slot_count;
	DispatcherSlot slots[FLEXIBLE_ARRAY_MEMBER];
} WorkerShared;

/* NULL unless payment is in shared_preload_libraries */
extern WorkerShared *worker_shared;

extern void reset_slot_counters(DispatcherSlot *slot);

#endif /* PAYMENT_WORKER_SHARED_H */
