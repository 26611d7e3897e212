/*
 * deadline.h
 *		Ends connections whose request or answer takes too long.
 */
#ifndef GATEWAY_DEADLINE_H
#define GATEWAY_DEADLINE_H

typedef struct Deadline Deadline;

extern void		 deadline_start(void);
extern void		 deadline_stop(void);
extern Deadline *deadline_new(int descriptor);
/* from now */
extern void deadline_set(Deadline *deadline, int timeout_ms);
/* before the descriptor is closed, as its number may be another's then */
extern void deadline_free(Deadline *deadline);

#endif /* GATEWAY_DEADLINE_H */
