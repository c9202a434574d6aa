/* SPDX-License-Identifier: Apache-2.0 */
/* Writes: checked, packed, sent in order within a window, sent again under their number. */
#include "clients/lib/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <utlist.h>

#define OPS_MAX 1024u      /* of one batch, as the broker takes them */
#define OLD_MAX (1u << 20) /* of bulk data, as the broker tells what was there before */
#define SEALS (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW)

/* ---- making ---- */

static struct writer_write *write_free(struct writer_write *write)
{
	if (!write)
		return NULL;
	if (write->fd >= 0)
		close(write->fd);
	spares_give(write->spares, write);
	return NULL;
}

static ProtobufCBinaryData copy(unsigned char **at, const void *from, uint32_t len)
{
	unsigned char *start = *at;

	if (!from)
		return (ProtobufCBinaryData){.len = 0};
	memcpy(start, from, len);
	*at += len;
	return (ProtobufCBinaryData){.len = len, .data = start};
}

static size_t bytes_of(const vmsig_write_op *ops, size_t nops)
{
	size_t sum = 0;

	for (size_t i = 0; i < nops; i++)
		sum += (size_t)ops[i].len * (1u + (ops[i].expect != NULL) + (ops[i].mask != NULL));
	return sum;
}

static void ops_copy(struct writer_write *write, const vmsig_write_op *ops, size_t nops)
{
	unsigned char *at;

	write->ops = (Vmsig__WriteOp *)(void *)(write + 1);
	write->op_pointers = (Vmsig__WriteOp **)(void *)(write->ops + nops);
	at = (unsigned char *)(write->op_pointers + nops);
	for (size_t i = 0; i < nops; i++) {
		Vmsig__WriteOp *op = write->op_pointers[i] = &write->ops[i];

		vmsig__write_op__init(op);
		op->addr = ops[i].addr;
		op->cr3 = ops[i].cr3;
		op->virtual_address = ops[i].flags & VMSIG_OP_VIRTUAL;
		op->data = copy(&at, ops[i].data, ops[i].len);
		op->expect = copy(&at, ops[i].expect, ops[i].len);
		op->mask = copy(&at, ops[i].mask, ops[i].len);
	}
	write->body.ops = write->op_pointers;
	write->body.n_ops = nops;
}

/* With room behind it for so many operations and what they point to. */
static struct writer_write *write_new(vmsig_lease *lease, size_t nops, size_t bytes, uint32_t flags,
	vmsig_write_fn done, void *arg)
{
	struct spares *spares = &lease->writer->spares;
	struct writer_write *write = spares_take(
		spares, sizeof(*write) +
				nops * (sizeof(*write->ops) + sizeof(*write->op_pointers)) + bytes);

	if (!write)
		return NULL;
	memset(write, 0, sizeof(*write));
	vmsig__cmd_memwrite__init(&write->body);
	write->spares = spares;
	write->lease = lease;
	write->fd = -1;
	write->done = done;
	write->arg = arg;
	write->body.writer = lease->writer->id;
	write->body.want_old = flags & VMSIG_WRITE_WANT_OLD;
	write->body.quiesce = flags & VMSIG_WRITE_QUIESCE;
	return write;
}

/* In line from here on. */
static void write_queue(struct writer_write *write)
{
	vmsig_lease *lease = write->lease;

	write->body.lease = lease->id;
	write->body.token = lease->token;
	write->body.endpoint = lease->endpoint_id;
	write->body.epoch = lease->epoch;
	write->body.sequence = ++lease->last_sequence;
	DL_APPEND(lease->writes, write);
	lease->nwrites++;
}

/* ---- checks before anything is sent ---- */

static int lease_check(vmsig_lease *lease)
{
	vmsig_writer *writer = lease->writer;
	int error;

	writer_leases_expire(writer);
	error = lease->error ? lease->error : VMSIG_ERR_NO_LEASE;
	if (lease->phase == VMSIG_LEASE_OVER)
		return writer_fail(writer, error, "the lease on %s is over: %s", lease->endpoint,
			vmsig_error_text(error));
	if (lease->phase != VMSIG_LEASE_HELD || lease->releasing)
		return writer_fail(
			writer, VMSIG_ERR_NO_LEASE, "the lease on %s is not held", lease->endpoint);
	if (lease->nwrites >= VMSIG_WRITE_WINDOW)
		return writer_fail(writer, VMSIG_ERR_BUSY,
			"%u writes have no outcome yet; wait for some", lease->nwrites);
	return 0;
}

