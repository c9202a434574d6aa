/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SUPPORT_NTPE_H
#define TESTS_SUPPORT_NTPE_H

/*
 * A Windows kernel's image as it lies in memory, as far as anybody looks at it: PE headers, an
 * export directory, the variables that it names. Constructed after the format's documentation;
 * no real Windows stood model.
 */

#include <stdint.h>

#define NTPE_SIZE (3 * 4096u)
/* Where the parts lie, for tests that spoil one. */
#define NTPE_LFANEW 0x80u
#define NTPE_EXPORTS 0x1000u
#define NTPE_DLL_NAME 0x1100u
#define NTPE_BUILD 0x2000u
#define NTPE_SYSTEM 0x2008u
#define NTPE_DTB 0x28u /* in a process: its root */

struct ntpe {
	const char *name; /* NULL: "ntoskrnl.exe" */
	uint16_t major, minor;
	uint32_t build;   /* low half of NtBuildNumber */
	uint64_t process; /* PsInitialSystemProcess */
};

/* Fills NTPE_SIZE bytes. */
void ntpe_write(uint8_t *at, const struct ntpe *pe);

#endif
