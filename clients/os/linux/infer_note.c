/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/linux/infer_note.h"

#include <stdio.h>
#include <stdlib.h>

#include "clients/os/linux/infer_probe.h"

#define NOTE_BYTES 4096u /* VMCOREINFO_BYTES */

/* "OFFSET(prb_desc.state_var)=0" or "SIZE(prb_desc)=24". False: the note has none. */
static bool number_of(const char *note, const char *kind, const char *name, uint32_t *ret_number)
{
	char key[96];
	const char *found;

	(void)snprintf(key, sizeof(key), "\n%s(%s)=", kind, name);
	found = strstr(note, key);
	if (!found)
		return false;
	*ret_number = (uint32_t)strtoul(found + strlen(key), NULL, 10);
	return *ret_number < 4096;
}

/* Of a member of a member, whose own offset is another line. */
static void set_nested(struct infer *infer, const char *note, enum linux_field field,
	const char *outer, const char *inner, uint32_t size)
{
	uint32_t first = 0, second;

	if ((!outer || number_of(note, "OFFSET", outer, &first)) &&
		number_of(note, "OFFSET", inner, &second))
		infer_set(infer, field, first + second, size);
}

static void set_log(struct infer *infer, const char *note)
{
	static const char ring[] = "printk_ringbuffer.desc_ring",
			  text[] = "printk_ringbuffer.text_data_ring",
			  block[] = "prb_desc.text_blk_lpos";
	static const struct {
		enum linux_field field;
		const char *outer, *inner;
		uint32_t size;
	} members[] = {{LINUX_LOG_COUNT_BITS, ring, "prb_desc_ring.count_bits", 4},
		{LINUX_LOG_DESCS, ring, "prb_desc_ring.descs", 8},
		{LINUX_LOG_INFOS, ring, "prb_desc_ring.infos", 8},
		{LINUX_LOG_HEAD, ring, "prb_desc_ring.head_id", 8},
		{LINUX_LOG_TAIL, ring, "prb_desc_ring.tail_id", 8},
		{LINUX_LOG_SIZE_BITS, text, "prb_data_ring.size_bits", 4},
		{LINUX_LOG_DATA, text, "prb_data_ring.data", 8},
		{LINUX_DESC_STATE, NULL, "prb_desc.state_var", 8},
		{LINUX_DESC_BEGIN, block, "prb_data_blk_lpos.begin", 8},
		{LINUX_DESC_NEXT, block, "prb_data_blk_lpos.next", 8},
		{LINUX_INFO_SEQ, NULL, "printk_info.seq", 8},
		{LINUX_INFO_TIME, NULL, "printk_info.ts_nsec", 8},
		{LINUX_INFO_LEN, NULL, "printk_info.text_len", 2}};
	struct linux_fields *fields = &infer->kernel->fields;

	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
		set_nested(infer, note, members[i].field, members[i].outer, members[i].inner,
			members[i].size);
	/* Behind the length, which the note has (kernel/printk/printk_ringbuffer.h). */
	if (infer_knows(infer, LINUX_INFO_LEN))
		infer_set(infer, LINUX_INFO_FACILITY, infer_offset(infer, LINUX_INFO_LEN) + 2, 1);
	if (!number_of(note, "SIZE", "prb_desc", &fields->size[LINUX_STRUCT_LOG_DESC]))
		fields->size[LINUX_STRUCT_LOG_DESC] = 0;
	if (!number_of(note, "SIZE", "printk_info", &fields->size[LINUX_STRUCT_LOG_INFO]))
		fields->size[LINUX_STRUCT_LOG_INFO] = 0;
}

void infer_note(struct infer *infer)
{
	uint64_t at = infer_word(infer, infer_symbol(infer, "vmcoreinfo_data"));
	char note[NOTE_BYTES + 2] = "\n"; /* each line begins behind another one */

	if (!infer_read_some(infer, at, note + 1, NOTE_BYTES))
		return;
	set_log(infer, note);
}
