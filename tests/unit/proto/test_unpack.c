/* SPDX-License-Identifier: Apache-2.0 */
/* The budget of a message: what it bounds, and that the three ways to fail stay apart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "proto/wire/unpack.h"
#include "proto/wire/vmsig.pb-c.h"
#include "vmsig/vmsig_error.h"

#define ID 0x2a
#define OPS 1024u

static const uint8_t again[2] = {0x08, ID}; /* the id of the request */
static const struct unpack_budget small = {.parts = 8, .bytes = 1024};

/* An envelope of the write plane with this id and a body of `n` times the element. */
static size_t body_of(uint8_t *buf, uint8_t tag, const uint8_t element[static 2], size_t n)
{
	size_t len = 0;

	buf[len++] = 0x08;
	buf[len++] = ID;
	buf[len++] = tag;
	for (uint32_t left = (uint32_t)(2 * n); left || len == 3; left >>= 7)
		buf[len++] = (uint8_t)((left & 0x7f) | (left > 0x7f ? 0x80 : 0));
	for (size_t i = 0; i < n; i++, len += 2)
		memcpy(buf + len, element, 2);
	return len;
}

static int unpack_write(const uint8_t *data, size_t len, const struct unpack_budget *budget)
{
	ProtobufCMessage *message = NULL;
	int r = unpack_message(&message, &vmsig__write_request__descriptor, budget, data, len);

	unpack_free(message);
	return r;
}

static void what_fits_is_unpacked(void **state)
{
	static const uint8_t op[2] = {0x3a, 0};
	uint8_t buf[64];

	assert_int_equal(unpack_write(buf, body_of(buf, 0x42, op, 4), &small), 0);
}

/* Elements, unknown fields and a body said again and again: two bytes each. */
static void each_element_counts(void **state)
{
	static const struct {
		uint8_t tag, element[2];
	} kinds[] = {
		{0x42, {0x3a, 0}},    /* memwrite: ops */
		{0x1a, {0x12, 0}},    /* lease_acquire: ranges */
		{0x1a, {0xf8, 0x01}}, /* of a varint of two bytes: unknown fields */
		{0x42, {0x42, 0}},    /* memwrite: bulk, merged each time */
	};
	static uint8_t buf[1 << 20];

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		size_t len = body_of(buf, kinds[i].tag, kinds[i].element, 500000);

		assert_int_equal(unpack_write(buf, len, &small), VMSIG_ERR_BAD_REQUEST);
		assert_int_equal(unpack_request_id(buf, len), ID);
	}
}

/* A number that is said half a million times needs no allocation of its own, but a list of
 * where it stands. */
static void what_is_said_again_needs_memory(void **state)
{
	const struct unpack_budget budget = {.parts = 1000, .bytes = 1 << 20};
	static uint8_t buf[1 << 20];

	for (size_t i = 0; i < sizeof(buf); i += 2)
		memcpy(buf + i, again, sizeof(again));
	assert_int_equal(unpack_write(buf, sizeof(buf), &budget), VMSIG_ERR_BAD_REQUEST);
}

/* However much memory there is: who reads it would not be interrupted. */
static void what_is_said_again_and_again_is_not_looked_through(void **state)
{
	const struct unpack_budget budget = {.parts = 1000, .bytes = 64 << 20};
	static const uint8_t lease[2] = {0x08, 1};
	static uint8_t buf[1 << 20];
	size_t len = body_of(buf, 0x42, lease, 500000);

	assert_int_equal(unpack_write(buf, len, &budget), VMSIG_ERR_BAD_REQUEST);
	for (size_t i = 0; i < sizeof(buf); i += 2)
		memcpy(buf + i, again, sizeof(again));
	assert_int_equal(unpack_write(buf, sizeof(buf), &budget), VMSIG_ERR_BAD_REQUEST);
}

/* As many operations as one message may have, each with all that it can have. */
static void the_largest_batch_fits(void **state)
{
	const struct unpack_budget budget = {.parts = 4 * OPS + 64, .bytes = (4 * OPS + 64) * 128};
	Vmsig__WriteRequest request = VMSIG__WRITE_REQUEST__INIT;
	Vmsig__CmdMemwrite write = VMSIG__CMD_MEMWRITE__INIT;
	static uint8_t bytes[8], buf[OPS * 128];
	static Vmsig__WriteOp ops[OPS];
	static Vmsig__WriteOp *list[OPS];

	for (size_t i = 0; i < OPS; i++) {
		vmsig__write_op__init(&ops[i]);
		ops[i].addr = ops[i].cr3 = UINT64_MAX;
		ops[i].virtual_address = true;
		ops[i].data = ops[i].expect = ops[i].mask =
			(ProtobufCBinaryData){.data = bytes, .len = sizeof(bytes)};
		list[i] = &ops[i];
	}
	request.request_id = write.lease = write.token = write.writer = write.sequence = UINT64_MAX;
	write.endpoint = write.epoch = UINT32_MAX;
	write.want_old = write.quiesce = true;
	write.ops = list;
	write.n_ops = OPS;
	request.body_case = VMSIG__WRITE_REQUEST__BODY_MEMWRITE;
	request.memwrite = &write;
	assert_true(vmsig__write_request__get_packed_size(&request) <= sizeof(buf));
	assert_int_equal(unpack_write(buf, vmsig__write_request__pack(&request, buf), &budget), 0);
}

