/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_FUZZ_WINDOWS_H
#define TESTS_FUZZ_WINDOWS_H

/* A Windows guest whose memory an input is: mapped for the kernel and for a process, at fixed
 * places. */

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "clients/os/windows/kernel.h"
#include "clients/os/windows/reader.h"

#define WINDOWS_FUZZ_BYTES (40u << 10)
#define WINDOWS_FUZZ_KERNEL 0xffffa00000000000ull
#define WINDOWS_FUZZ_USER 0x0000000000000000ull

/* Tables in front of the bytes: a root, and three levels that both halves share. */
#define WINDOWS_FUZZ_ROOT 0x1000u
#define WINDOWS_FUZZ_AT 0x5000u
#define WINDOWS_FUZZ_RAM (WINDOWS_FUZZ_AT + WINDOWS_FUZZ_BYTES)

static uint8_t *windows_fuzz_ram;

static void windows_fuzz_entry(uint64_t at, uint64_t index, uint64_t value)
{
	memcpy(windows_fuzz_ram + at + 8 * index, &value, sizeof(value));
}

/* Made once; every input gets it anew. */
static vmsig_mem *windows_fuzz_memory(void)
{
	int fd = memfd_create("ram", MFD_CLOEXEC);
	vmsig_mem *mem;

	if (fd < 0 || ftruncate(fd, WINDOWS_FUZZ_RAM))
		abort();
	windows_fuzz_ram = mmap(NULL, WINDOWS_FUZZ_RAM, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (windows_fuzz_ram == MAP_FAILED)
		abort();
	windows_fuzz_entry(WINDOWS_FUZZ_ROOT, WINDOWS_FUZZ_KERNEL >> 39 & 511, 0x2000 | 7);
	windows_fuzz_entry(WINDOWS_FUZZ_ROOT, WINDOWS_FUZZ_USER >> 39 & 511, 0x2000 | 7);
	windows_fuzz_entry(0x2000, 0, 0x3000 | 7);
	windows_fuzz_entry(0x3000, 0, 0x4000 | 7);
	for (uint64_t i = 0; i < WINDOWS_FUZZ_BYTES / WINDOWS_PAGE; i++)
		windows_fuzz_entry(0x4000, i, (WINDOWS_FUZZ_AT + i * WINDOWS_PAGE) | 7);
	mem = vmsig_mem_from_ro_fd(fd, WINDOWS_FUZZ_RAM);
	close(fd);
	if (!mem)
		abort();
	return mem;
}

/* The guest that has the input for its memory. */
static struct windows_kernel windows_fuzz_kernel(const uint8_t *data, size_t size)
{
	static vmsig_mem *mem;
	struct windows_kernel kernel = {.root = WINDOWS_FUZZ_ROOT};

	mem = mem ? mem : windows_fuzz_memory();
	size = size < WINDOWS_FUZZ_BYTES ? size : WINDOWS_FUZZ_BYTES;
	memcpy(windows_fuzz_ram + WINDOWS_FUZZ_AT, data, size);
	memset(windows_fuzz_ram + WINDOWS_FUZZ_AT + size, 0, WINDOWS_FUZZ_BYTES - size);
	kernel.mem = mem;
	windows_begin(&kernel);
	return kernel;
}

#endif
