/*-------------------------------------------------------------------------
 *
 * adapter.c
 *	  What adapters share: building requests, and reading answers with the
 *	  same distrust.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "psp/adapter.h"

/* ---- requests ---- */

void
adapter_begin(PspRequest *request, const char *method, const char *base_url,
			  const char *path)
{
	int length = (int) strlen(base_url);

	while (length > 0 && base_url[length - 1] == '/')
		length--;
	request->method = method;
	request->header_count = 0;
	initStringInfo(&request->url);
	initStringInfo(&request->body);
	appendBinaryStringInfo(&request->url, base_url, length);
	appendStringInfoString(&request->url, path);
}

void
adapter_header(PspRequest *request, const char *text)
{
	Assert(request->header_count < PSP_MAX_HEADERS);
	request->headers[request->header_count++] = text;
}

bool
is_manual(const PspTask *task)
{
	return task->operation == PSP_OPERATION_PAY && task->capture_method &&
		   strcmp(task->capture_method, "manual") == 0;
}

/* A browser will be sent there: nothing but an address of the web. */
bool
is_page_address(const char *url)
{
	if (url == NULL || strlen(url) > PSP_URL_LENGTH_MAX ||
		(strncmp(url, "https://", 8) != 0 && strncmp(url, "http://", 7) != 0))
		return false;
	for (const char *c = url; *c; c++)
		if ((unsigned char) *c <= ' ' || (unsigned char) *c >= 0x7F)
			return false;
	return true;
}

bool
is_about_authorization(const PspTask *task)
{
	return task->operation == PSP_OPERATION_CAPTURE ||
		   task->operation == PSP_OPERATION_VOID;
}

bool
is_about_dispute(const PspTask *task)
{
	return task->operation == PSP_OPERATION_DISPUTE_EVIDENCE ||
		   task->operation == PSP_OPERATION_DISPUTE_ACCEPT;
}

bool
adapter_lacks_parent(const PspTask *task, PspOutcome *outcome)
{
	if ((!is_about_authorization(task) && !is_about_dispute(task) &&
		 task->operation != PSP_OPERATION_REFUND) ||
		task->parent_reference)
		return false;
	outcome_error(outcome, PSP_UNKNOWN, "no_parent_reference",
				  "the PSP's name of the payment is not known");
	return true;
}

void
json_append_string(StringInfo out, const char *text)
{
	appendStringInfoCharMacro(out, '"');
	for (const char *p = text; *p; p++)
	{
		unsigned char c = (unsigned char) *p;

		if (c == '"' || c == '\\')
			appendStringInfo(out, "\\%c", c);
		else if (c < ' ' || c == 0x7F)
			appendStringInfo(out, "\\u%04x", c);
		else
			appendStringInfoCharMacro(out, *p);
	}
	appendStringInfoCharMacro(out, '"');
}

void
json_append_name(StringInfo out, const char *name)
{
	if (out->len > 0 && out->data[out->len - 1] != '{')
		appendStringInfoCharMacro(out, ',');
	json_append_string(out, name);
	appendStringInfoCharMacro(out, ':');
}

void
json_append_member(StringInfo out, const char *name, const char *value)
{
	if (value == NULL)
		return;
	json_append_name(out, name);
	json_append_string(out, value);
}

/* ---- answers ---- */

