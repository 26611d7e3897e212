/*-------------------------------------------------------------------------
 *
 * instance.h
 *	  Which copy of this database may send payments.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_INSTANCE_H
#define PAYMENT_INSTANCE_H

#include "instance/identity.h"

/* how a row of payment.instance came to be */
#define INSTANCE_CREATE "create"
#define INSTANCE_ADOPT "adopt"
#define INSTANCE_PROMOTION "promotion"
#define INSTANCE_RESTORE "restore" /* the one that sends nothing */

typedef enum InstanceState
{
	INSTANCE_MAY_SEND,
	INSTANCE_STANDBY,	 /* the server is in recovery */
	INSTANCE_RESTORED,	 /* the rows came from a dump */
	INSTANCE_COPY,		 /* the rows are of another place */
	INSTANCE_UNPROTECTED /* no synchronous standby, and one is required */
} InstanceState;

typedef struct InstanceFinding
{
	InstanceState state;
	bool		  same_database; /* INSTANCE_COPY: of the same cluster, too */
	char		 *reason;		 /* a sentence without capital and full stop */
} InstanceFinding;

/* all of these within SPI, the last two as the extension's owner */
extern void instance_look(InstanceFinding *finding);
extern void instance_refuse(void); /* raise unless it may send */
extern void instance_add(const char *cause, bool may_have_sent,
						 const char *reason);

/* failover.c: what it was called as a standby, NULL when it was none */
extern char *failover_own_name(void);

#endif /* PAYMENT_INSTANCE_H */
