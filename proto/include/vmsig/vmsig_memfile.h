/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VMSIG_MEMFILE_H
#define VMSIG_MEMFILE_H

/*
 * Guest RAM in several files: NUMA nodes, DIMMs and virtio-mem each have their own. The files
 * lie end to end in their order: the first one is [0, size), the next one goes on where that
 * ends, and vmsig_memseg.file_off counts in all of them together. A guest whose RAM is in one
 * file is told as ever.
 */

#include "vmsig_memctx.h"

#ifdef __cplusplus
extern "C" {
#endif

#define VMSIG_MEMFILES_MAX 64u /* files of one guest */

/* vmsig_memctx.flags: RAM is in several files, and the event's payload has them behind its
 * segments. Set by who put them there, the library. */
#define VMSIG_MEMCTX_FILES 0x8u

typedef struct {
	uint64_t size; /* bytes of it that count in file_off */
	int32_t fd;    /* O_RDONLY; lives as long as the event's payload */
	uint32_t _pad;
} vmsig_memfile;

/* The files of a MEMCTX event whose RAM is in several, as vmsig_memctx_segs(): pure, the result
 * points into the payload. NULL and 0 when RAM is in one file. out_n may be NULL. */
static inline const vmsig_memfile *vmsig_memctx_files(const vmsig_event *ev, uint32_t *out_n)
{
	const vmsig_memctx *pod = (const vmsig_memctx *)(const void *)ev->inln;
	const vmsig_memfile *files = NULL;
	size_t at = (size_t)pod->nseg * sizeof(vmsig_memseg), n = 0;

	if ((pod->flags & VMSIG_MEMCTX_FILES) && ev->payload.data && ev->payload.len > at)
		n = (ev->payload.len - at) / sizeof(vmsig_memfile);
	if (n > 1 && n <= VMSIG_MEMFILES_MAX)
		files = (const vmsig_memfile *)(const void *)((const char *)ev->payload.data + at);
	if (out_n)
		*out_n = files ? (uint32_t)n : 0;
	return files;
}

VMSIG_STATIC_ASSERT(sizeof(vmsig_memfile) == 16, "vmsig_memfile is 16 bytes");
VMSIG_STATIC_ASSERT(sizeof(vmsig_memseg) % __alignof__(uint64_t) == 0, "files follow segments");

#ifdef __cplusplus
}
#endif

#endif
