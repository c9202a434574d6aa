/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SUPPORT_GUEST_H
#define TESTS_SUPPORT_GUEST_H

/*
 * A constructed guest: RAM in a memfd, written through a mapping of our own, page tables as
 * x86-64 has them, and a coherence page. Every function aborts when the system fails it.
 */

#include <stddef.h>
#include <stdint.h>

#include "vmsig/vmsig_coherence.h"
#include "vmsig/vmsig_memctx.h"

#define GUEST_P 0x1ull   /* present */
#define GUEST_W 0x2ull   /* writable */
#define GUEST_U 0x4ull   /* user */
#define GUEST_PS 0x80ull /* large page */
#define GUEST_G 0x100ull
#define GUEST_NX (1ull << 63)

#define GUEST_4K (1ull << 12)
#define GUEST_2M (1ull << 21)
#define GUEST_1G (1ull << 30)

struct guest {
	int fd;        /* O_RDWR */
	uint64_t size; /* bytes */
	uint8_t *ram;  /* by file offset */
	unsigned levels;
	uint64_t root;       /* CR3 */
	uint64_t next_table; /* file offset == gpa of the next free table */
	int coherence_fd;    /* sealed */
	vmsig_coherence *page;
};

/* Tables are taken from `tables` upwards; RAM up to there is left alone. */
void guest_init(struct guest *guest, uint64_t size, unsigned levels, uint64_t tables);
void guest_deinit(struct guest *guest);

/* An empty table; returns its address. */
uint64_t guest_table(struct guest *guest);
/* The entry of `table` for gva at `level` (1: 4 KiB pages). */
uint64_t *guest_entry(struct guest *guest, uint64_t table, unsigned level, uint64_t gva);
/* Maps one page of `size` with `flags` (GUEST_P is added) at every level. */
void guest_map(struct guest *guest, uint64_t gva, uint64_t gpa, uint64_t size, uint64_t flags);

/* Bytes that differ from place to place. */
void guest_fill(struct guest *guest, uint64_t off, size_t len);
uint8_t guest_byte(uint64_t off);

/* Writes epoch and state as the broker does, and wakes. */
void guest_set_epoch(struct guest *guest, uint32_t epoch, uint32_t state);
/* Bytes allocated to the RAM file. */
uint64_t guest_allocated(const struct guest *guest);

#endif
