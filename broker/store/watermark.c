/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/store/watermark.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmsig/vmsig_error.h"

#define HEX (2 * WATERMARK_HASH)
/* epoch, total, behind, identity, audit, hash, checksum; of fixed width, so that a note is
 * replaced as a whole. */
#define NOTE "vmsig %010" PRIu32 " %020" PRIu64 " %u %016" PRIx64 " %020" PRIu64 " %s"
#define NOTE_LEN (6 + 11 + 21 + 2 + 17 + 21 + HEX)
#define NOTE_SIZE (NOTE_LEN + 1 + 16 + 1)

/* FNV-1a: against rotten bytes, not against people, who could write the whole file. */
static uint64_t checksum(const char *text, size_t len)
{
	uint64_t sum = 0xcbf29ce484222325u;

	for (size_t i = 0; i < len; i++)
		sum = (sum ^ (uint8_t)text[i]) * 0x100000001b3u;
	return sum;
}

static uint64_t identity_of(int fd)
{
	struct statx st;
	uint64_t facts[3];

	if (statx(fd, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &st) < 0)
		return 0;
	facts[0] = st.stx_ino;
	facts[1] = st.stx_mask & STATX_BTIME ? (uint64_t)st.stx_btime.tv_sec : 0;
	facts[2] = st.stx_mask & STATX_BTIME ? st.stx_btime.tv_nsec : 0;
	return checksum((const char *)facts, sizeof(facts));
}

/* Who may put files where the sockets are could have made it, to have the epochs run out or the
 * broker not start: what it says is its own or the folder's owner's. */
static bool is_trusted(int fd, const char *path)
{
	char copy[PATH_MAX];
	struct stat st, folder;

	snprintf(copy, sizeof(copy), "%s", path);
	if (fstat(fd, &st) < 0 || stat(dirname(copy), &folder) < 0)
		return false;
	return S_ISREG(st.st_mode) && st.st_nlink == 1 && !(st.st_mode & (S_IWGRP | S_IWOTH)) &&
	       (st.st_uid == geteuid() || st.st_uid == folder.st_uid);
}

/* What is there, or a new one in place of what somebody has planted. */
static int open_trusted(const char *path)
{
	/* A FIFO of somebody's does not hold us up. */
	const int flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
	int fd = open(path, flags, 0600);

	if (fd >= 0 && is_trusted(fd, path))
		return fd;
	if (fd < 0 && errno != ELOOP)
		return -errno;
	if (fd >= 0)
		close(fd);
	if (unlink(path) < 0)
		return -errno;
	fd = open(path, flags | O_EXCL, 0600);
	return fd < 0 ? -errno : fd;
}

int watermark_open(struct watermark_file *file, const char *path)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int r = 0;

	file->fd = open_trusted(path);
	if (file->fd < 0)
		return file->fd;
	if (fcntl(file->fd, F_OFD_SETLK, &lock) < 0)
		r = errno == EAGAIN || errno == EACCES ? VMSIG_ERR_BUSY : -errno;
	if (r)
		watermark_close(file);
	else
		file->identity = identity_of(file->fd);
	return r;
}

static uint8_t hex_value(char c)
{
	return (uint8_t)(c <= '9' ? c - '0' : c - 'a' + 10);
}

/* What the checksum fits was written by watermark_write(). */
static bool parse(const char *note, struct watermark *mark, uint64_t *ret_identity)
{
	char sum[18], *at;

	snprintf(sum, sizeof(sum), "%016" PRIx64 "\n", checksum(note, NOTE_LEN));
	if (memcmp(note, "vmsig ", 6) != 0 || memcmp(note + NOTE_LEN + 1, sum, 17) != 0)
		return false;
	mark->epoch = (uint32_t)strtoul(note + 6, &at, 10);
	mark->total = strtoull(at, &at, 10);
	mark->behind = strtoul(at, &at, 10) != 0;
	*ret_identity = strtoull(at, &at, 16);
	mark->audit = strtoull(at, &at, 10);
	for (size_t i = 0; i < WATERMARK_HASH; i++)
		mark->audit_hash[i] =
			(uint8_t)(hex_value(at[1 + 2 * i]) << 4 | hex_value(at[2 + 2 * i]));
	return true;
}

void watermark_read(const struct watermark_file *file, struct watermark *ret_mark)
{
	char note[NOTE_SIZE + 1] = "";
	uint64_t identity = 0;
	ssize_t n;

	memset(ret_mark, 0, sizeof(*ret_mark));
	if (file->fd < 0)
		return;
	n = pread(file->fd, note, NOTE_SIZE, 0);
	if (n == 0)
		return;
	if (n != NOTE_SIZE || !parse(note, ret_mark, &identity))
		*ret_mark = (struct watermark){.behind = true};
	else if (identity != file->identity)
		ret_mark->behind = true;
}

int watermark_write(const struct watermark_file *file, const struct watermark *mark)
{
	static const char digits[] = "0123456789abcdef";
	char hex[HEX + 1] = "", note[NOTE_SIZE + 1];
	int n;

	if (file->fd < 0)
		return -EIO;
	for (size_t i = 0; i < WATERMARK_HASH; i++) {
		hex[2 * i] = digits[mark->audit_hash[i] >> 4];
		hex[2 * i + 1] = digits[mark->audit_hash[i] & 15];
	}
	n = snprintf(note, sizeof(note), NOTE, mark->epoch, mark->total, (unsigned)mark->behind,
		file->identity, mark->audit, hex);
	snprintf(
		note + n, sizeof(note) - (size_t)n, " %016" PRIx64 "\n", checksum(note, (size_t)n));
	return pwrite(file->fd, note, NOTE_SIZE, 0) == NOTE_SIZE ? 0 : -EIO;
}

void watermark_close(struct watermark_file *file)
{
	if (file->fd >= 0)
		close(file->fd);
	file->fd = -1;
}

void watermark_merge(struct watermark *mark, const struct watermark *other)
{
	mark->behind |= other->behind;
	if (other->epoch > mark->epoch)
		mark->epoch = other->epoch;
	if (other->total > mark->total)
		mark->total = other->total;
	if (other->audit <= mark->audit)
		return;
	mark->audit = other->audit;
	memcpy(mark->audit_hash, other->audit_hash, WATERMARK_HASH);
}
