/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The disk: records, ledger rows and leases, which change in batches. Every change can be taken
 * back until its batch is durable, so a batch that fails, a broker that is killed and a power
 * cut leave exactly a prefix of the batches. Some seeds have a disk whose batches are durable
 * later (a ticket), and some a store that gives tokens later, as one of several hosts would.
 */
#include "tests/sim/disk_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmsig/vmsig_error.h"

#define PHASE_NS 10000000u /* in every other one a full disk says so beforehand */

bool disk_is_ghost(struct disk *disk)
{
	return disk->env.is_ghost(disk->env.arg);
}

void disk_grow(void *array, size_t n, size_t *size, size_t each)
{
	void **at = array;
	size_t wanted = *size ? *size * 2 : 64;
	void *grown;

	if (n < *size)
		return;
	grown = realloc(*at, wanted * each);
	if (!grown)
		broken("out of memory");
	memset((uint8_t *)grown + *size * each, 0, (wanted - *size) * each);
	*at = grown;
	*size = wanted;
}

struct disk *disk_new(const struct disk_env *env)
{
	struct disk *disk = calloc(1, sizeof(*disk));

	if (!disk)
		broken("out of memory");
	disk->env = *env;
	disk->tokens = calloc(env->endpoints, sizeof(*disk->tokens));
	if (!disk->tokens)
		broken("out of memory");
	disk->slow = dice(3) == 0;
	disk->shared = dice(4) == 0;
	disk->next_id = 1;
	return disk;
}

static void records_drop(struct disk *disk, size_t from)
{
	while (disk->nrecords > from)
		vmsig__audit_record__free_unpacked(disk->records[--disk->nrecords], NULL);
}

struct disk *disk_free(struct disk *disk)
{
	if (!disk)
		return NULL;
	records_drop(disk, 0);
	while (disk->narena)
		free(disk->arena[--disk->narena]);
	rows_free(disk);
	free(disk->arena);
	free(disk->records);
	free(disk->changes);
	free(disk->batches);
	free(disk->tokens);
	free(disk);
	return NULL;
}

/* ---- changes ---- */

void change_note(struct disk *disk, bool is_row, size_t index)
{
	struct change *change;

	disk_grow(&disk->changes, disk->nchanges, &disk->changes_size, sizeof(*disk->changes));
	change = &disk->changes[disk->nchanges++];
	change->is_row = is_row;
	change->index = index;
	if (is_row)
		change->row = disk->rows[index];
	else
		change->lease = disk->leases[index];
}

static void changes_undo(struct disk *disk, size_t to)
{
	while (disk->nchanges > to) {
		const struct change *change = &disk->changes[--disk->nchanges];

		if (change->is_row)
			disk->rows[change->index] = change->row;
		else
			disk->leases[change->index] = change->lease;
	}
}

void *disk_keep(struct disk *disk, const void *data, size_t len)
{
	void *copy = malloc(len ? len : 1);

	if (!copy)
		broken("out of memory");
	disk_grow(&disk->arena, disk->narena, &disk->arena_size, sizeof(*disk->arena));
	if (len)
		memcpy(copy, data, len);
	disk->arena[disk->narena++] = copy;
	return copy;
}

/* ---- batches ---- */

static size_t batch_end(const struct disk *disk, size_t n)
{
	return n ? disk->batches[n - 1].nchanges : 0;
}

size_t batch_open(const struct disk *disk)
{
	return batch_end(disk, disk->nbatches);
}

/* The first `n` are durable. */
static void batches_settle(struct disk *disk, size_t n)
{
	size_t changes = batch_end(disk, n);

	if (!n)
		return;
	disk->durable = disk->batches[n - 1].nrecords;
	/* Before the first change there is no room for any. */
	if (changes)
		memmove(disk->changes, disk->changes + changes,
			(disk->nchanges - changes) * sizeof(*disk->changes));
	disk->nchanges -= changes;
	disk->nbatches -= n;
	memmove(disk->batches, disk->batches + n, disk->nbatches * sizeof(*disk->batches));
	for (size_t i = 0; i < disk->nbatches; i++)
		disk->batches[i].nchanges -= changes;
}

