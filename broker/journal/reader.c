/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the journal again: all of it, in order, at a start; and pages of its audit records. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/journal/segment.h"
#include "broker/journal/state.h"
#include "vmsig/vmsig_error.h"

#define PAGE_BYTES (512u << 10)
#define LOOK_BYTES (4u << 20) /* of segments, in one call: some milliseconds */

static int segment_open(const struct journal *journal, uint64_t first)
{
	char name[SEGMENT_NAME_MAX];
	int fd;

	segment_name(first, name);
	fd = openat(journal->dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}

/* ---- pages ---- */

struct page_look {
	struct journal *journal;
	struct journal_query query;
	struct journal_page page;
	size_t capacity;
	size_t bytes;  /* of rows so far */
	size_t looked; /* bytes of segments */
	bool full;
	int fd; /* of the segment that was opened last */
	uint64_t first;
};

static size_t row_cost(const struct journal_row *row)
{
	return row->len + JOURNAL_HASH;
}

static int row_add(struct page_look *look, const struct entry_view *view)
{
	struct journal_page *page = &look->page;
	struct journal_row *row;
	uint8_t *body;

	if (page->n == look->capacity) {
		size_t capacity = look->capacity ? 2 * look->capacity : 64;
		struct journal_row *grown = realloc(page->rows, capacity * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		page->rows = grown;
		look->capacity = capacity;
	}
	body = malloc(view->entry.len ? view->entry.len : 1);
	if (!body)
		return -ENOMEM;
	if (view->entry.len)
		memcpy(body, view->entry.body, view->entry.len);
	row = &page->rows[page->n++];
	*row = (struct journal_row){.id = view->entry.id, .body = body, .len = view->entry.len};
	memcpy(row->hash, view->hash, JOURNAL_HASH);
	look->bytes += row_cost(row);
	return 0;
}

static bool is_full(const struct page_look *look, size_t more)
{
	return look->page.n && ((look->query.limit && look->page.n >= look->query.limit) ||
				       look->bytes + more > look->query.bytes);
}

/* Of the newest ones those are kept that are newest; what was dropped is found again. */
static void drop_oldest(struct page_look *look)
{
	struct journal_page *page = &look->page;
	size_t n = 0;

	while (page->n - n > 1 && ((look->query.limit && page->n - n > look->query.limit) ||
					  look->bytes > look->query.bytes)) {
		look->bytes -= row_cost(&page->rows[n]);
		free(page->rows[n++].body);
	}
	if (!n)
		return;
	page->n -= n;
	memmove(page->rows, page->rows + n, page->n * sizeof(*page->rows));
	look->full = true;
}

static int open_span(struct page_look *look, const struct catalog_span *span)
{
	int fd;

	if (look->fd >= 0 && look->first == span->first)
		return 0;
	fd = segment_open(look->journal, span->first);
	if (fd < 0)
		return fd;
	if (look->fd >= 0)
		close(look->fd);
	look->fd = fd;
	look->first = span->first;
	return 0;
}

static int scan_span(struct page_look *look, struct segment_scan *scan)
{
	struct entry_view view;
	int r;

	while (!look->full && (r = segment_scan_next(scan, &view)) == 1) {
		if (!entry_matches_query(&view.entry, &look->query))
			continue;
		if (!look->query.newest && is_full(look, view.entry.len + JOURNAL_HASH)) {
			look->full = true;
			return 0;
		}
		r = row_add(look, &view);
		if (r)
			return r;
		look->page.next = view.entry.id;
	}
	return look->full || r == 0 ? 0 : r;
}

static void order_rows(struct journal_row *rows, size_t old, size_t n);

/* Entries of a newer block come before those of an older one: put them in order. */
static int look_at(struct page_look *look, const struct catalog_span *span)
{
	struct segment_scan scan;
	size_t before = look->page.n;
	int r = open_span(look, span);

	/* Retention has dropped it meanwhile. */
	if (r == -ENOENT)
		return 0;
	if (r)
		return VMSIG_ERR_IO;
	segment_scan_init(&scan, look->fd, span->offset, span->limit, span->number);
	r = scan_span(look, &scan);
	if (!r && !look->full && scan.end != span->limit)
		r = VMSIG_ERR_INTERNAL;
	segment_scan_deinit(&scan);
	if (r)
		return r == -ENOMEM || r > 0 ? r : VMSIG_ERR_IO;
	look->looked += (size_t)(span->limit - span->offset);
	if (look->query.newest) {
		order_rows(look->page.rows, before, look->page.n);
		drop_oldest(look);
		look->page.next = look->full ? look->page.rows[0].id - 1 : span->first_id - 1;
	} else if (!look->full) {
		look->page.next = span->last_id;
	}
	return 0;
}

static void reverse(struct journal_row *rows, size_t n)
{
	for (size_t i = 0; i < n / 2; i++) {
		struct journal_row row = rows[i];

		rows[i] = rows[n - 1 - i];
		rows[n - 1 - i] = row;
	}
}

/* The last ones of `n` come first. */
static void order_rows(struct journal_row *rows, size_t old, size_t n)
{
	if (!old || old == n)
		return;
	reverse(rows, old);
	reverse(rows + old, n - old);
	reverse(rows, n);
}

static int look_all(struct page_look *look)
{
	struct catalog_cursor cursor = {0};
	struct catalog_span span;
	int r = 0;

	while (!r && !look->full) {
		enum catalog_step step =
			catalog_next(&look->journal->catalog, &look->query, &cursor, &span);

		if (step == CATALOG_END) {
			look->page.more = false;
			return 0;
		}
		if (step == CATALOG_SPAN)
			r = look_at(look, &span);
		if (look->looked >= LOOK_BYTES)
			break;
	}
	/* Nothing is left that could come behind. */
	look->page.more = !look->query.newest || look->page.next > look->query.after;
	return r;
}

int journal_read(
	struct journal *journal, const struct journal_query *query, struct journal_page *ret_page)
{
	struct page_look look = {.journal = journal, .query = *query, .fd = -1};
	int r;

	if (!look.query.bytes)
		look.query.bytes = PAGE_BYTES;
	look.page.next = query->newest ? query->until : query->after;
	r = look_all(&look);
	if (look.fd >= 0)
		close(look.fd);
	if (r)
		journal_page_free(&look.page);
	else
		*ret_page = look.page;
	return r;
}

void journal_page_free(struct journal_page *page)
{
	for (size_t i = 0; i < page->n; i++)
		free(page->rows[i].body);
	free(page->rows);
	*page = (struct journal_page){0};
}

/* ---- replay ---- */

struct replay {
	struct journal *journal;
	uint64_t after;
	int (*each)(void *arg, const struct journal_entry *entry);
	void *arg;
};

static int replay_fail(struct replay *replay, int r, uint64_t number, const char *what)
{
	snprintf(replay->journal->error, sizeof(replay->journal->error),
		"entry %llu of the journal in %s %s", (unsigned long long)number,
		replay->journal->dir_path, what);
	return r;
}

static int replay_scan(struct replay *replay, struct segment_scan *scan)
{
	struct entry_view view;
	int r;

	while ((r = segment_scan_next(scan, &view)) == 1) {
		r = view.entry.number > replay->after ? replay->each(replay->arg, &view.entry) : 0;
		if (r)
			return r;
	}
	if (r < 0)
		return replay_fail(replay, VMSIG_ERR_IO, scan->number + 1, "cannot be read");
	return scan->end == scan->limit
		       ? 0
		       : replay_fail(replay, VMSIG_ERR_INTERNAL, scan->number + 1, "is damaged");
}

/* The block that has the entry, so that not all of the segment is read. */
static const struct block *block_of(const struct blocks *blocks, uint64_t number)
{
	size_t i = blocks->n;

	while (i > 1 && blocks->list[i - 1].number > number)
		i--;
	return &blocks->list[i - 1];
}

static int replay_segment(struct replay *replay, const struct catalog_segment *segment)
{
	struct segment_scan scan;
	const struct block *block;
	int fd, r;

	if (!segment->blocks.n)
		return 0;
	block = block_of(&segment->blocks, replay->after + 1);
	fd = segment_open(replay->journal, segment->first);
	if (fd < 0)
		return replay_fail(replay, VMSIG_ERR_IO, segment->first, "cannot be read");
	segment_scan_init(&scan, fd, block->offset, segment->end, block->number);
	r = replay_scan(replay, &scan);
	segment_scan_deinit(&scan);
	close(fd);
	return r;
}

static int replay_ring(const struct replay *replay)
{
	const struct ring *ring = &replay->journal->ring;
	uint64_t head = atomic_load(&ring->state->head), at = atomic_load(&ring->state->tail);
	struct entry_view view;
	int r = 0;

	for (; !r && ring_entry(ring, at, head, &view); at += view.size)
		if (view.entry.number > replay->after)
			r = replay->each(replay->arg, &view.entry);
	return r;
}

int journal_replay(struct journal *journal, uint64_t after,
	int (*each)(void *arg, const struct journal_entry *entry), void *arg)
{
	struct replay replay = {.journal = journal, .after = after, .each = each, .arg = arg};
	const struct catalog *catalog = &journal->catalog;
	int r = 0;

	if (after + 1 < catalog_first(&journal->catalog))
		return replay_fail(&replay, VMSIG_ERR_INTERNAL, after + 1,
			"is needed, and retention has dropped it");
	if (after > journal->committed.number)
		return replay_fail(&replay, VMSIG_ERR_INTERNAL, after,
			"should be there, and is behind the journal's end");
	for (size_t i = 0; !r && i < catalog->n; i++)
		if (i + 1 == catalog->n || catalog->segments[i + 1].first > after + 1)
			r = replay_segment(&replay, &catalog->segments[i]);
	return r ? r : replay_ring(&replay);
}
