/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/guest.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ENTRY_ADDR 0x000ffffffffff000ull

static void must(int ok)
{
	if (!ok)
		abort();
}

static void *map(int fd, uint64_t size)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	must(at != MAP_FAILED);
	return at;
}

static void coherence_make(struct guest *guest)
{
	guest->coherence_fd = memfd_create("coherence", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	must(guest->coherence_fd >= 0 && !ftruncate(guest->coherence_fd, VMSIG_COHERENCE_SIZE));
	guest->page = map(guest->coherence_fd, VMSIG_COHERENCE_SIZE);
	must(!fcntl(guest->coherence_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW));
	guest->page->magic = VMSIG_COHERENCE_MAGIC;
	guest->page->version = VMSIG_COHERENCE_VERSION;
	guest->page->endpoint = 7;
	guest->page->epoch = 1;
	guest->page->state = 2;
	guest->page->owner = 1;
	guest->page->vouched_ns = UINT64_MAX;
}

void guest_init(struct guest *guest, uint64_t size, unsigned levels, uint64_t tables)
{
	guest->fd = memfd_create("ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	must(guest->fd >= 0 && !ftruncate(guest->fd, (off_t)size));
	guest->size = size;
	guest->ram = map(guest->fd, size);
	guest->levels = levels;
	guest->next_table = tables;
	guest->root = guest_table(guest);
	coherence_make(guest);
}

void guest_deinit(struct guest *guest)
{
	munmap(guest->ram, guest->size);
	munmap(guest->page, VMSIG_COHERENCE_SIZE);
	close(guest->fd);
	close(guest->coherence_fd);
}

uint64_t guest_table(struct guest *guest)
{
	uint64_t table = guest->next_table;

	must(table + GUEST_4K <= guest->size);
	guest->next_table += GUEST_4K;
	return table;
}

uint64_t *guest_entry(struct guest *guest, uint64_t table, unsigned level, uint64_t gva)
{
	uint64_t index = gva >> (12 + 9 * (level - 1)) & 511;

	return (uint64_t *)(void *)(guest->ram + table) + index;
}

void guest_map(struct guest *guest, uint64_t gva, uint64_t gpa, uint64_t size, uint64_t flags)
{
	unsigned leaf = size == GUEST_4K ? 1 : size == GUEST_2M ? 2 : 3;
	uint64_t table = guest->root;

	for (unsigned level = guest->levels; level > leaf; level--) {
		uint64_t *entry = guest_entry(guest, table, level, gva);

		if (!(*entry & GUEST_P))
			*entry = guest_table(guest) | GUEST_P | GUEST_W | GUEST_U;
		table = *entry & ENTRY_ADDR;
	}
	*guest_entry(guest, table, leaf, gva) = gpa | flags | GUEST_P | (leaf > 1 ? GUEST_PS : 0);
}

uint8_t guest_byte(uint64_t off)
{
	return (uint8_t)((off * 0x9e3779b97f4a7c15ull) >> 56);
}

void guest_fill(struct guest *guest, uint64_t off, size_t len)
{
	for (size_t i = 0; i < len; i++)
		guest->ram[off + i] = guest_byte(off + i);
}

void guest_set_epoch(struct guest *guest, uint32_t epoch, uint32_t state)
{
	__atomic_store_n(&guest->page->epoch, epoch, __ATOMIC_SEQ_CST);
	__atomic_store_n(&guest->page->state, state, __ATOMIC_SEQ_CST);
	__atomic_add_fetch(&guest->page->change, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &guest->page->change, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

uint64_t guest_allocated(const struct guest *guest)
{
	struct stat st;

	must(!fstat(guest->fd, &st));
	return (uint64_t)st.st_blocks * 512;
}
