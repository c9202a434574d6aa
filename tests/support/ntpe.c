/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/ntpe.h"

#include <string.h>

#define NAMES 0x1200u
#define ORDINALS 0x1300u
#define FUNCTIONS 0x1400u
#define STRINGS 0x1500u

/* As a linker sorts them; each has its variable. */
static const struct {
	const char *name;
	uint32_t rva;
} exports[] = {
	{"KeBugCheckEx", 0x2800},
	{"NtBuildNumber", NTPE_BUILD},
	{"ObfDereferenceObject", 0x2810},
	{"PsInitialSystemProcess", NTPE_SYSTEM},
	{"ZwClose", 0x2820},
};
#define EXPORTS (sizeof(exports) / sizeof(exports[0]))

static void put16(uint8_t *at, uint16_t value)
{
	memcpy(at, &value, sizeof(value));
}

static void put32(uint8_t *at, uint32_t value)
{
	memcpy(at, &value, sizeof(value));
}

static void put64(uint8_t *at, uint64_t value)
{
	memcpy(at, &value, sizeof(value));
}

static void put_headers(uint8_t *at, const struct ntpe *pe)
{
	uint8_t *nt = at + NTPE_LFANEW, *optional = nt + 24;

	memcpy(at, "MZ", 2);
	put32(at + 0x3c, NTPE_LFANEW);
	memcpy(nt, "PE\0\0", 4);
	put16(nt + 4, 0x8664);
	put32(nt + 8, 0x5eed0000 + pe->build);
	put16(optional, 0x20b);
	put16(optional + 40, pe->major);
	put16(optional + 42, pe->minor);
	put32(optional + 56, NTPE_SIZE);
	put32(optional + 112, NTPE_EXPORTS);
	put32(optional + 116, 0x1000);
}

static void put_exports(uint8_t *at)
{
	uint8_t *directory = at + NTPE_EXPORTS;
	uint32_t string = STRINGS;

	put32(directory + 12, NTPE_DLL_NAME);
	put32(directory + 20, EXPORTS);
	put32(directory + 24, EXPORTS);
	put32(directory + 28, FUNCTIONS);
	put32(directory + 32, NAMES);
	put32(directory + 36, ORDINALS);
	for (uint32_t i = 0; i < EXPORTS; i++) {
		/* Ordinals in another order than names, as they are in real ones. */
		uint16_t ordinal = (uint16_t)(EXPORTS - 1 - i);

		put32(at + NAMES + 4 * i, string);
		put16(at + ORDINALS + 2 * i, ordinal);
		put32(at + FUNCTIONS + 4 * ordinal, exports[i].rva);
		strcpy((char *)at + string, exports[i].name);
		string += (uint32_t)strlen(exports[i].name) + 1;
	}
}

void ntpe_write(uint8_t *at, const struct ntpe *pe)
{
	memset(at, 0, NTPE_SIZE);
	put_headers(at, pe);
	put_exports(at);
	strcpy((char *)at + NTPE_DLL_NAME, pe->name ? pe->name : "ntoskrnl.exe");
	put32(at + NTPE_BUILD, 0xf0000000u | pe->build);
	put64(at + NTPE_SYSTEM, pe->process);
}