static void take_back(struct disk *disk)
{
	changes_undo(disk, batch_end(disk, disk->nbatches));
	records_drop(disk, disk->committed);
	disk->open = disk->doomed = false;
}

bool disk_fails(struct disk *disk)
{
	if (disk->mode != FULL || dice(8))
		return false;
	disk->doomed = true;
	return true;
}

static int record_begin(void *ctx)
{
	struct disk *disk = ctx;

	if (disk_is_ghost(disk) || disk_fails(disk))
		return VMSIG_ERR_IO;
	disk->open = true;
	return 0;
}

static int record_append(void *ctx, Vmsig__AuditRecord *record, uint64_t *ret_bytes)
{
	struct disk *disk = ctx;
	size_t len;
	uint8_t *packed;

	if (disk_is_ghost(disk) || disk_fails(disk))
		return VMSIG_ERR_IO;
	if (*disk->env.faults && dice(500) == 0) {
		disk->doomed = true;
		return -ENOMEM;
	}
	if (!disk->open && !disk->doomed)
		broken("a record outside of a batch");
	disk_grow(&disk->records, disk->nrecords, &disk->records_size, sizeof(*disk->records));
	record->id = disk->nrecords + 1;
	record->boot_ns = *disk->env.now_ns;
	record->real_ns = *disk->env.wall_ns;
	len = vmsig__audit_record__get_packed_size(record);
	packed = malloc(len);
	if (!packed)
		broken("out of memory");
	vmsig__audit_record__pack(record, packed);
	disk->records[disk->nrecords++] = vmsig__audit_record__unpack(NULL, len, packed);
	free(packed);
	*ret_bytes = len + 100;
	return 0;
}

static int record_commit(void *ctx, bool waits, uint64_t *ret_ticket)
{
	struct disk *disk = ctx;
	struct batch *batch;

	*ret_ticket = 0;
	if (disk_is_ghost(disk) || disk->mode == FULL || disk->failed)
		return VMSIG_ERR_IO;
	if (disk->doomed)
		broken("a batch is committed that has failed");
	disk_grow(&disk->batches, disk->nbatches, &disk->batches_size, sizeof(*disk->batches));
	batch = &disk->batches[disk->nbatches++];
	disk->open = false;
	disk->committed = disk->nrecords;
	*batch = (struct batch){.nchanges = disk->nchanges, .nrecords = disk->nrecords};
	if (!disk->slow) {
		batches_settle(disk, disk->nbatches);
	} else if (waits) {
		batch->ticket = *ret_ticket = ++disk->ticket;
	}
	return 0;
}

static void record_rollback(void *ctx)
{
	struct disk *disk = ctx;

	if (disk_is_ghost(disk))
		return;
	take_back(disk);
	/* Time that was not made durable is no time. */
	disk->env.may_end(disk->env.arg);
}

static enum desk_pressure record_pressure(void *ctx)
{
	struct disk *disk = ctx;

	if (!*disk->env.faults)
		return DESK_PRESSURE_NONE;
	return disk->mode == FULL ? DESK_PRESSURE_HIGH : DESK_PRESSURE_NONE;
}

static const char *record_refusal(void *ctx, uint64_t now_ns)
{
	struct disk *disk = ctx;

	return disk->mode == FULL && now_ns / PHASE_NS % 2 ? "the disk is full" : NULL;
}

static const char *record_error(void *ctx)
{
	return "it is made up";
}

