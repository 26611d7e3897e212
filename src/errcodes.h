/*-------------------------------------------------------------------------
 *
 * errcodes.h
 *	  The SQLSTATEs of payment, class PY.
 *
 * An application decides by these what to do, so each says one thing and
 * none is ever given another meaning.  docs/reference.md lists them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_ERRCODES_H
#define PAYMENT_ERRCODES_H

#define PAYMENT_SQLSTATE(a, b, c) MAKE_SQLSTATE('P', 'Y', a, b, c)

/* PY0xx: what the caller passed */
#define ERRCODE_PAYMENT_INVALID_ARGUMENT PAYMENT_SQLSTATE('0', '0', '1')
#define ERRCODE_PAYMENT_INVALID_CURRENCY PAYMENT_SQLSTATE('0', '0', '2')
#define ERRCODE_PAYMENT_INVALID_AMOUNT PAYMENT_SQLSTATE('0', '0', '3')
#define ERRCODE_PAYMENT_AMOUNT_OVERFLOW PAYMENT_SQLSTATE('0', '0', '4')
#define ERRCODE_PAYMENT_CARD_NUMBER PAYMENT_SQLSTATE('0', '0', '5')
#define ERRCODE_PAYMENT_LIMIT_EXCEEDED PAYMENT_SQLSTATE('0', '0', '6')
#define ERRCODE_PAYMENT_UNKNOWN_PSP PAYMENT_SQLSTATE('0', '1', '0')
#define ERRCODE_PAYMENT_UNKNOWN_SELLER PAYMENT_SQLSTATE('0', '1', '1')
#define ERRCODE_PAYMENT_UNKNOWN_OBJECT PAYMENT_SQLSTATE('0', '1', '2')

/* PY1xx: idempotency */
#define ERRCODE_PAYMENT_IDEMPOTENCY_MISMATCH PAYMENT_SQLSTATE('1', '0', '0')

/* PY2xx: the ledger */
#define ERRCODE_PAYMENT_UNBALANCED_JOURNAL PAYMENT_SQLSTATE('2', '0', '0')
#define ERRCODE_PAYMENT_ACCOUNT_NOT_OPEN PAYMENT_SQLSTATE('2', '0', '1')
#define ERRCODE_PAYMENT_BALANCE_LIMIT PAYMENT_SQLSTATE('2', '0', '2')
#define ERRCODE_PAYMENT_LEDGER_GUARD PAYMENT_SQLSTATE('2', '0', '3')
#define ERRCODE_PAYMENT_UNKNOWN_ACCOUNT PAYMENT_SQLSTATE('2', '0', '4')
#define ERRCODE_PAYMENT_ACCOUNT_EXISTS PAYMENT_SQLSTATE('2', '0', '5')

/* PY3xx: state machines */
#define ERRCODE_PAYMENT_ILLEGAL_TRANSITION PAYMENT_SQLSTATE('3', '0', '0')
#define ERRCODE_PAYMENT_GUARDED_TABLE PAYMENT_SQLSTATE('3', '0', '1')
#define ERRCODE_PAYMENT_IMMUTABLE_COLUMN PAYMENT_SQLSTATE('3', '0', '2')
#define ERRCODE_PAYMENT_WRONG_STATE PAYMENT_SQLSTATE('3', '0', '3')

/* PY4xx: settlement and reconciliation */
#define ERRCODE_PAYMENT_SETTLEMENT_FORMAT PAYMENT_SQLSTATE('4', '0', '0')
#define ERRCODE_PAYMENT_SETTLEMENT_DUPLICATE PAYMENT_SQLSTATE('4', '0', '1')

/* PY5xx: the worker */
#define ERRCODE_PAYMENT_WORKER PAYMENT_SQLSTATE('5', '0', '0')

#endif /* PAYMENT_ERRCODES_H */
