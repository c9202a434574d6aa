/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/journal/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "broker/journal/crc32c.h"
#include "vmsig/vmsig_error.h"

#define MAGIC "VMSIGJNL"
#define SUFFIX ".seg"
#define CHUNK (1u << 20) /* read at a time */

void segment_name(uint64_t first, char name[SEGMENT_NAME_MAX])
{
	snprintf(name, SEGMENT_NAME_MAX, "%016" PRIx64 SUFFIX, first);
}

bool segment_parse_name(const char *name, uint64_t *ret_first)
{
	char again[SEGMENT_NAME_MAX];
	uint64_t first = strtoull(name, NULL, 16);

	segment_name(first, again);
	if (!first || strcmp(name, again) != 0)
		return false;
	*ret_first = first;
	return true;
}

/* ---- header ---- */

static uint32_t header_sum(const struct segment_header *header)
{
	return crc32c(0, header, offsetof(struct segment_header, sum));
}

void segment_header_make(struct segment_header *header)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	memcpy(header->magic, MAGIC, sizeof(header->magic));
	header->version = SEGMENT_VERSION;
	header->header_bytes = SEGMENT_HEADER;
	header->begun_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
	header->reserved = 0;
	header->sum = header_sum(header);
}

int segment_header_check(const struct segment_header *header)
{
	if (memcmp(header->magic, MAGIC, sizeof(header->magic)) != 0 ||
		header_sum(header) != header->sum)
		return VMSIG_ERR_INTERNAL;
	if (header->version != SEGMENT_VERSION)
		return VMSIG_ERR_UNSUPPORTED;
	return header->header_bytes == SEGMENT_HEADER && header->first ? 0 : VMSIG_ERR_INTERNAL;
}

/* ---- writing ---- */

int segment_write(int fd, const void *data, size_t len, uint64_t at)
{
	const uint8_t *from = data;

	while (len) {
		ssize_t n = pwrite(fd, from, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ENOSPC;
		from += n;
		at += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/* Where files are copied on write, what is allocated may be needed twice: not there. What knows
 * no such flag does not do that. */
static void forbid_copies(int fd)
{
	int flags = 0;

	if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0) {
		flags |= FS_NOCOW_FL;
		(void)ioctl(fd, FS_IOC_SETFLAGS, &flags);
	}
}

int segment_allocate(int fd, uint64_t bytes)
{
	static const uint8_t zeros[1 << 16];
	int r = 0;

	forbid_copies(fd);
	if (fallocate(fd, 0, 0, (off_t)bytes) == 0)
		return 0;
	if (errno != EOPNOTSUPP && errno != ENOSYS)
		return -errno;
	for (uint64_t at = 0; !r && at < bytes; at += sizeof(zeros))
		r = segment_write(
			fd, zeros, bytes - at < sizeof(zeros) ? bytes - at : sizeof(zeros), at);
	return r;
}

/* ---- scanning ---- */

void segment_scan_init(
	struct segment_scan *scan, int fd, uint64_t offset, uint64_t limit, uint64_t first)
{
	memset(scan, 0, sizeof(*scan));
	scan->fd = fd;
	scan->limit = limit;
	scan->at = scan->end = scan->buffer_at = offset;
	scan->number = first - 1;
}

void segment_scan_deinit(struct segment_scan *scan)
{
	free(scan->buffer);
	scan->buffer = NULL;
	scan->buffered = scan->capacity = 0;
}

static int buffer_reserve(struct segment_scan *scan, size_t size)
{
	uint8_t *grown;

	if (size <= scan->capacity)
		return 0;
	grown = realloc(scan->buffer, size);
	if (!grown)
		return -ENOMEM;
	scan->buffer = grown;
	scan->capacity = size;
	return 0;
}

/* Has the buffer begin at `end`, with `wanted` bytes or all there are. */
static int buffer_fill(struct segment_scan *scan, size_t wanted)
{
	size_t used = (size_t)(scan->end - scan->buffer_at);
	int r;

	if (used && used <= scan->buffered)
		memmove(scan->buffer, scan->buffer + used, scan->buffered - used);
	scan->buffered -= used;
	scan->buffer_at = scan->end;
	r = buffer_reserve(scan, wanted > CHUNK ? wanted : CHUNK);
	while (!r && scan->buffered < wanted) {
		uint64_t from = scan->buffer_at + scan->buffered;
		size_t room = scan->capacity - scan->buffered;
		ssize_t n;

		if (from >= scan->limit)
			break;
		n = pread(scan->fd, scan->buffer + scan->buffered,
			scan->limit - from < room ? scan->limit - from : room, (off_t)from);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			break;
		scan->buffered += n > 0 ? (size_t)n : 0;
	}
	return r;
}

static const uint8_t *scan_data(const struct segment_scan *scan, size_t *ret_available)
{
	size_t used = (size_t)(scan->end - scan->buffer_at);

	*ret_available = scan->buffered - used;
	/* There is no buffer before the first byte was wanted. */
	return used ? scan->buffer + used : scan->buffer;
}

/* Bytes that the entry claims that begins at the end; 0: even that cannot be told. */
static size_t claimed_size(const uint8_t *at, size_t available)
{
	struct entry_header header;

	if (available < sizeof(header))
		return 0;
	memcpy(&header, at, sizeof(header));
	if (header.len > JOURNAL_BODY_MAX)
		return 0;
	return entry_size(header.type == JOURNAL_AUDIT ? JOURNAL_AUDIT : JOURNAL_STATE, header.len);
}

static int scan_load(struct segment_scan *scan, const uint8_t **ret_at, size_t *ret_available)
{
	const uint8_t *at = scan_data(scan, ret_available);
	size_t claimed = claimed_size(at, *ret_available);

	if (!claimed || claimed > *ret_available) {
		int r = buffer_fill(scan, sizeof(struct entry_header));

		at = scan_data(scan, ret_available);
		claimed = claimed_size(at, *ret_available);
		if (!r && claimed > *ret_available)
			r = buffer_fill(scan, claimed);
		if (r)
			return r;
		at = scan_data(scan, ret_available);
	}
	*ret_at = at;
	return 0;
}

int segment_scan_next(struct segment_scan *scan, struct entry_view *ret_view)
{
	struct entry_view view;
	const uint8_t *at;
	size_t available;
	int r = scan_load(scan, &at, &available);

	if (r)
		return r;
	if (!entry_parse(at, available, &view) || view.entry.number != scan->number + 1 ||
		!entry_verify(at, &view))
		return 0;
	scan->number++;
	scan->at = scan->end;
	scan->end += view.size;
	if (view.hash) {
		scan->id = view.entry.id;
		memcpy(scan->hash, view.hash, JOURNAL_HASH);
	}
	*ret_view = view;
	return 1;
}

int segment_rest(int fd, uint64_t from, uint64_t *ret_bytes)
{
	uint8_t *buffer = malloc(CHUNK);
	uint64_t last = from;
	ssize_t n;

	if (!buffer)
		return -ENOMEM;
	for (uint64_t at = from; (n = pread(fd, buffer, CHUNK, (off_t)at)) > 0; at += (uint64_t)n)
		for (ssize_t i = n; i > 0; i--)
			if (buffer[i - 1]) {
				last = at + (uint64_t)i;
				break;
			}
	free(buffer);
	if (n < 0)
		return -errno;
	*ret_bytes = last - from;
	return 0;
}
