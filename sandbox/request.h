/*
 * request.h
 *		One request and its answer, between HTTP and the handlers.
 */
#ifndef SANDBOX_REQUEST_H
#define SANDBOX_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "buf.h"
#include "csv.h"
#include "form.h"
#include "idempotency.h"
#include "json_read.h"

#define REQUEST_BODY_MAX (1024 * 1024)
#define REQUEST_ID_SIZE 64
#define SHOULD_RETRY_ABSENT (-1)
#define ANSWER_HEADERS_MAX 8

typedef enum Delivery
{
	DELIVER_ANSWER,
	DELIVER_NOTHING, /* close without a byte */
	DELIVER_RESET	 /* abort with RST */
} Delivery;

typedef struct AnswerHeader
{
	const char *name;
	char	   *value;
} AnswerHeader;

typedef struct Answer
{
	int			 status;
	Buf			 body;
	CsvStream	*stream; /* instead of a body */
	const char	*content_type;
	Delivery	 delivery;
	int64_t		 hold_ms; /* stay silent so long first */
	int			 retry_after_s;
	int			 should_retry;
	bool		 replayed;
	AnswerHeader headers[ANSWER_HEADERS_MAX];
	int			 header_count;
} Answer;

struct Dialect;
struct Metadata;
struct Route;

typedef struct Request
{
	const char *method;
	char	   *uri;
	char	   *path;				 /* without the query */
	char		id[REQUEST_ID_SIZE]; /* what stands for {id} in the path */
	Buf			body;
	Form		query_form;
	Form		body_form;
	Form	   *params; /* the one of the two that counts */
	JsonValue  *json;	/* the body, when the dialect speaks JSON */
	const struct Dialect *dialect;
	const char			 *authorization;
	const char			 *api_key;
	const char			 *host;
	const char			 *prefer;
	const char			 *content_type;
	const char			 *idempotency_key;
	bool				  from_loopback;
	bool				  body_too_large;
	size_t				  body_drained; /* bytes thrown away */
	void *prepared; /* from the handler's prepare to its execute */
	const struct Route *route;
	bool				executed;
	char				faults[96]; /* what was injected, joined with + */
	bool				wrong_amount;
	bool				wrong_currency;
	Answer				answer;
} Request;

/*
 * A handler in two steps, both under the book's lock: prepare looks at the
 * parameters and may refuse, execute does it and may take time to be called.
 */
typedef struct Route
{
	const char *method;
	const char *pattern;
	bool		creates; /* a creating POST: faults apply */
	bool (*prepare)(Request *request);
	void (*execute)(Request *request);
} Route;

typedef struct RouteCounts
{
	uint64_t requests;
	uint64_t executed;
	uint64_t replayed;
	uint64_t in_use;
	uint64_t mismatched;
} RouteCounts;

/* Fills the answer; called by many threads at once. */
extern void request_run(Request *request);
extern void request_free(Request *request);

/* Takes as long for a wrong key as for a right one. */
extern bool is_secret_key(const char *given);

extern void answer_header(Request *request, const char *name, const char *fmt,
						  ...) __attribute__((format(printf, 3, 4)));

extern int				  route_count(void);
extern const Route		 *route_at(int index);
extern const RouteCounts *route_counts(int index);

/* Replaces the answer by an error object; always false. */
extern bool answer_error(Request *request, int status, const char *type,
						 const char *code, const char *param, const char *fmt,
						 ...) __attribute__((format(printf, 6, 7)));
extern bool answer_invalid(Request *request, const char *code,
						   const char *param, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
extern bool answer_missing_object(Request *request, const char *param,
								  const char *kind, const char *id);

/* Parameters; what is wrong is answered and gives false. */
extern bool param_required(Request *request, const char *name,
						   const char **value);
extern bool param_text(Request *request, const char *name, size_t max,
					   const char **value);
extern bool param_int(Request *request, const char *name, int64_t min,
					  int64_t max, int64_t *value);
extern bool param_bool(Request *request, const char *name, bool *value,
					   bool *given);
extern bool param_choice(Request *request, const char *name,
						 const char *const *choices, int *choice);
extern bool param_amount(Request *request, const char *name, int64_t *amount);
extern bool param_currency(Request *request, int *currency);
extern bool param_metadata(Request *request);
extern void request_metadata(Request *request, struct Metadata *metadata);
extern bool param_expand(Request *request, const char *prefix,
						 unsigned *expand);
extern bool params_known(Request *request);

/* What expand[] may ask for. */
#define EXPAND_LATEST_CHARGE 1u
#define EXPAND_BALANCE_TX 2u
#define EXPAND_INTENT 4u
#define EXPAND_SETUP 8u

#endif
