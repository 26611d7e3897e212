/*
 * control.h
 *		The endpoints for tests, below /_sandbox.
 */
#ifndef SANDBOX_CONTROL_H
#define SANDBOX_CONTROL_H

#include "request.h"

extern void control_healthz(Request *request);
extern void control_book(Request *request);
extern void control_requests(Request *request);
extern void control_requests_csv(Request *request);
extern void control_charges_csv(Request *request);
extern void control_payouts_csv(Request *request);
extern void control_faults(Request *request);
extern void control_set_faults(Request *request);

#endif
