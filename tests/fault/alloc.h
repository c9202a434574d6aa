/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_FAULT_ALLOC_H
#define TESTS_FAULT_ALLOC_H

/*
 * Lets the n-th allocation of the code under test fail. Link with ALLOC_WRAP (CMake): the
 * linker sends malloc, calloc, realloc, reallocarray and strdup here.
 */

#include <stdbool.h>
#include <stddef.h>

/* The n-th call from now fails (1: the next one), and only that one; 0: none. */
void alloc_fail_at(size_t n);
/* Whether the armed failure has happened. */
bool alloc_failed(void);
/* Allocations asked for since the program began. */
size_t alloc_count(void);
/* Allocations that were not freed since the program began. */
long alloc_balance(void);

#endif
