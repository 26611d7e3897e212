/*
 * journal.c
 *		An append-only file of records: length, CRC-32, payload. A payload is
 *		a row of (tag, object), each the whole state of that object; reading
 *		them in order gives the book.
 *
 * A process killed in the middle of a write leaves a torn last record, whose
 * answer was never given: it is cut off. Anything else that does not read
 * well stops the start, since a sandbox that forgets money is useless.
 */
#include "journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "codec.h"
#include "paypal.h"
#include "timer.h"

#define MAGIC "payment-sandbox book 9\n"
#define HEADER_SIZE 8

enum
{
	TAG_INTENT = 'I',
	TAG_CHARGE = 'C',
	TAG_PAYOUT = 'P',
	TAG_BALANCE_TX = 'B',
	TAG_SETTLEMENT = 'S',
	TAG_MODIFICATION = 'M',
	TAG_NOTIFICATION = 'N',
	TAG_CUSTOMER = 'U',
	TAG_SAVED_METHOD = 'V',
	TAG_SETUP = 'T',
	TAG_SESSION = 'W',
	TAG_DISPUTE = 'D',
	TAG_KEY = 'K'
};

static int			   journal_fd = -1;
static off_t		   journal_end;
static const char	  *journal_path;
static Buf			   record;
static IdempotencyKey *record_key; /* the key in the record, if any */

static uint32_t
crc32_of(const unsigned char *data, size_t len)
{
	static uint32_t table[256];
	uint32_t		crc = UINT32_MAX;

	if (table[1] == 0)
	{
		for (uint32_t i = 0; i < 256; i++)
		{
			uint32_t c = i;

			for (int bit = 0; bit < 8; bit++)
				c = c & 1 ? (c >> 1) ^ UINT32_C(0xEDB88320) : c >> 1;
			table[i] = c;
		}
	}
	for (size_t i = 0; i < len; i++)
		crc = table[(crc ^ data[i]) & 0xFF] ^ (crc >> 8);
	return ~crc;
}

/* Finds the object numbered so, or makes the next one. */
static void *
place(Codec *c, const Shelf *shelf, uint32_t number, size_t size, bool *fresh)
{
	*fresh = number == shelf->count;
	if (c->bad || number > shelf->count)
	{
		c->bad = true;
		return NULL;
	}
	return *fresh ? xcalloc(1, size) : shelf->objects[number];
}

#define READ_OBJECT(c, shelf, type, number, codec)                    \
	do                                                                \
	{                                                                 \
		bool  fresh;                                                  \
		type *object = place(c, shelf, number, sizeof(type), &fresh); \
                                                                      \
		if (object == NULL)                                           \
			break;                                                    \
		codec(c, object);                                             \
		object->number = number;                                      \
		if (object->created_ms > book.now_ms)                         \
			book.now_ms = object->created_ms;                         \
		if (fresh)                                                    \
			book_shelve(shelf, object, object->id);                   \
	} while (0)

static void
read_key(Codec *c, off_t payload_offset)
{
	IdempotencyKey *key = xcalloc(1, sizeof(IdempotencyKey));

	codec_key(c, key);
	if (c->bad || key->key == NULL || key->kept_for >= KEY_LIFE_COUNT)
	{
		c->bad = true;
		free(key->key);
		free(key);
		return;
	}
	key->body_offset += payload_offset;
	idempotency_restore(key);
}

