/* SPDX-License-Identifier: Apache-2.0 */
/* Where guest-physical memory lies in the files that a context reads. */
#include "clients/mem/mem.h"

static uint64_t until_next_ram(const vmsig_mem *mem, uint64_t gpa)
{
	uint64_t next;

	return physmap_next(&mem->map, gpa, &next) ? next - gpa : UINT64_MAX - gpa;
}

int vmsig_phys_locate(const vmsig_mem *mem, uint64_t gpa, vmsig_phys_place *ret_place)
{
	const struct span_file *file;
	uint64_t off, len, left;

	*ret_place = (vmsig_phys_place){.fd = -1};
	if (!physmap_find(&mem->map, gpa, &off, &len)) {
		ret_place->len = until_next_ram(mem, gpa);
		return -VMSIG_ERR_OUT_OF_RANGE;
	}
	file = &mem->ram.files.files[span_index(&mem->ram.files, off)];
	left = file->start + file->size - off;
	*ret_place = (vmsig_phys_place){
		.offset = off - file->start,
		.len = len < left ? len : left,
		.fd = file->fd,
	};
	return 0;
}

uint64_t vmsig_phys_end(const vmsig_mem *mem)
{
	const vmsig_memseg *last = &mem->map.segs[mem->map.nseg - 1];

	return last->gpa + last->len;
}
