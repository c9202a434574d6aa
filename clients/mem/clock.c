/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/mem/clock.h"

#include <dlfcn.h>
#include <string.h>

/* As the kernel calls it. Where a long has 32 bits its times have as few, whatever the C library's
 * have. */
#if defined(__aarch64__)
#define VDSO_CLOCK "__kernel_clock_gettime"
#elif __SIZEOF_LONG__ == 8
#define VDSO_CLOCK "__vdso_clock_gettime"
#else
#define VDSO_CLOCK ""
#endif

mem_clock_fn mem_clock_find(void)
{
	/* Loaded with the program, and for as long as it lives. */
	void *vdso = dlopen("linux-vdso.so.1", RTLD_LAZY | RTLD_LOCAL | RTLD_NOLOAD);
	void *found = vdso ? dlsym(vdso, VDSO_CLOCK) : NULL;
	mem_clock_fn clock = clock_gettime;
	struct timespec now;

	/* ISO C has no conversion for it. */
	if (found)
		memcpy(&clock, &found, sizeof(clock));
	if (vdso)
		(void)dlclose(vdso);
	/* A kernel without this clock in that code says so, or asks itself; an error is final. */
	return clock(MEM_CLOCK, &now) == 0 ? clock : clock_gettime;
}
