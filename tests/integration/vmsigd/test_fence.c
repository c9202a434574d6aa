/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tenant whose policy and lease cover 64 KiB builds page tables of its own inside of them
 * and lets a write turn them while it is being applied. Whatever the answer is: nothing
 * outside of the lease changes, and the audit log names the memory that did.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/integration/vmsigd/desk_scene.h"

#define INTENT VMSIG__AUDIT_RECORD__KIND__WRITE_INTENT
#define RESULT VMSIG__AUDIT_RECORD__KIND__WRITE_RESULT
#define BASE 0x10000u /* of carol's 64 KiB in w2, and of the four tables in them */
#define LEAF (BASE + 0x3000u)
#define PAGE (BASE + 0x4000u)    /* what guest-virtual 0x1000 maps at first */
#define VICTIM (BASE + 0x40000u) /* belongs to nobody of this lease */
#define BITS 7u                  /* present, writable, user */
#define SEALS (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW)

struct thief {
	struct desk_scene *scene;
	struct write_client client;
	struct write_lease lease;
	uint64_t sequence;
};

static void victim_fill(struct thief *thief, uint8_t byte)
{
	uint8_t page[4096];

	memset(page, byte, sizeof(page));
	desk_scene_poke(thief->scene, "w2", VICTIM, page, sizeof(page));
}

static void victim_check(struct thief *thief, uint8_t byte)
{
	uint8_t page[4096];

	desk_scene_read(thief->scene, "w2", VICTIM, page, sizeof(page));
	for (size_t i = 0; i < sizeof(page); i++)
		assert_int_equal(page[i], byte);
}

/* Guest-virtual 0 maps the leaf table itself, 0x1000 the page. */
static void tables_make(struct thief *thief)
{
	const uint64_t tables[][2] = {{BASE, (BASE + 0x1000) | BITS},
		{BASE + 0x1000, (BASE + 0x2000) | BITS}, {BASE + 0x2000, LEAF | BITS},
		{LEAF, LEAF | BITS}, {LEAF + 8, PAGE | BITS}};

	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
		desk_scene_poke(thief->scene, "w2", tables[i][0], &tables[i][1], 8);
}

static void thief_open(struct thief *thief, void **state)
{
	*thief = (struct thief){.scene = *state};
	write_client_open(&thief->client, thief->scene->daemon, "write.sock", &thief->scene->carol);
	write_client_ask(&thief->client, "w2", BASE, BASE + 0xffff, 0, 0, false);
	thief->lease = write_client_granted(&thief->client);
	victim_fill(thief, 'v');
	tables_make(thief);
}

static void thief_close(struct thief *thief)
{
	write_client_close(&thief->client);
}

static Vmsig__WriteOp op_of(uint64_t addr, uint64_t cr3, const void *data, size_t len)
{
	Vmsig__WriteOp op = VMSIG__WRITE_OP__INIT;

	op.addr = addr;
	op.virtual_address = cr3 != 0;
	op.cr3 = cr3;
	op.data = (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)data, .len = len};
	return op;
}

static void send_body(struct thief *thief, Vmsig__CmdMemwrite *body, const int *fds, size_t nfds)
{
	Vmsig__WriteRequest request = VMSIG__WRITE_REQUEST__INIT;

	body->lease = thief->lease.id;
	body->token = thief->lease.token;
	body->endpoint = thief->lease.endpoint;
	body->epoch = thief->lease.epoch;
	body->writer = thief->client.writer;
	body->sequence = ++thief->sequence;
	request.body_case = VMSIG__WRITE_REQUEST__BODY_MEMWRITE;
	request.memwrite = body;
	write_client_send(&thief->client, &request, fds, nfds);
}

/* The answer to a batch with the old bytes in `old`, if they are wanted. */
static int send_ops(struct thief *thief, Vmsig__WriteOp *ops, size_t nops, void *old, size_t len)
{
	Vmsig__CmdMemwrite body = VMSIG__CMD_MEMWRITE__INIT;
	Vmsig__WriteOp *pointers[4];
	Vmsig__WriteMessage *message;
	int outcome;

	for (size_t i = 0; i < nops; i++)
		pointers[i] = &ops[i];
	body.ops = pointers;
	body.n_ops = nops;
	body.want_old = true;
	send_body(thief, &body, NULL, 0);
	message = write_client_expect(&thief->client, VMSIG__WRITE_MESSAGE__BODY_WRITE_RESULT);
	outcome = (int)message->write_result->outcome;
	if (message->write_result->old.len == len)
		memcpy(old, message->write_result->old.data, len);
	write_client_free_message(message);
	return outcome;
}

