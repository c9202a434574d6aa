/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/guest/span.h"

#include <errno.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "vmsig/vmsig_error.h"

static bool sizes_valid(const uint64_t *sizes, size_t n)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < n; i++) {
		if (!sizes[i] || sizes[i] > INT64_MAX - sum)
			return false;
		sum += sizes[i];
		if (i + 1 < n && sum % SPAN_PAGE)
			return false;
	}
	return n && n <= VMSIG_MEMFILES_MAX;
}

int span_init(struct span *span, const int *fds, const uint64_t *sizes, size_t n)
{
	struct span_file *files;
	uint64_t at = 0;

	if (!sizes_valid(sizes, n))
		return VMSIG_ERR_BAD_REQUEST;
	files = calloc(n, sizeof(*files));
	if (!files)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		files[i] = (struct span_file){.fd = fds[i], .start = at, .size = sizes[i]};
		at += sizes[i];
	}
	*span = (struct span){.files = files, .n = n, .size = at};
	return 0;
}

void span_deinit(struct span *span)
{
	free(span->files);
	*span = SPAN_INIT;
}

void span_close(struct span *span)
{
	for (size_t i = 0; i < span->n; i++) {
		if (span->files[i].fd >= 0)
			close(span->files[i].fd);
	}
	span_deinit(span);
}

size_t span_index(const struct span *span, uint64_t off)
{
	size_t low = 0, high = span->n;

	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (span->files[middle].start <= off)
			low = middle;
		else
			high = middle;
	}
	return low;
}

/* Of one file, `into` bytes from its start on. */
static int file_pread(const struct span_file *file, uint64_t into, char *to, size_t len)
{
	while (len) {
		ssize_t n = pread(file->fd, to, len, (off_t)into);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return VMSIG_ERR_IO;
		if (n == 0)
			return VMSIG_ERR_OUT_OF_RANGE;
		to += n;
		into += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

int span_pread(const struct span *span, uint64_t off, void *buf, size_t len)
{
	char *to = buf;

	if (off > span->size || len > span->size - off)
		return VMSIG_ERR_OUT_OF_RANGE;
	while (len) {
		const struct span_file *file = &span->files[span_index(span, off)];
		uint64_t into = off - file->start;
		size_t n = len < file->size - into ? len : (size_t)(file->size - into);
		int r = file_pread(file, into, to, n);

		if (r)
			return r;
		to += n;
		off += n;
		len -= n;
	}
	return 0;
}

bool span_next_data(const struct span *span, uint64_t *off, uint64_t end)
{
	while (*off < end && *off < span->size) {
		const struct span_file *file = &span->files[span_index(span, *off)];
		off_t data = -1;

		if (file->fd < 0)
			return true;
		data = lseek(file->fd, (off_t)(*off - file->start), SEEK_DATA);
		if (data < 0 && errno != ENXIO)
			return true;
		if (data >= 0 && (uint64_t)data < file->size) {
			*off = file->start + (uint64_t)data;
			return *off < end;
		}
		*off = file->start + file->size;
	}
	return false;
}

/* ---- mapping ---- */

uint64_t span_page_size(int fd)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) == 0 && (unsigned long)fs.f_type == HUGETLBFS_MAGIC)
		return (uint64_t)fs.f_bsize;
	return SPAN_PAGE;
}

static uint64_t largest_page(const struct span *span)
{
	uint64_t largest = SPAN_PAGE;

	for (size_t i = 0; i < span->n; i++) {
		uint64_t size = span_page_size(span->files[i].fd);

		largest = size > largest ? size : largest;
	}
	return largest;
}

static uint64_t round_up(uint64_t value, uint64_t to)
{
	return (value + to - 1) / to * to;
}

/* The kernel rounds a mapping of a file on hugetlbfs up to whole pages of that file, over whatever
 * comes behind it, and takes back only whole ones. */
static bool has_whole_pages(const struct span *span)
{
	for (size_t i = 0; i < span->n; i++) {
		uint64_t page = span_page_size(span->files[i].fd);

		if (page != SPAN_PAGE &&
			(span->files[i].start % page || span->files[i].size % page))
			return false;
	}
	return true;
}

/* Addresses that nobody else gets, from a multiple of `align` on. */
static int reserve(uint64_t size, uint64_t align, char **ret_base)
{
	uint64_t whole = size + align, skip;
	char *at = mmap(NULL, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		return -errno;
	skip = round_up((uintptr_t)at, align) - (uintptr_t)at;
	if (skip)
		munmap(at, skip);
	munmap(at + skip + size, align - skip);
	*ret_base = at + skip;
	return 0;
}

static int map_several(const struct span *span, int prot, void **ret_base)
{
	uint64_t size = round_up(span->size, SPAN_PAGE);
	char *base = NULL;
	int r = reserve(size, largest_page(span), &base);

	for (size_t i = 0; !r && i < span->n; i++) {
		const struct span_file *file = &span->files[i];
		const void *at = mmap(
			base + file->start, file->size, prot, MAP_SHARED | MAP_FIXED, file->fd, 0);

		if (at == MAP_FAILED) {
			r = -errno;
			munmap(base, size);
		}
	}
	if (!r)
		*ret_base = base;
	return r;
}

int span_map(const struct span *span, int prot, void **ret_base)
{
	void *base;

	if (!has_whole_pages(span))
		return -EINVAL;
	if (span->n > 1)
		return map_several(span, prot, ret_base);
	base = mmap(NULL, span->size, prot, MAP_SHARED, span->files[0].fd, 0);
	if (base == MAP_FAILED)
		return -errno;
	*ret_base = base;
	return 0;
}
