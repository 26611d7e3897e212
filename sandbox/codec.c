/*
 * codec.c
 *		Little-endian integers, length-prefixed strings. A string's length is
 *		written plus one, so that 0 is NULL.
 */
#include "codec.h"

#include <stdlib.h>
#include <string.h>

#include "currency.h"

static bool
take(Codec *c, size_t len)
{
	if (c->bad || (size_t) (c->end - c->in) < len)
		c->bad = true;
	return !c->bad;
}

static void
codec_integer(Codec *c, uint64_t *value, size_t size)
{
	unsigned char bytes[8];

	if (c->out != NULL)
	{
		for (size_t i = 0; i < size; i++)
			bytes[i] = (unsigned char) (*value >> (8 * i));
		buf_put(c->out, bytes, size);
		return;
	}
	*value = 0;
	if (!take(c, size))
		return;
	for (size_t i = 0; i < size; i++)
		*value |= (uint64_t) c->in[i] << (8 * i);
	c->in += size;
}

void
codec_u8(Codec *c, uint8_t *value)
{
	uint64_t wide = *value;

	codec_integer(c, &wide, 1);
	*value = (uint8_t) wide;
}

static void
codec_bool(Codec *c, bool *value)
{
	uint64_t wide = *value;

	codec_integer(c, &wide, 1);
	*value = wide != 0;
}

void
codec_u32(Codec *c, uint32_t *value)
{
	uint64_t wide = *value;

	codec_integer(c, &wide, 4);
	*value = (uint32_t) wide;
}

static void
codec_u64(Codec *c, uint64_t *value)
{
	codec_integer(c, value, 8);
}

static void
codec_i64(Codec *c, int64_t *value)
{
	uint64_t wide = (uint64_t) *value;

	codec_integer(c, &wide, 8);
	*value = (int64_t) wide;
}

static void
codec_string(Codec *c, char **value)
{
	uint32_t size = *value ? (uint32_t) strlen(*value) + 1 : 0;

	codec_u32(c, &size);
	if (c->out != NULL)
	{
		if (size > 0)
			buf_put(c->out, *value, size - 1);
		return;
	}
	free(*value);
	*value = NULL;
	if (size == 0 || !take(c, size - 1))
		return;
	*value = xstrndup((const char *) c->in, size - 1);
	c->in += size - 1;
}

static void
codec_id(Codec *c, char *id)
{
	if (c->out != NULL)
	{
		buf_put(c->out, id, ID_SIZE);
		return;
	}
	if (!take(c, ID_SIZE))
		return;
	memcpy(id, c->in, ID_SIZE);
	id[ID_SIZE - 1] = '\0';
	c->in += ID_SIZE;
}

/* Currencies are written as codes: their numbers are not for keeping. */
static void
codec_currency(Codec *c, int32_t *currency)
{
	char code[4] = "";

	if (c->out != NULL)
	{
		buf_put(c->out, currency_lower(*currency), 3);
		return;
	}
	if (!take(c, 3))
		return;
	memcpy(code, c->in, 3);
	c->in += 3;
	*currency = currency_find(code);
	if (*currency == CURRENCY_UNKNOWN)
		c->bad = true;
}

static void
codec_metadata(Codec *c, Metadata *metadata)
{
	uint32_t count = metadata->count;

	codec_u32(c, &count);
	if (c->out == NULL)
		metadata_free(metadata);
	for (uint32_t i = 0; i < count && !c->bad; i++)
	{
		MetaItem item = { NULL, NULL };

		if (c->out != NULL)
			item = metadata->items[i];
		codec_string(c, &item.key);
		codec_string(c, &item.value);
		if (c->out == NULL)
		{
			if (item.key != NULL && item.value != NULL)
				metadata_add(metadata, item.key, item.value);
			free(item.key);
			free(item.value);
		}
	}
}

void
codec_intent(Codec *c, Intent *intent)
{
	codec_id(c, intent->id);
	codec_id(c, intent->secret);
	codec_u32(c, &intent->latest_charge);
	codec_u8(c, &intent->psp);
	codec_u8(c, &intent->status);
	codec_u8(c, &intent->capture_method);
	codec_u8(c, &intent->automatic_payment_methods);
	codec_bool(c, &intent->failed);
	codec_bool(c, &intent->not_authenticated);
	codec_u32(c, &intent->session);
	codec_u32(c, &intent->customer);
	codec_currency(c, &intent->currency);
	codec_i64(c, &intent->amount);
	codec_i64(c, &intent->amount_capturable);
	codec_i64(c, &intent->amount_received);
	codec_i64(c, &intent->created_ms);
	codec_i64(c, &intent->canceled_ms);
	codec_i64(c, &intent->due_ms);
	codec_string(c, &intent->payment_method);
	codec_string(c, &intent->description);
	codec_string(c, &intent->transfer_group);
	codec_string(c, &intent->return_url);
	codec_string(c, &intent->cancellation_reason);
	codec_string(c, &intent->reference);
	codec_metadata(c, &intent->metadata);
}

