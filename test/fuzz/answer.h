/*-------------------------------------------------------------------------
 *
 * answer.h
 *	  What adapters' answers mean, case by case, and that no damaged answer
 *	  ever means money: what the programs for each adapter share.
 *
 *	  PSP_answer_fuzz [-n COUNT] [-s SEED]
 *
 * Checks the table of cases first, then every truncation of each body, then
 * COUNT random mutations.  LLVMFuzzerTestOneInput is there for libFuzzer;
 * define NO_MAIN then.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_FUZZ_ANSWER_H
#define PAYMENT_FUZZ_ANSWER_H

#include "psp/json.h"
#include "psp/psp.h"

#define ORDER "0190a1b2-0000-7000-8000-000000000001"
#define OTHER "0190a1b2-0000-7000-8000-000000000002"

/* amount, currency and code of an outcome that has none of them */
#define NONE -1, "", NULL

/* most cases say nothing of what was settled */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

typedef struct Case
{
	const char	  *name;
	int			   question; /* the suite's own */
	int			   status;
	const char	  *headers;
	const char	  *body;
	PspOutcomeKind kind;
	int64		   amount; /* -1: none */
	const char	  *currency;
	const char	  *code;	/* "code" or "code / decline class"; NULL: none */
	const char	  *settled; /* "1000 - 59 USD at 1.08"; NULL: nothing said */
} Case;

typedef struct Suite
{
	const PspAdapter *adapter;
	const Case		 *cases;
	int				  case_count;
	int				  question_count;
	const char		 *header; /* that changes what an error means */

	/* what is asked; all else is set already */
	void (*set_question)(int question, PspTask *task);
	/* further checks */
	void (*check)(void);
} Suite;

/* each program's own */
extern const Suite suite;

extern PspTask make_task(int question);
extern void	   fail(const char *name, const char *what);
extern void require_text(const char *name, const char *text, const char *part);
extern void build(const PspTask *task, PspRequest *request,
				  PspOutcome *outcome);

#endif /* PAYMENT_FUZZ_ANSWER_H */
