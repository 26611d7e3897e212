/*-------------------------------------------------------------------------
 *
 * proposal.h
 *	  What one person proposes and another one decides.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_PROPOSAL_H
#define PAYMENT_PROPOSAL_H

#include "fmgr.h"
#include "utils/uuid.h"

#define PROPOSAL_PERSON_MAX_BYTES 255
#define PROPOSAL_REFERENCE_MAX_BYTES 255

/* what somebody says of an order, a payout or an exception */
typedef struct Verdict
{
	pg_uuid_t	object_id;
	const char *outcome;
	const char *psp_reference; /* or NULL */
	const char *person;
	const char *reason;
} Verdict;

/* the proposal that waits for a second person */
typedef struct Proposal
{
	bool		exists;
	pg_uuid_t	id;
	const char *outcome;
	const char *psp_reference; /* or NULL */
	const char *person;
} Proposal;

/* a text that must not be empty; 0: as long as it likes */
extern char *proposal_text(FunctionCallInfo fcinfo, int number,
						   const char *name, int max_bytes);

/* All need SPI.  Reading locks the proposal. */
extern void proposal_read(const pg_uuid_t *object_id, Proposal *proposal);
extern void proposal_insert(const Verdict *verdict, const char *operation);
/* status: applied, rejected or withdrawn */
extern void proposal_end(const Proposal *proposal, const char *status,
						 const char *person, const char *reason);
extern bool proposal_same_person(const char *a, const char *b);
extern bool proposal_agrees(const Verdict *verdict, const Proposal *proposal);
extern bool proposal_was_applied(const Verdict *verdict);

/* Did two people decide this of the object, with whatever reference? */
extern bool was_decided(const pg_uuid_t *object_id, const char *outcome);

#endif /* PAYMENT_PROPOSAL_H */
