/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bulk data: a memfd of an operator's, read and hashed on threads. Everything goes by pread():
 * mapping a memfd and reading it would allocate the pages of its holes at our cost, and its owner
 * decides how many there are, and whether they are swapped out when the loop comes to them.
 */
#include "broker/desk_shell.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "broker/jobs.h"
#include "broker/journal/crc32c.h"
#include "vmsig/vmsig_error.h"

#define PIECE (64u << 10) /* bytes that are read in one go */
#define STEP (1u << 20)   /* bytes that a thread hashes before another line has its turn */
#define PAGE 4096u
#define SEALS (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW)

struct desk_line {
	struct job_line *reads, *hashes;
	uint8_t *piece; /* that is hashed: jobs of a line do not overlap */
};

/* What a thread has to do. */
struct task {
	struct desk_source *source;
	struct job job;
	int error;
	desk_done_fn done;
	void *arg;
};

struct desk_source {
	struct desk_shell *shell;
	struct desk_line *line;
	int fd;
	uint64_t offset, len;

	struct task reading;
	struct desk_reading *read;
	uint32_t read_sum;

	struct task hashing;
	struct desk_hashing hash;
	EVP_MD_CTX *data, *old;
	uint64_t hashed;
	uint32_t hash_sum, sum; /* `sum` is that of the first `sum_at` bytes */
};

/* Without the seals its owner could change the data after it was recorded. They come first: what
 * has some is a memfd, whose fstat() cannot hang. */
static int source_check(void *ctx, int fd, uint64_t offset, uint64_t len, const char **ret_why)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;

	if (seals < 0 || (seals & SEALS) != SEALS) {
		*ret_why = "bulk data needs a memfd with F_SEAL_WRITE, F_SEAL_SHRINK and "
			   "F_SEAL_GROW";
		return VMSIG_ERR_BAD_REQUEST;
	}
	if (fstat(fd, &st) < 0)
		return -errno;
	if (offset <= (uint64_t)st.st_size && len <= (uint64_t)st.st_size - offset)
		return 0;
	*ret_why = "the memfd ends before the bulk data does";
	return VMSIG_ERR_BAD_REQUEST;
}

static void line_close(void *ctx, struct desk_line *line)
{
	job_line_free(line->reads);
	job_line_free(line->hashes);
	free(line->piece);
	free(line);
}

static int line_open(void *ctx, struct desk_line **ret_line)
{
	struct desk_shell *shell = ctx;
	struct desk_line *line = calloc(1, sizeof(*line));
	int r = -ENOMEM;

	if (!line)
		return r;
	line->piece = malloc(PIECE);
	if (line->piece)
		r = job_line_new(&line->reads, shell->env.jobs);
	if (!r)
		r = job_line_new(&line->hashes, shell->env.jobs);
	if (r)
		line_close(ctx, line);
	else
		*ret_line = line;
	return r;
}

static void source_close(void *ctx, struct desk_source *source)
{
	EVP_MD_CTX_free(source->data);
	EVP_MD_CTX_free(source->old);
	free(source);
}

static int hashes_open(struct desk_source *source)
{
	source->data = EVP_MD_CTX_new();
	source->old = EVP_MD_CTX_new();
	return source->data && source->old &&
			       EVP_DigestInit_ex(source->data, EVP_sha256(), NULL) == 1 &&
			       EVP_DigestInit_ex(source->old, EVP_sha256(), NULL) == 1
		       ? 0
		       : -ENOMEM;
}

static int source_open(void *ctx, struct desk_line *line, int fd, uint64_t offset, uint64_t len,
	struct desk_source **ret_source)
{
	struct desk_source *source = calloc(1, sizeof(*source));
	int r;

	if (!source)
		return -ENOMEM;
	*source = (struct desk_source){.shell = ctx,
		.line = line,
		.fd = fd,
		.offset = offset,
		.len = len,
		.read_sum = DESK_SUM_NONE,
		.hash_sum = DESK_SUM_NONE};
	r = hashes_open(source);
	if (r)
		source_close(ctx, source);
	else
		*ret_source = source;
	return r;
}

/* ---- sums ---- */

static uint32_t told(uint32_t sum)
{
	return sum ? sum : DESK_SUM_NONE;
}

static uint32_t sum_add(void *ctx, uint32_t before, const void *data, size_t len)
{
	return told(crc32c(before, data, len));
}

static uint32_t source_sum(void *ctx, const struct desk_source *source)
{
	return source->sum;
}

/* ---- on a thread ---- */

