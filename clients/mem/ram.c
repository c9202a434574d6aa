/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/mem/ram.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmsig/vmsig_error.h"

#define BY_PAGE_MAX (2ull << 20) /* bytes */

static bool same_file(int fd, const struct stat *st)
{
	struct stat other;

	return !fstat(fd, &other) && other.st_dev == st->st_dev && other.st_ino == st->st_ino;
}

/* A duplicate shares its offset with the caller's descriptor. */
static int fd_duplicate(int fd)
{
	int flags = fcntl(fd, F_GETFL), copy;

	if (flags < 0)
		return -errno;
	if ((flags & O_ACCMODE) != O_RDONLY)
		return -EINVAL;
	copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return copy < 0 ? -errno : copy;
}

/* A descriptor, or -errno. */
static int fd_open(int fd, const struct stat *st, bool *ret_seekable)
{
	char path[sizeof("/proc/self/fd/") + 3 * sizeof(fd)];
	int own;

	*ret_seekable = false;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	own = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (own < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM))
		return -errno;
	if (own < 0)
		return fd_duplicate(fd);
	if (!same_file(own, st)) {
		close(own);
		return -EINVAL;
	}
	/* hugetlbfs takes SEEK_DATA and calls everything data. */
	*ret_seekable = span_page_size(own) == SPAN_PAGE;
	return own;
}

/* The file's own size where none is wanted. */
static int file_open(int fd, uint64_t *size, bool *ret_seekable)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size <= 0 || *size > (uint64_t)st.st_size)
		return -EINVAL;
	if (!*size)
		*size = (uint64_t)st.st_size;
	return fd_open(fd, &st, ret_seekable);
}

static int files_open(struct mem_ram *ram, const int *fds, const uint64_t *sizes, size_t n)
{
	int own[VMSIG_MEMFILES_MAX], r = n && n <= VMSIG_MEMFILES_MAX ? 0 : -EINVAL;
	uint64_t lens[VMSIG_MEMFILES_MAX];
	size_t opened = 0;

	while (!r && opened < n) {
		bool seekable = false;

		lens[opened] = sizes[opened];
		own[opened] = file_open(fds[opened], &lens[opened], &seekable);
		if (own[opened] < 0) {
			r = own[opened];
			break;
		}
		ram->seekable |= (uint64_t)seekable << opened++;
	}
	if (!r)
		r = span_init(&ram->files, own, lens, n);
	while (r && opened)
		close(own[--opened]);
	return r > 0 ? -EINVAL : r;
}

