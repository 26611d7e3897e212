/*
 * codec.h
 *		Objects to bytes and back. One function does both directions, so that
 *		they cannot come to differ.
 */
#ifndef SANDBOX_CODEC_H
#define SANDBOX_CODEC_H

#include <stdbool.h>
#include <stdint.h>

#include "book.h"
#include "buf.h"
#include "idempotency.h"

typedef struct Codec
{
	Buf					*out; /* writing: where to; NULL when reading */
	const unsigned char *start;
	const unsigned char *in;
	const unsigned char *end;
	bool				 bad; /* reading: the bytes make no sense */
} Codec;

extern void codec_u8(Codec *c, uint8_t *value);
extern void codec_u32(Codec *c, uint32_t *value);

/* Reading replaces what the object holds and frees it. */
extern void codec_intent(Codec *c, Intent *intent);
extern void codec_charge(Codec *c, Charge *charge);
extern void codec_payout(Codec *c, Payout *payout);
extern void codec_balance_tx(Codec *c, BalanceTx *tx);
extern void codec_modification(Codec *c, Modification *modification);
extern void codec_notification(Codec *c, Notification *notification);
extern void codec_customer(Codec *c, Customer *customer);
extern void codec_saved_method(Codec *c, SavedMethod *saved);
extern void codec_setup(Codec *c, Setup *setup);
extern void codec_session(Codec *c, Session *session);
extern void codec_dispute(Codec *c, Dispute *dispute);
extern void codec_settlement(Codec *c, Settlement *settlement);

/*
 * The body is written, but when read only its place is noted: body_offset
 * counts from the start of the record.
 */
extern void codec_key(Codec *c, IdempotencyKey *key);

#endif
