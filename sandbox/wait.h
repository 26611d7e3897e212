/*
 * wait.h
 *		Sleeping that ends when the sandbox stops.
 */
#ifndef SANDBOX_WAIT_H
#define SANDBOX_WAIT_H

#include <stdbool.h>
#include <stdint.h>

/* False when the sandbox is stopping. */
extern bool wait_ms(int64_t delay_ms);
extern void wait_stop_all(void);

#endif
