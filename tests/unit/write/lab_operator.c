/* SPDX-License-Identifier: Apache-2.0 */
/* The lab's operator: what it asks the desk for, and what it is told. */
#include "tests/unit/write/lab.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "proto/wire/unpack.h"
#include "proto/wire/vmsig.pb-c.h"

/* ---- what it is told ---- */

static void tell(struct lab *lab, struct lab_event event)
{
	assert_true(lab->nevents < LAB_EVENTS);
	lab->events[lab->nevents++] = event;
}

static void on_granted(void *client, const struct lease_view *lease)
{
	struct lab *lab = client;

	lab->lease = lease->id;
	lab->token = lease->token;
	tell(lab, (struct lab_event){.kind = LAB_GRANTED, .id = lease->id});
}

static void on_refused(void *client, const struct lease_view *lease)
{
	tell(client, (struct lab_event){
			     .kind = LAB_REFUSED, .id = lease->id, .code = (int)lease->reason});
}

static void on_notice(void *client, const struct lease_view *lease)
{
	tell(client, (struct lab_event){.kind = LAB_NOTICE, .id = lease->id});
}

static void on_ended(void *client, const struct lease_view *lease)
{
	tell(client,
		(struct lab_event){.kind = LAB_ENDED, .id = lease->id, .code = (int)lease->reason});
}

static void on_released(void *client, uint64_t id, int error, const char *detail)
{
	tell(client, (struct lab_event){.kind = LAB_RELEASED, .id = id, .code = error});
}

static void on_written(void *client, uint64_t id, const Vmsig__WriteResult *result)
{
	tell(client, (struct lab_event){.kind = LAB_WRITTEN,
			     .id = id,
			     .code = (int)result->outcome,
			     .written = result->written,
			     .replayed = result->replayed});
}

static void on_rejected(void *client, uint64_t id, int error, const char *detail)
{
	struct lab *lab = client;

	snprintf(lab->rejected, sizeof(lab->rejected), "%s", detail ? detail : "");
	tell(lab, (struct lab_event){.kind = LAB_REJECTED, .id = id, .code = error});
}

const struct desk_events lab_operator_events = {
	.granted = on_granted,
	.refused = on_refused,
	.notice = on_notice,
	.ended = on_ended,
	.released = on_released,
	.written = on_written,
	.rejected = on_rejected,
};

struct lab_event lab_told(struct lab *lab, enum lab_kind kind, uint64_t id)
{
	for (size_t i = lab->nevents; i > 0; i--) {
		if (lab->events[i - 1].kind == kind && lab->events[i - 1].id == id)
			return lab->events[i - 1];
	}
	fail_msg("nothing of kind %d was told about %lu", kind, (unsigned long)id);
	return (struct lab_event){0};
}

size_t lab_count(struct lab *lab, enum lab_kind kind, uint64_t id)
{
	size_t n = 0;

	for (size_t i = 0; i < lab->nevents; i++)
		n += lab->events[i].kind == kind && lab->events[i].id == id;
	return n;
}

/* ---- what it asks for ---- */

int lab_acquire(struct lab *lab, bool no_wait)
{
	Vmsig__LeaseAcquire request = VMSIG__LEASE_ACQUIRE__INIT;
	char name[] = "w1";
	uint64_t lease;
	bool waits;

	request.endpoint = name;
	request.ttl_ms = 3600000;
	request.no_wait = no_wait;
	return desk_acquire(lab->desk, lab_now(), &lab->op, &request, &lease, &waits);
}

void lab_lease(struct lab *lab)
{
	size_t before = lab->nevents;

	assert_int_equal(lab_acquire(lab, false), 0);
	lab_await(lab, before + 1);
	assert_int_equal(lab->events[before].kind, LAB_GRANTED);
}

int lab_release(struct lab *lab)
{
	bool later;
	int r = desk_release(lab->desk, lab_now(), &lab->op, ++lab->next_request, lab->lease,
		lab->token, &later);

	if (!r && !later)
		tell(lab, (struct lab_event){.kind = LAB_RELEASED, .id = lab->next_request});
	return r;
}

/* Takes the descriptor. */
static uint64_t send_body(struct lab *lab, uint64_t sequence, Vmsig__CmdMemwrite *body, int bulk_fd)
{
	Vmsig__WriteRequest request = VMSIG__WRITE_REQUEST__INIT;
	const struct unpack_budget budget = {.parts = 64, .bytes = 4096};
	ProtobufCMessage *own;
	uint8_t packed[256];
	size_t len;
	int r;

	body->lease = lab->lease;
	body->token = lab->token;
	body->endpoint = lab->endpoint;
	body->epoch = lab->epoch;
	body->writer = lab->writer;
	body->sequence = sequence;
	request.request_id = ++lab->next_request;
	request.body_case = VMSIG__WRITE_REQUEST__BODY_MEMWRITE;
	request.memwrite = body;
	assert_true(vmsig__write_request__get_packed_size(&request) <= sizeof(packed));
	len = vmsig__write_request__pack(&request, packed);
	/* An allocation that a test has fail is to be the desk's. */
	do
		r = unpack_message(&own, request.base.descriptor, &budget, packed, len);
	while (r == -ENOMEM);
	assert_int_equal(r, 0);
	desk_write(lab->desk, lab_now(), &lab->op, (Vmsig__WriteRequest *)(void *)own, bulk_fd);
	return request.request_id;
}

static uint64_t send_word(
	struct lab *lab, uint64_t sequence, uint64_t addr, uint64_t word, bool quiesced)
{
	Vmsig__CmdMemwrite body = VMSIG__CMD_MEMWRITE__INIT;
	Vmsig__WriteOp op = VMSIG__WRITE_OP__INIT, *ops = &op;

	op.addr = addr;
	op.data = (ProtobufCBinaryData){.data = (uint8_t *)&word, .len = sizeof(word)};
	body.ops = &ops;
	body.n_ops = 1;
	body.quiesce = quiesced;
	return send_body(lab, sequence, &body, -1);
}

uint64_t lab_send_bulk(struct lab *lab, uint64_t sequence, const struct lab_bulk *what)
{
	size_t len = what->len;
	Vmsig__CmdMemwrite body = VMSIG__CMD_MEMWRITE__INIT;
	Vmsig__WriteBulk bulk = VMSIG__WRITE_BULK__INIT;
	int fd = memfd_create("bulk", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	uint8_t *data = malloc(len);

	assert_true(fd >= 0);
	assert_non_null(data);
	memset(data, what->fill, len);
	assert_int_equal(write(fd, data, len), len);
	free(data);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW), 0);
	bulk.addr = what->addr;
	bulk.len = len;
	body.bulk = &bulk;
	body.quiesce = what->quiesce;
	return send_body(lab, sequence, &body, fd);
}

uint64_t lab_write_bulk(struct lab *lab, uint64_t sequence, uint64_t addr, size_t len)
{
	return lab_send_bulk(
		lab, sequence, &(struct lab_bulk){.addr = addr, .len = len, .fill = 1});
}

uint64_t lab_write(struct lab *lab, uint64_t sequence, uint64_t addr, uint64_t word)
{
	return send_word(lab, sequence, addr, word, false);
}

uint64_t lab_write_quiesced(struct lab *lab, uint64_t sequence, uint64_t addr, uint64_t word)
{
	return send_word(lab, sequence, addr, word, true);
}
