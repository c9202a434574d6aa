/* SPDX-License-Identifier: Apache-2.0 */
/* The library of the program in loaded.c: functions, data, what each thread has its own, and a name
 * that nobody else sees. */
#include <stdlib.h>

#define OFFERED __attribute__((visibility("default")))

OFFERED int library_offers(int value);
int library_hidden(int value);

OFFERED extern __thread int library_of_thread;
OFFERED extern int library_data;

__thread int library_of_thread = 3;
int library_data = 4;

__attribute__((visibility("hidden"))) int library_hidden(int value)
{
	return value + library_of_thread + library_data;
}

int library_offers(int value)
{
	return abs(library_hidden(value));
}
