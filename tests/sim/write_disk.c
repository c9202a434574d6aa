/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The disk: records, ledger rows and leases, which change in batches. Every change can be taken
 * back until its batch is durable, so a batch that fails, a broker that is killed and a power
 * cut leave exactly a prefix of the batches. Some seeds have a disk whose batches are durable
 * later (a ticket), and some a store that gives tokens later, as one of several hosts would.
 */
#include "tests/sim/write_disk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmsig/vmsig_error.h"

struct disk disk;

void disk_make(void)
{
	struct change *changes = disk.changes;
	void **arena = disk.arena;
	size_t arena_size = disk.arena_size;

	memset(&disk, 0, sizeof(disk));
	disk.changes = changes ? changes : calloc(CHANGES, sizeof(*changes));
	disk.arena = arena;
	disk.arena_size = arena_size;
	if (!disk.changes)
		broken("out of memory");
	disk.slow = dice(3) == 0;
	disk.shared = dice(4) == 0;
	disk.next_id = 1;
}

static void records_drop(size_t from)
{
	while (disk.nrecords > from)
		vmsig__audit_record__free_unpacked(disk.records[--disk.nrecords], NULL);
}

void disk_free(void)
{
	records_drop(0);
	while (disk.narena)
		free(disk.arena[--disk.narena]);
}

/* ---- changes ---- */

void change_note(bool is_row, size_t index)
{
	struct change *change = &disk.changes[disk.nchanges];

	if (disk.nchanges++ == CHANGES)
		broken("more changes than the simulated disk keeps");
	change->is_row = is_row;
	change->index = index;
	if (is_row)
		change->row = disk.rows[index];
	else
		change->lease = disk.leases[index];
}

static void changes_undo(size_t to)
{
	while (disk.nchanges > to) {
		const struct change *change = &disk.changes[--disk.nchanges];

		if (change->is_row)
			disk.rows[change->index] = change->row;
		else
			disk.leases[change->index] = change->lease;
	}
}

void *disk_keep(const void *data, size_t len)
{
	void *copy = malloc(len ? len : 1);

	if (disk.narena == disk.arena_size) {
		disk.arena_size = disk.arena_size * 2 + 64;
		disk.arena = realloc(disk.arena, disk.arena_size * sizeof(*disk.arena));
	}
	if (!copy || !disk.arena)
		broken("out of memory");
	if (len)
		memcpy(copy, data, len);
	disk.arena[disk.narena++] = copy;
	return copy;
}

/* ---- batches ---- */

static size_t batch_end(size_t n)
{
	return n ? disk.batches[n - 1].nchanges : 0;
}

size_t batch_open(void)
{
	return batch_end(disk.nbatches);
}

/* The first `n` are durable. */
static void batches_settle(size_t n)
{
	size_t changes = batch_end(n);

	if (!n)
		return;
	disk.durable = disk.batches[n - 1].nrecords;
	memmove(disk.changes, disk.changes + changes,
		(disk.nchanges - changes) * sizeof(*disk.changes));
	disk.nchanges -= changes;
	disk.nbatches -= n;
	memmove(disk.batches, disk.batches + n, disk.nbatches * sizeof(*disk.batches));
	for (size_t i = 0; i < disk.nbatches; i++)
		disk.batches[i].nchanges -= changes;
}

static void take_back(void)
{
	changes_undo(batch_end(disk.nbatches));
	records_drop(disk.committed);
	disk.open = disk.doomed = false;
}

bool disk_fails(void)
{
	if (disk.mode != FULL || dice(8))
		return false;
	disk.doomed = true;
	return true;
}

static int record_begin(void *ctx)
{
	if (is_ghost() || disk_fails())
		return VMSIG_ERR_IO;
	disk.open = true;
	return 0;
}

static int record_append(void *ctx, Vmsig__AuditRecord *record, uint64_t *ret_bytes)
{
	size_t len;
	uint8_t *packed;

	if (is_ghost() || disk_fails())
		return VMSIG_ERR_IO;
	if (world.faults && dice(500) == 0) {
		disk.doomed = true;
		return -ENOMEM;
	}
	if (!disk.open && !disk.doomed)
		broken("a record outside of a batch");
	if (disk.nrecords == RECORDS)
		broken("more records than the simulated disk keeps");
	record->id = disk.nrecords + 1;
	record->boot_ns = world.now;
	record->real_ns = world.wall;
	len = vmsig__audit_record__get_packed_size(record);
	packed = malloc(len);
	if (!packed)
		broken("out of memory");
	vmsig__audit_record__pack(record, packed);
	disk.records[disk.nrecords++] = vmsig__audit_record__unpack(NULL, len, packed);
	free(packed);
	*ret_bytes = len + 100;
	return 0;
}