static int read_data(const struct desk_source *source, uint64_t at, uint8_t *buf, size_t len)
{
	uint64_t offset = source->offset + at;

	for (size_t done = 0; done < len;) {
		ssize_t n = pread(source->fd, buf + done, len - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		/* It cannot have shrunk. */
		if (n <= 0)
			return VMSIG_ERR_IO;
		done += (size_t)n;
	}
	return 0;
}

static size_t at_most(uint64_t left, size_t most)
{
	return left < most ? (size_t)left : most;
}

/* The sum is made while a piece is still in the processor's cache. */
static int read_slice(struct desk_source *source, size_t slice)
{
	struct desk_reading *read = source->read;
	size_t from = slice * DESK_SLICE, end = from + at_most(read->len - from, DESK_SLICE);
	int r = 0;

	for (size_t at = from, n; !r && at < end; at += n) {
		n = at_most(end - at, PIECE);
		r = read_data(source, read->at + at, read->data + at, n);
		if (!r)
			source->read_sum = crc32c(source->read_sum, read->data + at, n);
	}
	read->sums[slice] = told(source->read_sum);
	return r;
}

static enum job_step read_work(struct job *job)
{
	struct task *task = job->arg;
	struct desk_source *source = task->source;
	struct desk_reading *read = source->read;

	for (size_t at = 0; at < read->touch_len; at += PAGE)
		*(volatile uint8_t *)(read->touch + at) = 0;
	for (size_t slice = 0; !task->error && slice * DESK_SLICE < read->len; slice++)
		task->error = read_slice(source, slice);
	return JOB_DONE;
}

static void sum_piece(struct desk_source *source, const uint8_t *data, size_t len)
{
	uint64_t sum_at = source->hash.sum_at;

	if (source->hashed < sum_at)
		source->hash_sum =
			crc32c(source->hash_sum, data, at_most(sum_at - source->hashed, len));
	if (source->hashed + len >= sum_at)
		source->sum = told(source->hash_sum);
}

static int hash_piece(struct desk_source *source)
{
	size_t len = at_most(source->hash.data_len, PIECE);
	const uint8_t *data = source->hash.data ? source->hash.data : source->line->piece;
	int r = source->hash.data ? 0 : read_data(source, source->hashed, source->line->piece, len);

	if (!r && EVP_DigestUpdate(source->data, data, len) != 1)
		r = VMSIG_ERR_INTERNAL;
	if (!r && !source->hash.data)
		sum_piece(source, data, len);
	if (source->hash.data)
		source->hash.data += len;
	source->hash.data_len -= len;
	source->hashed += len;
	return r;
}

static int hash_old(struct desk_source *source)
{
	size_t len = at_most(source->hash.old_len, STEP);
	int r = EVP_DigestUpdate(source->old, source->hash.old, len) == 1 ? 0 : VMSIG_ERR_INTERNAL;

	source->hash.old += len;
	source->hash.old_len -= len;
	return r;
}

static enum job_step hash_work(struct job *job)
{
	struct task *task = job->arg;
	struct desk_source *source = task->source;

	if (source->hash.old_len) {
		task->error = hash_old(source);
	} else {
		for (size_t n = 0; !task->error && source->hash.data_len && n < STEP; n += PIECE)
			task->error = hash_piece(source);
	}
	return !task->error && (source->hash.old_len || source->hash.data_len) ? JOB_AGAIN
									       : JOB_DONE;
}

/* ---- on the loop ---- */

static void on_done(struct job *job)
{
	struct task *task = job->arg;

	task->done(task->arg, task->source->shell->env.now_ns(),
		job->finished ? task->error : VMSIG_ERR_SHUTTING_DOWN);
}

static const struct job_ops read_ops = {.work = read_work, .done = on_done};
static const struct job_ops hash_ops = {.work = hash_work, .done = on_done};

static void task_start(struct task *task, struct desk_source *source, struct job_line *line,
	const struct job_ops *ops, desk_done_fn done, void *arg)
{
	*task = (struct task){
		.source = source, .done = done, .arg = arg, .job = {.ops = ops, .arg = task}};
	/* The broker ends: the desk is freed with what it waits for. */
	if (!job_line_is_closed(line))
		job_start(&task->job, line);
}

static void source_read(void *ctx, struct desk_source *source, struct desk_reading *reading,
	desk_done_fn done, void *arg)
{
	source->read = reading;
	task_start(&source->reading, source, source->line->reads, &read_ops, done, arg);
}

static void source_hash(void *ctx, struct desk_source *source, const struct desk_hashing *hashing,
	desk_done_fn done, void *arg)
{
	source->hash = *hashing;
	task_start(&source->hashing, source, source->line->hashes, &hash_ops, done, arg);
}

static int source_digest(void *ctx, struct desk_source *source, uint8_t ret_data[static DESK_HASH],
	uint8_t ret_old[static DESK_HASH])
{
	unsigned length;

	return EVP_DigestFinal_ex(source->data, ret_data, &length) == 1 &&
			       EVP_DigestFinal_ex(source->old, ret_old, &length) == 1
		       ? 0
		       : VMSIG_ERR_INTERNAL;
}

const struct desk_bulk_ops desk_sources = {
	.check = source_check,
	.room_take = desk_room_take,
	.room_give = desk_room_give,
	.line_open = line_open,
	.line_close = line_close,
	.open = source_open,
	.close = source_close,
	.read = source_read,
	.hash = source_hash,
	.digest = source_digest,
	.sum = source_sum,
	.add = sum_add,
};
