/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/linux/log.h"

#include <stdlib.h>
#include <string.h>

#include "clients/os/grow.h"
#include "vmsig/vmsig_error.h"

/* kernel/printk/printk_ringbuffer.h */
#define STATE_SHIFT 62u
#define ID_MASK ((1ull << STATE_SHIFT) - 1)
#define TEXT_MAX 0xffffu /* printk_info.text_len */
#define SIZE_BITS_MAX 32u

enum { STATE_RESERVED, STATE_COMMITTED, STATE_FINALIZED, STATE_REUSABLE };

struct log_ring {
	uint64_t descs, infos, data;
	uint64_t count; /* of records; a power of two */
	uint64_t size;  /* of the data; a power of two */
	uint64_t head, tail;
};

void linux_log_clear(vmsig_log_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free((char *)(uintptr_t)list->records[i].text);
	list->count = 0;
}

static bool read_ring(struct linux_kernel *kernel, uint64_t at, struct log_ring *ring)
{
	uint64_t count_bits = linux_get(kernel, at, LINUX_LOG_COUNT_BITS);
	uint64_t size_bits = linux_get(kernel, at, LINUX_LOG_SIZE_BITS);

	if (!count_bits || !size_bits || size_bits > SIZE_BITS_MAX || count_bits > 31 ||
		1ull << count_bits > LINUX_LOG_RECORDS_MAX)
		linux_torn(kernel);
	if (kernel->fault)
		return false;
	*ring = (struct log_ring){.descs = linux_get(kernel, at, LINUX_LOG_DESCS),
		.infos = linux_get(kernel, at, LINUX_LOG_INFOS),
		.data = linux_get(kernel, at, LINUX_LOG_DATA),
		.count = 1ull << count_bits,
		.size = 1ull << size_bits,
		.head = linux_get(kernel, at, LINUX_LOG_HEAD) & ID_MASK,
		.tail = linux_get(kernel, at, LINUX_LOG_TAIL) & ID_MASK};
	return !kernel->fault;
}

static int append(vmsig_log_list *list, vmsig_log_record *record, char *text)
{
	vmsig_log_record *records = grow_array(list->records, list->count, sizeof(*records));

	if (!records) {
		free(text);
		return VMSIG_ERR_NO_MEMORY;
	}
	/* It is a text, whatever the guest put into it. */
	for (size_t i = strlen(text); i < record->len; i++)
		text[i] = text[i] ? text[i] : '?';
	list->records = records;
	record->text = text;
	records[list->count++] = *record;
	return 0;
}

/* A block begins with the id of its record; one that would cross the end is at the beginning. */
static int take_text(struct linux_kernel *kernel, const struct log_ring *ring, uint64_t desc,
	vmsig_log_record *record, vmsig_log_list *list)
{
	uint64_t begin = linux_get(kernel, desc, LINUX_DESC_BEGIN);
	uint64_t next = linux_get(kernel, desc, LINUX_DESC_NEXT);
	uint64_t at = begin / ring->size == next / ring->size || !(next % ring->size)
			      ? begin % ring->size
			      : 0;
	char *text = linux_room(kernel, sizeof(*record) + record->len) ? calloc(1, record->len + 1)
								       : NULL;

	if (!text)
		return kernel->fault ? 0 : VMSIG_ERR_NO_MEMORY;
	if (begin & 1) /* lost, or empty */
		record->len = 0;
	else if (at + sizeof(uint64_t) + record->len > ring->size)
		linux_torn(kernel);
	if (record->len)
		linux_read(kernel, ring->data + at + sizeof(uint64_t), text, record->len);
	if (!kernel->fault)
		return append(list, record, text);
	free(text);
	return 0;
}

static bool is_there(struct linux_kernel *kernel, uint64_t desc, uint64_t id)
{
	uint64_t state = linux_get(kernel, desc, LINUX_DESC_STATE);

	return !kernel->fault && (state & ID_MASK) == id &&
	       (state >> STATE_SHIFT == STATE_COMMITTED || state >> STATE_SHIFT == STATE_FINALIZED);
}

static int take(
	struct linux_kernel *kernel, const struct log_ring *ring, uint64_t id, vmsig_log_list *list)
{
	uint64_t index = id & (ring->count - 1);
	uint64_t desc = ring->descs + index * kernel->fields.size[LINUX_STRUCT_LOG_DESC];
	uint64_t info = ring->infos + index * kernel->fields.size[LINUX_STRUCT_LOG_INFO];
	uint64_t rights = linux_at(kernel, info, LINUX_INFO_FACILITY);
	vmsig_log_record record = {0};
	size_t before = list->count;
	uint8_t bytes[2]; /* facility; five bits of flags and three of the level */
	int r;

	if (!is_there(kernel, desc, id))
		return 0;
	linux_read(kernel, rights, bytes, sizeof(bytes));
	record.sequence = linux_get(kernel, info, LINUX_INFO_SEQ);
	record.time_ns = linux_get(kernel, info, LINUX_INFO_TIME);
	record.len = (uint32_t)linux_get(kernel, info, LINUX_INFO_LEN);
	record.facility = bytes[0];
	record.level = bytes[1] >> 5;
	r = kernel->fault ? 0 : take_text(kernel, ring, desc, &record, list);
	/* It was used anew meanwhile: an old record is gone. */
	if (!r && list->count > before && !is_there(kernel, desc, id))
		free((char *)(uintptr_t)list->records[--list->count].text);
	return r;
}

static int walk(struct linux_kernel *kernel, void *ctx)
{
	static const enum linux_field needed[] = {LINUX_LOG_COUNT_BITS, LINUX_LOG_DESCS,
		LINUX_LOG_INFOS, LINUX_LOG_HEAD, LINUX_LOG_TAIL, LINUX_LOG_SIZE_BITS,
		LINUX_LOG_DATA, LINUX_DESC_STATE, LINUX_DESC_BEGIN, LINUX_DESC_NEXT, LINUX_INFO_SEQ,
		LINUX_INFO_TIME, LINUX_INFO_LEN, LINUX_INFO_FACILITY};
	vmsig_log_list *list = ctx;
	struct log_ring ring;
	int r = 0;

	linux_log_clear(list);
	linux_need(kernel, needed, sizeof(needed) / sizeof(needed[0]));
	if (!kernel->fields.size[LINUX_STRUCT_LOG_DESC] ||
		!kernel->fields.size[LINUX_STRUCT_LOG_INFO])
		(void)linux_lacks(kernel, "prb_desc");
	if (!read_ring(
		    kernel, linux_word(kernel, linux_symbols_addr(&kernel->symbols, "prb")), &ring))
		return 0;
	if (((ring.head - ring.tail) & ID_MASK) >= ring.count)
		linux_torn(kernel);
	for (uint64_t id = ring.tail; !r && !kernel->fault; id = (id + 1) & ID_MASK) {
		r = take(kernel, &ring, id, list);
		if (id == ring.head)
			break;
	}
	return r;
}

int linux_log_list(struct linux_kernel *kernel, vmsig_log_list *ret_list)
{
	linux_begin(kernel);
	if (!linux_symbol(kernel, "prb"))
		return kernel->fault;
	return linux_walk(kernel, walk, ret_list, &ret_list->partial);
}
