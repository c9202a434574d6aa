/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Data of large commands, the threads that read and hash it, and the memory for what was there
 * before: a job is done when the seed says so. Descriptors are numbers that are counted.
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
	uint64_t data[4], old[4]; /* of what was hashed */
	uint64_t hashed;
	uint32_t read_sum, sum;
	bool reading, hashing;
};

struct work {
	struct desk_source *source;
	struct desk_reading *reading; /* NULL: it hashes */
	struct desk_hashing hashing;
	desk_done_fn done;
	void *arg;
};

static struct work works[JOBS];
static size_t nworks;
static unsigned nfds, nrooms;

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

int sim_digests(void *ctx, const struct multihash_message *messages, size_t n)
{
	int r = 0;

	for (size_t i = 0; !r && i < n; i++)
		r = sim_digest(ctx, messages[i].data, messages[i].len, messages[i].ret_hash);
	return r;
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
	source->read_sum = DESK_SUM_NONE;
	source->command = command_of(fd);
	source->offset = offset;
	source->len = len;
	line->sources++;
	*ret_source = source;
	return 0;
}

static void source_close(void *ctx, struct desk_source *source)
{
	if ((source->reading || source->hashing) && !world.ghost)
		broken("a source is closed that is being read");
	for (size_t i = nworks; i > 0; i--) {
		if (works[i - 1].source == source)
			works[i - 1] = works[--nworks];
	}
	source->line->sources--;
	free(source);
}

static void work_add(const struct work *work)
{
	bool *busy = work->reading ? &work->source->reading : &work->source->hashing;

	if (*busy)
		broken("two jobs of one kind of one source");
	if (nworks == JOBS)
		broken("more jobs than the simulated threads do");
	*busy = true;
	works[nworks++] = *work;
}

static void source_read(void *ctx, struct desk_source *source, struct desk_reading *reading,
	desk_done_fn done, void *arg)
{
	if (reading->at + reading->len > source->len || reading->len > DESK_READING)
		broken("data is read beyond what was announced");
	work_add(&(struct work){.source = source, .reading = reading, .done = done, .arg = arg});
}

static void source_hash(void *ctx, struct desk_source *source, const struct desk_hashing *hashing,
	desk_done_fn done, void *arg)
{
	if (source->hashed + hashing->data_len > source->len)
		broken("more data is hashed than was announced");
	work_add(&(struct work){.source = source, .hashing = *hashing, .done = done, .arg = arg});
}

static int source_digest(void *ctx, struct desk_source *source, uint8_t ret_data[static DESK_HASH],
	uint8_t ret_old[static DESK_HASH])
{
	if (source->hashed != source->len && !is_ghost())
		broken("digest: of %llu bytes of data %llu were hashed",
			(unsigned long long)source->len, (unsigned long long)source->hashed);
	memcpy(ret_data, source->data, DESK_HASH);
	memcpy(ret_old, source->old, DESK_HASH);
	return 0;
}

static uint32_t source_sum(void *ctx, const struct desk_source *source)
{
	return source->sum;
}

static uint32_t sum_add(void *ctx, uint32_t before, const void *data, size_t len)
{
	const uint8_t *at = data;
	uint32_t sum = before;

	for (size_t i = 0; i < len; i++)
		sum = (sum ^ at[i]) * 0x01000193u;
	return sum ? sum : DESK_SUM_NONE;
}

/* ---- memory ---- */

static uint8_t *room_take(void *ctx, bool *ret_fresh)
{
	uint8_t *room = world.faults && dice(20) == 0 ? NULL : malloc(DESK_ROOM);

	*ret_fresh = dice(2);
	nrooms += room != NULL;
	return room;
}

static void room_give(void *ctx, uint8_t *room)
{
	nrooms--;
	free(room);
}

unsigned rooms_used(void)
{
	return nrooms;
}

const struct desk_bulk_ops bulk_ops = {
	.check = check,
	.room_take = room_take,
	.room_give = room_give,
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

/* ---- the threads ---- */

static void data_fill(const struct desk_source *source, uint64_t at, uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i += WORD) {
		const uint64_t word =
			body_word(source->command, (unsigned)((source->offset + at + i) / WORD));

		memcpy(data + i, &word, WORD);
	}
}

void data_hash(const struct model_command *command, uint8_t ret_hash[static DESK_HASH])
{
	uint64_t hash[4] = {0};

	for (unsigned i = 0; i < command->body.bytes / WORD; i++) {
		const uint64_t word = body_word(command, i);

		mix(hash, (const uint8_t *)&word, WORD);
	}
	memcpy(ret_hash, hash, DESK_HASH);
}

static void read_do(struct desk_source *source, struct desk_reading *reading)
{
	data_fill(source, reading->at, reading->data, reading->len);
	if (reading->touch)
		memset(reading->touch, 0, reading->touch_len);
	for (size_t at = 0; at < reading->len; at += DESK_SLICE) {
		size_t left = reading->len - at;

		source->read_sum = sum_add(NULL, source->read_sum, reading->data + at,
			left < DESK_SLICE ? left : DESK_SLICE);
		reading->sums[at / DESK_SLICE] = source->read_sum;
	}
}

/* What a thread reads by itself it reads from the command. */
static void hash_do(struct desk_source *source, const struct desk_hashing *hashing)
{
	static uint8_t read[RAM];
	const uint8_t *data = hashing->data ? hashing->data : read;

	mix(source->old, hashing->old, hashing->old_len);
	if (!hashing->data)
		data_fill(source, source->hashed, read, (size_t)hashing->data_len);
	mix(source->data, data, (size_t)hashing->data_len);
	source->hashed += hashing->data_len;
	if (!hashing->data && hashing->sum_at <= source->len)
		source->sum = sum_add(NULL, DESK_SUM_NONE, read, (size_t)hashing->sum_at);
}

static void work_end(const struct work *work, int error)
{
	if (work->reading)
		work->source->reading = false;
	else
		work->source->hashing = false;
	work->done(work->arg, world.now, error);
}

static void work_do(const struct work *work)
{
	if (work->reading)
		read_do(work->source, work->reading);
	else
		hash_do(work->source, &work->hashing);
	work_end(work, world.faults && dice(50) == 0 ? VMSIG_ERR_IO : 0);
}

void bulk_work(bool all)
{
	while (nworks && (all || dice(3))) {
		size_t i = dice((uint32_t)nworks);
		struct work work = works[i];

		works[i] = works[--nworks];
		if (world.stopping)
			work_end(&work, VMSIG_ERR_SHUTTING_DOWN);
		else
			work_do(&work);
	}
}

void bulk_forget(void)
{
	nworks = 0;
}