static int record_get(void *ctx, uint64_t id, Vmsig__AuditRecord **ret_record)
{
	struct disk *disk = ctx;
	const Vmsig__AuditRecord *record;
	uint8_t *packed;
	size_t len;

	if (disk_is_ghost(disk))
		return VMSIG_ERR_IO;
	if (!id || id > disk->committed)
		return VMSIG_ERR_BAD_REQUEST;
	record = disk->records[id - 1];
	len = vmsig__audit_record__get_packed_size(record);
	packed = malloc(len);
	if (!packed)
		return -ENOMEM;
	vmsig__audit_record__pack(record, packed);
	*ret_record = vmsig__audit_record__unpack(NULL, len, packed);
	free(packed);
	return *ret_record ? 0 : -ENOMEM;
}

static bool record_lost(void *ctx, struct desk_loss *ret_loss)
{
	return false;
}

const struct desk_record_ops disk_records = {
	.begin = record_begin,
	.append = record_append,
	.commit = record_commit,
	.rollback = record_rollback,
	.pressure = record_pressure,
	.refusal = record_refusal,
	.error = record_error,
	.get = record_get,
	.lost = record_lost,
};

/* ---- what it does by itself ---- */

/* The last ticket among the first `n` batches; 0: nobody waits for them. */
static uint64_t ticket_of(struct disk *disk, size_t n)
{
	while (n && !disk->batches[n - 1].ticket)
		n--;
	return n ? disk->batches[n - 1].ticket : 0;
}

static void sync_fail(struct disk *disk)
{
	say("a sync fails");
	disk->failed = true;
	disk->env.may_end(disk->env.arg);
	desk_committed(*disk->env.desk, *disk->env.now_ns, disk->ticket, VMSIG_ERR_IO);
}

/* Answers come in order, and one may stand for several. */
static void tickets_answer(struct disk *disk)
{
	size_t n = disk->nbatches ? 1 + dice((uint32_t)disk->nbatches) : 0;
	uint64_t ticket = ticket_of(disk, n);

	if (ticket && *disk->env.faults && dice(disk->env.sync_sides) == 0) {
		sync_fail(disk);
		return;
	}
	batches_settle(disk, n);
	if (ticket)
		desk_committed(*disk->env.desk, *disk->env.now_ns, ticket, 0);
}

static void mode_roll(struct disk *disk)
{
	if (disk->mode != FAST && dice(6) == 0)
		disk->mode = FAST;
	else if (*disk->env.faults && *disk->env.fault_sides && dice(*disk->env.fault_sides) == 0)
		disk->mode = dice(MODES);
	else
		return;
	say("the disk is in mode %d", disk->mode);
	if (disk->mode == FULL)
		disk->env.may_end(disk->env.arg);
}

void disk_step(struct disk *disk)
{
	mode_roll(disk);
	if (disk->failed && *disk->env.faults)
		return;
	if (dice(2))
		tickets_answer(disk);
	grants_answer(disk);
}

const Vmsig__AuditRecord *disk_record(const struct disk *disk, size_t index)
{
	return disk->records[index];
}

size_t disk_durable(const struct disk *disk)
{
	return disk->durable;
}

size_t disk_committed(const struct disk *disk)
{
	return disk->committed;
}

void disk_heal(struct disk *disk)
{
	disk->mode = FAST;
}

bool disk_is_lost(const struct disk *disk)
{
	return disk->failed;
}

bool disk_is_shared(const struct disk *disk)
{
	return disk->shared;
}

void disk_alone(struct disk *disk)
{
	disk->shared = false;
}

void disk_restart(struct disk *disk, bool power)
{
	take_back(disk);
	if (power) {
		/* What was not waited for may be there all the same. */
		disk->nbatches = dice((uint32_t)disk->nbatches + 1);
		changes_undo(disk, batch_end(disk, disk->nbatches));
		records_drop(disk, disk->nbatches ? disk->batches[disk->nbatches - 1].nrecords
						  : disk->durable);
		disk->committed = disk->nrecords;
	}
	batches_settle(disk, disk->nbatches);
	disk->failed = false;
	rows_recount(disk);
	for (size_t i = 0; power && i < disk->nleases; i++)
		disk->leases[i].ended = true;
	if (power)
		disk_forget_marks(disk);
}
