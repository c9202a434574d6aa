/* SPDX-License-Identifier: Apache-2.0 */
/* What a crash or a power cut has left of segments and ring, made into one journal: cut at the
 * first entry that does not verify. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/journal/disk.h"
#include "broker/journal/segment.h"
#include "broker/journal/state.h"
#include "vmsig/vmsig_error.h"

#define DIRECTORY "journal"

struct recovery {
	struct journal *journal;
	uint64_t *names; /* first numbers of the segments there are, ascending */
	size_t n, capacity;
	char *error;
	size_t error_size;
	bool identified; /* the journal's identity is known */
	/* The newest segment, as it was scanned. */
	uint64_t first, end, size;
	bool adopted; /* it is written to again */
};

__attribute__((format(printf, 3, 4))) static int fail(
	const struct recovery *recovery, int r, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(recovery->error, recovery->error_size, format, args);
	va_end(args);
	return r;
}

static int fail_errno(const struct recovery *recovery, int r, const char *what)
{
	return fail(recovery, r == -ENOMEM ? r : VMSIG_ERR_IO, "cannot %s in %s: %s", what,
		recovery->journal->dir_path, strerror(-r));
}

static int fail_damaged(const struct recovery *recovery, uint64_t first, uint64_t at)
{
	char name[SEGMENT_NAME_MAX];

	segment_name(first, name);
	return fail(recovery, VMSIG_ERR_INTERNAL,
		"%s/%s is damaged at byte %llu, before the journal's end: restore it from a "
		"backup, or move the directory away to begin a new journal",
		recovery->journal->dir_path, name, (unsigned long long)at);
}

/* ---- which segments there are ---- */

