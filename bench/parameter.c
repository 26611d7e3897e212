/*-------------------------------------------------------------------------
 *
 * parameter.c
 *	  Writes statement parameters in PostgreSQL's binary format, so that
 *	  neither side spends its time on turning numbers into text and back.
 *
 *-------------------------------------------------------------------------
 */
#include "parameter.h"

#include <endian.h>
#include <err.h>
#include <stdlib.h>
#include <string.h>

void
parameters_clear(Parameters *parameters)
{
	parameters->used = 0;
	parameters->count = 0;
}

void
put_bytes(Parameters *parameters, const void *data, size_t length)
{
	if (parameters->used + length > parameters->capacity)
	{
		parameters->capacity = (parameters->used + length) * 2;
		parameters->data = realloc(parameters->data, parameters->capacity);
		if (parameters->data == NULL)
			errx(1, "out of memory");
	}
	memcpy(parameters->data + parameters->used, data, length);
	parameters->used += length;
	parameters->lengths[parameters->count - 1] += (int) length;
}

void
parameter_begin(Parameters *parameters)
{
	if (parameters->count == MAX_PARAMETERS)
		errx(1, "too many parameters");
	parameters->starts[parameters->count] = parameters->used;
	parameters->lengths[parameters->count++] = 0;
}

void
put_int16(Parameters *parameters, int16_t value)
{
	uint16_t net = htobe16((uint16_t) value);

	put_bytes(parameters, &net, sizeof(net));
}

void
put_int32(Parameters *parameters, int32_t value)
{
	uint32_t net = htobe32((uint32_t) value);

	put_bytes(parameters, &net, sizeof(net));
}

void
put_int64(Parameters *parameters, int64_t value)
{
	uint64_t net = htobe64((uint64_t) value);

	put_bytes(parameters, &net, sizeof(net));
}

/* one dimension, no nulls; each element is put as its length and its bytes */
void
parameter_array_begin(Parameters *parameters, uint32_t element_type, int count)
{
	parameter_begin(parameters);
	put_int32(parameters, 1);
	put_int32(parameters, 0);
	put_int32(parameters, (int32_t) element_type);
	put_int32(parameters, count);
	put_int32(parameters, 1);
}