static int ops_check(vmsig_writer *writer, const vmsig_write_op *ops, size_t nops)
{
	if (!nops || nops > OPS_MAX)
		return writer_fail(writer, VMSIG_ERR_BAD_REQUEST,
			"a batch has 1 to %u operations, not %zu", OPS_MAX, nops);
	for (size_t i = 0; i < nops; i++) {
		if (!ops[i].len || !ops[i].data || ops[i].len > VMSIG_WRITE_INLINE_MAX)
			return writer_fail(writer, VMSIG_ERR_BAD_REQUEST,
				"operation %zu has no data, or more than %u bytes; use "
				"vmsig_write_bulk() for those",
				i, VMSIG_WRITE_INLINE_MAX);
	}
	if (bytes_of(ops, nops) > VMSIG_WRITE_INLINE_MAX)
		return writer_fail(writer, VMSIG_ERR_BAD_REQUEST,
			"the batch has more than %u bytes; send it in parts, or use "
			"vmsig_write_bulk()",
			VMSIG_WRITE_INLINE_MAX);
	return 0;
}

int vmsig_write(vmsig_lease *lease, const vmsig_write_op *ops, size_t nops, uint32_t flags,
	vmsig_write_fn done, void *arg)
{
	struct writer_write *write;
	int r = lease_check(lease);

	if (!r)
		r = ops_check(lease->writer, ops, nops);
	if (r)
		return -r;
	write = write_new(lease, nops, bytes_of(ops, nops), flags, done, arg);
	if (!write)
		return writer_fail(
			lease->writer, -VMSIG_ERR_NO_MEMORY, "out of memory for a write");
	ops_copy(write, ops, nops);
	write_queue(write);
	return 0;
}

static int bulk_check(vmsig_writer *writer, int memfd, uint64_t len, uint32_t flags)
{
	int seals = fcntl(memfd, F_GET_SEALS);

	if (seals < 0 || (seals & SEALS) != SEALS)
		return writer_fail(writer, VMSIG_ERR_BAD_REQUEST,
			"the data has to be in a memfd with F_SEAL_WRITE, F_SEAL_SHRINK and "
			"F_SEAL_GROW");
	if (!len)
		return writer_fail(writer, VMSIG_ERR_BAD_REQUEST, "the bulk data is empty");
	if (flags & VMSIG_WRITE_WANT_OLD && len > OLD_MAX)
		return writer_fail(writer, VMSIG_ERR_BAD_REQUEST,
			"what was there before comes with at most %u bytes of bulk data; send it "
			"in parts",
			OLD_MAX);
	return 0;
}

static int bulk_fill(struct writer_write *write, uint64_t addr, uint32_t op_flags, uint64_t cr3,
	int memfd, uint64_t offset, uint64_t len)
{
	struct chan_fd_claim claim;
	int r;

	write->fd = fcntl(memfd, F_DUPFD_CLOEXEC, 0);
	if (write->fd < 0)
		return -errno;
	r = chan_fd_describe(write->fd, &claim);
	if (r)
		return r;
	vmsig__write_bulk__init(&write->bulk);
	vmsig__descriptor__init(&write->data);
	write->data.purpose = VMSIG__DESCRIPTOR__PURPOSE__WRITE_DATA;
	write->data.dev = claim.dev;
	write->data.ino = claim.ino;
	write->data.size = claim.size;
	write->data.access = claim.access;
	write->bulk.addr = addr;
	write->bulk.virtual_address = op_flags & VMSIG_OP_VIRTUAL;
	write->bulk.cr3 = cr3;
	write->bulk.offset = offset;
	write->bulk.len = len;
	write->bulk.data = &write->data;
	write->body.bulk = &write->bulk;
	return 0;
}

