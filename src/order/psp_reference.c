/*-------------------------------------------------------------------------
 *
 * psp_reference.c
 *	  PSPs' names for our objects, each given once and for ever.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "order/batch.h"
#include "order/plan.h"
#include "order/psp_reference.h"
#include "order/transition.h"

static int
reference_compare(const void *a, const void *b)
{
	const PspReference *left = a;
	const PspReference *right = b;
	int					order = uuid_compare(&left->psp_id, &right->psp_id);

	if (order == 0)
		order = strcmp(left->reference, right->reference);
	if (order == 0)
		order = uuid_compare(&left->object_id, &right->object_id);
	return order;
}

static void
reference_columns(const PspReference *references, int count, Datum *values)
{
	Column columns[3];

	column_init(&columns[0], UUIDOID);
	column_init(&columns[1], TEXTOID);
	column_init(&columns[2], UUIDOID);
	for (int i = 0; i < count; i++)
	{
		column_add_uuid(&columns[0], &references[i].psp_id);
		column_add_text(&columns[1], references[i].reference);
		column_add_uuid(&columns[2], &references[i].object_id);
	}
	for (int i = 0; i < 3; i++)
		values[i] = column_array(&columns[i]);
}

static uint64
insert_references(Datum *values)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID, TEXTARRAYOID, UUIDARRAYOID };

	return order_write(
		plan_keep(&plan,
				  "INSERT INTO payment.psp_reference"
				  " (psp_id, reference, object_id)"
				  " SELECT u.psp_id, u.reference, u.object_id"
				  " FROM unnest($1, $2, $3) AS u (psp_id, reference,"
				  " object_id)"
				  " ON CONFLICT (psp_id, reference) DO NOTHING",
				  3, types),
		values, NULL, CAUSE_RESPONSE);
}

/* which of them name another object; numbered from 1 */
static void
mark_foreign(PspReference *references, Datum *values)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID, TEXTARRAYOID, UUIDARRAYOID };
	uint64			  count;

	count = batch_run(
		plan_keep(&plan,
				  "SELECT u.number FROM unnest($1, $2, $3) WITH ORDINALITY"
				  " AS u (psp_id, reference, object_id, number)"
				  " JOIN payment.psp_reference AS r"
				  " ON r.psp_id = u.psp_id AND r.reference = u.reference"
				  " WHERE r.object_id <> u.object_id",
				  3, types),
		values, NULL);
	for (uint64 row = 0; row < count; row++)
		references[row_int64(row, 1) - 1].foreign = true;
}

void
psp_references_claim(PspReference *references, int count)
{
	Datum values[3];

	if (count == 0)
		return;
	/* in one order in every transaction: an insert waits for another's */
	qsort(references, count, sizeof(PspReference), reference_compare);
	reference_columns(references, count, values);
	if (insert_references(values) < (uint64) count)
		mark_foreign(references, values);
}

bool
psp_reference_is_foreign(const PspReference *references, int count,
						 const PspReference *wanted)
{
	const PspReference *found =
		bsearch(wanted, references, count, sizeof(PspReference),
				reference_compare);

	return found != NULL && found->foreign;
}
