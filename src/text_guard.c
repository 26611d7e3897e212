/*-------------------------------------------------------------------------
 *
 * text_guard.c
 *	  What every text that comes from outside must pass.
 *
 * A card number in any field would put the whole database, its dumps and its
 * log under PCI DSS, so texts that hold one are refused before anything is
 * stored.  The errors hide the statement, which holds the number too, from
 * the log.
 *
 * Identifiers must not be taken for cards: lengths are checked against the
 * issuer's range, UUIDs and IBANs are stepped over, and digits in a word of
 * mixed letters and digits (hashes, base-62 references) do not count.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "payment.h"
#include "text_guard.h"
#include "utils/builtins.h"

#define MIN_CARD_DIGITS 13
#define MAX_CARD_DIGITS 19
#define MAX_KEY_LENGTH 255
#define MIN_IBAN_LENGTH 15
#define MAX_IBAN_LENGTH 34
#define UUID_TEXT_LENGTH 36

/* numbers whose first four digits lie in from..to have these lengths */
typedef struct IssuerRange
{
	int from;
	int to;
	int min_digits;
	int max_digits;
} IssuerRange;

static const IssuerRange issuers[] = {
	{ 2200, 2204, 16, 19 }, /* Mir */
	{ 2221, 2720, 16, 16 }, /* Mastercard */
	{ 3000, 3059, 14, 16 }, /* Diners Club */
	{ 3400, 3499, 15, 15 }, /* American Express */
	{ 3528, 3589, 16, 19 }, /* JCB */
	{ 3600, 3699, 14, 19 }, /* Diners Club */
	{ 3700, 3799, 15, 15 }, /* American Express */
	{ 3800, 3999, 14, 19 }, /* Diners Club */
	{ 4000, 4999, 13, 13 }, /* Visa */
	{ 4000, 4999, 16, 16 }, /* Visa */
	{ 4000, 4999, 19, 19 }, /* Visa */
	{ 5000, 5099, 13, 19 }, /* Maestro, Elo */
	{ 5100, 5599, 16, 16 }, /* Mastercard */
	{ 5600, 5899, 13, 19 }, /* Maestro */
	{ 6000, 6999, 13, 19 }, /* Maestro, Discover, UnionPay, RuPay, Elo */
	{ 8100, 8299, 16, 19 }, /* UnionPay, RuPay */
	{ 9792, 9792, 16, 16 }, /* Troy */
};

/* the digits seen so far, group by group */
typedef struct DigitWindow
{
	char digits[MAX_CARD_DIGITS];
	int	 count;
	int	 group_sizes[MAX_CARD_DIGITS];
	int	 groups;

	const char *group_texts[MAX_CARD_DIGITS]; /* where each begins */
	const char *found;						  /* where the card number does */
} DigitWindow;

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_upper(char c)
{
	return c >= 'A' && c <= 'Z';
}

static bool
is_word(char c)
{
	return is_digit(c) || is_upper(c) || (c >= 'a' && c <= 'z');
}

