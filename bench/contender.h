/*-------------------------------------------------------------------------
 *
 * contender.h
 *	  What is measured: a way to post, a choice of accounts, a database.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BENCH_CONTENDER_H
#define BENCH_CONTENDER_H

#include "parameter.h"
#include "pick.h"

#define BATCH_JOURNALS 1000

typedef enum Way
{
	WAY_LEDGER,
	WAY_LEDGER_BATCH,
	WAY_BARE,
	WAY_BARE_BATCH,
	WAY_KEPT,
	WAY_LOCKED,
	WAY_COUNT
} Way;

typedef struct Contender
{
	const char	*name; /* as given: way/accounts or way/accounts@database */
	const char	*database;
	Way			 way;
	Distribution distribution;
} Contender;

extern const char *way_name(Way way);
extern const char *way_statement(Way way);
extern int		   way_parameter_count(Way way);

/* journals that one execution posts */
extern int way_journals(Way way);

extern void contender_parse(Contender *contender, char *spec,
							const char *database);

/* ids of the ledger's accounts, by number */
extern void contender_parameters(const Contender *contender,
								 const Uuid		 *account_ids,
								 Parameters		 *parameters);

#endif /* BENCH_CONTENDER_H */
