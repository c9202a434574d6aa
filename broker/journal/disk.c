/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/journal/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/journal/segment.h"

#define COPY "copy"
#define COPY_CHUNK (1u << 18)

int disk_fail(struct drain *drain, int r, const char *format, ...)
{
	char text[DRAIN_ERROR_MAX + 1];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	pthread_mutex_lock(&drain->lock);
	memcpy(drain->trouble, text, sizeof(text));
	pthread_mutex_unlock(&drain->lock);
	return r;
}

/* ---- allocating ---- */

static int make_spare(struct drain *drain)
{
	int fd, r;

	/* Only what nobody has written to reads as zeros. */
	(void)unlinkat(drain->dir, SEGMENT_SPARE, 0);
	fd = openat(drain->dir, SEGMENT_SPARE, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
		0600);
	if (fd < 0)
		return -errno;
	r = segment_allocate(fd, drain->segment_bytes);
	if (r) {
		close(fd);
		(void)unlinkat(drain->dir, SEGMENT_SPARE, 0);
		return r;
	}
	drain->spare = fd;
	return 0;
}

int disk_make_spare(struct drain *drain)
{
	int r;

	if (drain->spare >= 0)
		return 0;
	disk_begin(drain);
	r = make_spare(drain);
	disk_end(drain);
	if (!r)
		return 0;
	return disk_fail(drain, r,
		"the disk has no room for the journal's next segment (%llu MiB in %s): %s",
		(unsigned long long)(drain->segment_bytes >> 20), drain->dir_path, strerror(-r));
}

/* Behind the last whole entry up to an entry's size may stay empty. */
static uint64_t room_of(const struct drain *drain, uint64_t size, uint64_t end)
{
	return size > end + drain->entry_max ? size - end - drain->entry_max : 0;
}

uint64_t disk_room(const struct drain *drain)
{
	uint64_t room = 0;

	if (drain->segment.fd >= 0)
		room += room_of(drain, drain->segment.size, drain->segment.end);
	if (drain->spare >= 0)
		room += room_of(drain, drain->segment_bytes, SEGMENT_HEADER);
	return room;
}

/* ---- syncing ---- */

static int sync_all(struct drain *drain)
{
	if (drain->segment.fd >= 0 && fdatasync(drain->segment.fd) < 0)
		return -errno;
	if (drain->dir_dirty && fsync(drain->dir) < 0)
		return -errno;
	drain->dir_dirty = false;
	return 0;
}

int disk_sync(struct drain *drain)
{
	uint64_t number = atomic_load(&drain->number);
	int r;

	disk_begin(drain);
	r = sync_all(drain);
	disk_end(drain);
	if (!r) {
		atomic_store(&drain->synced, number);
		return 0;
	}
	/* For the next broker too: what the page cache shows may not be on the disk. */
	drain->ring->state->failed = drain->segment.first;
	atomic_store(&drain->failed, r);
	return disk_fail(drain, r,
		"the journal in %s could not be brought to the disk (%s); nothing is granted or "
		"written until vmsigd is reloaded or started anew",
		drain->dir_path, strerror(-r));
}

/* ---- changing over ---- */

static int write_header(struct drain *drain, uint64_t first)
{
	struct segment_header header = {.first = first, .base_id = drain->last_id};

	memcpy(header.identity, drain->identity, sizeof(header.identity));
	memcpy(header.anchor, drain->last_hash, sizeof(header.anchor));
	segment_header_make(&header);
	return segment_write(drain->spare, &header, sizeof(header), 0);
}

static int add_to_catalog(struct drain *drain, uint64_t first)
{
	struct catalog_segment segment = {.first = first,
		.base_id = drain->last_id,
		.end = SEGMENT_HEADER,
		.bytes = drain->segment_bytes};
	int r = blocks_init(&segment.blocks, drain->segment_bytes);

	memcpy(segment.anchor, drain->last_hash, sizeof(segment.anchor));
	if (!r)
		r = catalog_add(drain->catalog, &segment);
	if (r)
		blocks_deinit(&segment.blocks);
	return r;
}

