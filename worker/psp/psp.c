/*-------------------------------------------------------------------------
 *
 * psp.c
 *	  The adapters there are, and what they share.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "psp/psp.h"

static const PspAdapter *const adapters[] = { &psp_stripe };

const PspAdapter *
psp_adapter(const char *name)
{
	for (int i = 0; i < (int) lengthof(adapters); i++)
		if (strcmp(adapters[i]->name, name) == 0)
			return adapters[i];
	return NULL;
}

char *
psp_header(const PspResponse *response, const char *name)
{
	const char *line = response->headers;
	const char *end = line + response->headers_length;
	int			name_length = (int) strlen(name);

	while (line < end)
	{
		const char *line_end = memchr(line, '\n', end - line);

		if (line_end == NULL)
			line_end = end;
		if (line_end - line > name_length && line[name_length] == ':' &&
			pg_strncasecmp(line, name, name_length) == 0)
		{
			const char *value = line + name_length + 1;
			const char *value_end = line_end;

			while (value < value_end && (*value == ' ' || *value == '\t'))
				value++;
			while (value_end > value && (unsigned char) value_end[-1] <= ' ')
				value_end--;
			return pnstrdup(value, value_end - value);
		}
		line = line_end + 1;
	}
	return NULL;
}

const char *
psp_outcome_name(PspOutcomeKind kind)
{
	switch (kind)
	{
		case PSP_SUCCEEDED:
			return "succeeded";
		case PSP_PENDING:
			return "pending";
		case PSP_DECLINED:
			return "declined";
		case PSP_FAILED:
			return "failed";
		case PSP_RETRY:
			return "retry";
		case PSP_NOT_FOUND:
			return "not_found";
		case PSP_KEY_SPENT:
			return "key_spent";
		case PSP_UNKNOWN:
		case PSP_MORE:
			break;
	}
	return "unknown";
}