int vmsig_write_bulk(vmsig_lease *lease, uint64_t addr, uint32_t op_flags, uint64_t cr3, int memfd,
	uint64_t offset, uint64_t len, uint32_t flags, vmsig_write_fn done, void *arg)
{
	struct writer_write *write;
	int r = lease_check(lease);

	if (!r)
		r = bulk_check(lease->writer, memfd, len, flags);
	if (r)
		return -r;
	write = write_new(lease, 0, 0, flags, done, arg);
	r = write ? bulk_fill(write, addr, op_flags, cr3, memfd, offset, len) : -ENOMEM;
	if (r) {
		write_free(write);
		return writer_fail(lease->writer, client_result(r),
			"cannot take the bulk data over: %s", strerror(-r));
	}
	write_queue(write);
	return 0;
}

/* ---- sending ---- */

static int write_send(struct writer_write *write, int64_t now)
{
	struct uplink *link = &write->lease->writer->link;
	int fd = -1, r;

	if (write->fd >= 0) {
		fd = fcntl(write->fd, F_DUPFD_CLOEXEC, 0);
		if (fd < 0)
			return uplink_fail(link, VMSIG_ERR_IO,
				"out of descriptors for bulk data: %s", strerror(errno));
	}
	r = uplink_request(link, VMSIG__WRITE_REQUEST__BODY_MEMWRITE, &write->body, &fd,
		fd >= 0 ? 1 : 0, &write->request_id);
	if (r) {
		write->request_id = 0;
		if (fd >= 0)
			close(fd);
		return r;
	}
	write->used = true;
	write->asked_until = client_after(now, link->settings.request_timeout_ms);
	return 0;
}

/* Under a lease that is over only what may have been applied before: to learn of it. */
int writer_writes_due(vmsig_lease *lease, int64_t now)
{
	bool may = lease->borrowed || lease->phase == VMSIG_LEASE_OVER ||
		   lease->connection == lease->writer->link.number;
	int r = 0;

	if (!may || lease->asking == ASK_RESUME)
		return 0;
	for (struct writer_write *write = lease->writes; write && !r; write = write->next) {
		if (!write->request_id)
			r = write_send(write, now);
	}
	return r;
}

/* ---- outcomes ---- */

struct writer_write *writer_write_find(vmsig_writer *writer, uint64_t request_id)
{
	for (vmsig_lease *lease = writer->leases; lease; lease = lease->next) {
		for (struct writer_write *write = lease->writes; write; write = write->next) {
			if (write->request_id == request_id)
				return write;
		}
	}
	return NULL;
}

static void write_end(struct writer_write *write, const vmsig_write_result *result)
{
	vmsig_lease *lease = write->lease;

	DL_DELETE(lease->writes, write);
	lease->nwrites--;
	if (write->done)
		write->done(write->arg, result);
	write_free(write);
}

void writer_write_outcome(struct writer_write *write, const Vmsig__WriteResult *result)
{
	char text[CLIENT_TEXT_MAX + 1];
	vmsig_write_result own = {
		.outcome =
			-(int)(result->outcome <= INT16_MAX ? result->outcome : VMSIG_ERR_INTERNAL),
		.sequence = write->body.sequence,
		.failed_op = result->failed_op,
		.written = result->written,
		.old = result->old.data,
		.old_len = result->old.len,
		.text = text,
	};

	client_clean_text(text, sizeof(text), result->detail);
	write_end(write, &own);
}

void writer_write_failed(struct writer_write *write, int error, const char *text)
{
	const vmsig_write_result own = {
		.outcome = -error, .sequence = write->body.sequence, .text = text};

	write_end(write, &own);
}

void writer_writes_drop_unsent(vmsig_lease *lease, int error)
{
	struct writer_write *write, *next;

	DL_FOREACH_SAFE (lease->writes, write, next) {
		if (!write->used)
			writer_write_failed(write, error, vmsig_error_text(error));
	}
}

void writer_writes_drop_all(vmsig_lease *lease)
{
	writer_writes_drop_unsent(lease, VMSIG_ERR_NO_LEASE);
	/* DL_DELETE moves the head, which the analyser does not see. */
	/* NOLINTBEGIN(clang-analyzer-unix.Malloc) */
	while (lease->writes)
		writer_write_failed(lease->writes, VMSIG_ERR_UNKNOWN_OUTCOME,
			"the lease was let go of before the broker had answered");
	/* NOLINTEND(clang-analyzer-unix.Malloc) */
}