void
codec_charge(Codec *c, Charge *charge)
{
	codec_id(c, charge->id);
	codec_u32(c, &charge->intent);
	codec_u32(c, &charge->balance_tx);
	codec_u32(c, &charge->dispute);
	codec_u32(c, &charge->authorization);
	codec_u32(c, &charge->last_capture);
	codec_bool(c, &charge->is_final);
	codec_u8(c, &charge->status);
	codec_currency(c, &charge->currency);
	codec_i64(c, &charge->amount);
	codec_i64(c, &charge->amount_captured);
	codec_i64(c, &charge->amount_refunded);
	codec_i64(c, &charge->created_ms);
	codec_string(c, &charge->payment_method);
	codec_string(c, &charge->idempotency_key);
	codec_string(c, &charge->invoice_id);
}

void
codec_payout(Codec *c, Payout *payout)
{
	codec_id(c, payout->id);
	codec_u32(c, &payout->balance_tx);
	codec_u32(c, &payout->failure_balance_tx);
	codec_u32(c, &payout->settlement);
	codec_u8(c, &payout->psp);
	codec_u8(c, &payout->status);
	codec_bool(c, &payout->instant);
	codec_bool(c, &payout->returned);
	codec_bool(c, &payout->unclaimed);
	codec_currency(c, &payout->currency);
	codec_i64(c, &payout->amount);
	codec_i64(c, &payout->created_ms);
	codec_i64(c, &payout->arrival_ms);
	codec_i64(c, &payout->due_ms);
	codec_string(c, &payout->destination);
	codec_string(c, &payout->description);
	codec_string(c, &payout->idempotency_key);
	codec_string(c, &payout->reference);
	codec_string(c, &payout->batch);
	codec_string(c, &payout->account);
	codec_metadata(c, &payout->metadata);
}

void
codec_balance_tx(Codec *c, BalanceTx *tx)
{
	codec_id(c, tx->id);
	codec_u32(c, &tx->source);
	codec_u8(c, &tx->type);
	codec_currency(c, &tx->currency);
	codec_i64(c, &tx->amount);
	codec_i64(c, &tx->fee);
	codec_i64(c, &tx->rate);
	codec_i64(c, &tx->created_ms);
}

void
codec_modification(Codec *c, Modification *modification)
{
	codec_id(c, modification->id);
	codec_u32(c, &modification->charge);
	codec_u32(c, &modification->balance_tx);
	codec_u32(c, &modification->failure_balance_tx);
	codec_u8(c, &modification->psp);
	codec_u8(c, &modification->kind);
	codec_u8(c, &modification->status);
	codec_bool(c, &modification->fails);
	codec_currency(c, &modification->currency);
	codec_i64(c, &modification->amount);
	codec_i64(c, &modification->created_ms);
	codec_i64(c, &modification->due_ms);
	codec_string(c, &modification->reference);
	codec_string(c, &modification->reason);
	codec_string(c, &modification->idempotency_key);
	codec_metadata(c, &modification->metadata);
}

void
codec_notification(Codec *c, Notification *notification)
{
	codec_id(c, notification->id);
	codec_u8(c, &notification->psp);
	codec_i64(c, &notification->created_ms);
	codec_i64(c, &notification->delivered_ms);
	codec_i64(c, &notification->tried_ms);
	codec_i64(c, &notification->due_ms);
	codec_u32(c, &notification->attempts);
	codec_u8(c, &notification->copies);
	codec_bool(c, &notification->forged);
	codec_bool(c, &notification->lost);
	codec_bool(c, &notification->overtaken);
	codec_string(c, &notification->event);
	codec_string(c, &notification->signature);
	codec_string(c, &notification->body);
}

void
codec_customer(Codec *c, Customer *customer)
{
	codec_id(c, customer->id);
	codec_i64(c, &customer->created_ms);
	codec_string(c, &customer->email);
	codec_string(c, &customer->name);
	codec_metadata(c, &customer->metadata);
}

void
codec_saved_method(Codec *c, SavedMethod *saved)
{
	codec_id(c, saved->id);
	codec_u32(c, &saved->customer);
	codec_i64(c, &saved->created_ms);
	codec_string(c, &saved->method);
}

void
codec_setup(Codec *c, Setup *setup)
{
	codec_id(c, setup->id);
	codec_u32(c, &setup->customer);
	codec_u32(c, &setup->method);
	codec_i64(c, &setup->created_ms);
	codec_metadata(c, &setup->metadata);
}

