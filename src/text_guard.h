/*-------------------------------------------------------------------------
 *
 * text_guard.h
 *	  What every text that comes from outside must pass.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_TEXT_GUARD_H
#define PAYMENT_TEXT_GUARD_H

#include "utils/jsonb.h"

/*
 * True when the text holds a card number: 13 to 19 digits, single spaces or
 * hyphens between them allowed, that pass Luhn and begin like an issuer's
 * range.  UUIDs and longer digit runs do not count.
 */
extern bool contains_card_number(const char *text, int length);

/* Put X for the digits of card numbers; whether there were any. */
extern bool hide_card_numbers(char *text, int length);

/* raise PY005, hiding the statement from the log */
extern void refuse_card_number(const char *name) pg_attribute_noreturn();

/*
 * Raise PY005 when the value holds a card number (the message never repeats
 * it), PY006 when it is longer than the setting allows.  name is the argument
 * as the caller knows it.
 */
extern void check_text(const char *name, const char *text, int length);
extern void check_metadata(const char *name, Jsonb *metadata);

/* 1..255 printable characters, else PY001 */
extern void check_idempotency_key(const char *key, int length);

#endif /* PAYMENT_TEXT_GUARD_H */
