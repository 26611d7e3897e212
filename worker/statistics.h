/*-------------------------------------------------------------------------
 *
 * statistics.h
 *	  What the dispatchers count for each PSP, in shared memory.
 *
 * There is a fixed number of places.  A PSP keeps its place while the server
 * runs, also when its dispatcher is started anew; when all are taken, further
 * PSPs are served like others, and not counted.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_WORKER_STATISTICS_H
#define PAYMENT_WORKER_STATISTICS_H

#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "psp/psp.h"
#include "utils/uuid.h"

/* places, for each database that payment.max_databases allows */
#define STATISTICS_PSPS_PER_DATABASE 16

#define STATISTICS_OUTCOMES PSP_MORE
#define STATISTICS_BUCKETS 14
#define STATISTICS_ERROR_SIZE 256

typedef struct PspStatistics
{
	/* under the mutex; InvalidOid: free */
	Oid			database_id;
	pg_uuid_t	psp_id;
	TimestampTz last_error_at;
	char		last_error[STATISTICS_ERROR_SIZE];

	pg_atomic_uint32 in_flight;
	pg_atomic_uint32 tokens;
	pg_atomic_uint32 failures_in_row;
	pg_atomic_uint32 milli_rate;	  /* requests in 1000 seconds */
	pg_atomic_uint64 paused_until;	  /* TimestampTz, as the others */
	pg_atomic_uint64 last_success_at; /* it answered properly */
	pg_atomic_uint64 last_failure_at;
	pg_atomic_uint64 sent;
	pg_atomic_uint64 latency_ms[STATISTICS_OUTCOMES]; /* sums */
	pg_atomic_uint64 latencies[STATISTICS_OUTCOMES][STATISTICS_BUCKETS];
} PspStatistics;

/* requests per second, lately */
typedef struct RateMeter
{
	uint64		counted;
	TimestampTz counted_at;
	double		rate;
} RateMeter;

extern Size statistics_size(void);
extern void statistics_attach(void);

/* the place of a PSP of this database; NULL when none is free */
extern PspStatistics *statistics_of(const pg_uuid_t *psp_id);

extern void statistics_add_latency(PspStatistics *statistics,
								   PspOutcomeKind kind, int latency_ms);
extern void statistics_set_error(PspStatistics *statistics, const char *error,
								 TimestampTz at);

/* Take notice of how many there have been by now; returns the rate. */
extern double statistics_rate(RateMeter *meter, uint64 count, TimestampTz now);

#endif /* PAYMENT_WORKER_STATISTICS_H */
