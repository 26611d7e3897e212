/*-------------------------------------------------------------------------
 *
 * report.h
 *	  Log lines about requests that failed, few of many.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_WORKER_REPORT_H
#define PAYMENT_WORKER_REPORT_H

#include "delivery.h"

/* The delivery's request failed; say so unless one was just reported. */
extern void report_failure(const Delivery *delivery, TimestampTz now);

#endif /* PAYMENT_WORKER_REPORT_H */
