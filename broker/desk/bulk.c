/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/desk/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <openssl/evp.h>

#include "proto/auditchain.h"
#include "vmsig/vmsig_error.h"

#define SLICE (256u << 10) /* bytes a turn: what others wait for */
#define SEALS (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW)

struct bulk {
	uv_work_t work;
	struct command *command;
	uint8_t *map; /* of the whole file */
	size_t map_len;
	const uint8_t *data;
	size_t len, done;
	int hash_result;
	EVP_MD_CTX *old_hash; /* of what was there, slice by slice */
	uint8_t *old;         /* one slice of it */
};

struct bulk *bulk_free(struct bulk *bulk)
{
	if (!bulk)
		return NULL;
	if (bulk->map)
		munmap(bulk->map, bulk->map_len);
	EVP_MD_CTX_free(bulk->old_hash);
	free(bulk->old);
	free(bulk);
	return NULL;
}

/* ---- taking the data over ---- */

__attribute__((format(printf, 3, 4))) static int complain(
	struct command *command, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(command->detail, sizeof(command->detail), format, args);
	va_end(args);
	return error;
}

/* Without the seals its owner could change the data after it was recorded, or end us by
 * SIGBUS. */
static int check_file(struct command *command, uint64_t *ret_size)
{
	const Vmsig__WriteBulk *body = command->body->bulk;
	int seals = fcntl(command->bulk_fd, F_GET_SEALS);
	struct stat st;

	if (seals < 0 || (seals & SEALS) != SEALS)
		return complain(command, VMSIG_ERR_BAD_REQUEST,
			"bulk data needs a memfd with F_SEAL_WRITE, F_SEAL_SHRINK and F_SEAL_GROW");
	if (body->len > command->bulk_max)
		return complain(command, VMSIG_ERR_QUOTA,
			"bulk data of %llu bytes, and the policy's 'bulk' is %llu; send it in "
			"parts",
			(unsigned long long)body->len, (unsigned long long)command->bulk_max);
	if (fstat(command->bulk_fd, &st) < 0)
		return -errno;
	if (body->offset > (uint64_t)st.st_size || body->len > (uint64_t)st.st_size - body->offset)
		return complain(
			command, VMSIG_ERR_BAD_REQUEST, "the memfd ends before the bulk data does");
	*ret_size = (uint64_t)st.st_size;
	return 0;
}

static int buffers_make(struct bulk *bulk)
{
	bulk->old = malloc(SLICE);
	bulk->old_hash = EVP_MD_CTX_new();
	if (!bulk->old || !bulk->old_hash ||
		EVP_DigestInit_ex(bulk->old_hash, EVP_sha256(), NULL) != 1)
		return -ENOMEM;
	return 0;
}

static void on_hash(uv_work_t *work)
{
	struct bulk *bulk = work->data;
	struct auditchain_md *md;

	/* The desk's own is the loop thread's. */
	bulk->hash_result = auditchain_md_new(&md);
	if (bulk->hash_result)
		return;
	bulk->hash_result = auditchain_digest(md, bulk->data, bulk->len, bulk->command->data_hash);
	auditchain_md_free(md);
}

static void on_hashed(uv_work_t *work, int status)
{
	struct bulk *bulk = work->data;
	struct command *command = bulk->command;
	int r = status < 0 ? status : bulk->hash_result;

	if (r)
		command_reject(command, r, NULL);
	else
		DL_APPEND(command->desk->ready, command);
}

int bulk_open(struct command *command)
{
	const Vmsig__WriteBulk *body = command->body->bulk;
	struct bulk *bulk;
	uint64_t size = 0;
	int r = replay_authorise(command);

	/* Nobody but a holder has the pool work. */
	if (!r)
		r = check_file(command, &size);
	if (r)
		return r;
	bulk = command->bulk = calloc(1, sizeof(*bulk));
	if (!bulk)
		return -ENOMEM;
	bulk->command = command;
	bulk->len = (size_t)body->len;
	r = buffers_make(bulk);
	if (r)
		return r;
	bulk->map = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, command->bulk_fd, 0);
	if (bulk->map == MAP_FAILED) {
		bulk->map = NULL;
		return -errno;
	}
	bulk->map_len = (size_t)size;
	bulk->data = bulk->map + body->offset;
	bulk->work.data = bulk;
	return uv_queue_work(command->desk->env.loop, &bulk->work, on_hash, on_hashed);
}

