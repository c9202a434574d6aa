/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bulk data that lies about itself, is not really there, or is more than anybody wants: it is
 * refused with a sentence, costs the broker nothing, and harms nobody else.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/chain/auditchain.h"
#include "tests/integration/vmsigd/desk_scene.h"

#define INTENT VMSIG__AUDIT_RECORD__KIND__WRITE_INTENT
#define RESULT VMSIG__AUDIT_RECORD__KIND__WRITE_RESULT
#define SEALS (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW)
#define MIB (1ull << 20)
#define BITS 7u /* of a page-table entry: present, writable, user */

struct sender {
	struct desk_scene *scene;
	struct write_client client;
	struct write_lease lease;
	uint64_t sequence;
	bool want_old;
};

static void sender_open(
	struct sender *sender, void **state, const struct pki_cert *cert, const char *endpoint)
{
	*sender = (struct sender){.scene = *state};
	write_client_open(&sender->client, sender->scene->daemon, "write.sock", cert);
	sender->lease = write_client_acquire(&sender->client, endpoint);
}

static void sender_close(struct sender *sender)
{
	write_client_close(&sender->client);
}

/* With its own rule for alice. */
static void sender_open_with(struct sender *sender, void **state, const char *rule)
{
	struct desk_scene *scene = *state;

	desk_scene_configure(scene, "{}", rule);
	desk_scene_reload(scene);
	sender_open(sender, state, &scene->alice, "w1");
}

static int memfd_sparse(uint64_t len)
{
	int fd = memfd_create("bulk", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)len), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, SEALS), 0);
	return fd;
}

static uint64_t send_bulk(struct sender *sender, Vmsig__WriteBulk *bulk, int fd)
{
	Vmsig__WriteRequest request = VMSIG__WRITE_REQUEST__INIT;
	Vmsig__CmdMemwrite body = VMSIG__CMD_MEMWRITE__INIT;
	Vmsig__Descriptor data = VMSIG__DESCRIPTOR__INIT;

	write_client_describe(&data, fd);
	bulk->data = &data;
	body.lease = sender->lease.id;
	body.token = sender->lease.token;
	body.endpoint = sender->lease.endpoint;
	body.epoch = sender->lease.epoch;
	body.writer = sender->client.writer;
	body.sequence = ++sender->sequence;
	body.bulk = bulk;
	body.want_old = sender->want_old;
	request.body_case = VMSIG__WRITE_REQUEST__BODY_MEMWRITE;
	request.memwrite = &body;
	return write_client_send(&sender->client, &request, &fd, 1);
}

static uint64_t send_simple(struct sender *sender, uint64_t addr, uint64_t len, int fd)
{
	Vmsig__WriteBulk bulk = VMSIG__WRITE_BULK__INIT;

	bulk.addr = addr;
	bulk.len = len;
	return send_bulk(sender, &bulk, fd);
}

static void word_goes_through(struct sender *sender)
{
	const uint64_t word = 0x1234;

	write_client_write(&sender->client, &sender->lease, ++sender->sequence, 0x3000, &word,
		sizeof(word), NULL);
	assert_int_equal(write_client_outcome(&sender->client), VMSIG_ERR_OK);
}

/* ---- what it says ---- */

/* Were it charged as it says, its tenant would be in debt for ever. */
static void lengths_that_are_not_there_are_not_charged(void **state)
{
	static const struct {
		uint64_t offset, len;
		int error;
	} lies[] = {{0, 1ull << 62, VMSIG_ERR_QUOTA}, {0, 65 * MIB, VMSIG_ERR_QUOTA},
		{0, 64 * MIB, VMSIG_ERR_BAD_REQUEST}, {UINT64_MAX, 2, VMSIG_ERR_BAD_REQUEST},
		{4096, 1, VMSIG_ERR_BAD_REQUEST}};
	int fd = memfd_sparse(4096);
	struct sender sender;

	sender_open_with(&sender, state, "bytes_per_second: 4096, ttl_max: 5min");
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		Vmsig__WriteBulk bulk = VMSIG__WRITE_BULK__INIT;

		bulk.offset = lies[i].offset;
		bulk.len = lies[i].len;
		write_client_expect_error(
			&sender.client, send_bulk(&sender, &bulk, fd), lies[i].error);
		word_goes_through(&sender);
	}
	close(fd);
	sender_close(&sender);
}

