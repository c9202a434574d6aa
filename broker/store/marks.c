/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/store/marks.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/store/store.h"
#include "vmsig/vmsig_error.h"

#define MARKS_FILE "marks"
#define MAGIC 0x314b52414d534d56ull /* "VMSMARK1", and the order of bytes */
#define HEADER_SIZE 4096u
#define FILE_SIZE (HEADER_SIZE + MARKS * sizeof(struct slot))

struct header {
	uint64_t magic;
	uint32_t slots, slot_size;
	uint64_t inode;
	char boot_id[STORE_BOOT_ID_MAX];
	uint64_t sum; /* of all before it */
};

struct slot {
	uint64_t state; /* enum mark_state; written after what it stands for */
	struct ledger_key key;
	uint8_t digest[LEDGER_DIGEST];
	uint64_t key_sum; /* of key and digest */
	uint64_t done, done_sum;
	uint64_t order;     /* in which they ended */
	uint64_t reply_sum; /* of order and reply */
	uint32_t reply_len, reserved;
	uint8_t reply[MARKS_REPLY_MAX];
};
_Static_assert(sizeof(struct slot) == 512, "slots do not cross pages");
_Static_assert(sizeof(struct header) <= HEADER_SIZE, "the header has a page");

struct marks {
	uint8_t *map;
	struct slot *slots;
	uint32_t free[MARKS]; /* the last one is taken next: few pages are touched */
	uint32_t nfree;
	uint64_t order;
};

/* FNV-1a: against what a crash or a disk leaves, not against who can write to the directory. */
static uint64_t sum_of(const void *data, size_t len)
{
	const uint8_t *at = data, *end = at + len;
	uint64_t sum = 0xcbf29ce484222325;

	while (at < end)
		sum = (sum ^ *at++) * 0x100000001b3;
	return sum;
}

static uint64_t key_sum(const struct slot *slot)
{
	return sum_of(&slot->key, sizeof(slot->key)) ^ sum_of(slot->digest, sizeof(slot->digest));
}

static uint64_t reply_sum(const struct slot *slot)
{
	return sum_of(&slot->order, sizeof(slot->order)) ^ sum_of(slot->reply, slot->reply_len);
}

/* ---- the file ---- */

static int write_all(int fd, const void *data, size_t len, off_t at)
{
	ssize_t n = pwrite(fd, data, len, at);

	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -ENOSPC;
}

static int header_make(struct header *header, const struct stat *st)
{
	int r;

	memset(header, 0, sizeof(*header));
	r = store_boot_id(header->boot_id);
	header->magic = MAGIC;
	header->slots = MARKS;
	header->slot_size = sizeof(struct slot);
	header->inode = st->st_ino;
	header->sum = sum_of(header, offsetof(struct header, sum));
	return r;
}

/* Where files are copied on write a later store would need room again, so not there. What knows
 * no such flag does not do that. */
static void forbid_copies(int fd)
{
	int flags = 0;

	if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0) {
		flags |= FS_NOCOW_FL;
		(void)ioctl(fd, FS_IOC_SETFLAGS, &flags);
	}
}

/* Every slot free. The header comes last: what was begun counts as no file. */
static int file_make(int fd, const struct header *header)
{
	static const uint8_t zeros[1 << 16];
	int r = 0;

	forbid_copies(fd);
	for (size_t at = 0; !r && at < FILE_SIZE; at += sizeof(zeros)) {
		size_t left = FILE_SIZE - at;

		r = write_all(fd, zeros, left < sizeof(zeros) ? left : sizeof(zeros), (off_t)at);
	}
	if (!r && ftruncate(fd, FILE_SIZE) < 0)
		r = -errno;
	return r ? r : write_all(fd, header, sizeof(*header), 0);
}

/* Makes a file of it that is this boot's and this inode's. */
static int file_check(int fd)
{
	struct header wanted, found;
	struct stat st;
	int r = fstat(fd, &st) < 0 ? -errno : 0;

	if (!r && !S_ISREG(st.st_mode))
		r = -EINVAL;
	if (!r)
		r = header_make(&wanted, &st);
	if (r)
		return r;
	if ((uint64_t)st.st_size == FILE_SIZE &&
		pread(fd, &found, sizeof(found), 0) == sizeof(found) &&
		memcmp(&found, &wanted, sizeof(wanted)) == 0)
		return 0;
	return file_make(fd, &wanted);
}

/* Those that a former process has left stay in use. */
static void slots_collect(struct marks *marks)
{
	for (uint32_t i = MARKS; i > 0; i--) {
		const struct slot *slot = &marks->slots[i - 1];

		if (slot->state == MARK_FREE)
			marks->free[marks->nfree++] = i;
		else if (slot->order > marks->order)
			marks->order = slot->order;
	}
}