/* ---- where it goes ---- */

static int pieces_admit(struct command *command)
{
	const struct memwrite_plan *plan = &command->plan;

	for (size_t i = 0; i < plan->n; i++) {
		const struct memwrite_piece *piece = &plan->pieces[i];
		const struct lease_range range = {piece->gpa, piece->gpa + (piece->len - 1)};
		int r = command_admit(command, &range);

		if (r)
			return r == VMSIG_ERR_OUT_OF_RANGE
				       ? complain(command, r, "0x%llx to 0x%llx: %s",
						 (unsigned long long)range.start,
						 (unsigned long long)range.last,
						 vmsig_error_text(r))
				       : r;
	}
	return 0;
}

int bulk_plan(struct command *command)
{
	const Vmsig__WriteBulk *body = command->body->bulk;
	const struct memwrite_op op = {.addr = body->addr,
		.cr3 = body->cr3,
		.is_virtual = body->virtual_address,
		.len = body->len};
	int r;

	command->plan.bytes = 0;
	r = memwrite_resolve_part(command->site->target, &op, op.len, &command->plan);
	if (r == VMSIG_ERR_QUOTA)
		return complain(command, r,
			"the bulk data goes to more than %u separate pieces of guest memory; send "
			"it in parts",
			MEMWRITE_PIECES_MAX);
	if (r > 0)
		return complain(command, r, "after %llu bytes: %s",
			(unsigned long long)command->plan.bytes, vmsig_error_text(r));
	return r ? r : pieces_admit(command);
}

/* ---- slices ---- */

static void finish(struct command *command, const struct memwrite_result *last)
{
	struct bulk *bulk = command->bulk;
	unsigned length;

	command->result = *last;
	command->result.written = bulk->done;
	command->result.failed_op = 0;
	if (last->error) {
		snprintf(command->detail, sizeof(command->detail), "after %zu bytes: %s",
			bulk->done,
			vmsig_error_text((int)(last->cause ? last->cause : last->error)));
		if (bulk->done)
			command->result.error = VMSIG_ERR_PARTIAL;
	}
	if (EVP_DigestFinal_ex(bulk->old_hash, command->old_hash, &length) != 1)
		memset(command->old_hash, 0, AUDIT_HASH);
	DL_DELETE(command->desk->slicing, command);
	command_finish(command);
}

static void slice_apply(struct command *command, size_t len, struct memwrite_result *ret_result)
{
	struct bulk *bulk = command->bulk;
	struct memwrite_op op = {.data = bulk->data + bulk->done};
	const vmsig_memwrite_reg *reg = site_reg(command->site, command->desk);
	struct memwrite_slice slice;
	const char *why;

	*ret_result = (struct memwrite_result){0};
	if (command->desk->closing)
		ret_result->error = VMSIG_ERR_SHUTTING_DOWN;
	/* The epoch ends before the lease does: its memory is not there any more. */
	else if (!reg || !command->site->target || command->site->epoch != command->body->epoch)
		ret_result->error = VMSIG_ERR_STALE_EPOCH;
	else if (reg->may_write(reg->ctx, &why))
		ret_result->error = VMSIG_ERR_BUSY;
	if (ret_result->error)
		return;
	memwrite_plan_cut(&command->plan, bulk->done, len, &slice);
	op.len = slice.plan.bytes;
	memwrite_apply(command->site->target, &op, &slice.plan, command_admit, command, bulk->old,
		ret_result);
}

void bulk_step(struct command *command)
{
	struct bulk *bulk = command->bulk;
	size_t len = bulk->len - bulk->done < SLICE ? bulk->len - bulk->done : SLICE;
	struct memwrite_result result;

	slice_apply(command, len, &result);
	if (result.written && EVP_DigestUpdate(bulk->old_hash, bulk->old, result.written) != 1)
		result.error = VMSIG_ERR_INTERNAL;
	bulk->done += result.written;
	if (result.error || bulk->done == bulk->len)
		finish(command, &result);
}