void
codec_session(Codec *c, Session *session)
{
	codec_id(c, session->id);
	codec_u32(c, &session->intent);
	codec_u32(c, &session->setup);
	codec_u32(c, &session->customer);
	codec_u8(c, &session->psp);
	codec_u8(c, &session->status);
	codec_u8(c, &session->capture_method);
	codec_bool(c, &session->makes_customer);
	codec_bool(c, &session->saves_method);
	codec_currency(c, &session->currency);
	codec_i64(c, &session->amount);
	codec_i64(c, &session->created_ms);
	codec_i64(c, &session->due_ms);
	codec_i64(c, &session->expires_ms);
	codec_string(c, &session->host);
	codec_string(c, &session->success_url);
	codec_string(c, &session->cancel_url);
	codec_string(c, &session->reference);
	codec_string(c, &session->email);
	codec_string(c, &session->items);
	codec_string(c, &session->method);
	codec_string(c, &session->description);
	codec_string(c, &session->transfer_group);
	codec_string(c, &session->data);
	codec_metadata(c, &session->metadata);
	codec_metadata(c, &session->intent_metadata);
}

/* Numbers one after the other; the array is made when reading. */
static void
codec_numbers(Codec *c, uint32_t *count, uint32_t **numbers)
{
	codec_u32(c, count);
	if (c->out == NULL)
	{
		free(*numbers);
		*numbers = NULL;
		if (!c->bad && (size_t) (c->end - c->in) / 4 < *count)
			c->bad = true;
		if (c->bad)
			*count = 0;
		*numbers = xcalloc(*count, sizeof(uint32_t));
	}
	for (uint32_t i = 0; i < *count; i++)
		codec_u32(c, &(*numbers)[i]);
}

void
codec_dispute(Codec *c, Dispute *dispute)
{
	codec_id(c, dispute->id);
	codec_u32(c, &dispute->charge);
	codec_u8(c, &dispute->status);
	codec_u8(c, &dispute->then);
	codec_u8(c, &dispute->reason);
	codec_bool(c, &dispute->withdrawn);
	codec_currency(c, &dispute->currency);
	codec_i64(c, &dispute->amount);
	codec_i64(c, &dispute->created_ms);
	codec_i64(c, &dispute->due_ms);
	codec_i64(c, &dispute->respond_by_ms);
	codec_u32(c, &dispute->submissions);
	codec_numbers(c, &dispute->tx_count, &dispute->txs);
	codec_metadata(c, &dispute->evidence);
	codec_metadata(c, &dispute->metadata);
}

static void
codec_plants(Codec *c, Settlement *settlement)
{
	codec_u32(c, &settlement->plant_count);
	if (c->out == NULL)
	{
		free(settlement->plants);
		if (!c->bad &&
			(size_t) (c->end - c->in) / ID_SIZE < settlement->plant_count)
			c->bad = true;
		if (c->bad)
			settlement->plant_count = 0;
		settlement->plants = xcalloc(settlement->plant_count, sizeof(Plant));
	}
	for (uint32_t i = 0; i < settlement->plant_count; i++)
	{
		Plant *plant = &settlement->plants[i];

		codec_u8(c, &plant->kind);
		codec_u32(c, &plant->charge);
		codec_id(c, plant->balance_tx_id);
		codec_id(c, plant->charge_id);
		codec_id(c, plant->intent_id);
	}
}

void
codec_settlement(Codec *c, Settlement *settlement)
{
	codec_id(c, settlement->id);
	codec_i64(c, &settlement->created_ms);
	codec_u32(c, &settlement->tx_from);
	codec_u32(c, &settlement->tx_to);
	codec_numbers(c, &settlement->charge_count, &settlement->charges);
	codec_numbers(c, &settlement->other_count, &settlement->others);
	codec_numbers(c, &settlement->payout_count, &settlement->payouts);
	codec_plants(c, settlement);
}

void
codec_key(Codec *c, IdempotencyKey *key)
{
	uint32_t status = (uint32_t) key->status;
	uint32_t len = (uint32_t) key->body_len;
	uint8_t	 should_retry = (uint8_t) key->should_retry;

	codec_string(c, &key->key);
	codec_u8(c, &key->kept_for);
	codec_u64(c, &key->fingerprint.half[0]);
	codec_u64(c, &key->fingerprint.half[1]);
	codec_u32(c, &status);
	codec_u8(c, &should_retry);
	codec_i64(c, &key->created_ms);
	codec_u32(c, &len);
	if (c->out != NULL)
	{
		key->body_offset = (off_t) c->out->len;
		buf_put(c->out, key->body, len);
		return;
	}
	if (!take(c, len))
		return;
	key->status = (int32_t) status;
	key->should_retry = (int8_t) should_retry;
	key->body_len = len;
	key->body_offset = (off_t) (c->in - c->start);
	c->in += len;
}
