/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/journal/shared.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "broker/journal/crc32c.h"
#include "vmsig/vmsig_error.h"

#define MEMORY_DIR "/dev/shm"
#define PREFIX "vmsig-"
#define BOOT_ID_FILE "/proc/sys/kernel/random/boot_id"
#define MOUNTS_FILE "/proc/self/ns/mnt"
#define MAGIC 0x314d454d474d53ull /* "SMGMEM1" */
#define HEADER_SIZE SHARED_PAGE
#define DRAFT_MAX (SHARED_PATH_MAX + 8)
#define NOTE_FORMAT "vmsig-shared 1 %63s %511[^\n]"

/* The first page of the file; the data follows. */
struct file_header {
	uint64_t magic;
	uint64_t size;  /* of the data */
	uint64_t inode; /* of this file; a copy has another one */
	uint64_t note_device, note_inode;
	uint64_t mounts; /* the namespace in which the note's name means something */
	char boot_id[SHARED_BOOT_ID_MAX];
	char note[SHARED_PATH_MAX];
	uint32_t sum; /* of all before it */
};
_Static_assert(sizeof(struct file_header) <= HEADER_SIZE, "the header has a page");

struct note {
	char boot_id[SHARED_BOOT_ID_MAX];
	char path[SHARED_PATH_MAX];
	struct stat st;
};

static int fail(int r, char *error, size_t error_size, const char *what, const char *name)
{
	if (r < 0)
		snprintf(error, error_size, "cannot %s %s: %s", what, name, strerror(-r));
	else
		snprintf(error, error_size,
			"%s: the memory that it names is used by another broker", name);
	return r;
}

int shared_boot_id(char ret_boot_id[static SHARED_BOOT_ID_MAX])
{
	int fd = open(BOOT_ID_FILE, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, ret_boot_id, SHARED_BOOT_ID_MAX - 1);
	close(fd);
	if (n <= 0)
		return -EIO;
	ret_boot_id[n] = '\0';
	ret_boot_id[strcspn(ret_boot_id, "\n")] = '\0';
	return 0;
}

static uint64_t mounts_inode(void)
{
	struct stat st;

	return stat(MOUNTS_FILE, &st) == 0 ? st.st_ino : 0;
}

/* ---- the note ---- */

