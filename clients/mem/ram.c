/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/mem/ram.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "vmsig/vmsig_error.h"

#define BY_PAGE_MAX (2ull << 20) /* bytes */

static bool same_file(int fd, const struct stat *st)
{
	struct stat other;

	return !fstat(fd, &other) && other.st_dev == st->st_dev && other.st_ino == st->st_ino;
}

/* A duplicate shares its offset with the caller's descriptor. */
static int fd_duplicate(struct ram *ram, int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return -errno;
	if ((flags & O_ACCMODE) != O_RDONLY)
		return -EINVAL;
	ram->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return ram->fd < 0 ? -errno : 0;
}

static int fd_open(struct ram *ram, int fd, const struct stat *st)
{
	char path[sizeof("/proc/self/fd/") + 3 * sizeof(fd)];
	struct statfs fs;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ram->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (ram->fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM))
		return -errno;
	if (ram->fd < 0)
		return fd_duplicate(ram, fd);
	/* hugetlbfs takes SEEK_DATA and calls everything data. */
	ram->seekable = !fstatfs(ram->fd, &fs) && (unsigned long)fs.f_type != HUGETLBFS_MAGIC;
	return same_file(ram->fd, st) ? 0 : -EINVAL;
}

static int map_file(struct ram *ram)
{
	size_t words = (ram->size >> RAM_PAGE_SHIFT) / 64 + 1;
	void *base, *known;

	base = mmap(NULL, ram->size, PROT_READ, MAP_SHARED, ram->fd, 0);
	if (base == MAP_FAILED)
		return -errno;
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

int ram_init(struct ram *ram, int fd)
{
	struct stat st;
	int r;

	*ram = RAM_INIT;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size <= 0)
		return -EINVAL;
	ram->size = (uint64_t)st.st_size;
	r = fd_open(ram, fd, &st);
	if (!r)
		r = map_file(ram);
	if (r)
		ram_deinit(ram);
	return r;
}

void ram_deinit(struct ram *ram)
{
	if (ram->base)
		munmap((void *)(uintptr_t)ram->base, ram->size);
	if (ram->known)
		munmap(ram->known, ram->known_size);
	if (ram->fd >= 0)
		close(ram->fd);
	*ram = RAM_INIT;
}

int ram_pread(const struct ram *ram, uint64_t off, void *buf, size_t len)
{
	uint8_t *to = buf;

	while (len) {
		ssize_t n = pread(ram->fd, to, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return VMSIG_ERR_IO;
		if (!n)
			return VMSIG_ERR_OUT_OF_RANGE;
		to += n;
		off += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/* Whether [off, off + len) is still inside the file. */
static int check_size(const struct ram *ram, uint64_t off, uint64_t len)
{
	struct stat st;

	if (fstat(ram->fd, &st) < 0)
		return VMSIG_ERR_IO;
	return off + len <= (uint64_t)st.st_size ? 0 : VMSIG_ERR_OUT_OF_RANGE;
}

static void know(struct ram *ram, uint64_t page)
{
	ram->known[page / 64] |= 1ull << (page % 64);
}

/* The first data at or above `off`, at most `end`. */
static int next_data(struct ram *ram, uint64_t off, uint64_t end, uint64_t *ret_start)
{
	off_t start;

	if (ram_known(ram, off >> RAM_PAGE_SHIFT)) {
		*ret_start = off;
		return 0;
	}
	start = lseek(ram->fd, (off_t)off, SEEK_DATA);
	if (start < 0 && errno != ENXIO)
		return VMSIG_ERR_IO;
	*ret_start = start < 0 || (uint64_t)start > end ? end : (uint64_t)start;
	/* ENXIO: a hole up to the end of the file, wherever that is now. */
	return start < 0 ? check_size(ram, off, end - off) : 0;
}

/* Where the data at `start` ends. SEEK_HOLE takes time in proportion to all the data that
 * follows: for a small piece it is dearer than a look at each page. */
static int data_end(struct ram *ram, uint64_t start, uint64_t end, uint64_t *ret_end)
{
	off_t hole;

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
	hole = lseek(ram->fd, (off_t)start, SEEK_HOLE);
	if (hole < 0)
		return errno == ENXIO ? VMSIG_ERR_OUT_OF_RANGE : VMSIG_ERR_IO;
	*ret_end = (uint64_t)hole < end ? (uint64_t)hole : end;
	return 0;
}

int ram_data(struct ram *ram, uint64_t off, uint64_t end, uint64_t *ret_start, uint64_t *ret_end)
{
	uint64_t start = off, stop = end;
	int r = 0;

	if (ram->seekable) {
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
static int read_page(struct ram *ram, uint64_t off, void *buf, size_t len)
{
	uint64_t page = off >> RAM_PAGE_SHIFT;
	off_t data;
	int r;

	if (!ram->seekable) {
		r = ram_pread(ram, off, buf, len);
		if (!r && !is_zero(buf, len))
			know(ram, page);
		return r;
	}
	data = lseek(ram->fd, (off_t)(page << RAM_PAGE_SHIFT), SEEK_DATA);
	if (data < 0 && errno != ENXIO)
		return VMSIG_ERR_IO;
	if (data >= 0 && (uint64_t)data < (page + 1) << RAM_PAGE_SHIFT) {
		know(ram, page);
		memcpy(buf, ram->base + off, len);
		return 0;
	}
	memset(buf, 0, len);
	return data < 0 ? check_size(ram, off, len) : 0;
}

int ram_read_unknown(struct ram *ram, uint64_t off, void *buf, size_t len)
{
	uint8_t *to = buf;

	while (len) {
		size_t n = RAM_PAGE - (off & (RAM_PAGE - 1));
		int r = 0;

		n = n < len ? n : len;
		if (ram_known(ram, off >> RAM_PAGE_SHIFT))
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