static int begin_spare(struct drain *drain)
{
	uint64_t first = atomic_load(&drain->number) + 1;
	char name[SEGMENT_NAME_MAX];
	int r = write_header(drain, first);

	segment_name(first, name);
	if (!r && renameat(drain->dir, SEGMENT_SPARE, drain->dir, name) < 0)
		r = -errno;
	if (!r)
		r = add_to_catalog(drain, first);
	if (r)
		return r;
	if (drain->segment.fd >= 0)
		close(drain->segment.fd);
	drain->segment = (struct drain_segment){.fd = drain->spare,
		.first = first,
		.end = SEGMENT_HEADER,
		.size = drain->segment_bytes};
	drain->spare = -1;
	drain->dir_dirty = true;
	return 0;
}

static int change_over(struct drain *drain)
{
	int r = disk_make_spare(drain);

	if (r)
		return r;
	disk_begin(drain);
	/* Of use only: without one it is made anew from the segment. */
	if (drain->segment.fd >= 0)
		(void)!catalog_store_newest(drain->catalog, drain->dir);
	r = begin_spare(drain);
	disk_end(drain);
	if (!r)
		return 0;
	/* It may have its name by now. */
	close(drain->spare);
	drain->spare = -1;
	return disk_fail(drain, r, "cannot begin a new segment of the journal in %s: %s",
		drain->dir_path, strerror(-r));
}

int disk_roll(struct drain *drain)
{
	int r = drain->segment.fd >= 0 ? disk_sync(drain) : 0;

	return r ? r : change_over(drain);
}

/* ---- copying ---- */

static int copy_bytes(int from, int to, uint64_t bytes)
{
	uint8_t *buffer = malloc(COPY_CHUNK);
	int r = buffer ? 0 : -ENOMEM;

	for (uint64_t at = 0; !r && at < bytes;) {
		uint64_t left = bytes - at;
		ssize_t n = pread(from, buffer, left < COPY_CHUNK ? left : COPY_CHUNK, (off_t)at);

		if (n <= 0)
			r = n < 0 ? -errno : -EIO;
		else
			r = segment_write(to, buffer, (size_t)n, at);
		at += n > 0 ? (uint64_t)n : 0;
	}
	free(buffer);
	return r;
}

/* What the page cache has may be what was written, or what the disk had before. */
static int verify_copy(int fd, uint64_t first, uint64_t bytes)
{
	struct segment_scan scan;
	struct entry_view view;
	int r;

	segment_scan_init(&scan, fd, SEGMENT_HEADER, bytes, first);
	while ((r = segment_scan_next(&scan, &view)) == 1)
		continue;
	segment_scan_deinit(&scan);
	return r ? r : scan.end == bytes ? 0 : -EIO;
}

static int copy_to(int dir, int from, uint64_t first, uint64_t bytes)
{
	int fd, r;

	(void)unlinkat(dir, COPY, 0);
	fd = openat(dir, COPY, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	r = copy_bytes(from, fd, bytes);
	if (!r)
		r = verify_copy(fd, first, bytes);
	if (!r && fsync(fd) < 0)
		r = -errno;
	close(fd);
	return r;
}

int disk_copy(int dir, uint64_t first, uint64_t bytes)
{
	char name[SEGMENT_NAME_MAX];
	int from, r;

	segment_name(first, name);
	from = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (from < 0)
		return -errno;
	r = copy_to(dir, from, first, bytes);
	if (!r && renameat(dir, COPY, dir, name) < 0)
		r = -errno;
	if (!r && fsync(dir) < 0)
		r = -errno;
	close(from);
	if (r)
		(void)unlinkat(dir, COPY, 0);
	return r;
}

int disk_renew(struct drain *drain)
{
	int r;

	disk_begin(drain);
	r = disk_copy(drain->dir, drain->segment.first, drain->segment.end);
	disk_end(drain);
	if (r)
		return disk_fail(drain, r,
			"a sync of the journal in %s has failed, and the segment could not be "
			"copied: %s; mend the disk, and start vmsigd anew",
			drain->dir_path, strerror(-r));
	drain->dir_dirty = false;
	atomic_store(&drain->synced, atomic_load(&drain->number));
	r = change_over(drain);
	if (r)
		return r;
	drain->ring->state->failed = 0;
	atomic_store(&drain->failed, 0);
	return 0;
}

/* ---- retention ---- */

void disk_prune(struct drain *drain, uint64_t number)
{
	char name[SEGMENT_NAME_MAX];
	uint64_t first;

	disk_begin(drain);
	while (catalog_drop(drain->catalog, number, &first)) {
		segment_name(first, name);
		(void)unlinkat(drain->dir, name, 0);
		blocks_unlink(drain->dir, first);
	}
	disk_end(drain);
}
