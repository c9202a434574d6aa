/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/ctl/gdb_write.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "clients/ctl/piece.h"
#include "clients/ctl/undo_record.h"

/* --socket is the read plane's. */
static int open_writer(const struct ctl *ctl, vmsig_writer **ret_writer)
{
	struct ctl other = *ctl;

	other.socket = NULL;
	return ctl_writer_open(&other, ret_writer);
}

int ctl_gdb_may_write(const struct ctl *ctl)
{
	vmsig_writer *writer;
	int code = open_writer(ctl, &writer), folder;

	if (code)
		return code;
	vmsig_writer_close(writer);
	code = undo_folder_open(&folder);
	if (!code)
		close(folder);
	return code;
}

/* What is written is written, whether it can be undone or not. */
static void keep_undo(struct undo_room *room, const struct ctl_hold *hold, const vmsig_write_op *op,
	const vmsig_write_result *result)
{
	struct undo_record record = {.epoch = hold->info.epoch,
		.addr = op->addr,
		.cr3 = op->cr3,
		.is_virtual = op->flags & VMSIG_OP_VIRTUAL,
		.len = op->len,
		.old = (unsigned char *)(uintptr_t)result->old,
		.written = (unsigned char *)(uintptr_t)op->data};
	char name[UNDO_NAME_MAX];

	snprintf(record.endpoint, sizeof(record.endpoint), "%s", hold->endpoint);
	if (undo_record_save(room, &record, name))
		ctl_note("what gdb wrote to %s at 0x%" PRIx64
			 " is there, and `vmsigctl undo` does not know of it",
			hold->endpoint, op->addr);
}

/* Room for what undoes it comes first: where none can be, nothing is written. */
static int write_held(
	const struct ctl *ctl, struct ctl_hold *hold, uint32_t epoch, const struct ctl_piece *piece)
{
	vmsig_write_result result = {0};
	struct undo_room room;
	int code, r;

	if (hold->info.epoch != epoch)
		return ctl_fail(VMSIG_ERR_STALE_EPOCH,
			"%s was reset since gdb began to look: nothing is written", hold->endpoint);
	code = undo_room_take(&room, piece->len);
	if (code)
		return code;
	r = ctl_piece_write(ctl, hold, piece, &result);
	if (r)
		code = ctl_write_fail(
			hold->writer, r, &result, hold->endpoint, piece->op.addr, piece->len);
	else
		keep_undo(&room, hold, &piece->op, &result);
	undo_room_give(&room);
	vmsig_write_result_clear(&result);
	return code;
}

int ctl_gdb_write(const struct ctl *ctl, const char *endpoint, const struct context *context,
	bool physical, uint64_t addr, unsigned char *bytes, size_t len)
{
	const vmsig_lease_range range = {addr, addr + (len - 1)};
	const struct ctl_piece piece = {
		.op = {.addr = addr,
			.cr3 = physical || context->root == context->pod.kcr3 ? 0 : context->root,
			.flags = physical ? 0 : VMSIG_OP_VIRTUAL,
			.len = (uint32_t)len,
			.data = bytes},
		.flags = VMSIG_WRITE_WANT_OLD,
		.memfd = -1,
		.len = len};
	struct ctl_hold hold;
	vmsig_writer *writer;
	int code = open_writer(ctl, &writer);

	if (code)
		return code;
	code = ctl_hold_take(ctl, writer, endpoint, physical ? &range : NULL, &hold);
	if (!code) {
		code = write_held(ctl, &hold, context->pod.epoch, &piece);
		ctl_hold_put(ctl, &hold);
	}
	vmsig_writer_close(writer);
	return code;
}
