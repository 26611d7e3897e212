/*-------------------------------------------------------------------------
 *
 * dispute_status.c
 *	  Where a dispute stands, after what its PSP says.
 *
 * A dispute stands at a stage, and within that at a status.  Not every PSP has
 * all stages: when one says that what was over goes on, it goes on at the next
 * stage.  Evidence comes out of order.  What is older than what is known does
 * not get here; of what is not newer nothing reopens a dispute.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "order/dispute.h"

static const char *const stages[] = { "inquiry", "chargeback",
									  "pre_arbitration", "arbitration" };

#define LAST_STAGE ((int) lengthof(stages) - 1)
#define CHARGEBACK 1

static int
stage_of(const char *path)
{
	for (int i = 0; i <= LAST_STAGE; i++)
	{
		size_t length = strlen(stages[i]);

		if (strncmp(path, stages[i], length) == 0 &&
			(path[length] == '/' || path[length] == '\0'))
			return i;
	}
	elog(ERROR, "a dispute has no stage \"%s\"", path);
}

static const char *
status_of(const Dispute *dispute)
{
	return strchr(dispute->path.now, '/') + 1;
}

bool
dispute_is(const Dispute *dispute, const char *status)
{
	return strcmp(status_of(dispute), status) == 0;
}

bool
dispute_is_inquiry(const Dispute *dispute)
{
	return stage_of(dispute->path.now) < CHARGEBACK;
}

bool
dispute_is_open(const Dispute *dispute)
{
	return !dispute_is_inquiry(dispute) &&
		   (dispute_is(dispute, "open") || dispute_is(dispute, "challenged") ||
			dispute_is(dispute, "accepted"));
}

static bool
is_over(const char *status)
{
	return strcmp(status, "won") == 0 || strcmp(status, "lost") == 0 ||
		   strcmp(status, "withdrawn") == 0 || strcmp(status, "expired") == 0;
}

static bool
goes_back(const char *status)
{
	return strcmp(status, "won") == 0 || strcmp(status, "withdrawn") == 0;
}

/* an inquiry that takes money is none */
static int
said_stage(const PspDispute *said)
{
	int stage = said->stage ? stage_of(said->stage) : 0;

	return said->money == PSP_DISPUTE_TAKEN ? Max(stage, CHARGEBACK) : stage;
}

static bool
step(Dispute *dispute, int stage, const char *status, TransitionCause cause)
{
	StatusPath *path = &dispute->path;
	char	   *to = psprintf("%s/%s", stages[stage], status);

	if (!transition_is_legal(OBJECT_DISPUTE, path->now, to, cause))
		return false;
	if (path->step_count == STATUS_PATH_MAX)
		elog(ERROR, "a status has more than %d changes at once",
			 STATUS_PATH_MAX);
	path->steps[path->step_count].to = to;
	path->steps[path->step_count].cause = cause;
	path->step_count++;
	path->now = to;
	return true;
}

void
dispute_begin(Dispute *dispute, const PspDispute *said, TransitionCause cause)
{
	int stage = said->stage || said->money == PSP_DISPUTE_TAKEN
					? said_stage(said)
					: CHARGEBACK;

	dispute->path.first = NULL;
	dispute->path.now = NULL;
	if (!step(dispute, stage, "open", cause))
		elog(ERROR, "a dispute cannot begin");
}

/* Who has the money by now keeps it: nobody answers any more. */
static void
settle_expired(Dispute *dispute, const PspDispute *said)
{
	bool taken = said->money == PSP_DISPUTE_TAKEN ||
				 (said->money == PSP_DISPUTE_UNSAID && dispute->is_taken);

	if (taken && dispute_is(dispute, "expired") &&
		!dispute_is_inquiry(dispute))
		(void) step(dispute, stage_of(dispute->path.now), "lost",
					CAUSE_POLICY);
}

/* Within the stage, or from what was over into the next one */
static DisputeMove
reach(Dispute *dispute, const char *status, TransitionCause cause)
{
	int stage = stage_of(dispute->path.now);

	if (dispute_is(dispute, status) || step(dispute, stage, status, cause))
		return DISPUTE_FOLLOWED;
	if (!is_over(status_of(dispute)) ||
		(goes_back(status_of(dispute)) && goes_back(status)))
		return is_over(status) && !dispute_is(dispute, "challenged")
				   ? DISPUTE_UNREACHABLE
				   : DISPUTE_FOLLOWED;
	/* nobody answered in time: that the money goes does not open it again */
	if (dispute_is(dispute, "expired") && strcmp(status, "open") == 0)
		return DISPUTE_FOLLOWED;
	if (stage == LAST_STAGE || !step(dispute, stage + 1, "open", cause))
		return DISPUTE_UNREACHABLE;
	return strcmp(status, "open") == 0 ||
				   step(dispute, stage + 1, status, cause)
			   ? DISPUTE_FOLLOWED
			   : DISPUTE_UNREACHABLE;
}

DisputeMove
dispute_follow(Dispute *dispute, const PspDispute *said, TransitionCause cause)
{
	bool newer =
		dispute->path.first == NULL || said->sequence > dispute->sequence;
	DisputeMove move = DISPUTE_FOLLOWED;

	/* what has no place in the order of events changes nothing that is over */
	if (!newer && is_over(status_of(dispute)) &&
		(said->status == NULL || !is_over(said->status) ||
		 said->sequence == 0))
		return DISPUTE_OVERTAKEN;
	while (stage_of(dispute->path.now) < said_stage(said))
		if (!step(dispute, stage_of(dispute->path.now) + 1, "open", cause))
			return DISPUTE_UNREACHABLE;
	if (said->status)
		move = reach(dispute, said->status, cause);
	settle_expired(dispute, said);
	return move;
}

bool
dispute_answer(Dispute *dispute, const char *status, TransitionCause cause)
{
	return dispute_is(dispute, "open") &&
		   step(dispute, stage_of(dispute->path.now), status, cause);
}