static int send_bulk(struct thief *thief, uint64_t addr, uint64_t cr3, const void *data, size_t len)
{
	Vmsig__CmdMemwrite body = VMSIG__CMD_MEMWRITE__INIT;
	Vmsig__Descriptor descriptor = VMSIG__DESCRIPTOR__INIT;
	Vmsig__WriteBulk bulk = VMSIG__WRITE_BULK__INIT;
	int fd = write_client_memfd(data, len), outcome;

	write_client_describe(&descriptor, fd);
	bulk.addr = addr;
	bulk.virtual_address = cr3 != 0;
	bulk.cr3 = cr3;
	bulk.len = len;
	bulk.data = &descriptor;
	body.bulk = &bulk;
	send_body(thief, &body, &fd, 1);
	outcome = write_client_outcome(&thief->client);
	close(fd);
	return outcome;
}

/* The newest record of the kind names exactly these ranges. */
static void check_ranges(
	struct thief *thief, Vmsig__AuditRecord__Kind kind, const uint64_t (*ranges)[2], size_t n)
{
	Vmsig__AuditRecord *record;

	assert_true(desk_scene_audit(thief->scene, kind, &record) > 0);
	assert_int_equal(record->n_ranges, n);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(record->ranges[i]->start, ranges[i][0]);
		assert_int_equal(record->ranges[i]->last, ranges[i][1]);
	}
	vmsig__audit_record__free_unpacked(record, NULL);
}

static void a_batch_does_not_lead_itself_out_of_its_lease(void **state)
{
	const uint64_t turned = VICTIM | BITS;
	static const uint64_t ranges[][2] = {{LEAF + 8, LEAF + 15}, {PAGE + 0x100, PAGE + 0x107}};
	Vmsig__WriteOp ops[2];
	struct thief thief;
	uint8_t old[16] = {0}, there[8];

	thief_open(&thief, state);
	ops[0] = op_of(LEAF + 8, 0, &turned, 8);
	ops[1] = op_of(0x1100, BASE, "stolen!!", 8);
	assert_int_equal(send_ops(&thief, ops, 2, old, sizeof(old)), VMSIG_ERR_OK);
	victim_check(&thief, 'v');
	assert_memory_equal(old + 8, "\0\0\0\0\0\0\0\0", 8);
	desk_scene_read(thief.scene, "w2", PAGE + 0x100, there, sizeof(there));
	assert_memory_equal(there, "stolen!!", 8);
	check_ranges(&thief, INTENT, ranges, 2);
	check_ranges(&thief, RESULT, ranges, 2);
	/* By now the table leads out of the lease for everybody to see. */
	assert_int_equal(send_ops(&thief, &ops[1], 1, old, 8), VMSIG_ERR_OUT_OF_RANGE);
	victim_check(&thief, 'v');
	thief_close(&thief);
}

/* Guest-virtual [8, 0x1108): the entry of its second page first. */
static size_t crossing_data(uint8_t *data, size_t size)
{
	const uint64_t turned = VICTIM | BITS;

	memset(data, 'x', size);
	memset(data, 0, 0x1000 - 8);
	memcpy(data, &turned, sizeof(turned));
	return 0x1100;
}

static void an_operation_does_not_lead_itself_out(void **state)
{
	static const uint64_t ranges[][2] = {{LEAF + 8, PAGE + 0x107}};
	uint8_t data[0x2000], old[0x2000], there[8];
	size_t len = crossing_data(data, sizeof(data));
	Vmsig__WriteOp op = op_of(8, BASE, data, len);
	struct thief thief;

	thief_open(&thief, state);
	assert_int_equal(send_ops(&thief, &op, 1, old, len), VMSIG_ERR_OK);
	victim_check(&thief, 'v');
	desk_scene_read(thief.scene, "w2", PAGE + 0x100, there, sizeof(there));
	assert_memory_equal(there, "xxxxxxxx", 8);
	check_ranges(&thief, INTENT, ranges, 1);
	thief_close(&thief);
}