static void nobody_but_a_holder_is_charged(void **state)
{
	int fd = memfd_sparse(MIB);
	struct sender sender;
	struct write_lease held;

	sender_open_with(&sender, state, "bytes_per_second: 4096, ttl_max: 5min");
	held = sender.lease;
	for (unsigned i = 0; i < 3; i++) {
		sender.lease.token = held.token + 1 + i;
		write_client_expect_error(
			&sender.client, send_simple(&sender, 0, MIB, fd), VMSIG_ERR_NO_LEASE);
		sender.lease = held;
		word_goes_through(&sender);
	}
	close(fd);
	sender_close(&sender);
}

/* ---- what is there ---- */

static void holes_stay_holes(void **state)
{
	const uint64_t word = UINT64_MAX;
	uint64_t there = 1;
	struct sender sender;
	struct stat st;
	int fd = memfd_sparse(DESK_RAM / 2);

	sender_open_with(&sender, state, "leases: 16, ttl_max: 5min");
	desk_scene_poke(sender.scene, "w1", 0x1230, &word, sizeof(word));
	send_simple(&sender, 0, DESK_RAM / 2, fd);
	assert_int_equal(write_client_outcome(&sender.client), VMSIG_ERR_OK);
	desk_scene_read(sender.scene, "w1", 0x1230, &there, sizeof(there));
	assert_int_equal(there, 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_blocks, 0);
	close(fd);
	sender_close(&sender);
}

/* Several at once, each of several slices, on leases beside each other: all arrive whole. */
static void several_at_once_arrive_whole(void **state)
{
	enum { N = 3, LEN = 330 << 10 };
	static uint8_t data[N][LEN], there[LEN];
	struct sender senders[N];
	struct desk_scene *scene = *state;

	for (unsigned i = 0; i < N; i++) {
		struct sender *sender = &senders[i];
		int fd;

		*sender = (struct sender){.scene = scene};
		memset(data[i], (int)('a' + i), LEN);
		fd = write_client_memfd(data[i], LEN);
		write_client_open(&sender->client, scene->daemon, "write.sock",
			i % 2 ? &scene->alice : &scene->bob);
		write_client_ask(&sender->client, "w1", (uint64_t)i * LEN,
			(uint64_t)(i + 1) * LEN - 1, 0, 0, false);
		sender->lease = write_client_granted(&sender->client);
		send_simple(sender, (uint64_t)i * LEN, LEN, fd);
		close(fd);
	}
	for (unsigned i = 0; i < N; i++) {
		assert_int_equal(write_client_outcome(&senders[i].client), VMSIG_ERR_OK);
		desk_scene_read(scene, "w1", (uint64_t)i * LEN, there, LEN);
		assert_memory_equal(there, data[i], LEN);
		sender_close(&senders[i]);
	}
}

/* ---- what was there ---- */

static void the_bytes_before_come_with_the_answer(void **state)
{
	enum { LEN = 600 << 10 };
	uint8_t *before = malloc(LEN), *data = calloc(1, LEN);
	Vmsig__WriteMessage *message;
	struct sender sender;
	int fd;

	assert_non_null(before);
	assert_non_null(data);
	sender_open_with(&sender, state, "leases: 16, ttl_max: 5min");
	for (size_t i = 0; i < LEN; i++)
		before[i] = (uint8_t)(i / 4096 * 31 + i);
	desk_scene_poke(sender.scene, "w1", 0x1000, before, LEN);
	fd = write_client_memfd(data, LEN);
	sender.want_old = true;
	send_simple(&sender, 0x1000, LEN, fd);
	message = write_client_expect(&sender.client, VMSIG__WRITE_MESSAGE__BODY_WRITE_RESULT);
	assert_int_equal(message->write_result->outcome, VMSIG_ERR_OK);
	assert_int_equal(message->write_result->old.len, LEN);
	assert_memory_equal(message->write_result->old.data, before, LEN);
	write_client_free_message(message);
	close(fd);
	free(before);
	free(data);
	sender_close(&sender);
}

static void of_more_than_a_message_they_do_not_come(void **state)
{
	Vmsig__WriteMessage *message;
	struct sender sender;
	int fd = memfd_sparse(2 * MIB);

	sender_open_with(&sender, state, "leases: 16, ttl_max: 5min");
	sender.want_old = true;
	send_simple(&sender, 0, MIB + 1, fd);
	message = write_client_expect(&sender.client, VMSIG__WRITE_MESSAGE__BODY_ERROR);
	assert_int_equal(message->error->code, VMSIG_ERR_BAD_REQUEST);
	assert_non_null(strstr(message->error->detail, "in parts"));
	write_client_free_message(message);
	word_goes_through(&sender);
	close(fd);
	sender_close(&sender);
}

