/*-------------------------------------------------------------------------
 *
 * parameter.h
 *	  Parameters of statements in PostgreSQL's binary format.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BENCH_PARAMETER_H
#define BENCH_PARAMETER_H

#include <stddef.h>
#include <stdint.h>

#define UUID_BYTES 16
#define MAX_PARAMETERS 8

typedef struct Uuid
{
	uint8_t data[UUID_BYTES];
} Uuid;

/* all parameters of one statement, kept in one growing buffer */
typedef struct Parameters
{
	char  *data;
	size_t used;
	size_t capacity;
	int	   count;
	size_t starts[MAX_PARAMETERS + 1];
	int	   lengths[MAX_PARAMETERS];
} Parameters;

extern void parameters_clear(Parameters *parameters);

/* begin a value; what follows until the next begin belongs to it */
extern void parameter_begin(Parameters *parameters);
extern void parameter_array_begin(Parameters *parameters,
								  uint32_t element_type, int count);

extern void put_int16(Parameters *parameters, int16_t value);
extern void put_int32(Parameters *parameters, int32_t value);
extern void put_int64(Parameters *parameters, int64_t value);
extern void put_bytes(Parameters *parameters, const void *data, size_t length);

/* element types of arrays */
#define TYPE_INT8 20
#define TYPE_INT2 21
#define TYPE_INT4 23
#define TYPE_TEXT 25
#define TYPE_UUID 2950

#endif /* BENCH_PARAMETER_H */
