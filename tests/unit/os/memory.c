/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/os/memory.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PRESENT 7u
#define LARGE 0x80u

bool memory_make(struct memory *memory, size_t size)
{
	int fd = memfd_create("guest", MFD_CLOEXEC), readable;
	char path[64];

	*memory = (struct memory){.size = size, .kernel = {.root = MEMORY_ROOT}};
	if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
		return false;
	memory->bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	readable = open(path, O_RDONLY | O_CLOEXEC);
	memory->kernel.mem = vmsig_mem_from_ro_fd(readable, size);
	close(readable);
	close(fd);
	return memory->bytes != MAP_FAILED && memory->kernel.mem;
}

void memory_free(struct memory *memory)
{
	vmsig_mem_close(memory->kernel.mem);
	munmap(memory->bytes, memory->size);
}

void memory_put(struct memory *memory, uint64_t gpa, uint64_t word)
{
	memcpy(memory->bytes + gpa, &word, sizeof(word));
}

void memory_field(struct memory *memory, enum linux_field field, uint32_t offset, uint32_t size)
{
	memory->kernel.fields.field[field].known = true;
	memory->kernel.fields.field[field].offset = offset;
	memory->kernel.fields.field[field].size = size;
}

void memory_map_all(struct memory *memory, uint64_t gva)
{
	memory_put(memory, MEMORY_ROOT + (gva >> 39 & 511) * 8, 0x2000 | PRESENT);
	memory_put(memory, 0x2000 + (gva >> 30 & 511) * 8, 0x3000 | PRESENT);
	memory_put(memory, 0x3000 + (gva >> 21 & 511) * 8, 0 | PRESENT | LARGE);
	memory_put(memory, 0x3000 + (gva >> 21 & 511) * 8 + 8, (2u << 20) | PRESENT | LARGE);
}
