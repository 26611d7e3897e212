/*
 * form.c
 *		Decoding of urlencoded forms. Strict: bad percent encoding, zero bytes,
 *		invalid UTF-8 and a name given twice are errors, never guessed at.
 */
#include "form.h"

#include <stdlib.h>
#include <string.h>

#include "json.h"

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

/* Decodes in place; false on bad encoding. */
static bool
decode(char *text)
{
	char	   *out = text;
	const char *in = text;
	size_t		left;

	while (*in)
	{
		if (*in == '%')
		{
			int high = hex_value(in[1]);
			int low = high < 0 ? -1 : hex_value(in[2]);

			if (low < 0 || (high == 0 && low == 0))
				return false;
			*out++ = (char) (high * 16 + low);
			in += 3;
		}
		else
		{
			*out++ = *in == '+' ? ' ' : *in;
			in++;
		}
	}
	*out = '\0';

	left = (size_t) (out - text);
	for (const unsigned char *s = (const unsigned char *) text; left > 0;)
	{
		int n = utf8_length(s, left);

		if (n == 0)
			return false;
		s += n;
		left -= (size_t) n;
	}
	return true;
}

/* Lists may be given in parts: expand[]=a&expand[]=b, plant=x&plant=y. */
static bool
may_repeat(const char *name)
{
	size_t len = strlen(name);

	return strcmp(name, "plant") == 0 ||
		   (len > 2 && strcmp(name + len - 2, "[]") == 0);
}

static int
compare_params(const void *a, const void *b)
{
	const FormParam *x = *(FormParam *const *) a;
	const FormParam *y = *(FormParam *const *) b;
	int				 order = strcmp(x->name, y->name);

	/* The address is the position: repeated names keep their order. */
	return order ? order : (x > y) - (x < y);
}

static FormParam **
sorted_params(const Form *form)
{
	FormParam **sorted = xcalloc((size_t) form->count, sizeof(FormParam *));

	for (int i = 0; i < form->count; i++)
		sorted[i] = &form->params[i];
	qsort(sorted, (size_t) form->count, sizeof(FormParam *), compare_params);
	return sorted;
}

static bool
has_duplicate(const Form *form)
{
	FormParam **sorted = sorted_params(form);
	bool		found = false;

	for (int i = 1; i < form->count && !found; i++)
		found = strcmp(sorted[i - 1]->name, sorted[i]->name) == 0 &&
				!may_repeat(sorted[i]->name);
	free(sorted);
	return found;
}

const char *
form_parse(Form *form, const char *text, size_t len)
{
	char *rest;
	char *pair;

	memset(form, 0, sizeof(*form));
	if (len == 0)
		return NULL;
	if (memchr(text, '\0', len) != NULL)
		return "The request holds a zero byte.";
	form->storage = xstrndup(text, len);
	rest = form->storage;
	while ((pair = strsep(&rest, "&")) != NULL)
	{
		char *value = strchr(pair, '=');

		if (*pair == '\0')
			continue;
		if (form->count == FORM_PARAMS_MAX)
			return "The request has too many parameters.";
		if (form->count % 16 == 0)
			form->params = xrealloc(form->params, ((size_t) form->count + 16) *
													  sizeof(FormParam));
		if (value != NULL)
			*value++ = '\0';
		else
			value = pair + strlen(pair);
		if (!decode(pair) || !decode(value))
			return "The request is not valid percent-encoded UTF-8.";
		form->params[form->count++] = (FormParam){ pair, value, false };
	}
	if (has_duplicate(form))
		return "The request gives a parameter more than once.";
	return NULL;
}

void
form_free(Form *form)
{
	free(form->params);
	free(form->storage);
	memset(form, 0, sizeof(*form));
}

const char *
form_take(Form *form, const char *name)
{
	for (int i = 0; i < form->count; i++)
	{
		if (strcmp(form->params[i].name, name) == 0)
		{
			form->params[i].taken = true;
			return form->params[i].value;
		}
	}
	return NULL;
}

FormParam *
form_take_sub(Form *form, const char *base, int *at, char *sub,
			  size_t sub_size)
{
	size_t base_len = strlen(base);

	for (; *at < form->count; (*at)++)
	{
		FormParam  *param = &form->params[*at];
		const char *name = param->name;
		const char *inner;
		size_t		inner_len;

		if (strncmp(name, base, base_len) != 0 || name[base_len] != '[')
			continue;
		inner = name + base_len + 1;
		inner_len = strcspn(inner, "[]");
		if (strcmp(inner + inner_len, "]") != 0 || inner_len >= sub_size)
			continue;
		memcpy(sub, inner, inner_len);
		sub[inner_len] = '\0';
		param->taken = true;
		(*at)++;
		return param;
	}
	return NULL;
}

const char *
form_untaken(const Form *form)
{
	for (int i = 0; i < form->count; i++)
	{
		if (!form->params[i].taken)
			return form->params[i].name;
	}
	return NULL;
}

void
form_canonical(const Form *form, Buf *out)
{
	FormParam **sorted = sorted_params(form);

	for (int i = 0; i < form->count; i++)
	{
		buf_put(out, sorted[i]->name, strlen(sorted[i]->name) + 1);
		buf_put(out, sorted[i]->value, strlen(sorted[i]->value) + 1);
	}
	free(sorted);
}

void
form_encode(Buf *out, const char *text)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
								"abcdefghijklmnopqrstuvwxyz0123456789-._~";

	for (; *text != '\0'; text++)
	{
		if (strchr(plain, *text) != NULL)
			buf_putc(out, *text);
		else
			buf_printf(out, "%%%02X", (unsigned char) *text);
	}
}
