/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The search for a kernel in a small guest with a Linux and a Windows in it that the input
 * spoils: a count of vCPUs and their CR3s, then patches of 3 bytes address, a length, bytes.
 * What is found lies in RAM and can be proven again at once.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/guest/kcr3.h"
#include "tests/support/ntpe.h"
#include "vmsig/vmsig_error.h"

#define PAGES 40u
#define SIZE (PAGES * PGWALK_PAGE)
#define VCPUS 3u
#define TABLE 0x3ull /* present, writable */

#define STUB 1u
#define NOTE 2u
#define LINUX_ROOT 4u /* three more tables follow */
#define UTS 8u
#define WINDOWS_ROOT 20u /* three more tables follow */
#define NTOSKRNL 30u
#define SYSTEM_PROCESS 34u
#define WINDOWS_MAP 0xfffff80000000000ull

static uint8_t ram[SIZE];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int read_gpa(void *ctx, uint64_t gpa, void *buf, size_t len)
{
	(void)ctx;
	if (gpa > SIZE || len > SIZE - gpa)
		return VMSIG_ERR_OUT_OF_RANGE;
	memcpy(buf, ram + gpa, len);
	return 0;
}

static void put(unsigned page, unsigned offset, uint64_t value)
{
	memcpy(ram + page * PGWALK_PAGE + offset, &value, sizeof(value));
}

static void put_entry(unsigned table, unsigned index, unsigned page)
{
	put(table, index * 8, page * (uint64_t)PGWALK_PAGE | TABLE);
}

/* Maps the whole of RAM from the address on that these indices stand for. */
static void put_tables(unsigned root, unsigned index4, unsigned index3)
{
	put_entry(root, index4, root + 1);
	put_entry(root + 1, index3, root + 2);
	put_entry(root + 2, 0, root + 3);
	for (unsigned i = 0; i < PAGES; i++)
		put_entry(root + 3, i, i);
}

static void build(void)
{
	memset(ram, 0, sizeof(ram));
	put_tables(LINUX_ROOT, 511, 510);
	put_entry(LINUX_ROOT, 273, LINUX_ROOT + 1);
	memcpy(ram + UTS * PGWALK_PAGE + 130, "6.1.0", 6);
	snprintf((char *)ram + NOTE * PGWALK_PAGE, PGWALK_PAGE,
		"OSRELEASE=6.1.0\nSYMBOL(init_uts_ns)=ffffffff80008000\n"
		"OFFSET(uts_namespace.name)=0\nSYMBOL(swapper_pg_dir)=ffffffff80004000\n"
		"NUMBER(phys_base)=0\nNUMBER(pgtable_l5_enabled)=0\n");
	put_tables(WINDOWS_ROOT, 496, 0);
	for (unsigned i = 300; i < 306; i++)
		put_entry(WINDOWS_ROOT, i, WINDOWS_ROOT + 1);
	put_entry(WINDOWS_ROOT, 400, WINDOWS_ROOT);
	put(STUB, 0, 0x00000001000600e9ull);
	put(STUB, 0x70, 0xfffff80000010000ull);
	put(STUB, 0xa0, WINDOWS_ROOT * PGWALK_PAGE);
	ntpe_write(ram + NTOSKRNL * PGWALK_PAGE,
		&(struct ntpe){.major = 10,
			.build = 19041,
			.process = WINDOWS_MAP + SYSTEM_PROCESS * PGWALK_PAGE});
	put(SYSTEM_PROCESS, NTPE_DTB, WINDOWS_ROOT * PGWALK_PAGE | 2);
}

static void patch(const uint8_t *data, size_t size)
{
	while (size > 4) {
		size_t at = (data[0] | data[1] << 8 | (size_t)data[2] << 16) % SIZE;
		size_t len = data[3] < size - 4 ? data[3] : size - 4;

		memcpy(ram + at, data + 4, len < SIZE - at ? len : SIZE - at);
		data += 4 + len;
		size -= 4 + len;
	}
}

static void check(const struct kcr3_memory *memory, const struct kcr3_proof *proof,
	const uint64_t *cr3, size_t ncr3)
{
	if ((proof->kcr3 & (PGWALK_PAGE - 1)) || proof->kcr3 > SIZE - PGWALK_PAGE ||
		(proof->levels != 4 && proof->levels != 5) ||
		!memchr(proof->system.release, '\0', sizeof(proof->system.release)) ||
		!proof->system.os || !proof->system.release[0] ||
		kcr3_reprove(memory, proof, cr3, ncr3))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	vmsig_memseg seg = {.len = SIZE};
	const struct physmap map = {.segs = &seg, .nseg = 1};
	const struct kcr3_memory memory = {.read = read_gpa, .map = &map};
	struct kcr3_proof proof;
	uint64_t cr3[VCPUS];
	size_t ncr3;
	char why[256];

	if (!size)
		return 0;
	ncr3 = data[0] % (VCPUS + 1);
	if (size < 1 + ncr3 * sizeof(uint16_t))
		return 0;
	for (size_t i = 0; i < ncr3; i++)
		cr3[i] = (data[1 + 2 * i] | (uint64_t)data[2 + 2 * i] << 8) << 8;
	build();
	patch(data + 1 + 2 * ncr3, size - 1 - 2 * ncr3);
	if (kcr3_find(&memory, cr3, ncr3, NULL, &proof, why, sizeof(why)) == 0)
		check(&memory, &proof, cr3, ncr3);
	return 0;
}
