/*-------------------------------------------------------------------------
 *
 * psp_reference.h
 *	  PSPs' names for our objects, each given once and for ever.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_PSP_REFERENCE_H
#define PAYMENT_PSP_REFERENCE_H

#include "utils/uuid.h"

/* An own name of the PSP may look like a card number; it is no secret. */
#define PSP_REFERENCE_MAX_BYTES 255

typedef struct PspReference
{
	pg_uuid_t	psp_id;
	const char *reference;
	pg_uuid_t	object_id;
	bool		foreign; /* answer: it names another object */
} PspReference;

/*
 * Note the references; those that already name another object stay with it
 * and are marked.  Sorts the array.  Needs an SPI connection.
 */
extern void psp_references_claim(PspReference *references, int count);

/* after psp_references_claim() */
extern bool psp_reference_is_foreign(const PspReference *references, int count,
									 const PspReference *wanted);

#endif /* PAYMENT_PSP_REFERENCE_H */
