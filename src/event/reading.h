/*-------------------------------------------------------------------------
 *
 * reading.h
 *	  Reads events so that none is ever skipped.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_EVENT_READING_H
#define PAYMENT_EVENT_READING_H

#include "event/consumer.h"

/* what has become of the events up to the new position */
typedef enum PositionMove
{
	MOVE_SILENTLY, /* there were none */
	MOVE_PAST_SOME_READ,
	MOVE_PAST_ALL_READ
} PositionMove;

/*
 * All of these within SPI, with the consumer locked.  The first leaves the
 * events in SPI_tuptable, as payment.read_events() has its columns.
 */
extern uint64 events_after_position(const EventConsumer *consumer,
									int					 max_events);
extern void	  event_position_of_row(uint64 row, EventPosition *position);
/* there was none: move on where that saves looking through others again */
extern void events_pass_over(const EventConsumer *consumer);
extern void event_move_position(const EventConsumer *consumer,
								const EventPosition *position,
								PositionMove		 move);

#endif /* PAYMENT_EVENT_READING_H */
