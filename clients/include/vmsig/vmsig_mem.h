/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VMSIG_MEM_H
#define VMSIG_MEM_H

/*
 * Holder library: a read-only context over guest RAM, opened from the descriptor that a
 * MEMCTX carried.
 *
 * Read-only by construction: the descriptor is O_RDONLY, mappings are PROT_READ, and the
 * write call exists only to say no (R8).
 *
 * Calls return 0 or a negated enum vmsig_error. A context is used by one thread at a time;
 * different contexts are independent. No signal handlers, no threads, no printing.
 *
 * Coherence: once a coherence page is attached, every read is checked against it. A read in
 * an epoch that is over gives -VMSIG_ERR_STALE_EPOCH, one that raced with a write of the
 * broker is repeated and, when that does not help, gives -VMSIG_ERR_TORN. The buffer's
 * content is undefined after a failure: never silent old data. What counts is the epoch: a
 * context of the current one can be read while the endpoint is READY, PANICKED or BOOTING; INVALID
 * is -VMSIG_ERR_STALE_EPOCH, a guest that is not running any more is -VMSIG_ERR_GONE, and one that
 * the broker has lost contact to is -VMSIG_ERR_NOT_READY until contact is back.
 *
 * Without a broker nobody would say that the guest was reset: -VMSIG_ERR_NO_BROKER from the moment
 * in which it ended or was killed, and when it has stood still for longer than it vouches for
 * (limits.vouch of its configuration, 3 s). The same context can be read again when the broker
 * goes on; one that was started anew sends a MEMCTX with a page of its own.
 */

#include <stddef.h>
#include <stdint.h>

#include "vmsig/vmsig_coherence.h"
#include "vmsig/vmsig_error.h"
#include "vmsig/vmsig_memfile.h"