static int file_map(struct marks *marks, int fd)
{
	void *map = mmap(NULL, FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);

	if (map == MAP_FAILED)
		return -errno;
	marks->map = map;
	marks->slots = (struct slot *)(void *)(marks->map + HEADER_SIZE);
	/* So that no mark waits for a disk; without the right to it one may. */
	(void)mlock(map, FILE_SIZE);
	(void)madvise(map, FILE_SIZE, MADV_DONTFORK);
	slots_collect(marks);
	return 0;
}

int marks_open(struct marks **ret_marks, const char *dir, char *error, size_t error_size)
{
	struct marks *marks = calloc(1, sizeof(*marks));
	char path[PATH_MAX];
	int fd, r = -ENOMEM;

	if (!marks)
		return r;
	snprintf(path, sizeof(path), "%s/%s", dir, MARKS_FILE);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	r = fd < 0 ? -errno : file_check(fd);
	if (!r)
		r = file_map(marks, fd);
	if (fd >= 0)
		close(fd);
	if (r) {
		snprintf(error, error_size,
			"cannot use %s, which tells after a crash what became of a write: %s", path,
			strerror(-r));
		return marks_close(marks), r;
	}
	*ret_marks = marks;
	return 0;
}

struct marks *marks_close(struct marks *marks)
{
	if (!marks)
		return NULL;
	if (marks->map)
		munmap(marks->map, FILE_SIZE);
	free(marks);
	return NULL;
}

/* ---- slots ---- */

static struct slot *slot_of(const struct marks *marks, uint32_t mark)
{
	return &marks->slots[mark - 1];
}

/* A process that is killed has made all stores before the one it was killed at: the compiler
 * is the only one to be kept from changing their order. */
static void state_set(struct slot *slot, enum mark_state state)
{
	__atomic_store_n(&slot->state, (uint64_t)state, __ATOMIC_SEQ_CST);
}

int marks_take(struct marks *marks, const struct ledger_key *key,
	const uint8_t digest[LEDGER_DIGEST], uint32_t *ret_mark)
{
	struct slot *slot;

	if (!marks->nfree)
		return VMSIG_ERR_BUSY;
	*ret_mark = marks->free[--marks->nfree];
	slot = slot_of(marks, *ret_mark);
	slot->key = *key;
	memcpy(slot->digest, digest, LEDGER_DIGEST);
	slot->key_sum = key_sum(slot);
	state_set(slot, MARK_TAKEN);
	return 0;
}

void marks_begin(struct marks *marks, uint32_t mark)
{
	state_set(slot_of(marks, mark), MARK_BEGUN);
}

void marks_pause(struct marks *marks, uint32_t mark, uint64_t done)
{
	struct slot *slot = slot_of(marks, mark);

	slot->done = done;
	slot->done_sum = sum_of(&slot->done, sizeof(slot->done));
	state_set(slot, MARK_PAUSED);
}

void marks_end(struct marks *marks, uint32_t mark, const void *reply, size_t len)
{
	struct slot *slot = slot_of(marks, mark);

	memcpy(slot->reply, reply, len);
	slot->reply_len = (uint32_t)len;
	slot->order = ++marks->order;
	slot->reply_sum = reply_sum(slot);
	state_set(slot, MARK_ENDED);
}

void marks_release(struct marks *marks, uint32_t mark)
{
	state_set(slot_of(marks, mark), MARK_FREE);
	marks->free[marks->nfree++] = mark;
}

/* A state that its sums do not bear out is that of a write that has begun. */
static enum mark_state state_of(const struct slot *slot)
{
	if (slot->state == MARK_ENDED)
		return slot->reply_len <= MARKS_REPLY_MAX && reply_sum(slot) == slot->reply_sum
			       ? MARK_ENDED
			       : MARK_BEGUN;
	if (slot->state == MARK_PAUSED)
		return sum_of(&slot->done, sizeof(slot->done)) == slot->done_sum ? MARK_PAUSED
										 : MARK_BEGUN;
	return slot->state == MARK_TAKEN ? MARK_TAKEN : MARK_BEGUN;
}

bool marks_next(const struct marks *marks, uint32_t *cursor, struct mark_view *ret_view)
{
	while (*cursor < MARKS) {
		const struct slot *slot = slot_of(marks, ++*cursor);
		enum mark_state state = key_sum(slot) == slot->key_sum ? state_of(slot) : MARK_FREE;

		if (slot->state == MARK_FREE)
			continue;
		*ret_view = (struct mark_view){.mark = *cursor,
			.state = state,
			.key = slot->key,
			.digest = slot->digest,
			.done = slot->done,
			.order = slot->order,
			.reply = slot->reply,
			.reply_len = state == MARK_ENDED ? slot->reply_len : 0};
		return true;
	}
	return false;
}