static bool
is_hex(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool
passes_luhn(const char *digits, int count)
{
	int sum = 0;

	for (int i = 0; i < count; i++)
	{
		int digit = digits[count - 1 - i] - '0';

		if (i % 2 == 1)
			digit = digit > 4 ? digit * 2 - 9 : digit * 2;
		sum += digit;
	}
	return sum % 10 == 0;
}

static bool
is_card_number(const char *digits, int count)
{
	int prefix = 0;

	for (int i = 0; i < 4; i++)
		prefix = prefix * 10 + digits[i] - '0';
	for (size_t i = 0; i < lengthof(issuers); i++)
	{
		if (prefix >= issuers[i].from && prefix <= issuers[i].to &&
			count >= issuers[i].min_digits && count <= issuers[i].max_digits)
			return passes_luhn(digits, count);
	}
	return false;
}

/* length of the UUID that begins here, or 0 */
static int
uuid_length(const char *text, const char *end)
{
	if (end - text < UUID_TEXT_LENGTH)
		return 0;
	for (int i = 0; i < UUID_TEXT_LENGTH; i++)
	{
		bool hyphen = i == 8 || i == 13 || i == 18 || i == 23;

		if (hyphen ? text[i] != '-' : !is_hex(text[i]))
			return 0;
	}
	if (text + UUID_TEXT_LENGTH < end && is_word(text[UUID_TEXT_LENGTH]))
		return 0;
	return UUID_TEXT_LENGTH;
}

/* remainder of the characters, letters counting 10 to 35, modulo 97 */
static int
iban_remainder(const char *characters, int count)
{
	int remainder = 0;

	/* the check digits count last */
	for (int i = 0; i < count; i++)
	{
		char c = characters[(i + 4) % count];

		if (is_digit(c))
			remainder = (remainder * 10 + c - '0') % 97;
		else
			remainder = (remainder * 100 + c - 'A' + 10) % 97;
	}
	return remainder;
}

/*
 * Length of the longest IBAN that begins here, or 0.  Groups of it may be
 * apart by single spaces.
 */
static int
iban_length(const char *text, const char *end)
{
	char		characters[MAX_IBAN_LENGTH];
	int			count = 0;
	int			found = 0;
	const char *at;

	if (end - text < MIN_IBAN_LENGTH || !is_upper(text[0]) ||
		!is_upper(text[1]) || !is_digit(text[2]) || !is_digit(text[3]))
		return 0;
	for (at = text; at < end && count < MAX_IBAN_LENGTH; at++)
	{
		bool last_of_group = at + 1 == end || !is_word(at[1]);

		if (*at == ' ' && at[-1] != ' ')
			continue;
		if (!is_digit(*at) && !is_upper(*at))
			break;
		characters[count++] = *at;
		if (last_of_group && count >= MIN_IBAN_LENGTH &&
			iban_remainder(characters, count) == 1)
			found = at + 1 - text;
	}
	return found;
}

/* forget the first group */
static void
window_drop_first(DigitWindow *window)
{
	int size = window->group_sizes[0];

	window->count -= size;
	window->groups--;
	memmove(window->digits, window->digits + size, window->count);
	memmove(window->group_sizes, window->group_sizes + 1,
			sizeof(int) * window->groups);
	memmove(window->group_texts, window->group_texts + 1,
			sizeof(char *) * window->groups);
}

/*
 * Add a group and say whether whole groups up to it make a card number.  A
 * group too long to be part of one empties the window.
 */
static bool
window_add(DigitWindow *window, const char *digits, int size)
{
	int start = 0;

	if (size > MAX_CARD_DIGITS)
	{
		window->count = window->groups = 0;
		return false;
	}
	while (window->count + size > MAX_CARD_DIGITS)
		window_drop_first(window);
	memcpy(window->digits + window->count, digits, size);
	window->count += size;
	window->group_texts[window->groups] = digits;
	window->group_sizes[window->groups++] = size;

	for (int i = 0; window->count - start >= MIN_CARD_DIGITS; i++)
	{
		if (is_card_number(window->digits + start, window->count - start))
		{
			window->found = window->group_texts[i];
			return true;
		}
		start += window->group_sizes[i];
	}
	return false;
}

/*
 * Feed one word to the window.  Letters before or after its digits end or
 * begin a number; letters on both sides of digits, or between them, make the
 * word an identifier.
 */
static bool
scan_word(DigitWindow *window, const char *word, const char *end)
{
	const char *first = word;
	const char *last;

	while (first < end && !is_digit(*first))
		first++;
	for (last = first; last < end && is_digit(*last);)
		last++;
	if (first > word)
		window->count = window->groups = 0;
	for (const char *rest = last; rest < end; rest++)
	{
		if (is_digit(*rest))
			last = first;
	}
	if (last > first && window_add(window, first, last - first))
		return true;
	if (last < end)
		window->count = window->groups = 0;
	return false;
}

/* The first card number, and the end of its last word; NULL: there is none */
static const char *
find_card_number(const char *text, int length, const char **word_end)
{
	const char *end = text + length;
	DigitWindow window = { 0 };
	int			separators = 0;

	while (text < end)
	{
		int			skip;
		const char *word = text;

		if (!is_word(*text))
		{
			/* one space or hyphen keeps groups together, no more */
			if ((*text != ' ' && *text != '-') || ++separators > 1)
				window.count = window.groups = 0;
			text++;
			continue;
		}
		separators = 0;
		if ((skip = uuid_length(text, end)) > 0 ||
			(skip = iban_length(text, end)) > 0)
		{
			window.count = window.groups = 0;
			text += skip;
			continue;
		}
		while (text < end && is_word(*text))
			text++;
		if (scan_word(&window, word, text))
		{
			*word_end = text;
			return window.found;
		}
	}
	return NULL;
}

bool
contains_card_number(const char *text, int length)
{
	const char *word_end;

	return find_card_number(text, length, &word_end) != NULL;
}

bool
hide_card_numbers(char *text, int length)
{
	const char *end = text + length;
	const char *from = text;
	const char *word_end;
	const char *found;
	bool		hidden = false;

	while ((found = find_card_number(from, (int) (end - from), &word_end)))
	{
		for (char *c = text + (found - text); c < word_end; c++)
			if (is_digit(*c))
				*c = 'X';
		from = word_end;
		hidden = true;
	}
	return hidden;
}

/* the statement holds the number too: keep it out of the log */
void
refuse_card_number(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_CARD_NUMBER),
			 errmsg("\"%s\" holds a card number", name),
			 errdetail("Card numbers are never stored here."),
			 errhint("Let the payer type it into the page of the payment "
					 "service provider, and pass what that gives back."),
			 errhidestmt(true), errhidecontext(true)));
}

