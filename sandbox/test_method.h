/*
 * test_method.h
 *		What each test payment method and payout destination leads to.
 */
#ifndef SANDBOX_TEST_METHOD_H
#define SANDBOX_TEST_METHOD_H

#include <stdbool.h>

typedef enum MethodOutcome
{
	METHOD_SUCCEEDS,
	METHOD_DECLINES,
	METHOD_AUTHENTICATES,
	METHOD_AUTHENTICATES_ONCE, /* not when it was saved */
	METHOD_PROCESSES,
	METHOD_PROCESSES_THEN_FAILS
} MethodOutcome;

typedef struct TestMethod
{
	const char	 *name;
	MethodOutcome outcome;
	const char	 *code;
	const char	 *decline_code;
	const char	 *message;
	const char	 *brand;
	const char	 *last4;
} TestMethod;

typedef enum DestinationOutcome
{
	DESTINATION_PAYS,
	DESTINATION_FAILS,
	DESTINATION_RETURNS,
	DESTINATION_UNCLAIMED /* not in the table: nobody knows it */
} DestinationOutcome;

/* NULL when nobody knows it. */
extern const TestMethod *test_method_find(const char *name);

/* False when nobody knows it. */
extern bool test_destination_find(const char		 *name,
								  DestinationOutcome *outcome);

#endif
