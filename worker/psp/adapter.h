/*-------------------------------------------------------------------------
 *
 * adapter.h
 *	  What adapters share: building requests, and reading answers with the
 *	  same distrust.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_PSP_ADAPTER_H
#define PAYMENT_PSP_ADAPTER_H

#include "psp/json.h"
#include "psp/psp.h"

/* An access that is refused is for people to mend; do not hammer. */
#define REFUSED_ACCESS_DELAY_MS 60000

/* an empty request to base_url, its slashes at the end cut off, plus path */
extern void adapter_begin(PspRequest *request, const char *method,
						  const char *base_url, const char *path);
extern void adapter_header(PspRequest *request, const char *text);

/* whether the list, ended by NULL, has the text */
extern bool adapter_one_of(const char *text, const char *const *list);

/* a payment that is to be authorised only */
extern bool is_manual(const PspTask *task);

/* a web address, to which a browser may be sent */
extern bool is_page_address(const char *url);

/* a capture or void: what is done to an authorisation of ours */
extern bool is_about_authorization(const PspTask *task);
/* an answer to a dispute */
extern bool is_about_dispute(const PspTask *task);

/*
 * Does the task lack the PSP's name of what it is done to?  The outcome says
 * so then: nothing can be sent.
 */
extern bool adapter_lacks_parent(const PspTask *task, PspOutcome *outcome);

/* value of the header, or NULL; the result is palloc'd */
extern char *psp_header(const PspResponse *response, const char *name);
extern bool	 psp_header_is_true(const PspResponse *response, const char *name);

/* a string member, cut between characters to at most length_max bytes */
extern const char *member_text(const JsonDocument *json,
							   const JsonNode *object, const char *name,
							   int length_max);
/* ... that names something: printable, and never cut: too long is none */
extern const char *member_reference(const JsonDocument *json,
									const JsonNode *object, const char *name);
extern bool member_equals(const JsonDocument *json, const JsonNode *object,
						  const char *name, const char *value);

/* Three letters, put into upper case; false when the member is no such. */
extern bool member_currency(const JsonDocument *json, const JsonNode *object,
							const char *name, char *currency);

extern void outcome_reset(PspOutcome *outcome, const PspResponse *response);
extern void outcome_error(PspOutcome *outcome, PspOutcomeKind kind,
						  const char *code, const char *message);
extern void outcome_unreadable(PspOutcome *outcome);
extern void outcome_unknown_status(PspOutcome *outcome, const char *status);

/* It failed, for a reason that says nothing of a payment method. */
extern void outcome_failed(PspOutcome *outcome, const char *code,
						   const char *message);

/*
 * Of a capture the PSP has told what was captured in all, and whether more can
 * be: what is this capture's part?
 */
extern void outcome_captured_in_all(const PspTask *task, bool is_open,
									PspOutcome *outcome);

/* "2026-01-31T12:00:00Z", also with an offset: Unix time, 0 for no time */
extern int64 member_time(const JsonDocument *json, const JsonNode *object,
						 const char *name);

/* room for so many events, all of them empty; the outcomes have no advice */
extern void events_init(PspEvents *events, int count);

/* "NAME:operation:N" as in psp_key: N, 0 when the text is no such key */
extern int attempt_of_key(const char *key);
/* ... and whether it is for that operation */
extern bool key_is_of(const char *key, PspOperation operation);

/* Append text as a JSON string, quotes included. */
extern void json_append_string(StringInfo out, const char *text);

/*
 * Append "name":"value", after a comma unless the object has just begun;
 * nothing for a value that is NULL.
 */
extern void json_append_member(StringInfo out, const char *name,
							   const char *value);
/* Append "name": alone, for a value that follows. */
extern void json_append_name(StringInfo out, const char *name);

#endif /* PAYMENT_PSP_ADAPTER_H */