static void bulk_data_does_not_lead_itself_out(void **state)
{
	static const uint64_t ranges[][2] = {{LEAF + 8, PAGE + 0x107}};
	uint8_t data[0x2000], there[8];
	size_t len = crossing_data(data, sizeof(data));
	struct thief thief;

	thief_open(&thief, state);
	assert_int_equal(send_bulk(&thief, 8, BASE, data, len), VMSIG_ERR_OK);
	victim_check(&thief, 'v');
	desk_scene_read(thief.scene, "w2", PAGE + 0x100, there, sizeof(there));
	assert_memory_equal(there, "xxxxxxxx", 8);
	check_ranges(&thief, INTENT, ranges, 1);
	check_ranges(&thief, RESULT, ranges, 1);
	/* The table leads out now: refused before the first byte. */
	assert_int_equal(send_bulk(&thief, 0x1000, BASE, data, 16), VMSIG_ERR_OUT_OF_RANGE);
	victim_check(&thief, 'v');
	thief_close(&thief);
}

/* Pages apart in the guest: each is named, and no address is a guest-virtual one. */
static void bulk_data_is_recorded_where_it_went(void **state)
{
	static const uint64_t ranges[][2] = {
		{PAGE + 0x10, PAGE + 0xfff}, {PAGE + 0x2000, PAGE + 0x200f}};
	const uint64_t entries[] = {PAGE | BITS, (PAGE + 0x2000) | BITS};
	uint8_t data[0x1000];
	struct thief thief;

	thief_open(&thief, state);
	memset(data, 'd', sizeof(data));
	desk_scene_poke(thief.scene, "w2", LEAF + 8, entries, sizeof(entries));
	assert_int_equal(send_bulk(&thief, 0x1010, BASE, data, sizeof(data)), VMSIG_ERR_OK);
	check_ranges(&thief, INTENT, ranges, 2);
	check_ranges(&thief, RESULT, ranges, 2);
	thief_close(&thief);
}

/* A lease outlives the broker, and so does what was allowed then. */
static void a_policy_that_was_narrowed_over_a_restart_holds(void **state)
{
	struct desk_scene *scene = *state;
	struct write_client alice;
	struct write_lease lease;
	uint64_t id, word = 1;

	write_client_open(&alice, scene->daemon, "write.sock", &scene->alice);
	lease = write_client_acquire(&alice, "w1");
	write_client_write(&alice, &lease, 1, VICTIM, &word, sizeof(word), NULL);
	assert_int_equal(write_client_outcome(&alice), VMSIG_ERR_OK);
	write_client_close(&alice);
	desk_scene_configure(scene, "{}", "ranges: [{gpa: 64KiB, len: 64KiB}]");
	desk_scene_restart(scene, SIGTERM);
	write_client_open(&alice, scene->daemon, "write.sock", &scene->alice);
	word = 2;
	id = write_client_write(&alice, &lease, 2, VICTIM, &word, sizeof(word), NULL);
	write_client_expect_error(&alice, id, VMSIG_ERR_NO_LEASE);
	desk_scene_read(scene, "w1", VICTIM, &word, sizeof(word));
	assert_int_equal(word, 1);
	write_client_close(&alice);
}

static void a_reload_that_forbids_it_ends_the_lease(void **state)
{
	static const char *const rules[] = {
		"priority_max: 5, ranges: [{gpa: 64KiB, len: 64KiB}]", "priority_max: 4"};
	struct desk_scene *scene = *state;
	Vmsig__WriteMessage *message;
	struct write_client alice;
	struct write_lease lease;
	uint64_t id, word = 1;

	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
		desk_scene_configure(scene, "{}", "priority_max: 5");
		desk_scene_reload(scene);
		write_client_open(&alice, scene->daemon, "write.sock", &scene->alice);
		write_client_ask(&alice, "w1", 0, 0, 0, 5, false);
		lease = write_client_granted(&alice);
		desk_scene_configure(scene, "{}", rules[i]);
		desk_scene_reload(scene);
		message = write_client_expect(&alice, VMSIG__WRITE_MESSAGE__BODY_LEASE_ENDED);
		assert_int_equal(message->lease_ended->reason, VMSIG_ERR_LEASE_REVOKED);
		write_client_free_message(message);
		id = write_client_write(&alice, &lease, 1, VICTIM, &word, sizeof(word), NULL);
		write_client_expect_error(&alice, id, VMSIG_ERR_NO_LEASE);
		write_client_close(&alice);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, desk_scene_setup, desk_scene_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_batch_does_not_lead_itself_out_of_its_lease),
		TEST(an_operation_does_not_lead_itself_out),
		TEST(bulk_data_does_not_lead_itself_out),
		TEST(bulk_data_is_recorded_where_it_went),
		TEST(a_policy_that_was_narrowed_over_a_restart_holds),
		TEST(a_reload_that_forbids_it_ends_the_lease),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
