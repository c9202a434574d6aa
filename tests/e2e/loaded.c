/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program with a library of its own, to be looked at from outside of a guest:
 *
 *   loaded [anonymous]    uses the library, prints "loaded", and waits to be ended; with the word
 *                         it has memory before that may be run and came from no file, and
 *                         prints its address instead
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

extern int library_offers(int value);

__attribute__((visibility("default"))) int loaded_offers(void);

/* For whoever loads it: exported, as the program is linked. */
int loaded_offers(void)
{
	return library_offers(1);
}

static void *anonymous(void)
{
	void *at = mmap(
		NULL, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at != MAP_FAILED)
		memset(at, 0xc3, 16);
	return at;
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "anonymous") == 0)
		printf("loaded %p\n", anonymous());
	else
		printf("loaded %d\n", loaded_offers());
	fflush(stdout);
	for (;;)
		pause();
}