static void
read_object(Codec *c, off_t payload_offset)
{
	uint8_t	 tag = 0;
	uint32_t number = 0;

	codec_u8(c, &tag);
	if (tag != TAG_KEY)
		codec_u32(c, &number);
	switch (tag)
	{
		case TAG_INTENT:
			READ_OBJECT(c, &book.intents, Intent, number, codec_intent);
			break;
		case TAG_CHARGE:
			READ_OBJECT(c, &book.charges, Charge, number, codec_charge);
			break;
		case TAG_PAYOUT:
			READ_OBJECT(c, &book.payouts, Payout, number, codec_payout);
			break;
		case TAG_BALANCE_TX:
			READ_OBJECT(c, &book.balance_txs, BalanceTx, number,
						codec_balance_tx);
			break;
		case TAG_SETTLEMENT:
			READ_OBJECT(c, &book.settlements, Settlement, number,
						codec_settlement);
			break;
		case TAG_MODIFICATION:
			READ_OBJECT(c, &book.modifications, Modification, number,
						codec_modification);
			break;
		case TAG_NOTIFICATION:
			READ_OBJECT(c, &book.notifications, Notification, number,
						codec_notification);
			break;
		case TAG_CUSTOMER:
			READ_OBJECT(c, &book.customers, Customer, number, codec_customer);
			break;
		case TAG_SAVED_METHOD:
			READ_OBJECT(c, &book.saved_methods, SavedMethod, number,
						codec_saved_method);
			break;
		case TAG_SETUP:
			READ_OBJECT(c, &book.setups, Setup, number, codec_setup);
			break;
		case TAG_SESSION:
			READ_OBJECT(c, &book.sessions, Session, number, codec_session);
			break;
		case TAG_DISPUTE:
			READ_OBJECT(c, &book.disputes, Dispute, number, codec_dispute);
			break;
		case TAG_KEY:
			read_key(c, payload_offset);
			break;
		default:
			c->bad = true;
	}
}

static uint32_t
get_u32(const unsigned char *p)
{
	return (uint32_t) p[0] | (uint32_t) p[1] << 8 | (uint32_t) p[2] << 16 |
		   (uint32_t) p[3] << 24;
}

/* Applies the records; returns where the last whole one ends. */
static size_t
read_records(const unsigned char *file, size_t size)
{
	size_t at = strlen(MAGIC);

	while (size - at >= HEADER_SIZE)
	{
		size_t				 len = get_u32(file + at);
		const unsigned char *payload = file + at + HEADER_SIZE;
		Codec				 c = { .start = payload, .in = payload };

		if (size - at - HEADER_SIZE < len)
			break;
		c.end = payload + len;
		if (crc32_of(payload, len) != get_u32(file + at + 4))
			c.bad = true;
		while (!c.bad && c.in < c.end)
			read_object(&c, (off_t) (at + HEADER_SIZE));
		if (c.bad)
			die("\"%s\" is damaged at byte %zu", journal_path, at);
		at += HEADER_SIZE + len;
	}
	return at;
}

/* What the objects say about each other is put together once all are read. */
static void
connect_objects(void)
{
	for (uint32_t i = 0; i < book.balance_txs.count; i++)
		book_balance_tx(i)->settlement = NONE;
	for (uint32_t i = 0; i < book.settlements.count; i++)
	{
		Settlement *settlement = book_settlement(i);

		for (uint32_t j = 0; j < settlement->charge_count; j++)
			book_balance_tx(book_charge(settlement->charges[j])->balance_tx)
				->settlement = i;
		for (uint32_t j = 0; j < settlement->other_count; j++)
			book_balance_tx(settlement->others[j])->settlement = i;
	}
	for (uint32_t i = 0; i < book.intents.count; i++)
	{
		if (book_intent(i)->due_ms != 0)
			timer_add_intent(book_intent(i));
		paypal_order_restore(book_intent(i));
	}
	for (uint32_t i = 0; i < book.payouts.count; i++)
	{
		if (book_payout(i)->due_ms != 0)
			timer_add_payout(book_payout(i));
		paypal_payout_restore(book_payout(i));
	}
	for (uint32_t i = 0; i < book.sessions.count; i++)
	{
		if (book_session(i)->due_ms != 0)
			timer_add_session(book_session(i));
	}
	for (uint32_t i = 0; i < book.disputes.count; i++)
	{
		if (book_dispute(i)->due_ms != 0)
			timer_add_dispute(book_dispute(i));
	}
	for (uint32_t i = 0; i < book.modifications.count; i++)
	{
		if (book_modification(i)->due_ms != 0)
			timer_add_modification(book_modification(i));
	}
}

