/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fault/alloc.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

void *__real_malloc(size_t size);
void *__real_realloc(void *old, size_t size);
void __real_free(void *ptr);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_reallocarray(void *old, size_t n, size_t size);
char *__wrap_strdup(const char *text);
void __wrap_free(void *ptr);

static size_t countdown;
static size_t count;
static bool failed;
static long balance;

void alloc_fail_at(size_t n)
{
	countdown = n;
	failed = false;
}

bool alloc_failed(void)
{
	return failed;
}

size_t alloc_count(void)
{
	return count;
}

long alloc_balance(void)
{
	return balance;
}

static bool fails(void)
{
	count++;
	if (!countdown || --countdown)
		return false;
	failed = true;
	errno = ENOMEM;
	return true;
}

void *__wrap_malloc(size_t size)
{
	void *ptr = fails() ? NULL : __real_malloc(size);

	balance += ptr != NULL;
	return ptr;
}

void *__wrap_calloc(size_t n, size_t size)
{
	void *ptr;

	if (size && n > SIZE_MAX / size)
		return NULL;
	ptr = __wrap_malloc(n * size);
	if (ptr)
		memset(ptr, 0, n * size);
	return ptr;
}

void *__wrap_realloc(void *old, size_t size)
{
	void *ptr = fails() ? NULL : __real_realloc(old, size);

	balance += ptr && !old;
	return ptr;
}

void *__wrap_reallocarray(void *old, size_t n, size_t size)
{
	return size && n > SIZE_MAX / size ? NULL : __wrap_realloc(old, n * size);
}

char *__wrap_strdup(const char *text)
{
	size_t size = strlen(text) + 1;
	char *copy = __wrap_malloc(size);

	if (copy)
		memcpy(copy, text, size);
	return copy;
}

void __wrap_free(void *ptr)
{
	balance -= ptr != NULL;
	__real_free(ptr);
}