/* 1: there is one; 0: there is none, or none that can be read. */
static int note_read(const char *path, struct note *ret_note)
{
	char text[1024];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t n;

	memset(ret_note, 0, sizeof(*ret_note));
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	n = read(fd, text, sizeof(text) - 1);
	if (n < 0 || fstat(fd, &ret_note->st) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	close(fd);
	text[n] = '\0';
	return sscanf(text, NOTE_FORMAT, ret_note->boot_id, ret_note->path) == 2;
}

static int note_fill(int fd, const char *boot_id, const char *path, struct stat *ret_st)
{
	char text[1024];
	int n = snprintf(text, sizeof(text), "vmsig-shared 1 %s %s\n", boot_id, path);
	ssize_t written = write(fd, text, (size_t)n);

	if (written < 0)
		return -errno;
	return written != n ? -ENOSPC : fsync(fd) < 0 || fstat(fd, ret_st) < 0 ? -errno : 0;
}

/* Under a name of its own until it is whole. */
static int note_begin(const struct shared *shared, const char *boot_id,
	char ret_draft[static DRAFT_MAX], struct stat *st)
{
	int fd, r;

	snprintf(ret_draft, DRAFT_MAX, "%s.new", shared->note);
	(void)unlink(ret_draft);
	fd = open(ret_draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	r = note_fill(fd, boot_id, shared->path, st);
	close(fd);
	if (r)
		(void)unlink(ret_draft);
	return r;
}

/* ---- the file ---- */

static int lock_file(int fd)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	return errno == EAGAIN || errno == EACCES ? VMSIG_ERR_BUSY : -errno;
}

/* A file of ours that nobody else can have a hand in. */
static bool is_private(int fd, struct stat *ret_st)
{
	return fstat(fd, ret_st) == 0 && S_ISREG(ret_st->st_mode) && ret_st->st_uid == geteuid() &&
	       !(ret_st->st_mode & 077) && ret_st->st_nlink == 1;
}

static bool header_read(int fd, const struct stat *st, struct file_header *ret_header)
{
	return pread(fd, ret_header, sizeof(*ret_header), 0) == (ssize_t)sizeof(*ret_header) &&
	       ret_header->magic == MAGIC && ret_header->inode == st->st_ino &&
	       crc32c(0, ret_header, offsetof(struct file_header, sum)) == ret_header->sum;
}

static bool is_of(const struct file_header *header, const struct stat *st, const struct note *note)
{
	return header->size && header->size % SHARED_PAGE == 0 &&
	       st->st_size == (off_t)(HEADER_SIZE + header->size) &&
	       header->note_inode == note->st.st_ino && header->note_device == note->st.st_dev &&
	       strncmp(header->boot_id, note->boot_id, sizeof(header->boot_id)) == 0;
}

/* The file that the note names: SHARED_FOUND, with its descriptor, or SHARED_MISSING. */
static int file_find(struct shared *shared, const struct note *note)
{
	struct file_header header;
	struct stat st;
	int fd = open(note->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	int r;

	shared->found = SHARED_MISSING;
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!is_private(fd, &st) || !header_read(fd, &st, &header) || !is_of(&header, &st, note)) {
		close(fd);
		return 0;
	}
	r = lock_file(fd);
	if (r) {
		close(fd);
		return r;
	}
	snprintf(shared->path, sizeof(shared->path), "%s", note->path);
	shared->fd = fd;
	shared->size = header.size;
	shared->found = SHARED_FOUND;
	return 0;
}

/* A tmpfs where nobody else can remove or replace what is ours. */
static bool is_of_use(const char *dir)
{
	struct statfs fs;
	struct stat st;

	return dir && statfs(dir, &fs) == 0 && fs.f_type == TMPFS_MAGIC && stat(dir, &st) == 0 &&
	       (st.st_uid == geteuid() || st.st_uid == 0) &&
	       (!(st.st_mode & (S_IWGRP | S_IWOTH)) || st.st_mode & S_ISVTX);
}

static int file_make(struct shared *shared, const char *run_dir, const char *name)
{
	const char *dir = is_of_use(run_dir) ? run_dir : MEMORY_DIR;
	uint64_t random;

	if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return -EIO;
	if (snprintf(shared->path, sizeof(shared->path), "%s/" PREFIX "%s-%016" PRIx64, dir, name,
		    random) >= (int)sizeof(shared->path))
		return -ENAMETOOLONG;
	shared->fd = open(shared->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (shared->fd < 0)
		return -errno;
	/* Not ftruncate(): a store to a hole would need room, and end the broker without. */
	if (fallocate(shared->fd, 0, 0, (off_t)(HEADER_SIZE + shared->size)) < 0)
		return -errno;
	return lock_file(shared->fd);
}

static int header_write(struct shared *shared, const char *boot_id, const struct stat *note)
{
	struct file_header header;
	struct stat st;

	if (fstat(shared->fd, &st) < 0)
		return -errno;
	memset(&header, 0, sizeof(header));
	header.magic = MAGIC;
	header.size = shared->size;
	header.inode = st.st_ino;
	header.note_device = note->st_dev;
	header.note_inode = note->st_ino;
	header.mounts = mounts_inode();
	snprintf(header.boot_id, sizeof(header.boot_id), "%s", boot_id);
	snprintf(header.note, sizeof(header.note), "%s", shared->note);
	header.sum = crc32c(0, &header, offsetof(struct file_header, sum));
	return pwrite(shared->fd, &header, sizeof(header), 0) == (ssize_t)sizeof(header) ? 0 : -EIO;
}

/* The note gets its name last: it never names a file that is not whole. */
static int file_begin(
	struct shared *shared, const char *run_dir, const char *name, const char *boot_id)
{
	char draft[DRAFT_MAX];
	struct stat note = {0};
	int r = file_make(shared, run_dir, name);

	if (!r)
		r = note_begin(shared, boot_id, draft, &note);
	if (r)
		return r;
	r = header_write(shared, boot_id, &note);
	if (!r && rename(draft, shared->note) < 0)
		r = -errno;
	if (r)
		(void)unlink(draft);
	return r;
}

/* ---- what nobody will ask for again ---- */

/* The state directory was removed, say. A note in another mount namespace cannot be looked at. */
static bool is_orphan(const struct file_header *header, uint64_t mounts)
{
	struct stat st;

	if (header->mounts != mounts || !memchr(header->note, 0, sizeof(header->note)))
		return false;
	return stat(header->note, &st) < 0
		       ? errno == ENOENT || errno == ENOTDIR
		       : st.st_ino != header->note_inode || st.st_dev != header->note_device;
}

/* Names there are anybody's, who may have mounted a file system on one that does not answer. */
static int open_swept(int dir, const char *name)
{
	struct open_how how = {.flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK,
		.resolve = RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS};

	return (int)syscall(SYS_openat2, dir, name, &how, sizeof(how));
}

static void sweep_one(int dir, const char *name, uint64_t mounts)
{
	struct file_header header;
	struct stat st;
	int fd = open_swept(dir, name);

	if (fd < 0)
		return;
	if (is_private(fd, &st) && header_read(fd, &st, &header) && is_orphan(&header, mounts) &&
		lock_file(fd) == 0)
		(void)unlinkat(dir, name, 0);
	close(fd);
}

static void sweep(void)
{
	DIR *dir = opendir(MEMORY_DIR);
	uint64_t mounts = mounts_inode();
	const struct dirent *item;

	if (!dir)
		return;
	while ((item = readdir(dir)))
		if (strncmp(item->d_name, PREFIX, strlen(PREFIX)) == 0)
			sweep_one(dirfd(dir), item->d_name, mounts);
	closedir(dir);
}

/* ---- the mapping ---- */

static int map_file(struct shared *shared, bool is_ring)
{
	size_t size = HEADER_SIZE + shared->size, ring = is_ring ? shared->size - SHARED_PAGE : 0;
	int flags = MAP_SHARED | MAP_POPULATE | MAP_FIXED, access = PROT_READ | PROT_WRITE;
	uint8_t *map = mmap(NULL, size + ring, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (map == MAP_FAILED)
		return -errno;
	shared->map = map;
	shared->map_size = size + ring;
	if (mmap(map, size, access, flags, shared->fd, 0) == MAP_FAILED)
		return -errno;
	if (ring && mmap(map + size, ring, access, flags, shared->fd, (off_t)(size - ring)) ==
			    MAP_FAILED)
		return -errno;
	/* So that no store waits for a swap; without the right to it one may. */
	(void)mlock(map, size);
	(void)madvise(map, size + ring, MADV_DONTFORK);
	shared->data = map + HEADER_SIZE;
	return 0;
}

static int open_noted(struct shared *shared, const char *boot_id)
{
	struct note note;
	int r = note_read(shared->note, &note);

	if (r < 0)
		return r;
	shared->found = SHARED_NONE;
	if (note.st.st_ino == 0)
		return 0;
	shared->found = SHARED_BOOTED;
	/* What cannot be read as a note names nothing, and may have been this boot's. */
	if (r == 0)
		shared->found = SHARED_MISSING;
	return r == 1 && strcmp(note.boot_id, boot_id) == 0 ? file_find(shared, &note) : 0;
}

int shared_open(struct shared *shared, const char *state_dir, const char *run_dir, const char *name,
	size_t size, bool ring, char *error, size_t error_size)
{
	char boot_id[SHARED_BOOT_ID_MAX];
	int r;

	memset(shared, 0, sizeof(*shared));
	shared->fd = -1;
	shared->size = size;
	if (snprintf(shared->note, sizeof(shared->note), "%s/%s.where", state_dir, name) >=
		(int)sizeof(shared->note))
		return fail(-ENAMETOOLONG, error, error_size, "keep a note in", state_dir);
	r = shared_boot_id(boot_id);
	if (r)
		return fail(r, error, error_size, "read", BOOT_ID_FILE);
	r = open_noted(shared, boot_id);
	if (r)
		return fail(r, error, error_size, "use what is noted in", shared->note);
	if (shared->fd < 0) {
		sweep();
		r = file_begin(shared, run_dir, name, boot_id);
	}
	if (!r)
		r = map_file(shared, ring);
	if (!r)
		return 0;
	fail(r, error, error_size, "make memory that outlives a crash,",
		shared->path[0] ? shared->path : name);
	if (shared->found != SHARED_FOUND && shared->path[0])
		(void)unlink(shared->path);
	shared_close(shared);
	return r;
}

void shared_close(struct shared *shared)
{
	if (shared->map)
		munmap(shared->map, shared->map_size);
	if (shared->fd >= 0)
		close(shared->fd);
	shared->map = shared->data = NULL;
	shared->fd = -1;
}

/* The note goes first: none is left that names nothing. */
void shared_drop(struct shared *shared)
{
	if (unlink(shared->note) == 0 || errno == ENOENT)
		(void)unlink(shared->path);
	shared_close(shared);
}
