/*-------------------------------------------------------------------------
 *
 * breaker.h
 *	  A circuit breaker: stop asking a PSP that does not work, and find out
 *	  when it does again.
 *
 * Pure: no I/O, no SQL, no clock; whoever calls says what time it is.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_WORKER_BREAKER_H
#define PAYMENT_WORKER_BREAKER_H

#include "datatype/timestamp.h"

/* how many results the proportion of failures is taken of, and the fewest */
#define BREAKER_WINDOW 100
#define BREAKER_WINDOW_MIN 20

#define BREAKER_REASON_SIZE 256

typedef enum BreakerState
{
	BREAKER_CLOSED,	  /* everything is sent */
	BREAKER_OPEN,	  /* nothing is, until probe_at */
	BREAKER_HALF_OPEN /* a few requests are, to see how they end */
} BreakerState;

/* What a request says of the PSP: a decline is an answer like any other. */
typedef enum BreakerResult
{
	BREAKER_NEUTRAL,
	BREAKER_SUCCESS,
	BREAKER_FAILURE
} BreakerResult;

typedef struct BreakerSettings
{
	int failures;		 /* in a row; 0: it never opens */
	int failure_percent; /* of the last results */
	int pause_ms;		 /* from opening to the first probe */
	int pause_max_ms;	 /* doubled with each failed probe, up to this */
	int probes;			 /* successes that close it, requests at once */
} BreakerSettings;

typedef struct Breaker
{
	BreakerState state;
	TimestampTz	 since;	   /* 0: as long as anybody remembers */
	TimestampTz	 probe_at; /* while open: when it lets probes through */
	int			 pause_ms; /* the present pause */
	char		 reason[BREAKER_REASON_SIZE]; /* of having opened */

	/*
	 * Which spell a request belongs to: what was sent before the state
	 * changed says nothing of the time since.
	 */
	uint32 spell;

	/*
	 * Closed.  Lookups are counted by themselves: a PSP that answers them may
	 * still execute nothing, and one that does not may execute well.
	 */
	int	  failures_in_row;
	int	  lookup_failures_in_row; /* with no success of anything between */
	uint8 window[BREAKER_WINDOW]; /* 1: a failure */
	int	  window_count;
	int	  window_next;
	int	  window_failures;

	/* half-open */
	int	 probes_out;
	int	 probes_passed;
	bool lookups_count; /* as probes that passed: lookups had opened it */
	int	 openings;		/* since it was closed */

	/* what the database knows of it */
	int64 version; /* of the row that was read or written last */
	bool  dirty;   /* changed since */
} Breaker;

extern const char  *breaker_state_name(BreakerState state);
extern BreakerState breaker_state_of(const char *name);

/* Requests that may be begun now, at most count; may turn it half-open. */
extern int breaker_room(Breaker *breaker, const BreakerSettings *settings,
						int count, TimestampTz now);

/* A request is on its way; returns the spell to name with its result. */
extern uint32 breaker_begin(Breaker *breaker);

/*
 * It ended.  Returns true when that changed the state.
 */
extern bool breaker_end(Breaker *breaker, const BreakerSettings *settings,
						uint32 spell, bool lookup, BreakerResult result,
						TimestampTz now);

/* Take over what the database says, as at a start or after a reset. */
extern void breaker_adopt(Breaker *breaker, BreakerState state,
						  TimestampTz since, TimestampTz probe_at,
						  int pause_ms, const char *reason, int64 version,
						  TimestampTz now);

#endif /* PAYMENT_WORKER_BREAKER_H */
