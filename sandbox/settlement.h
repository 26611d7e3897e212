/*
 * settlement.h
 *		Settlements: what was charged and not settled yet is paid out, and a
 *		file says what it is made of.
 */
#ifndef SANDBOX_SETTLEMENT_H
#define SANDBOX_SETTLEMENT_H

#include "request.h"

extern void settlement_settle(Request *request);
extern void settlement_csv(Request *request);

#endif