/* ---- where it goes ---- */

#define TABLES 0x10000u /* four of them, the leaf table last */
#define LEAF (TABLES + 0x3000u)

static void tables_make(struct desk_scene *scene, const uint64_t *leaves, unsigned n)
{
	const uint64_t up[][2] = {
		{TABLES, (TABLES + 0x1000) | BITS}, {TABLES + 0x1000, (TABLES + 0x2000) | BITS}};

	for (size_t i = 0; i < sizeof(up) / sizeof(up[0]); i++)
		desk_scene_poke(scene, "w1", up[i][0], &up[i][1], 8);
	desk_scene_poke(scene, "w1", LEAF, leaves, n * sizeof(*leaves));
	for (unsigned i = 0; i < 512; i++) {
		const uint64_t entry = LEAF | BITS;

		desk_scene_poke(scene, "w1", TABLES + 0x2000 + i * 8u, &entry, 8);
	}
}

static uint64_t send_virtual(struct sender *sender, uint64_t addr, uint64_t len, int fd)
{
	Vmsig__WriteBulk bulk = VMSIG__WRITE_BULK__INIT;

	bulk.addr = addr;
	bulk.virtual_address = true;
	bulk.cr3 = TABLES;
	bulk.len = len;
	return send_bulk(sender, &bulk, fd);
}

/* Its first slice writes the table that maps its second one. */
static void a_slice_does_not_turn_the_tables_of_the_next(void **state)
{
	enum { PAGES = 100, VICTIM = 0xf0000, LEASED = 0xe0000 };
	struct desk_scene *scene = *state;
	uint8_t *data = calloc(PAGES, 4096), victim[4096], expected[4096];
	uint64_t leaves[512], *turned = (uint64_t *)(void *)data;
	struct sender sender = {.scene = scene};
	int fd;

	assert_non_null(data);
	memset(leaves, 0, sizeof(leaves));
	leaves[0] = LEAF | BITS;
	for (unsigned i = 1; i < PAGES; i++)
		leaves[i] = (0x20000u + i * 0x1000u) | BITS;
	tables_make(scene, leaves, 512);
	for (unsigned i = 0; i < 512; i++)
		turned[i] = VICTIM | BITS;
	memset(expected, 'v', sizeof(expected));
	desk_scene_poke(scene, "w1", VICTIM, expected, sizeof(expected));
	memset(data + 4096, 'x', (PAGES - 1) * 4096);
	fd = write_client_memfd(data, PAGES * 4096);
	write_client_open(&sender.client, scene->daemon, "write.sock", &scene->alice);
	write_client_ask(&sender.client, "w1", 0, LEASED - 1, 0, 0, false);
	sender.lease = write_client_granted(&sender.client);
	send_virtual(&sender, 0, PAGES * 4096, fd);
	assert_int_equal(write_client_outcome(&sender.client), VMSIG_ERR_OK);
	desk_scene_read(scene, "w1", VICTIM, victim, sizeof(victim));
	assert_memory_equal(victim, expected, sizeof(victim));
	desk_scene_read(scene, "w1", 0x20000 + (PAGES - 1) * 0x1000, victim, sizeof(victim));
	assert_memory_equal(victim, data + 4096, sizeof(victim));
	close(fd);
	free(data);
	sender_close(&sender);
}

static void too_many_pieces_are_refused(void **state)
{
	static uint64_t leaves[512];
	Vmsig__WriteMessage *message;
	struct sender sender;
	int fd = memfd_sparse(80 * MIB);

	sender_open_with(&sender, state, "bulk: 80MiB, ttl_max: 5min");
	for (unsigned i = 0; i < 512; i++)
		leaves[i] = (0x20000u + (i % 2) * 0x2000u) | BITS;
	tables_make(sender.scene, leaves, 512);
	send_virtual(&sender, 0, 80 * MIB, fd);
	message = write_client_expect(&sender.client, VMSIG__WRITE_MESSAGE__BODY_WRITE_RESULT);
	assert_int_equal(message->write_result->outcome, VMSIG_ERR_QUOTA);
	assert_int_equal(message->write_result->written, 0);
	assert_non_null(strstr(message->write_result->detail, "in parts"));
	write_client_free_message(message);
	/* In parts it goes. */
	send_virtual(&sender, 0, 8 * MIB, fd);
	assert_int_equal(write_client_outcome(&sender.client), VMSIG_ERR_OK);
	assert_int_equal(desk_scene_audit(sender.scene, INTENT, NULL), 1);
	close(fd);
	sender_close(&sender);
}

