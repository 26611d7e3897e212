/*
 * timer.c
 *		A binary heap of what is due when.
 */
#include "timer.h"

#include "adyen.h"
#include "buf.h"
#include "dispute.h"
#include "payment_intent.h"
#include "payout.h"
#include "paypal.h"
#include "refund.h"
#include "session.h"

typedef struct Timer
{
	int64_t		   due_ms;
	const int64_t *object_due_ms;
	void (*run)(void *object);
	void *object;
} Timer;

static Timer *heap;
static size_t heap_count;
static size_t heap_cap;

static void
push(Timer timer)
{
	size_t i = heap_count++;

	if (heap_count > heap_cap)
	{
		heap_cap = heap_cap ? heap_cap * 2 : 64;
		heap = xrealloc(heap, heap_cap * sizeof(Timer));
	}
	for (; i > 0 && heap[(i - 1) / 2].due_ms > timer.due_ms; i = (i - 1) / 2)
		heap[i] = heap[(i - 1) / 2];
	heap[i] = timer;
}

static Timer
pop(void)
{
	Timer  first = heap[0];
	Timer  last = heap[--heap_count];
	size_t i = 0;
	size_t child;

	while ((child = 2 * i + 1) < heap_count)
	{
		if (child + 1 < heap_count &&
			heap[child + 1].due_ms < heap[child].due_ms)
			child++;
		if (heap[child].due_ms >= last.due_ms)
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = last;
	return first;
}

static void
intent_is_due(void *object)
{
	Intent *intent = object;

	switch ((Psp) intent->psp)
	{
		case PSP_ADYEN:
			adyen_payment_finish(intent);
			break;
		case PSP_PAYPAL:
			paypal_capture_finish(intent);
			break;
		default:
			payment_intent_finish(intent);
	}
}

static void
payout_is_due(void *object)
{
	payout_move_on(object);
}

static void
modification_is_due(void *object)
{
	Modification *modification = object;

	if (modification->psp == PSP_ADYEN)
		adyen_modification_finish(modification);
	else
		refund_finish(modification);
}

void
timer_add_intent(Intent *intent)
{
	push((Timer){ intent->due_ms, &intent->due_ms, intent_is_due, intent });
}

void
timer_add_payout(Payout *payout)
{
	push((Timer){ payout->due_ms, &payout->due_ms, payout_is_due, payout });
}

void
timer_add_modification(Modification *modification)
{
	push((Timer){ modification->due_ms, &modification->due_ms,
				  modification_is_due, modification });
}

static void
session_is_due(void *object)
{
	session_expire(object);
}

void
timer_add_session(Session *session)
{
	push(
		(Timer){ session->due_ms, &session->due_ms, session_is_due, session });
}

static void
dispute_is_due(void *object)
{
	dispute_finish(object);
}

void
timer_add_dispute(Dispute *dispute)
{
	push(
		(Timer){ dispute->due_ms, &dispute->due_ms, dispute_is_due, dispute });
}

/*
 * A timer whose object has meanwhile been given another due time, or none
 * (it was canceled), is stale and does nothing.
 */
void
timer_run_due(int64_t now_ms)
{
	while (heap_count > 0 && heap[0].due_ms <= now_ms)
	{
		Timer timer = pop();

		if (*timer.object_due_ms == timer.due_ms)
			timer.run(timer.object);
	}
}