static void
write_all(const char *data, size_t len)
{
	while (len > 0)
	{
		ssize_t n = write(journal_fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			die("could not write \"%s\": %s", journal_path, strerror(errno));
		data += n;
		len -= (size_t) n;
		journal_end += n;
	}
}

static void
load(size_t size)
{
	unsigned char *file;
	size_t		   good;

	file = mmap(NULL, size, PROT_READ, MAP_PRIVATE, journal_fd, 0);
	if (file == MAP_FAILED)
		die("could not read \"%s\": %s", journal_path, strerror(errno));
	if (size < strlen(MAGIC) || memcmp(file, MAGIC, strlen(MAGIC)) != 0)
		die("\"%s\" is not a book of the sandbox", journal_path);
	good = read_records(file, size);
	munmap(file, size);
	if (good < size && ftruncate(journal_fd, (off_t) good) != 0)
		die("could not truncate \"%s\": %s", journal_path, strerror(errno));
	journal_end = (off_t) good;
	connect_objects();
}

void
journal_open(const char *path)
{
	struct stat st;

	journal_path = path;
	journal_fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (journal_fd < 0 || fstat(journal_fd, &st) != 0)
		die("could not open \"%s\": %s", path, strerror(errno));
	if (flock(journal_fd, LOCK_EX | LOCK_NB) != 0)
		die("\"%s\" is in use by another sandbox", path);
	/* A first write may itself have been torn. */
	if (st.st_size < (off_t) strlen(MAGIC))
	{
		if (ftruncate(journal_fd, 0) != 0)
			die("could not truncate \"%s\": %s", path, strerror(errno));
		write_all(MAGIC, strlen(MAGIC));
	}
	else
		load((size_t) st.st_size);
}

void
journal_close(void)
{
	if (journal_fd >= 0)
		close(journal_fd);
	journal_fd = -1;
	buf_free(&record);
}

static Codec
begin_object(uint8_t tag, uint32_t *number)
{
	Codec c = { .out = &record };

	if (record.len == 0)
		buf_put(&record, "\0\0\0\0\0\0\0", HEADER_SIZE);
	codec_u8(&c, &tag);
	if (number != NULL)
		codec_u32(&c, number);
	return c;
}

/* Defines journal_NAME, which writes an object of this type. */
#define JOURNAL_WRITER(name, type, tag)                     \
	void journal_##name(type *object)                       \
	{                                                       \
		if (journal_fd >= 0)                                \
		{                                                   \
			Codec c = begin_object(tag, &(object)->number); \
                                                            \
			codec_##name(&c, object);                       \
		}                                                   \
	}

JOURNAL_WRITER(intent, Intent, TAG_INTENT)
JOURNAL_WRITER(charge, Charge, TAG_CHARGE)
JOURNAL_WRITER(payout, Payout, TAG_PAYOUT)
JOURNAL_WRITER(balance_tx, BalanceTx, TAG_BALANCE_TX)
JOURNAL_WRITER(settlement, Settlement, TAG_SETTLEMENT)
JOURNAL_WRITER(modification, Modification, TAG_MODIFICATION)
JOURNAL_WRITER(notification, Notification, TAG_NOTIFICATION)
JOURNAL_WRITER(customer, Customer, TAG_CUSTOMER)
JOURNAL_WRITER(saved_method, SavedMethod, TAG_SAVED_METHOD)
JOURNAL_WRITER(setup, Setup, TAG_SETUP)
JOURNAL_WRITER(session, Session, TAG_SESSION)
JOURNAL_WRITER(dispute, Dispute, TAG_DISPUTE)

void
journal_key(IdempotencyKey *key)
{
	if (journal_fd >= 0)
	{
		Codec c = begin_object(TAG_KEY, NULL);

		codec_key(&c, key);
		record_key = key;
	}
}

static void
put_u32(char *at, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		at[i] = (char) (value >> (8 * i));
}

void
journal_commit(void)
{
	off_t start = journal_end;

	if (record.len == 0)
		return;
	if (record.len - HEADER_SIZE > UINT32_MAX)
		die("a change of the book is too large to write");
	put_u32(record.data, (uint32_t) (record.len - HEADER_SIZE));
	put_u32(record.data + 4,
			crc32_of((unsigned char *) record.data + HEADER_SIZE,
					 record.len - HEADER_SIZE));
	write_all(record.data, record.len);
	record.len = 0;
	/* The file holds the answer now: memory need not. */
	if (record_key != NULL)
	{
		record_key->body_offset += start;
		free(record_key->body);
		record_key->body = NULL;
		record_key = NULL;
	}
}

void
journal_read(off_t offset, size_t len, Buf *out)
{
	buf_reserve(out, len);
	for (size_t done = 0; done < len;)
	{
		ssize_t n = pread(journal_fd, out->data + out->len, len - done,
						  offset + (off_t) done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			die("could not read \"%s\"", journal_path);
		out->len += (size_t) n;
		done += (size_t) n;
	}
	out->data[out->len] = '\0';
}
