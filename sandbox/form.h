/*
 * form.h
 *		Form bodies and query strings: a=1&metadata[k]=v
 *
 * Names are kept whole, brackets included, once percent-decoded. A handler
 * takes what it knows; what nobody took is an unknown parameter.
 */
#ifndef SANDBOX_FORM_H
#define SANDBOX_FORM_H

#include <stdbool.h>
#include <stddef.h>

#include "buf.h"

#define FORM_PARAMS_MAX 500

typedef struct FormParam
{
	char *name;
	char *value;
	bool  taken;
} FormParam;

typedef struct Form
{
	FormParam *params;
	int		   count;
	char	  *storage;
} Form;

/* NULL, or what is wrong with the text, as a sentence. */
extern const char *form_parse(Form *form, const char *text, size_t len);
extern void		   form_free(Form *form);

/* The value, marked as taken; NULL when absent. */
extern const char *form_take(Form *form, const char *name);

/*
 * The next parameter named base[...], with the text between the brackets in
 * "sub" (of size sub_size); *at starts at 0 and moves on.
 */
extern FormParam  *form_take_sub(Form *form, const char *base, int *at,
								 char *sub, size_t sub_size);
extern const char *form_untaken(const Form *form);

/* Percent-encodes text. */
extern void form_encode(Buf *out, const char *text);

/* The same parameters in another order give the same text. */
extern void form_canonical(const Form *form, Buf *out);

#endif