static void
refuse_length(const char *name, int length, int limit, const char *setting)
{
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_LIMIT_EXCEEDED),
			 errmsg("\"%s\" is too long", name),
			 errdetail("It has %d bytes, the limit is %d.", length, limit),
			 errhint("Shorten it or raise %s.", setting)));
}

void
check_text(const char *name, const char *text, int length)
{
	if (text == NULL)
		return;
	if (length > payment_max_text_bytes)
		refuse_length(name, length, payment_max_text_bytes,
					  "payment.max_text_bytes");
	if (contains_card_number(text, length))
		refuse_card_number(name);
}

static void
check_number(const char *name, Numeric number)
{
	char *text;

	if (numeric_is_nan(number) || numeric_is_inf(number))
		return;
	text = DatumGetCString(
		DirectFunctionCall1(numeric_out, NumericGetDatum(number)));
	if (contains_card_number(text, strlen(text)))
		refuse_card_number(name);
	pfree(text);
}

void
check_metadata(const char *name, Jsonb *metadata)
{
	JsonbIterator	  *iterator;
	JsonbIteratorToken token;
	JsonbValue		   value;
	int				   size;

	if (metadata == NULL)
		return;
	size = VARSIZE_ANY_EXHDR(metadata);
	if (size > payment_max_metadata_bytes)
		refuse_length(name, size, payment_max_metadata_bytes,
					  "payment.max_metadata_bytes");

	iterator = JsonbIteratorInit(&metadata->root);
	while ((token = JsonbIteratorNext(&iterator, &value, false)) != WJB_DONE)
	{
		if (token != WJB_KEY && token != WJB_VALUE && token != WJB_ELEM)
			continue;
		if (value.type == jbvString &&
			contains_card_number(value.val.string.val, value.val.string.len))
			refuse_card_number(name);
		if (value.type == jbvNumeric)
			check_number(name, value.val.numeric);
	}
}

void
check_idempotency_key(const char *key, int length)
{
	int characters = pg_mbstrlen_with_len(key, length);

	if (characters < 1 || characters > MAX_KEY_LENGTH)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("an idempotency key has 1 to %d characters",
							   MAX_KEY_LENGTH),
						errdetail("This one has %d.", characters),
						errhint("Pass a fresh UUID for each new request.")));
	for (int i = 0; i < length; i++)
	{
		unsigned char c = (unsigned char) key[i];

		if (c < 0x20 || c == 0x7f)
			ereport(ERROR,
					(errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
					 errmsg("an idempotency key holds printable characters "
							"only"),
					 errdetail("Byte %d is a control character.", i + 1),
					 errhint("Pass a fresh UUID for each new request.")));
	}
	if (contains_card_number(key, length))
		refuse_card_number("idempotency_key");
}
