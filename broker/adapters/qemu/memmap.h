/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ADAPTERS_QEMU_MEMMAP_H
#define BROKER_ADAPTERS_QEMU_MEMMAP_H

/*
 * Where guest RAM lies, put together from what QEMU says: its memory backends
 * (query-memdev, qom-list /objects), its flat view (mtree.h) and each backend's file
 * (qom-get mem-path, offset). Pure. What cannot be served is refused with a sentence that
 * says what to write on QEMU's command line.
 *
 * RAM is what the machine uses as system RAM: its memory backend, or those of its NUMA nodes, its
 * DIMMs and virtio-mem. A device's shared memory (ivshmem, virtio-pmem, an NVDIMM) has a memory
 * backend and appears as "ram" in the flat view, and is none; the guest maps and unmaps it.
 * Backends with the same mem-path are windows of one file, unless they overlap: in a folder QEMU
 * makes a file for each.
 *
 * Order of use: memmap_init(), memmap_name_main(), memmap_name_devices() and, when the machine
 * names no backend, memmap_name_nodes(); memmap_place(), memmap_set_file() for each backend
 * that memmap_next_file() names, memmap_finish(), memmap_set_hva() for each file that
 * memmap_next_probe() names.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "broker/adapters/qemu/mtree.h"
#include "vmsig/vmsig_memfile.h"

#define MEMMAP_MAX_BACKENDS 256

enum memmap_type {
	MEMMAP_OTHER = 0, /* no file to be had */
	MEMMAP_FILE,      /* memory-backend-file */
	MEMMAP_MEMFD,     /* memory-backend-memfd, -shm, and -ram with share=on: no path */
};

struct memmap_backend {
	char id[MTREE_NAME_MAX];
	char type_name[64];
	enum memmap_type type;
	bool share;
	bool is_main;    /* the machine's, or one of its NUMA nodes' */
	bool plugged;    /* a DIMM's or virtio-mem's */
	bool foreign;    /* another device's */
	bool used;       /* RAM, and part of the flat view */
	uint64_t size;   /* bytes */
	char *path;      /* FILE: mem-path, a file or a directory; owned */
	uint64_t offset; /* FILE: where the backend starts in the file, bytes */
	bool placed;     /* after memmap_finish(): */
	size_t file;     /* which of the map's files it is in */
};

/* A file of guest RAM. */
struct memmap_file {
	const struct memmap_backend *backend; /* the first that is in it */
	bool probed;                          /* QEMU was asked for the following */
	uint64_t hva;        /* where QEMU maps some of that backend, 0: it did not say */
	uint64_t hva_offset; /* what is there in the file */
};

struct memmap {
	struct memmap_backend *backends;
	size_t nbackends;
	struct memmap_file *files; /* in the order of their first addresses, after finish */
	size_t nfiles;
	vmsig_memseg *segs; /* ascending; file_off is in the segment's own file after finish */
	size_t *owners;     /* backend of each segment */
	size_t nseg;
	uint64_t low;        /* end of the RAM below 4 GiB */
	uint64_t base_bytes; /* backends in use, without what can be plugged */
	bool unshared;       /* refused, because RAM has no file that is shared */
};

/* Takes what query-memdev and qom-list /objects returned. 0, VMSIG_ERR_BAD_REQUEST, -ENOMEM. */
__attribute__((warn_unused_result)) int memmap_init(struct memmap *ret_map, const json_t *memdev,
	const json_t *objects, char *error, size_t error_size);
void memmap_deinit(struct memmap *map);

/* What /machine has as memory-backend: an id, or a path below /objects; NULL and "": none. */
void memmap_name_main(struct memmap *map, const char *name);
bool memmap_knows_main(const struct memmap *map);
/* What query-memory-devices returned; NULL: nothing. */
void memmap_name_devices(struct memmap *map, const json_t *devices);
/* What `info mtree` printed, NULL: nothing. The machine's RAM is a region of which its NUMA nodes'
 * backends are parts. */
void memmap_name_nodes(struct memmap *map, const char *text);

/* Finds the backends' windows. 0; VMSIG_ERR_UNSUPPORTED: refused; VMSIG_ERR_BAD_REQUEST: the
 * answers contradict each other; -ENOMEM. */
__attribute__((warn_unused_result)) int memmap_place(
	struct memmap *map, const struct mtree *mtree, char *error, size_t error_size);

/* The next backend in use whose file has to be asked for, NULL when there is none. */
struct memmap_backend *memmap_next_file(struct memmap *map);
/* 0, -ENOMEM. */
__attribute__((warn_unused_result)) int memmap_set_file(
	struct memmap_backend *backend, const char *path, uint64_t offset);

/* 0; VMSIG_ERR_UNSUPPORTED: more than VMSIG_MEMFILES_MAX files; VMSIG_ERR_BAD_REQUEST;
 * -ENOMEM. */
__attribute__((warn_unused_result)) int memmap_finish(
	struct memmap *map, char *error, size_t error_size);

/* After memmap_finish(): the next file of which QEMU is to be asked where it maps it, NULL when
 * there is none; a guest-physical address whose place in QEMU tells the file; and what QEMU
 * answered, 0: nothing. */
struct memmap_file *memmap_next_probe(struct memmap *map);
uint64_t memmap_probe(const struct memmap *map, const struct memmap_file *file);
void memmap_set_hva(struct memmap *map, struct memmap_file *file, uint64_t hva);
/* Which of the map's files the segment is in. */
size_t memmap_seg_file(const struct memmap *map, size_t seg);

/* Whether both describe the same RAM. What lies below 1 MiB is left out: firmware programs
 * it without an event. */
bool memmap_equal(const struct memmap *a, const struct memmap *b);

/* Where QEMU splits `bytes` of RAM on `machine` (qom type of /machine) unless told otherwise
 * (hw/i386/pc_q35.c, pc_piix.c); 0 for machines that are not known. */
uint64_t memmap_split(const char *machine, uint64_t bytes);

#endif