#ifdef __cplusplus
extern "C" {
#endif

#define VMSIG_API __attribute__((visibility("default")))
#define VMSIG_MUST_USE __attribute__((warn_unused_result))

typedef struct vmsig_mem vmsig_mem;

/* Opens a single-low image: guest-physical [0, low) is file [0, low), what follows in the
 * file starts at 4 GiB. The file is opened anew, or the descriptor duplicated where its mode
 * forbids that; the caller keeps its own. NULL with errno set: EINVAL (not a regular file,
 * empty, low is 0 or beyond the file, a writable descriptor that cannot be opened read-only),
 * EMFILE, ENOMEM. Four-level paging until vmsig_mem_set_levels(). */
VMSIG_API VMSIG_MUST_USE vmsig_mem *vmsig_mem_from_ro_fd(int fd, uint64_t low);

/* The same with a segment table, which is copied; EINVAL also for segments that overlap,
 * wrap or reach beyond the file. */
VMSIG_API VMSIG_MUST_USE vmsig_mem *vmsig_mem_from_ro_fd_segs(
	int fd, const vmsig_memseg *segs, uint32_t nseg);

/* The same with RAM in several files laid end to end, of which `size` bytes each count: in their
 * order, the first one's at file_off 0. All but the last are whole pages. With nseg 0 `low` alone
 * describes the layout, in the files as in one. EINVAL also for a file that is smaller than its
 * size, and for no files or more than VMSIG_MEMFILES_MAX. */
VMSIG_API VMSIG_MUST_USE vmsig_mem *vmsig_mem_from_files(const vmsig_memfile *files,
	uint32_t nfiles, uint64_t low, const vmsig_memseg *segs, uint32_t nseg);

/* Everything at once from a MEMCTX event and its two descriptors, which are duplicated:
 * layout, levels, epoch, coherence page. Of RAM in several files ram_fd is the first one, and the
 * others are in the event (vmsig_memctx_files()). coherence_fd may be -1. -VMSIG_ERR_BAD_REQUEST:
 * not a MEMCTX, a payload that lacks segments, a layout that does not fit the file, or a page that
 * is not the endpoint's; -VMSIG_ERR_NO_MEMORY, -VMSIG_ERR_IO (EMFILE). */
VMSIG_API VMSIG_MUST_USE int vmsig_mem_from_event(
	vmsig_mem **ret_mem, const vmsig_event *ev, int ram_fd, int coherence_fd);

/* Unmaps and closes. Accepts NULL, returns NULL. */
VMSIG_API vmsig_mem *vmsig_mem_close(vmsig_mem *mem);

/* 4 or 5; from VMSIG_MEMCTX_LA57. Empties the translation cache. */
VMSIG_API VMSIG_MUST_USE int vmsig_mem_set_levels(vmsig_mem *mem, unsigned levels);

/* How bytes are fetched. MAPPED (default) copies from shared mappings, pages that are holes
 * of the file are never touched; a file that the VM's owner truncates raises SIGBUS in the
 * caller. PREAD is a system call per page and turns that into -VMSIG_ERR_OUT_OF_RANGE. */
enum vmsig_mem_mode { VMSIG_MEM_MAPPED = 0, VMSIG_MEM_PREAD = 1 };
VMSIG_API VMSIG_MUST_USE int vmsig_mem_set_mode(vmsig_mem *mem, enum vmsig_mem_mode mode);

/* Attaches the coherence page (duplicated, mapped read-only) for `epoch`.
 * -VMSIG_ERR_BAD_REQUEST: not a coherence page, or one that could shrink under the mapping. */
VMSIG_API VMSIG_MUST_USE int vmsig_mem_attach_coherence(
	vmsig_mem *mem, int coherence_fd, uint32_t epoch);

/* For several reads that must belong together. begin() notes epoch and sequence, waiting out
 * a write in progress for a bounded number of spins; end() says whether everything read
 * since was coherent. 0, -VMSIG_ERR_STALE_EPOCH, -VMSIG_ERR_NOT_READY, -VMSIG_ERR_GONE,
 * -VMSIG_ERR_NO_BROKER, -VMSIG_ERR_TORN. Without a coherence page both are
 * -VMSIG_ERR_UNSUPPORTED. */
VMSIG_API VMSIG_MUST_USE int vmsig_mem_read_begin(vmsig_mem *mem, uint64_t *ret_sequence);
VMSIG_API VMSIG_MUST_USE int vmsig_mem_read_end(vmsig_mem *mem, uint64_t sequence);

/* Sleeps until the page's epoch is not `epoch` any more, or its state is not the one that the
 * last call (or attaching) saw, or timeout_ms passed (-1: no limit). 0, -VMSIG_ERR_TIMEOUT,
 * -VMSIG_ERR_NO_BROKER (at once when it ends, within half a second when it is killed),
 * -VMSIG_ERR_WOULD_BLOCK (a signal handler
 * ran), -VMSIG_ERR_UNSUPPORTED (no page). */
VMSIG_API VMSIG_MUST_USE int vmsig_mem_wait(vmsig_mem *mem, int timeout_ms);

/* Guest-physical read of exactly `len` bytes; may cross segments that touch.
 * -VMSIG_ERR_OUT_OF_RANGE when a byte is not RAM. */
VMSIG_API VMSIG_MUST_USE int vmsig_phys_read(vmsig_mem *mem, uint64_t gpa, void *buf, size_t len);

/* Where guest-physical memory lies, for who maps or hands on the files. */
typedef struct {
	uint64_t offset; /* in the file */
	uint64_t len;    /* bytes that follow each other there and in guest-physical space; where no
			  * RAM is, those up to the next RAM, or to the end of the address space */
	int fd;          /* of the file, O_RDONLY; borrowed from the context. -1: no RAM */
	uint32_t _pad;
} vmsig_phys_place;

/* The place of the byte at `gpa`; ret_place is always set. -VMSIG_ERR_OUT_OF_RANGE: no RAM. */
VMSIG_API VMSIG_MUST_USE int vmsig_phys_locate(
	const vmsig_mem *mem, uint64_t gpa, vmsig_phys_place *ret_place);
/* The first guest-physical address behind all RAM. */
VMSIG_API uint64_t vmsig_phys_end(const vmsig_mem *mem);

/* Guest-virtual read under the table `cr3` (kcr3 or any root that the holder found).
 * Translations are cached per (mem, cr3); a change of epoch empties the cache.
 * -VMSIG_ERR_NOT_MAPPED, -VMSIG_ERR_BAD_PAGE_TABLE, -VMSIG_ERR_OUT_OF_RANGE. */
VMSIG_API VMSIG_MUST_USE int vmsig_gva_read(
	vmsig_mem *mem, uint64_t cr3, uint64_t gva, void *buf, size_t len);

/* Always -1 (-VMSIG_ERR_READ_ONLY) with errno EROFS, whatever the arguments (R8). */
VMSIG_API int vmsig_gva_write(
	vmsig_mem *mem, uint64_t cr3, uint64_t gva, const void *buf, size_t len);
VMSIG_API int vmsig_phys_write(vmsig_mem *mem, uint64_t gpa, const void *buf, size_t len);

/* Drops cached translations (the guest changed its tables and the holder wants to know now). */
VMSIG_API void vmsig_mem_flush(vmsig_mem *mem);

#define VMSIG_PROT_READ 0x1u
#define VMSIG_PROT_WRITE 0x2u
#define VMSIG_PROT_EXEC 0x4u
#define VMSIG_PROT_USER 0x8u

typedef struct {
	uint64_t gva;       /* start */
	uint64_t gpa;       /* guest-physical start; of the first page in a pmap range */
	uint64_t len;       /* bytes */
	uint64_t page_size; /* 4096, 2 MiB or 1 GiB */
	uint32_t prot;      /* VMSIG_PROT_* */
	uint32_t _pad;
} vmsig_range;

/* The page that maps gva: gva and gpa of the page's start, its size and protection. */
VMSIG_API VMSIG_MUST_USE int vmsig_gva_translate(
	vmsig_mem *mem, uint64_t cr3, uint64_t gva, vmsig_range *ret_page);

/* Visits what is mapped in [start, end] (both inclusive) in ascending order; neighbours with
 * equal protection and page size are one range when they touch in guest-virtual space. A
 * non-zero return of the visitor stops and is returned as it is. Each table is read
 * coherently, the map as a whole is not a snapshot. -VMSIG_ERR_BAD_PAGE_TABLE after 2^24
 * tables, or four times as many ranges as RAM has pages (and some for small guests): a guest may
 * map its pages without end. */
typedef int (*vmsig_range_fn)(void *ctx, const vmsig_range *range);
VMSIG_API VMSIG_MUST_USE int vmsig_pmap(vmsig_mem *mem, uint64_t cr3, uint64_t start, uint64_t end,
	vmsig_range_fn visit, void *ctx);

/* Every place in [start, end] (both inclusive) where `len` bytes equal `pattern` under `mask`
 * (NULL: all bits), in ascending order, matches across page and segment borders included.
 * Holes of the RAM file are skipped, not allocated; a match that has bytes of data may reach
 * into one, where it finds zeros, but nothing matches inside a hole. (hugetlbfs, and a file
 * whose mode forbids to open it anew, do not tell holes: all is data there.)
 * 1 <= len <= 4096. -VMSIG_ERR_OUT_OF_RANGE: nothing between start and end is RAM (of
 * guest-physical addresses). A non-zero return of the visitor stops and is returned as it is.
 * scan_virt looks at 16 times the size of RAM and 1 GiB at most (-VMSIG_ERR_BAD_PAGE_TABLE):
 * a guest may map one page without end. */
typedef int (*vmsig_match_fn)(void *ctx, uint64_t addr);
VMSIG_API VMSIG_MUST_USE int vmsig_scan_phys(vmsig_mem *mem, uint64_t start, uint64_t end,
	const void *pattern, const void *mask, size_t len, vmsig_match_fn match, void *ctx);
VMSIG_API VMSIG_MUST_USE int vmsig_scan_virt(vmsig_mem *mem, uint64_t cr3, uint64_t start,
	uint64_t end, const void *pattern, const void *mask, size_t len, vmsig_match_fn match,
	void *ctx);

#ifdef __cplusplus
}
#endif

#endif
