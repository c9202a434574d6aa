/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/mem/window.h"

#include <string.h>

/* Whether a match whose bytes may be of different moments is one now. */
static int confirm(struct window *window, uint64_t addr, bool *ret_matches)
{
	uint8_t now[PATTERN_MAX];
	int r = window->reread(window->ctx, addr, now, window->pattern.len);

	*ret_matches = !r && mem_pattern_matches(&window->pattern, now);
	/* The guest changed its mapping since: no match, and no reason to stop. */
	return r == VMSIG_ERR_NOT_MAPPED || r == VMSIG_ERR_OUT_OF_RANGE ||
			       r == VMSIG_ERR_BAD_PAGE_TABLE
		       ? 0
		       : r;
}

static int report(struct window *window, uint64_t addr)
{
	bool matches = true;
	int r = window->mixed ? confirm(window, addr, &matches) : 0;

	if (r || !matches)
		return r;
	window->stopped = window->match(window->ctx, addr);
	return window->stopped;
}

/* Searches all and keeps the bytes with which a match could still begin. */
static int search(struct window *window)
{
	size_t keep = window->pattern.len - 1, at;

	for (at = mem_pattern_find(&window->pattern, window->bytes, window->len, 0);
		at < window->len;
		at = mem_pattern_find(&window->pattern, window->bytes, window->len, at + 1)) {
		int r = report(window, window->base + at);

		if (r)
			return r;
	}
	keep = keep < window->len ? keep : window->len;
	memmove(window->bytes, window->bytes + window->len - keep, keep);
	window->base += window->len - keep;
	window->len = keep;
	window->zeros = window->zeros < keep ? window->zeros : keep;
	return 0;
}

/* Begins anew at `addr`. */
static int restart(struct window *window, uint64_t addr)
{
	int r = search(window);

	window->base = addr;
	window->len = 0;
	window->zeros = 0;
	window->mixed = false;
	return r;
}

/* One piece of data that fits; nothing is added on failure. */
static int read_data(struct window *window, uint64_t off, size_t len)
{
	struct mem_coherence *coherence = &window->mem->coherence;
	uint64_t sequence = 0;
	int r = VMSIG_ERR_TORN;

	for (unsigned i = 0; i < MEM_ATTEMPTS; i++) {
		r = mem_coherence_begin(coherence, &sequence);
		if (r)
			return r;
		r = mem_ram_pread(&window->mem->ram, off, window->bytes + window->len, len);
		if (!mem_again(window->mem, sequence, r, &r))
			break;
	}
	if (r)
		return r;
	window->mixed = window->mixed || (window->len && window->sequence != sequence);
	window->sequence = sequence;
	window->len += len;
	window->zeros = 0;
	return 0;
}

static int feed_data(struct window *window, uint64_t off, uint64_t len)
{
	while (len) {
		size_t n = WINDOW_SIZE - window->len;
		int r = 0;

		if (!n) {
			r = search(window);
			n = WINDOW_SIZE - window->len;
		}
		n = n < len ? n : len;
		if (!r)
			r = read_data(window, off, n);
		if (r)
			return r;
		off += n;
		len -= n;
	}
	return 0;
}

static int add_zeros(struct window *window, size_t n)
{
	int r = WINDOW_SIZE - window->len < n ? search(window) : 0;

	memset(window->bytes + window->len, 0, n);
	window->len += n;
	window->zeros += n;
	return r;
}

/* A long hole is its first and its last few bytes. */
static int feed_hole(struct window *window, uint64_t len)
{
	size_t most = window->pattern.len - 1, room = most - window->zeros;
	uint64_t end = window->base + window->len + len, hole = window->zeros + len;
	int r;

	if (len <= room)
		return add_zeros(window, len);
	r = add_zeros(window, room);
	if (r)
		return r;
	hole = hole < most ? hole : most;
	r = restart(window, end - hole);
	return r ? r : add_zeros(window, hole);
}

int window_feed(struct window *window, uint64_t addr, uint64_t off, uint64_t len)
{
	uint64_t stop = off + len;
	int r = addr == window->base + window->len ? 0 : restart(window, addr);

	while (!r && off < stop) {
		uint64_t data, end;

		r = mem_ram_data(&window->mem->ram, off, stop, &data, &end);
		if (!r && data > off)
			r = feed_hole(window, data - off);
		if (!r && end > data)
			r = feed_data(window, data, end - data);
		off = end > data ? end : data;
	}
	return r;
}

int window_finish(struct window *window)
{
	return restart(window, 0);
}