bool
adapter_one_of(const char *text, const char *const *list)
{
	if (text == NULL)
		return false;
	for (; *list; list++)
		if (strcmp(text, *list) == 0)
			return true;
	return false;
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

bool
psp_header_is_true(const PspResponse *response, const char *name)
{
	char *value = psp_header(response, name);

	return value != NULL && pg_strcasecmp(value, "true") == 0;
}

const char *
member_text(const JsonDocument *json, const JsonNode *object, const char *name,
			int length_max)
{
	char *text = json_string(json, json_member(json, object, name));
	int	  length;

	if (text == NULL || *text == '\0')
		return NULL;
	length = (int) strlen(text);
	if (length > length_max)
	{
		length = length_max;
		while (length > 0 && ((unsigned char) text[length] & 0xC0) == 0x80)
			length--;
		text[length] = '\0';
	}
	return text;
}

const char *
member_reference(const JsonDocument *json, const JsonNode *object,
				 const char *name)
{
	const char *id = member_text(json, object, name, PG_INT32_MAX);

	if (id == NULL || strlen(id) > PSP_REFERENCE_LENGTH_MAX)
		return NULL;
	for (const char *c = id; *c; c++)
		if ((unsigned char) *c <= ' ' || (unsigned char) *c >= 0x7F)
			return NULL;
	return id;
}

bool
member_equals(const JsonDocument *json, const JsonNode *object,
			  const char *name, const char *value)
{
	char *text = json_string(json, json_member(json, object, name));

	return text != NULL && value != NULL && strcmp(text, value) == 0;
}

bool
member_currency(const JsonDocument *json, const JsonNode *object,
				const char *name, char *currency)
{
	char *text = json_string(json, json_member(json, object, name));

	if (text == NULL || strlen(text) != 3)
		return false;
	for (int i = 0; i < 3; i++)
		currency[i] = (char) pg_ascii_toupper((unsigned char) text[i]);
	currency[3] = '\0';
	return true;
}

/* so many digits, at *text and on; false when there are fewer */
static bool
take_number(const char **text, int digits, int *number)
{
	*number = 0;
	for (; digits > 0; digits--, (*text)++)
	{
		if (**text < '0' || **text > '9')
			return false;
		*number = *number * 10 + **text - '0';
	}
	return true;
}

/* ... and the character that follows them */
static bool
take_field(const char **text, int digits, char end, int *number)
{
	return take_number(text, digits, number) && *(*text)++ == end;
}

/* "Z", "+02:00" or "+0200" */
static bool
take_offset(const char **text, int *offset_s)
{
	int sign = **text == '-' ? -1 : 1;
	int hours;
	int minutes;

	*offset_s = 0;
	if (**text == 'Z')
	{
		(*text)++;
		return true;
	}
	if (**text != '+' && **text != '-')
		return false;
	(*text)++;
	if (!take_number(text, 2, &hours))
		return false;
	if (**text == ':')
		(*text)++;
	if (!take_number(text, 2, &minutes))
		return false;
	*offset_s = sign * (hours * 3600 + minutes * 60);
	return true;
}

/* days since 1970 of a date of the Gregorian calendar */
static int64
days_of(int year, int month, int day)
{
	int64 y = month > 2 ? year : year - 1;
	int	  m = month > 2 ? month - 3 : month + 9;

	return y * 365 + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 -
		   719468;
}

int64
member_time(const JsonDocument *json, const JsonNode *object, const char *name)
{
	const char *text = member_text(json, object, name, 40);
	int			year, month, day, hour, minute, second, offset_s;

	if (text == NULL || !take_field(&text, 4, '-', &year) ||
		!take_field(&text, 2, '-', &month) ||
		!take_field(&text, 2, 'T', &day) ||
		!take_field(&text, 2, ':', &hour) ||
		!take_field(&text, 2, ':', &minute) || !take_number(&text, 2, &second))
		return 0;
	if (*text == '.')
		text += 1 + strspn(text + 1, "0123456789");
	if (!take_offset(&text, &offset_s) || *text != '\0' || year < 1970 ||
		month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 ||
		minute > 59 || second > 60)
		return 0;
	return Max(days_of(year, month, day) * 86400 + hour * 3600 + minute * 60 +
				   second - offset_s,
			   0);
}

/* ---- outcomes ---- */

void
outcome_reset(PspOutcome *outcome, const PspResponse *response)
{
	memset(outcome, 0, sizeof(*outcome));
	outcome->retry_after_ms = response->retry_after_ms;
}

void
outcome_error(PspOutcome *outcome, PspOutcomeKind kind, const char *code,
			  const char *message)
{
	outcome->kind = kind;
	outcome->error_code = code;
	outcome->error_message = message;
}

void
outcome_unreadable(PspOutcome *outcome)
{
	outcome_error(outcome, PSP_UNKNOWN, "unreadable_answer",
				  "the PSP's answer is not what its protocol says");
	outcome->error_class = PSP_ERROR_ANSWER;
}

void
outcome_unknown_status(PspOutcome *outcome, const char *status)
{
	outcome_error(outcome, PSP_UNKNOWN, "unknown_status",
				  psprintf("the PSP reports the status \"%s\"", status));
}

void
outcome_failed(PspOutcome *outcome, const char *code, const char *message)
{
	outcome_error(outcome, PSP_FAILED, code, message);
	outcome->decline_class = PSP_DECLINE_NOT_APPLICABLE;
}

void
outcome_captured_in_all(const PspTask *task, bool is_open, PspOutcome *outcome)
{
	int64 amount = outcome->amount - task->captured_amount;

	outcome->has_amount = amount > 0;
	outcome->amount = Max(amount, 0);
	if (amount > 0)
		return;
	outcome->currency[0] = '\0';
	if (amount < 0)
		outcome_unreadable(outcome);
	else if (!is_open)
		outcome_failed(outcome, "already_captured",
					   "nothing is left of what was authorized");
	else if (task->step == PSP_STEP_LOOKUP)
		outcome_error(outcome, PSP_NOT_FOUND, "not_found",
					  "nothing more was captured");
	else
		outcome_unreadable(outcome);
}

/* ---- events ---- */

void
events_init(PspEvents *events, int count)
{
	events->count = count;
	events->events = palloc0(Max(count, 1) * sizeof(PspEvent));
	for (int i = 0; i < count; i++)
		events->events[i].outcome.retry_after_ms = -1;
}

int
attempt_of_key(const char *key)
{
	const char *last = key ? strrchr(key, ':') : NULL;
	int			number = 0;

	if (last == NULL || strlen(last) > 9)
		return 0;
	for (last++; *last; last++)
	{
		if (*last < '0' || *last > '9')
			return 0;
		number = number * 10 + *last - '0';
	}
	return number;
}

bool
key_is_of(const char *key, PspOperation operation)
{
	const char *name = psprintf(":%s:", psp_operation_name(operation));
	const char *found = key ? strstr(key, name) : NULL;

	return found && strchr(found + strlen(name), ':') == NULL;
}

void
psp_classify(PspOutcome *outcome, int status)
{
	if (outcome->error_class != PSP_ERROR_NONE ||
		outcome->kind == PSP_DECLINED)
		return;
	if (status >= 500)
		outcome->error_class = PSP_ERROR_SERVER;
	else if (status == 429 || status == 409)
		outcome->error_class = PSP_ERROR_BUSY;
	else if (status == 401 || status == 403)
		outcome->error_class = PSP_ERROR_ACCESS;
	else if (status >= 400)
		outcome->error_class = PSP_ERROR_REQUEST;
	else if (status < 200 || status > 299)
		outcome->error_class = PSP_ERROR_ANSWER;
}