static int dir_open(struct recovery *recovery, const char *state_dir)
{
	struct journal *journal = recovery->journal;

	if (snprintf(journal->dir_path, sizeof(journal->dir_path), "%s/" DIRECTORY, state_dir) >=
		(int)sizeof(journal->dir_path))
		return fail(recovery, VMSIG_ERR_IO, "%s: the name is too long", state_dir);
	if (mkdir(journal->dir_path, 0700) < 0 && errno != EEXIST)
		return fail_errno(recovery, -errno, "make the directory");
	journal->dir = open(journal->dir_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return journal->dir < 0 ? fail_errno(recovery, -errno, "open the directory") : 0;
}

static int names_add(struct recovery *recovery, uint64_t first)
{
	if (recovery->n == recovery->capacity) {
		size_t capacity = recovery->capacity ? 2 * recovery->capacity : 64;
		uint64_t *grown = realloc(recovery->names, capacity * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		recovery->names = grown;
		recovery->capacity = capacity;
	}
	recovery->names[recovery->n++] = first;
	return 0;
}

static int by_number(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static int names_collect(struct recovery *recovery)
{
	int fd = fcntl(recovery->journal->dir, F_DUPFD_CLOEXEC, 0), r = 0;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *item;
	uint64_t first;

	if (!dir) {
		r = -errno;
		if (fd >= 0)
			close(fd);
		return fail_errno(recovery, r, "list the segments");
	}
	while (!r && (item = readdir(dir)))
		if (segment_parse_name(item->d_name, &first))
			r = names_add(recovery, first);
	closedir(dir);
	if (r)
		return fail_errno(recovery, r, "list the segments");
	if (recovery->n)
		qsort(recovery->names, recovery->n, sizeof(*recovery->names), by_number);
	return 0;
}

/* ---- a segment ---- */

static int segment_open(const struct recovery *recovery, uint64_t first, int *ret_fd)
{
	char name[SEGMENT_NAME_MAX];
	int fd;

	segment_name(first, name);
	fd = openat(recovery->journal->dir, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return fail_errno(recovery, -errno, "open a segment");
	*ret_fd = fd;
	return 0;
}

static int header_read(const struct recovery *recovery, int fd, struct segment_header *ret_header)
{
	ssize_t n;

	memset(ret_header, 0, sizeof(*ret_header));
	n = pread(fd, ret_header, sizeof(*ret_header), 0);
	return n < 0 ? fail_errno(recovery, -errno, "read a segment")
		     : segment_header_check(ret_header);
}

/* All segments are of one journal. */
static int identify(struct recovery *recovery, const struct segment_header *header, uint64_t first)
{
	struct journal *journal = recovery->journal;

	if (!recovery->identified)
		memcpy(journal->identity, header->identity, SEGMENT_IDENTITY);
	recovery->identified = true;
	if (header->first != first ||
		memcmp(journal->identity, header->identity, SEGMENT_IDENTITY) != 0)
		return fail_damaged(recovery, first, 0);
	return 0;
}

/* Where it goes on from; the catalog is at the entry before. */
static int segment_begin(struct recovery *recovery, const struct segment_header *header,
	uint64_t first, struct catalog_segment *ret_segment)
{
	struct catalog *catalog = &recovery->journal->catalog;
	int r = identify(recovery, header, first);

	if (r)
		return r;
	if (catalog->n && (first != catalog->number + 1 || header->base_id != catalog->id))
		return fail_damaged(recovery, first, 0);
	*ret_segment = (struct catalog_segment){.first = first, .base_id = header->base_id};
	memcpy(ret_segment->anchor, header->anchor, JOURNAL_HASH);
	return 0;
}

/* Fills the blocks from the entries, and the scan's end. */
static int segment_index(
	const struct recovery *recovery, struct segment_scan *scan, struct catalog_segment *segment)
{
	struct entry_view view;
	int r = blocks_init(&segment->blocks, segment->bytes);

	scan->id = segment->base_id;
	memcpy(scan->hash, segment->anchor, JOURNAL_HASH);
	while (!r && (r = segment_scan_next(scan, &view)) == 1) {
		blocks_add(&segment->blocks, scan->at, &view);
		r = 0;
	}
	segment->end = scan->end;
	return r ? fail_errno(recovery, r, "read a segment") : 0;
}

static int segment_take(struct recovery *recovery, struct catalog_segment *segment, uint64_t number,
	uint64_t id, const uint8_t *hash)
{
	int r = catalog_add(&recovery->journal->catalog, segment);

	if (r) {
		blocks_deinit(&segment->blocks);
		return fail_errno(recovery, r, "list the segments");
	}
	catalog_set_newest(&recovery->journal->catalog, number, id, hash);
	return 0;
}

static int segment_size(const struct recovery *recovery, int fd, uint64_t *ret_bytes)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return fail_errno(recovery, -errno, "look at a segment");
	*ret_bytes = (uint64_t)st.st_size;
	return 0;
}

/* One that is followed by another was synced before: it has all that the next one's header says.
 * Its index tells what is in it, or all of it has to be read. */
static int segment_load_old(struct recovery *recovery, int fd, const struct segment_header *header,
	const struct segment_header *next)
{
	struct catalog_segment segment = {0};
	struct blocks_end end = {0};
	struct segment_scan scan;
	int r = segment_begin(recovery, header, header->first, &segment);

	if (!r)
		r = segment_size(recovery, fd, &segment.bytes);
	if (r)
		return r;
	r = blocks_load(&segment.blocks, recovery->journal->dir, segment.first, &end);
	segment.end = end.end;
	if (r || end.number != next->first - 1) {
		blocks_deinit(&segment.blocks);
		segment_scan_init(&scan, fd, SEGMENT_HEADER, segment.bytes, segment.first);
		r = segment_index(recovery, &scan, &segment);
		segment_scan_deinit(&scan);
		if (!r && (scan.number != next->first - 1 || scan.id != next->base_id))
			r = fail_damaged(recovery, segment.first, scan.end);
	}
	if (r) {
		blocks_deinit(&segment.blocks);
		return r;
	}
	return segment_take(recovery, &segment, next->first - 1, next->base_id, next->anchor);
}

/* ---- the newest segment ---- */

/* Written to again, if nothing was cut off: what was could be taken for an entry later. */
static int newest_settle(struct recovery *recovery, int fd, const struct catalog_segment *segment)
{
	struct journal *journal = recovery->journal;
	uint64_t dropped = journal->found.dropped_bytes;

	recovery->first = segment->first;
	recovery->end = segment->end;
	recovery->size = segment->bytes;
	if (dropped && ftruncate(fd, (off_t)segment->end) < 0)
		return fail_errno(recovery, -errno, "cut a segment");
	/* What the broker before had written may be in memory only. */
	if (fdatasync(fd) < 0)
		return fail_errno(recovery, -errno, "sync a segment");
	recovery->adopted = !dropped && segment->bytes > segment->end + journal->entry_max;
	if (recovery->adopted)
		journal->drain.segment = (struct drain_segment){.fd = fd,
			.first = segment->first,
			.end = segment->end,
			.size = segment->bytes};
	return 0;
}

static int newest_scan(struct recovery *recovery, int fd, const struct segment_header *header)
{
	struct journal *journal = recovery->journal;
	struct catalog_segment segment = {0};
	struct segment_scan scan;
	uint64_t rest = 0;
	int r = segment_begin(recovery, header, header->first, &segment);

	if (!r)
		r = segment_size(recovery, fd, &segment.bytes);
	if (r)
		return r;
	segment_scan_init(&scan, fd, SEGMENT_HEADER, segment.bytes, segment.first);
	r = segment_index(recovery, &scan, &segment);
	segment_scan_deinit(&scan);
	if (!r && segment_rest(fd, scan.end, &rest))
		r = fail_errno(recovery, -EIO, "read a segment");
	journal->found.dropped_bytes += rest;
	if (!r)
		r = newest_settle(recovery, fd, &segment);
	if (!r && journal->found.dropped_bytes)
		segment.bytes = segment.end;
	if (r) {
		blocks_deinit(&segment.blocks);
		return r;
	}
	return segment_take(recovery, &segment, scan.number, scan.id, scan.hash);
}

/* A power cut came before its header was on the disk, and so before anything in it was synced. */
static int newest_drop(struct recovery *recovery, int fd)
{
	char name[SEGMENT_NAME_MAX];
	uint64_t rest;

	if (segment_rest(fd, 0, &rest))
		return fail_errno(recovery, -EIO, "read a segment");
	/* The first one of all: what it is cannot be told, unless it is nothing. */
	if (recovery->n == 1 && rest)
		return fail_damaged(recovery, recovery->names[0], 0);
	recovery->journal->found.dropped_bytes += rest;
	segment_name(recovery->names[--recovery->n], name);
	if (unlinkat(recovery->journal->dir, name, 0) < 0)
		return fail_errno(recovery, -errno, "remove a segment that is none");
	return 0;
}

static int unsupported(const struct recovery *recovery)
{
	return fail(recovery, VMSIG_ERR_UNSUPPORTED,
		"%s was written by a newer version of vmsigd: use that one",
		recovery->journal->dir_path);
}

/* The newest one that is one. */
static int newest_find(struct recovery *recovery, int *ret_fd, struct segment_header *ret_header)
{
	while (recovery->n) {
		uint64_t first = recovery->names[recovery->n - 1];
		int fd = -1, r = segment_open(recovery, first, &fd);

		if (r)
			return r;
		r = header_read(recovery, fd, ret_header);
		if (!r) {
			*ret_fd = fd;
			return 0;
		}
		if (r == VMSIG_ERR_UNSUPPORTED)
			r = unsupported(recovery);
		else if (r == VMSIG_ERR_INTERNAL)
			r = newest_drop(recovery, fd);
		close(fd);
		if (r)
			return r;
	}
	return 0;
}

/* ---- all segments ---- */

static int old_read(
	const struct recovery *recovery, size_t i, int *ret_fd, struct segment_header *ret_header)
{
	int r = segment_open(recovery, recovery->names[i], ret_fd);

	if (r)
		return r;
	r = header_read(recovery, *ret_fd, ret_header);
	if (!r)
		return 0;
	close(*ret_fd);
	return r == VMSIG_ERR_UNSUPPORTED ? unsupported(recovery)
	       : r == VMSIG_ERR_INTERNAL  ? fail_damaged(recovery, recovery->names[i], 0)
					  : r;
}

/* `newest` is the header of the last one, so each is loaded with its next one's at hand. */
static int load_old(struct recovery *recovery, const struct segment_header *newest)
{
	struct segment_header header, next;
	int fd = -1, next_fd, r;

	if (recovery->n < 2)
		return 0;
	r = old_read(recovery, 0, &fd, &header);
	for (size_t i = 0; !r && i + 1 < recovery->n; i++) {
		bool last = i + 2 == recovery->n;

		next_fd = -1;
		next = *newest;
		if (!last)
			r = old_read(recovery, i + 1, &next_fd, &next);
		if (!r)
			r = segment_load_old(recovery, fd, &header, &next);
		close(fd);
		fd = next_fd;
		header = next;
		if (r && fd >= 0)
			close(fd);
	}
	return r;
}

static int load_segments(struct recovery *recovery)
{
	struct segment_header header = {0};
	int fd = -1, r = newest_find(recovery, &fd, &header);

	if (r || fd < 0)
		return r;
	r = load_old(recovery, &header);
	if (!r)
		r = newest_scan(recovery, fd, &header);
	if (r || !recovery->adopted)
		close(fd);
	if (r)
		recovery->journal->drain.segment.fd = -1;
	return r;
}

/* ---- the ring ---- */

/* Entries that make sense and follow each other; `head` becomes what is behind them. */
static uint64_t ring_walk(
	const struct ring *ring, uint64_t *head, uint64_t *ret_first, uint64_t *ret_last)
{
	uint64_t at = atomic_load(&ring->state->tail), end = *head;
	struct entry_view view;

	*ret_first = *ret_last = 0;
	while (ring_entry(ring, at, end, &view)) {
		if (*ret_last && view.entry.number != *ret_last + 1)
			break;
		if (!*ret_first)
			*ret_first = view.entry.number;
		*ret_last = view.entry.number;
		at += view.size;
	}
	*head = at;
	return end - at;
}

/* Those that a segment has already are passed over. */
static void ring_skip(struct ring *ring, uint64_t head, uint64_t number)
{
	uint64_t at = atomic_load(&ring->state->tail);
	struct entry_view view;

	while (ring_entry(ring, at, head, &view) && view.entry.number <= number)
		at += view.size;
	atomic_store(&ring->state->tail, at);
}

static void ring_join(struct journal *journal)
{
	struct ring *ring = &journal->ring;
	uint64_t head = atomic_load(&ring->state->head), number = journal->catalog.number;
	uint64_t first, last, rest = ring_walk(ring, &head, &first, &last);

	/* kill -9 stops a write half way: the ring still has what the segment has a part of. */
	if (first <= number + 1 && last > number)
		journal->found.dropped_bytes = 0;
	journal->found.dropped_bytes += rest;
	if (first > number + 1) {
		journal->found.dropped_entries = last - first + 1;
		ring_reset(ring, journal->identity);
		return;
	}
	ring_skip(ring, head, number);
	atomic_store(&ring->state->head, head);
	journal->found.ring_entries = last > number ? last - number : 0;
}

static int ring_use(struct recovery *recovery, const struct journal_options *options)
{
	struct journal *journal = recovery->journal;
	uint64_t size = options->ring_bytes ? options->ring_bytes : JOURNAL_RING_BYTES;
	int r = ring_open(&journal->ring, journal->dir_path, options->run_dir, size,
		recovery->error, recovery->error_size);
	enum shared_found found;

	if (r)
		return r == VMSIG_ERR_BUSY ? r : VMSIG_ERR_IO;
	found = journal->ring.shared.found;
	if (found == SHARED_FOUND && recovery->identified &&
		memcmp(journal->ring.state->identity, journal->identity, SEGMENT_IDENTITY) != 0)
		found = SHARED_MISSING;
	journal->found.fresh = !recovery->n && found != SHARED_FOUND;
	journal->found.closed = found == SHARED_NONE;
	journal->found.power_cut = found == SHARED_BOOTED;
	journal->found.ring_missing = found == SHARED_MISSING;
	if (found == SHARED_FOUND && !recovery->identified)
		memcpy(journal->identity, journal->ring.state->identity, SEGMENT_IDENTITY);
	if (found == SHARED_FOUND)
		ring_join(journal);
	else
		ring_reset(&journal->ring, journal->identity);
	return 0;
}

/* ---- all of it ---- */

static int new_identity(struct recovery *recovery)
{
	uint8_t *identity = recovery->journal->identity;

	if (recovery->identified ||
		getrandom(identity, SEGMENT_IDENTITY, 0) == (ssize_t)SEGMENT_IDENTITY)
		return 0;
	return fail(recovery, VMSIG_ERR_IO, "no random numbers for a new journal");
}

/* The kernel has shown since what was written, and the disk may have something else. */
static int mend_failed(struct recovery *recovery)
{
	struct journal *journal = recovery->journal;
	uint64_t *failed = &journal->ring.state->failed;
	int r;

	if (!*failed || *failed != recovery->first) {
		*failed = 0;
		return 0;
	}
	if (recovery->adopted)
		close(journal->drain.segment.fd);
	journal->drain.segment.fd = -1;
	r = disk_copy(journal->dir, recovery->first, recovery->end);
	if (r)
		return fail_errno(recovery, r, "copy a segment whose sync had failed");
	*failed = 0;
	return 0;
}

static void limits_set(struct journal *journal, const struct journal_options *options)
{
	uint64_t segment = options->segment_bytes, ring = options->ring_bytes, least;

	segment = segment ? segment : JOURNAL_SEGMENT_BYTES;
	ring = ring ? ring : JOURNAL_RING_BYTES;
	least = segment < ring ? segment : ring;
	journal->segment_bytes = segment;
	journal->entry_max = entry_size(JOURNAL_AUDIT, JOURNAL_BODY_MAX);
	if (journal->entry_max > least / 4)
		journal->entry_max = least / 4;
	journal->reserve = options->reserve_bytes ? options->reserve_bytes : JOURNAL_RESERVE_BYTES;
	if (journal->reserve > least / 8)
		journal->reserve = least / 8;
}

static void newest_from_base(struct journal *journal, const struct journal_options *options)
{
	catalog_set_newest(&journal->catalog, 0, options->base_id, options->base_hash);
}

static int run(struct recovery *recovery, const struct journal_options *options)
{
	int r;

	limits_set(recovery->journal, options);
	newest_from_base(recovery->journal, options);
	r = dir_open(recovery, options->state_dir);
	if (!r)
		r = names_collect(recovery);
	if (!r)
		r = load_segments(recovery);
	if (!r)
		r = new_identity(recovery);
	if (!r)
		r = ring_use(recovery, options);
	return r ? r : mend_failed(recovery);
}

int recovery_run(struct journal *journal, const struct journal_options *options, char *error,
	size_t error_size)
{
	struct recovery recovery = {.journal = journal, .error = error, .error_size = error_size};
	int r = run(&recovery, options);

	free(recovery.names);
	return r;
}