static int map_files(struct mem_ram *ram)
{
	size_t words = (ram->size >> RAM_PAGE_SHIFT) / 64 + 1;
	void *base, *known;
	int r = span_map(&ram->files, PROT_READ, &base);

	if (r)
		return r;
	ram->base = base;
	/* A core dump would read, and so allocate, all of the guest's memory. */
	(void)madvise(base, ram->size, MADV_DONTDUMP);
	known = mmap(NULL, words * sizeof(uint64_t), PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (known == MAP_FAILED)
		return -errno;
	ram->known = known;
	ram->known_size = words * sizeof(uint64_t);
	return 0;
}

int mem_ram_init(struct mem_ram *ram, const int *fds, const uint64_t *sizes, size_t n)
{
	int r;

	*ram = RAM_INIT;
	r = files_open(ram, fds, sizes, n);
	ram->size = ram->files.size;
	if (!r)
		r = map_files(ram);
	if (r)
		mem_ram_deinit(ram);
	return r;
}

void mem_ram_deinit(struct mem_ram *ram)
{
	if (ram->base)
		munmap((void *)(uintptr_t)ram->base, ram->size);
	if (ram->known)
		munmap(ram->known, ram->known_size);
	span_close(&ram->files);
	*ram = RAM_INIT;
}

int mem_ram_pread(const struct mem_ram *ram, uint64_t off, void *buf, size_t len)
{
	return span_pread(&ram->files, off, buf, len);
}

/* ---- holes ---- */

/* The file that has the byte. */
static const struct span_file *file_at(const struct mem_ram *ram, uint64_t off)
{
	return &ram->files.files[span_index(&ram->files, off)];
}

static bool is_seekable(const struct mem_ram *ram, const struct span_file *file)
{
	return ram->seekable >> (file - ram->files.files) & 1;
}

/* lseek(2) in a file of the whole; -1 with errno. */
static int64_t file_seek(const struct span_file *file, uint64_t off, int whence)
{
	off_t at = lseek(file->fd, (off_t)(off - file->start), whence);

	return at < 0 ? -1 : (int64_t)(file->start + (uint64_t)at);
}

/* Whether [off, off + len) is still inside the file. */
static int check_size(const struct span_file *file, uint64_t off, uint64_t len)
{
	struct stat st;

	if (fstat(file->fd, &st) < 0)
		return VMSIG_ERR_IO;
	return off - file->start + len <= (uint64_t)st.st_size ? 0 : VMSIG_ERR_OUT_OF_RANGE;
}

static void know(struct mem_ram *ram, uint64_t page)
{
	ram->known[page / 64] |= 1ull << (page % 64);
}

/* The first data at or above `off`, at most `end`, which is in the same file. */
static int next_data(struct mem_ram *ram, uint64_t off, uint64_t end, uint64_t *ret_start)
{
	const struct span_file *file = file_at(ram, off);
	int64_t start;

	if (mem_ram_known(ram, off >> RAM_PAGE_SHIFT)) {
		*ret_start = off;
		return 0;
	}
	start = file_seek(file, off, SEEK_DATA);
	if (start < 0 && errno != ENXIO)
		return VMSIG_ERR_IO;
	*ret_start = start < 0 || (uint64_t)start > end ? end : (uint64_t)start;
	/* ENXIO: a hole up to the end of the file, wherever that is now. */
	return start < 0 ? check_size(file, off, end - off) : 0;
}

/* Where the data at `start` ends. SEEK_HOLE takes time in proportion to all the data that
 * follows: for a small piece it is dearer than a look at each page. */
static int data_end(struct mem_ram *ram, uint64_t start, uint64_t end, uint64_t *ret_end)
{
	int64_t hole;

	if (end - start <= BY_PAGE_MAX) {
		/* An error ends the piece; whoever asks for the next one gets it. */
		uint64_t at = start, next = start;

		while (at < end && next == at) {
			know(ram, at >> RAM_PAGE_SHIFT);
			at = (at | (RAM_PAGE - 1)) + 1;
			if (at < end && next_data(ram, at, end, &next))
				break;
		}
		*ret_end = at < end ? at : end;
		return 0;
	}
	hole = file_seek(file_at(ram, start), start, SEEK_HOLE);
	if (hole < 0)
		return errno == ENXIO ? VMSIG_ERR_OUT_OF_RANGE : VMSIG_ERR_IO;
	*ret_end = (uint64_t)hole < end ? (uint64_t)hole : end;
	return 0;
}

int mem_ram_data(
	struct mem_ram *ram, uint64_t off, uint64_t end, uint64_t *ret_start, uint64_t *ret_end)
{
	const struct span_file *file = file_at(ram, off);
	uint64_t start = off, stop = end;
	int r = 0;

	if (end - file->start > file->size)
		end = stop = file->start + file->size;
	if (is_seekable(ram, file)) {
		r = next_data(ram, off, end, &start);
		if (!r && start < end)
			r = data_end(ram, start, end, &stop);
	}
	if (r)
		return r;
	*ret_start = start;
	*ret_end = stop;
	return 0;
}

static bool is_zero(const uint8_t *buf, size_t len)
{
	return !buf[0] && !memcmp(buf, buf + 1, len - 1);
}

/* [off, off + len) lies in one page that is not known. */
static int read_page(struct mem_ram *ram, uint64_t off, void *buf, size_t len)
{
	const struct span_file *file = file_at(ram, off);
	uint64_t page = off >> RAM_PAGE_SHIFT;
	int64_t data;
	int r;

	if (!is_seekable(ram, file)) {
		r = mem_ram_pread(ram, off, buf, len);
		if (!r && !is_zero(buf, len))
			know(ram, page);
		return r;
	}
	data = file_seek(file, page << RAM_PAGE_SHIFT, SEEK_DATA);
	if (data < 0 && errno != ENXIO)
		return VMSIG_ERR_IO;
	if (data >= 0 && (uint64_t)data < (page + 1) << RAM_PAGE_SHIFT) {
		know(ram, page);
		memcpy(buf, ram->base + off, len);
		return 0;
	}
	memset(buf, 0, len);
	return data < 0 ? check_size(file, off, len) : 0;
}

int mem_ram_read_unknown(struct mem_ram *ram, uint64_t off, void *buf, size_t len)
{
	uint8_t *to = buf;

	while (len) {
		size_t n = RAM_PAGE - (off & (RAM_PAGE - 1));
		int r = 0;

		n = n < len ? n : len;
		if (mem_ram_known(ram, off >> RAM_PAGE_SHIFT))
			memcpy(to, ram->base + off, n);
		else
			r = read_page(ram, off, to, n);
		if (r)
			return r;
		to += n;
		off += n;
		len -= n;
	}
	return 0;
}