/* It is recorded after the answer. */
static Vmsig__AuditRecord *result_of(struct sender *sender)
{
	Vmsig__AuditRecord *record = NULL;

	while (!desk_scene_audit(sender->scene, RESULT, &record))
		usleep(1000);
	return record;
}

static void check_hash(const ProtobufCBinaryData *hash, const uint8_t *data, size_t len)
{
	uint8_t expected[AUDITCHAIN_HASH];
	struct auditchain_md *md;

	assert_int_equal(auditchain_md_new(&md), 0);
	assert_int_equal(auditchain_digest(md, data, len, expected), 0);
	auditchain_md_free(md);
	assert_int_equal(hash->len, sizeof(expected));
	assert_memory_equal(hash->data, expected, sizeof(expected));
}

/* What a slice finds on the two pages is what the one before it has left. */
static uint8_t *found_make(const uint8_t *data, unsigned pages)
{
	const unsigned slice = (256 << 10) / 4096;
	uint8_t *found = calloc(pages, 4096);

	assert_non_null(found);
	for (unsigned i = slice; i < pages; i++)
		memcpy(found + i * 4096ull, data + (i / slice * slice - 2 + i % 2) * 4096ull, 4096);
	return found;
}

/* Longer than what is staged at once, on two pages in turns. */
static void check_long_data(void **state, const char *limits)
{
	enum { PAGES = 600, LEN = PAGES * 4096 };
	uint8_t *data = malloc(LEN), *found, there[4096];
	Vmsig__AuditRecord *record;
	struct sender sender;
	uint64_t leaves[512];
	int fd;

	assert_non_null(data);
	desk_scene_configure(*state, limits, "leases: 16");
	desk_scene_reload(*state);
	sender_open(&sender, state, &((struct desk_scene *)*state)->alice, "w1");
	for (unsigned i = 0; i < 512; i++)
		leaves[i] = (0x20000u + (i % 2) * 0x2000u) | BITS;
	tables_make(sender.scene, leaves, 512);
	for (size_t i = 0; i < LEN; i++)
		data[i] = (uint8_t)(i / 4096 * 37 + i);
	fd = write_client_memfd(data, LEN);
	send_virtual(&sender, 0, LEN, fd);
	assert_int_equal(write_client_outcome(&sender.client), VMSIG_ERR_OK);
	desk_scene_read(sender.scene, "w1", 0x22000, there, sizeof(there));
	assert_memory_equal(there, data + (PAGES - 1) * 4096, sizeof(there));
	record = result_of(&sender);
	check_hash(&record->new_hash, data, LEN);
	found = found_make(data, PAGES);
	check_hash(&record->old_hash, found, LEN);
	free(found);
	assert_int_equal(record->bytes, LEN);
	assert_int_equal(record->n_ranges, 2);
	vmsig__audit_record__free_unpacked(record, NULL);
	close(fd);
	free(data);
	sender_close(&sender);
}

static void long_data_is_recorded_as_it_went(void **state)
{
	check_long_data(state, "{}");
}

static void so_it_is_without_room_for_what_was_there(void **state)
{
	check_long_data(state, "{bulk_old: 0}");
}

/* ---- what the policy says by now ---- */

static void a_reload_holds_for_what_comes_after(void **state)
{
	struct sender sender;
	int fd = memfd_sparse(DESK_RAM / 2);

	sender_open_with(&sender, state, "bulk: 1MiB, ttl_max: 5min");
	send_simple(&sender, 0, DESK_RAM / 2, fd);
	assert_int_equal(write_client_outcome(&sender.client), VMSIG_ERR_OK);
	desk_scene_configure(sender.scene, "{}", "bulk: 64KiB");
	desk_scene_reload(sender.scene);
	write_client_expect_error(
		&sender.client, send_simple(&sender, 0, DESK_RAM / 2, fd), VMSIG_ERR_QUOTA);
	word_goes_through(&sender);
	close(fd);
	sender_close(&sender);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, desk_scene_setup, desk_scene_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(lengths_that_are_not_there_are_not_charged),
		TEST(nobody_but_a_holder_is_charged),
		TEST(holes_stay_holes),
		TEST(several_at_once_arrive_whole),
		TEST(the_bytes_before_come_with_the_answer),
		TEST(of_more_than_a_message_they_do_not_come),
		TEST(a_slice_does_not_turn_the_tables_of_the_next),
		TEST(too_many_pieces_are_refused),
		TEST(long_data_is_recorded_as_it_went),
		TEST(so_it_is_without_room_for_what_was_there),
		TEST(a_reload_holds_for_what_comes_after),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