static int record_commit(void *ctx, bool waits, uint64_t *ret_ticket)
{
	struct batch *batch = &disk.batches[disk.nbatches];

	*ret_ticket = 0;
	if (is_ghost() || disk.mode == FULL || disk.failed)
		return VMSIG_ERR_IO;
	if (disk.doomed)
		broken("a batch is committed that has failed");
	if (disk.nbatches + 1 == BATCHES)
		broken("more batches than the simulated disk keeps");
	disk.open = false;
	disk.committed = disk.nrecords;
	disk.nbatches++;
	*batch = (struct batch){.nchanges = disk.nchanges, .nrecords = disk.nrecords};
	if (!disk.slow) {
		batches_settle(disk.nbatches);
	} else if (waits) {
		batch->ticket = *ret_ticket = ++disk.ticket;
	}
	return 0;
}

static void record_rollback(void *ctx)
{
	if (is_ghost())
		return;
	take_back();
	/* Time that was not made durable is no time. */
	model_may_end(CAUSE_DISK);
}

static enum desk_pressure record_pressure(void *ctx)
{
	if (!world.faults)
		return DESK_PRESSURE_NONE;
	return disk.mode == FULL ? DESK_PRESSURE_HIGH : DESK_PRESSURE_NONE;
}

static const char *record_refusal(void *ctx, uint64_t now_ns)
{
	return disk.mode == FULL && now_ns / (10 * MS) % 2 ? "the disk is full" : NULL;
}

static const char *record_error(void *ctx)
{
	return "it is made up";
}

static int record_get(void *ctx, uint64_t id, Vmsig__AuditRecord **ret_record)
{
	const Vmsig__AuditRecord *record;
	uint8_t *packed;
	size_t len;

	if (is_ghost())
		return VMSIG_ERR_IO;
	if (!id || id > disk.committed)
		return VMSIG_ERR_BAD_REQUEST;
	record = disk.records[id - 1];
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

const struct desk_record_ops record_ops = {
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
static uint64_t ticket_of(size_t n)
{
	while (n && !disk.batches[n - 1].ticket)
		n--;
	return n ? disk.batches[n - 1].ticket : 0;
}

static void sync_fail(void)
{
	say("a sync fails");
	disk.failed = true;
	model_may_end(CAUSE_DISK);
	desk_committed(world.desk, world.now, disk.ticket, VMSIG_ERR_IO);
}

/* Answers come in order, and one may stand for several. */
static void tickets_answer(void)
{
	size_t n = disk.nbatches ? 1 + dice((uint32_t)disk.nbatches) : 0;
	uint64_t ticket = ticket_of(n);

	if (ticket && world.faults && dice(60) == 0) {
		sync_fail();
		return;
	}
	batches_settle(n);
	if (ticket)
		desk_committed(world.desk, world.now, ticket, 0);
}

static void mode_roll(void)
{
	if (disk.mode != FAST && dice(6) == 0)
		disk.mode = FAST;
	else if (world.faults && world.fault_sides && dice(world.fault_sides) == 0)
		disk.mode = dice(MODES);
	else
		return;
	say("the disk is in mode %d", disk.mode);
	if (disk.mode == FULL)
		model_may_end(CAUSE_DISK);
}

void disk_step(void)
{
	mode_roll();
	if (disk.failed && world.faults)
		return;
	if (dice(2))
		tickets_answer();
	grants_answer();
}

const Vmsig__AuditRecord *disk_record(size_t index)
{
	return disk.records[index];
}

size_t disk_durable(void)
{
	return disk.durable;
}

size_t disk_committed(void)
{
	return disk.committed;
}

void disk_heal(void)
{
	disk.mode = FAST;
}

bool disk_is_lost(void)
{
	return disk.failed;
}

bool disk_is_shared(void)
{
	return disk.shared;
}

void disk_restart(bool power)
{
	take_back();
	if (power) {
		/* What was not waited for may be there all the same. */
		disk.nbatches = dice((uint32_t)disk.nbatches + 1);
		changes_undo(batch_end(disk.nbatches));
		records_drop(
			disk.nbatches ? disk.batches[disk.nbatches - 1].nrecords : disk.durable);
		disk.committed = disk.nrecords;
	}
	batches_settle(disk.nbatches);
	disk.failed = false;
	rows_recount();
	for (size_t i = 0; power && i < disk.nleases; i++)
		disk.leases[i].ended = true;
}
