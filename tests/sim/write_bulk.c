/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Data of large commands and the thread that reads it: a job is done when the seed says so.
 * Descriptors are numbers that are counted.
 */
#include "tests/sim/write_world.h"

#include <stdlib.h>
#include <string.h>

#include "vmsig/vmsig_error.h"

#define FIRST_FD 100000
#define JOBS 64

struct desk_line {
	unsigned sources;
};

struct desk_source {
	struct desk_line *line;
	struct model_command *command;
	uint64_t offset, len;
	uint64_t hash[4]; /* of what was hashed since digest() */
	bool working;
};

struct work {
	struct desk_source *source;
	const uint8_t *old;
	size_t old_len;
	uint64_t at;
	uint8_t *data;
	size_t len;
	bool hash;
	void (*done)(void *arg, uint64_t now_ns, int error);
	void *arg;
};

static struct work works[JOBS];
static size_t nworks;
static unsigned nfds;

/* ---- a hash that is quick and no more ---- */

static void mix(uint64_t hash[static 4], const uint8_t *data, size_t len)
{
	for (size_t at = 0; at < len; at += WORD) {
		uint64_t word = 0;

		memcpy(&word, data + at, len - at < WORD ? len - at : WORD);
		hash[0] = (hash[0] ^ word) * 0x9e3779b97f4a7c15ull;
		hash[1] += hash[0] ^ hash[0] >> 29;
		hash[2] = (hash[2] + word) * 0xbf58476d1ce4e5b9ull;
		hash[3] ^= hash[2] >> 31 ^ hash[1];
	}
}

int sim_digest(void *ctx, const void *data, size_t len, uint8_t ret_digest[static DESK_HASH])
{
	uint64_t hash[4] = {len, 1, 2, 3};

	mix(hash, data, len);
	memcpy(ret_digest, hash, DESK_HASH);
	return world.faults && dice(2000) == 0 ? VMSIG_ERR_NO_MEMORY : 0;
}

/* ---- descriptors ---- */

int fd_open(unsigned command)
{
	nfds++;
	return FIRST_FD + (int)command;
}

void fd_close(void *ctx, int fd, uint32_t uid)
{
	if (fd < FIRST_FD || !nfds)
		broken("a descriptor is closed that is not open");
	nfds--;
}

unsigned fds_open(void)
{
	return nfds;
}

/* ---- sources ---- */

static struct model_command *command_of(int fd)
{
	return &world.commands[fd - FIRST_FD];
}

static int check(void *ctx, int fd, uint64_t offset, uint64_t len, const char **ret_why)
{
	*ret_why = "it is made up";
	return offset + len <= command_of(fd)->body.bytes ? 0 : VMSIG_ERR_BAD_REQUEST;
}

static int line_open(void *ctx, struct desk_line **ret_line)
{
	*ret_line = calloc(1, sizeof(**ret_line));
	return *ret_line ? 0 : VMSIG_ERR_NO_MEMORY;
}

static void line_close(void *ctx, struct desk_line *line)
{
	if (line->sources)
		broken("a line is closed that has sources");
	free(line);
}

static int source_open(void *ctx, struct desk_line *line, int fd, uint64_t offset, uint64_t len,
	struct desk_source **ret_source)
{
	struct desk_source *source = calloc(1, sizeof(*source));

	if (!source)
		return VMSIG_ERR_NO_MEMORY;
	source->line = line;
	source->command = command_of(fd);
	source->offset = offset;
	source->len = len;
	line->sources++;
	*ret_source = source;
	return 0;
}

static void source_close(void *ctx, struct desk_source *source)
{
	if (source->working && !world.ghost)
		broken("a source is closed that is being read");
	for (size_t i = 0; i < nworks; i++) {
		if (works[i].source == source)
			works[i] = works[--nworks];
	}
	source->line->sources--;
	free(source);
}

static void work_add(const struct work *work)
{
	if (work->source->working)
		broken("two jobs of one source");
	if (nworks == JOBS)
		broken("more jobs than the simulated threads do");
	work->source->working = true;
	works[nworks++] = *work;
}

static void source_hash(void *ctx, struct desk_source *source,
	void (*done)(void *arg, uint64_t now_ns, int error), void *arg)
{
	work_add(&(struct work){.source = source, .hash = true, .done = done, .arg = arg});
}

static void source_step(void *ctx, struct desk_source *source, const uint8_t *old, size_t old_len,
	uint64_t at, uint8_t *data, size_t len, void (*done)(void *arg, uint64_t now_ns, int error),
	void *arg)
{
	if (at + len > source->len)
		broken("data is read beyond what was announced");
	work_add(&(struct work){.source = source,
		.old = old,
		.old_len = old_len,
		.at = at,
		.data = data,
		.len = len,
		.done = done,
		.arg = arg});
}

static int source_digest(void *ctx, struct desk_source *source, uint8_t ret_hash[static DESK_HASH])
{
	memcpy(ret_hash, source->hash, DESK_HASH);
	memset(source->hash, 0, sizeof(source->hash));
	return 0;
}

const struct desk_bulk_ops bulk_ops = {
	.check = check,
	.line_open = line_open,
	.line_close = line_close,
	.open = source_open,
	.close = source_close,
	.hash = source_hash,
	.step = source_step,
	.digest = source_digest,
};

/* ---- the thread ---- */

static void data_fill(const struct desk_source *source, uint64_t at, uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i += WORD) {
		const uint64_t word =
			body_word(source->command, (unsigned)((source->offset + at + i) / WORD));

		memcpy(data + i, &word, WORD);
	}
}

static void work_do(const struct work *work)
{
	struct desk_source *source = work->source;

	source->working = false;
	if (work->hash) {
		const uint64_t seed[2] = {source->len, body_word(source->command, 0)};

		mix(source->hash, (const uint8_t *)seed, sizeof(seed));
	}
	mix(source->hash, work->old, work->old_len);
	data_fill(source, work->at, work->data, work->len);
	work->done(work->arg, world.now, world.faults && dice(50) == 0 ? VMSIG_ERR_IO : 0);
}

void bulk_work(bool all)
{
	while (nworks && (all || dice(3))) {
		size_t i = dice((uint32_t)nworks);
		struct work work = works[i];

		works[i] = works[--nworks];
		if (!world.stopping) {
			work_do(&work);
			continue;
		}
		work.source->working = false;
		work.done(work.arg, world.now, VMSIG_ERR_SHUTTING_DOWN);
	}
}

void bulk_forget(void)
{
	nworks = 0;
}