/* Whoever keeps it has all of it, until the last one frees it. */
static void a_message_is_there_until_the_last_owner_frees_it(void **state)
{
	static const uint8_t op[2] = {0x3a, 0};
	ProtobufCMessage *message = NULL;
	Vmsig__WriteRequest *request;
	uint8_t buf[64];
	size_t len = body_of(buf, 0x42, op, 4);

	assert_int_equal(
		unpack_message(&message, &vmsig__write_request__descriptor, &small, buf, len), 0);
	unpack_ref(message);
	unpack_free(message);
	request = (Vmsig__WriteRequest *)(void *)message;
	assert_int_equal(request->request_id, ID);
	assert_int_equal(request->memwrite->n_ops, 4);
	assert_int_equal(unpack_charge(message), len);
	unpack_free(message);
	unpack_free(NULL);
}

/* Two bytes on the wire can hold a hundred: whoever has that kept pays for it. */
static void what_is_held_is_paid_for(void **state)
{
	static const struct {
		uint8_t tag, element[2];
	} kinds[] = {
		{0x42, {0x3a, 0}},    /* memwrite: ops with nothing in them */
		{0x42, {0xf8, 0x01}}, /* of a varint of two bytes: unknown fields */
		{0x42, {0x42, 0}},    /* bulk, merged each time */
	};
	const struct unpack_budget budget = {.parts = 4 * OPS + 64, .bytes = (4 * OPS + 64) * 128};
	static uint8_t buf[1 << 14];

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		ProtobufCMessage *message = NULL;
		size_t len = body_of(buf, kinds[i].tag, kinds[i].element, 2000);

		assert_int_equal(unpack_message(&message, &vmsig__write_request__descriptor,
					 &budget, buf, len),
			0);
		/* At least 16 bytes for each. */
		assert_true(unpack_charge(message) > 16u * 1000u);
		assert_true(unpack_charge(message) <= budget.bytes + len + 65536u);
		unpack_free(message);
	}
}

/* Parts of all sizes are beside each other, each aligned for whatever it is. */
static void parts_do_not_overlap(void **state)
{
	const struct unpack_budget budget = {.parts = 4 * OPS + 64, .bytes = (4 * OPS + 64) * 128};
	Vmsig__WriteRequest request = VMSIG__WRITE_REQUEST__INIT;
	Vmsig__CmdMemwrite write = VMSIG__CMD_MEMWRITE__INIT;
	static uint8_t bytes[OPS], buf[OPS * OPS];
	static Vmsig__WriteOp ops[OPS];
	static Vmsig__WriteOp *list[OPS];
	ProtobufCMessage *message = NULL;
	Vmsig__CmdMemwrite *got;

	for (size_t i = 0; i < OPS; i++) {
		bytes[i] = (uint8_t)(i * 7);
		vmsig__write_op__init(&ops[i]);
		ops[i].addr = i;
		ops[i].data = (ProtobufCBinaryData){.data = bytes, .len = i % 800};
		list[i] = &ops[i];
	}
	write.ops = list;
	write.n_ops = OPS;
	request.body_case = VMSIG__WRITE_REQUEST__BODY_MEMWRITE;
	request.memwrite = &write;
	assert_true(vmsig__write_request__get_packed_size(&request) <= sizeof(buf));
	assert_int_equal(unpack_message(&message, &vmsig__write_request__descriptor, &budget, buf,
				 vmsig__write_request__pack(&request, buf)),
		0);
	got = ((Vmsig__WriteRequest *)(void *)message)->memwrite;
	assert_int_equal(got->n_ops, OPS);
	for (size_t i = 0; i < OPS; i++) {
		assert_int_equal((uintptr_t)got->ops[i] % sizeof(uint64_t), 0);
		assert_int_equal(got->ops[i]->addr, i);
		assert_int_equal(got->ops[i]->data.len, i % 800);
		assert_memory_equal(got->ops[i]->data.data, bytes, i % 800);
	}
	unpack_free(message);
}

/* A length that leads out of the message is for the parser to find. */
static void what_is_cut_off_is_nonsense(void **state)
{
	static const uint8_t op[2] = {0x3a, 0};
	static uint8_t buf[1 << 14];
	size_t len = body_of(buf, 0x42, op, 1000);
	const struct unpack_budget budget = {.parts = 2000, .bytes = 1 << 20};

	assert_int_equal(unpack_write(buf, len, &budget), 0);
	assert_int_equal(unpack_write(buf, len - 1, &budget), VMSIG_ERR_PROTOCOL);
}

static void nonsense_stays_nonsense(void **state)
{
	assert_int_equal(unpack_write((const uint8_t *)"\xff\xff", 2, &small), VMSIG_ERR_PROTOCOL);
}

static void the_request_id_is_read_where_encoders_put_it(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
		uint64_t id;
	} cases[] = {
		{"", 0, 0},
		{"\x08", 1, 0},
		{"\x08\x2a", 2, 42},
		{"\x08\x80", 2, 0},
		{"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11, UINT64_MAX},
		{"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12, 0},
		{"\x12\x00", 2, 0},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(unpack_request_id((const uint8_t *)cases[i].bytes, cases[i].len),
			cases[i].id);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_fits_is_unpacked),
		cmocka_unit_test(each_element_counts),
		cmocka_unit_test(what_is_said_again_needs_memory),
		cmocka_unit_test(what_is_said_again_and_again_is_not_looked_through),
		cmocka_unit_test(the_largest_batch_fits),
		cmocka_unit_test(a_message_is_there_until_the_last_owner_frees_it),
		cmocka_unit_test(what_is_held_is_paid_for),
		cmocka_unit_test(parts_do_not_overlap),
		cmocka_unit_test(what_is_cut_off_is_nonsense),
		cmocka_unit_test(nonsense_stays_nonsense),
		cmocka_unit_test(the_request_id_is_read_where_encoders_put_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
