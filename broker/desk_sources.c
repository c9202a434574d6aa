/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bulk data: a memfd of an operator's, read and hashed on threads. Everything goes by pread():
 * mapping a memfd and reading it would allocate the pages of its holes at our cost, and its owner
 * decides how many there are.
 */
#include "broker/desk_shell.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "broker/jobs.h"
#include "vmsig/vmsig_error.h"

#define PIECE (256u << 10) /* bytes that are read in one go */
#define STEP 4             /* pieces that a thread takes before another line has its turn */
#define SEALS (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW)

struct desk_line {
	struct job_line *jobs;
	uint8_t *read; /* for one step of hashing: jobs of a line do not overlap */
};

struct desk_source {
	struct desk_shell *shell;
	struct desk_line *line;
	int fd;
	uint64_t offset, len, hashed;
	EVP_MD_CTX *hash;

	/* What a thread has to do. */
	struct job job;
	int error;
	const uint8_t *old;
	size_t old_len;
	uint64_t at;
	uint8_t *data;
	size_t data_len;
	void (*done)(void *arg, uint64_t now_ns, int error);
	void *arg;
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
	job_line_free(line->jobs);
	free(line->read);
	free(line);
}

static int line_open(void *ctx, struct desk_line **ret_line)
{
	struct desk_shell *shell = ctx;
	struct desk_line *line = calloc(1, sizeof(*line));
	int r = -ENOMEM;

	if (!line)
		return r;
	line->read = malloc(PIECE);
	if (line->read)
		r = job_line_new(&line->jobs, shell->env.jobs);
	if (r)
		line_close(ctx, line);
	else
		*ret_line = line;
	return r;
}

static void source_close(void *ctx, struct desk_source *source)
{
	EVP_MD_CTX_free(source->hash);
	free(source);
}

static int source_open(void *ctx, struct desk_line *line, int fd, uint64_t offset, uint64_t len,
	struct desk_source **ret_source)
{
	struct desk_source *source = calloc(1, sizeof(*source));

	if (!source)
		return -ENOMEM;
	*source = (struct desk_source){
		.shell = ctx, .line = line, .fd = fd, .offset = offset, .len = len};
	source->hash = EVP_MD_CTX_new();
	if (!source->hash || EVP_DigestInit_ex(source->hash, EVP_sha256(), NULL) != 1) {
		source_close(ctx, source);
		return -ENOMEM;
	}
	*ret_source = source;
	return 0;
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

static int hash_piece(struct desk_source *source)
{
	uint64_t left = source->len - source->hashed;
	size_t len = left < PIECE ? (size_t)left : PIECE;
	int r = read_data(source, source->hashed, source->line->read, len);

	if (!r && EVP_DigestUpdate(source->hash, source->line->read, len) != 1)
		r = VMSIG_ERR_INTERNAL;
	source->hashed += len;
	return r;
}

static enum job_step hash_work(struct job *job)
{
	struct desk_source *source = job->arg;

	for (unsigned i = 0; i < STEP && source->hashed < source->len; i++) {
		source->error = hash_piece(source);
		if (source->error)
			return JOB_DONE;
	}
	return source->hashed < source->len ? JOB_AGAIN : JOB_DONE;
}

static enum job_step step_work(struct job *job)
{
	struct desk_source *source = job->arg;

	if (source->old_len && EVP_DigestUpdate(source->hash, source->old, source->old_len) != 1)
		source->error = VMSIG_ERR_INTERNAL;
	if (!source->error)
		source->error = read_data(source, source->at, source->data, source->data_len);
	return JOB_DONE;
}

/* ---- on the loop ---- */

static void on_done(struct job *job)
{
	struct desk_source *source = job->arg;

	source->done(source->arg, source->shell->env.now_ns(),
		job->finished ? source->error : VMSIG_ERR_SHUTTING_DOWN);
}

static const struct job_ops hash_ops = {.work = hash_work, .done = on_done};
static const struct job_ops step_ops = {.work = step_work, .done = on_done};

static void work_start(struct desk_source *source, const struct job_ops *ops,
	void (*done)(void *arg, uint64_t now_ns, int error), void *arg)
{
	source->done = done;
	source->arg = arg;
	source->error = 0;
	source->job = (struct job){.ops = ops, .arg = source};
	job_start(&source->job, source->line->jobs);
}

static void source_hash(void *ctx, struct desk_source *source,
	void (*done)(void *arg, uint64_t now_ns, int error), void *arg)
{
	work_start(source, &hash_ops, done, arg);
}

static void source_step(void *ctx, struct desk_source *source, const uint8_t *old, size_t old_len,
	uint64_t at, uint8_t *data, size_t len, void (*done)(void *arg, uint64_t now_ns, int error),
	void *arg)
{
	source->old = old;
	source->old_len = old_len;
	source->at = at;
	source->data = data;
	source->data_len = len;
	work_start(source, &step_ops, done, arg);
}

static int source_digest(void *ctx, struct desk_source *source, uint8_t ret_hash[static DESK_HASH])
{
	unsigned length;

	return EVP_DigestFinal_ex(source->hash, ret_hash, &length) == 1 &&
			       EVP_DigestInit_ex(source->hash, NULL, NULL) == 1
		       ? 0
		       : VMSIG_ERR_INTERNAL;
}

const struct desk_bulk_ops desk_sources = {
	.check = source_check,
	.line_open = line_open,
	.line_close = line_close,
	.open = source_open,
	.close = source_close,
	.hash = source_hash,
	.step = source_step,
	.digest = source_digest,
};
