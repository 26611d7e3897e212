/*-------------------------------------------------------------------------
 *
 * signature.c
 *	  Whether a webhook is its PSP's.
 *
 * Signatures are compared in constant time, all that came with all that they
 * could be, so that nobody learns from our answers how close a guess was.
 * Secrets are wiped as soon as they have been used.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/base64.h"
#include "common/hmac.h"
#include "common/sha2.h"
#include "secret.h"

#include "webhook/signature.h"

#define DIGEST_LENGTH PG_SHA256_DIGEST_LENGTH
#define SIGNATURES_MAX 16
#define HEADER_LENGTH_MAX 4096
#define TIME_DIGITS_MAX 12

/* one piece of what is signed */
typedef struct Piece
{
	const char *text;
	int			length;
} Piece;

/* ---- secrets ---- */

void
secrets_init(WebhookSecrets *secrets, int count)
{
	secrets->values = palloc0(Max(count, 1) * sizeof(char *));
	secrets->count = 0;
	secrets->some_unreadable = false;
}

void
secrets_read(WebhookSecrets *secrets, char *const *names, int count)
{
	for (int i = 0; i < count; i++)
	{
		const char *problem;
		const char *value = secret_get(names[i], &problem);

		if (value)
			secrets->values[secrets->count++] = pstrdup(value);
		else
		{
			secrets->some_unreadable = true;
			ereport(LOG,
					(errcode(ERRCODE_CONFIG_FILE_ERROR),
					 errmsg("a webhook secret cannot be read: %s", problem)));
		}
	}
}

void
secrets_wipe(WebhookSecrets *secrets)
{
	for (int i = 0; i < secrets->count; i++)
		explicit_bzero(secrets->values[i], strlen(secrets->values[i]));
	secrets->count = 0;
}

/* ---- HMAC ---- */

/* no error before the caller has wiped the key */
static bool
hmac_sha256(const uint8 *key, int key_length, const Piece *pieces, int count,
			uint8 *digest)
{
	pg_hmac_ctx *context = pg_hmac_create(PG_SHA256);
	bool		 done;

	done = context && pg_hmac_init(context, key, key_length) >= 0;
	for (int i = 0; i < count && done; i++)
		done = pg_hmac_update(context, (const uint8 *) pieces[i].text,
							  pieces[i].length) >= 0;
	done = done && pg_hmac_final(context, digest, DIGEST_LENGTH) >= 0;
	if (context)
		pg_hmac_free(context);
	return done;
}

static void
refuse_to_guess(void)
{
	elog(ERROR, "could not compute HMAC-SHA256");
}

static bool
is_equal(const uint8 *a, const uint8 *b)
{
	volatile uint8 difference = 0;

	for (int i = 0; i < DIGEST_LENGTH; i++)
		difference |= a[i] ^ b[i];
	return difference == 0;
}

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* false unless it is hex of that many bytes */
static bool
hex_bytes(const char *text, int text_length, uint8 *bytes, int length)
{
	if (text_length != 2 * length)
		return false;
	for (int i = 0; i < length; i++)
	{
		int high = hex_value(text[2 * i]);
		int low = hex_value(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		bytes[i] = (uint8) (high << 4 | low);
	}
	return true;
}

/* ---- Stripe ---- */

typedef struct StripeHeader
{
	const char *time;
	int			time_length;
	int64		at_s;
	uint8		signatures[SIGNATURES_MAX][DIGEST_LENGTH];
	int			count;
} StripeHeader;

static bool
read_time(StripeHeader *header, const char *text, int length)
{
	/* with two of them nobody knows which was signed */
	if (header->time || length < 1 || length > TIME_DIGITS_MAX)
		return false;
	header->time = text;
	header->time_length = length;
	for (int i = 0; i < length; i++)
	{
		if (text[i] < '0' || text[i] > '9')
			return false;
		header->at_s = header->at_s * 10 + text[i] - '0';
	}
	return true;
}

static bool
read_part(StripeHeader *header, const char *text, int length)
{
	if (length >= 2 && strncmp(text, "t=", 2) == 0)
		return read_time(header, text + 2, length - 2);

	/* of other schemes there may be any, and signatures that are none */
	if (length >= 3 && strncmp(text, "v1=", 3) == 0 &&
		header->count < SIGNATURES_MAX &&
		hex_bytes(text + 3, length - 3, header->signatures[header->count],
				  DIGEST_LENGTH))
		header->count++;
	return true;
}

static bool
read_header(StripeHeader *header, const char *text)
{
	memset(header, 0, sizeof(*header));
	if (strlen(text) > HEADER_LENGTH_MAX)
		return false;
	for (;;)
	{
		int length;

		text += strspn(text, " \t");
		length = (int) strcspn(text, ",");
		if (!read_part(header, text, length))
			return false;
		if (text[length] == '\0')
			break;
		text += length + 1;
	}
	return header->time && header->count > 0;
}

SignatureVerdict
signature_check_stripe(const WebhookSecrets *secrets, const char *header_text,
					   const char *body, int length, int64 now_s,
					   int64 tolerance_s)
{
	StripeHeader header;
	Piece		 pieces[3];
	uint8		 digest[DIGEST_LENGTH];
	bool		 found = false;

	if (header_text == NULL)
		return SIGNATURE_MISSING;
	if (!read_header(&header, header_text))
		return SIGNATURE_MALFORMED;
	pieces[0] = (Piece){ header.time, header.time_length };
	pieces[1] = (Piece){ ".", 1 };
	pieces[2] = (Piece){ body, length };
	for (int i = 0; i < secrets->count; i++)
	{
		const char *secret = secrets->values[i];

		if (!hmac_sha256((const uint8 *) secret, (int) strlen(secret), pieces,
						 lengthof(pieces), digest))
			refuse_to_guess();
		for (int j = 0; j < header.count; j++)
			found |= is_equal(digest, header.signatures[j]);
	}
	if (!found)
		return SIGNATURE_BAD;
	if (header.at_s < now_s - tolerance_s)
		return SIGNATURE_OLD;
	if (header.at_s > now_s + tolerance_s)
		return SIGNATURE_FUTURE;
	return SIGNATURE_GOOD;
}

/* ---- Adyen ---- */

SignatureVerdict
signature_check_adyen(const WebhookSecrets *secrets, const char *signature,
					  const char *text, int length)
{
	Piece piece = { text, length };
	uint8 given[DIGEST_LENGTH + 3]; /* room for what base64 pads */
	uint8 digest[DIGEST_LENGTH];
	bool  found = false;
	int	  signature_length = signature ? (int) strlen(signature) : 0;

	if (signature == NULL)
		return SIGNATURE_MISSING;
	if (signature_length > pg_b64_enc_len(DIGEST_LENGTH) ||
		pg_b64_decode(signature, signature_length, (char *) given,
					  sizeof(given)) != DIGEST_LENGTH)
		return SIGNATURE_MALFORMED;
	for (int i = 0; i < secrets->count; i++)
	{
		int	   size = (int) strlen(secrets->values[i]) / 2;
		uint8 *key = palloc(Max(size, 1));
		bool   is_key =
			size > 0 && hex_bytes(secrets->values[i],
								  (int) strlen(secrets->values[i]), key, size);
		bool done = !is_key || hmac_sha256(key, size, &piece, 1, digest);

		explicit_bzero(key, Max(size, 1));
		pfree(key);
		if (!done)
			refuse_to_guess();
		found |= is_key && is_equal(digest, given);
	}
	return found ? SIGNATURE_GOOD : SIGNATURE_BAD;
}
