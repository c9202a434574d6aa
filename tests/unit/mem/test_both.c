/* SPDX-License-Identifier: Apache-2.0 */
/* Broker and library in one program: what the one stores under its page is what the other reads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "broker/coherence.h"
#include "broker/memwrite/memwrite.h"
#include "tests/support/guest.h"
#include "vmsig/vmsig_mem.h"
#include "vmsig/vmsig_write.h"

#define MIB (1ull << 20)
#define SIZE (4 * MIB)
#define HIGH 0xffffffff81000000ull
#define EPOCH 7

struct lab {
	struct guest guest;
	struct coherence *coherence;
	struct memwrite_target *target;
	vmsig_mem *mem;
};

static void vouch(struct lab *lab)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	coherence_vouch(lab->coherence, (uint64_t)(now.tv_sec + 3600) * 1000000000);
}

static int setup(void **state)
{
	static const vmsig_memseg all = {.gpa = 0, .len = SIZE};
	static struct lab lab;
	vmsig_coherence *page;
	int fd;

	guest_init(&lab.guest, SIZE, 4, 2 * MIB);
	guest_map(&lab.guest, HIGH, 0x5000, GUEST_4K, GUEST_W);
	assert_int_equal(coherence_new(&lab.coherence, 1), 0);
	page = coherence_page(lab.coherence);
	page->epoch = EPOCH;
	page->state = VMSIG_STATE_READY;
	vouch(&lab);
	assert_int_equal(
		memwrite_target_new(&lab.target, lab.guest.fd, &all, 1, 0, lab.guest.root, 4, page),
		0);
	lab.mem = vmsig_mem_from_ro_fd(lab.guest.fd, SIZE);
	assert_non_null(lab.mem);
	fd = coherence_share(lab.coherence);
	assert_true(fd >= 0);
	assert_int_equal(vmsig_mem_attach_coherence(lab.mem, fd, EPOCH), 0);
	close(fd);
	*state = &lab;
	return 0;
}

static int teardown(void **state)
{
	struct lab *lab = *state;

	vmsig_mem_close(lab->mem);
	memwrite_target_free(lab->target);
	coherence_free(lab->coherence);
	guest_deinit(&lab->guest);
	return 0;
}

static int admit(void *ctx, const struct lease_range *range)
{
	return 0;
}

static void broker_writes(struct lab *lab, uint64_t gva, const void *data, uint64_t len)
{
	const struct memwrite_op op = {.addr = gva, .data = data, .len = len, .is_virtual = true};
	struct memwrite_plan plan = {0};
	struct memwrite_result result;
	uint8_t old[64];
	uint32_t failed;

	assert_true(len <= sizeof(old));
	assert_int_equal(memwrite_resolve(lab->target, &op, 1, &plan, &failed), 0);
	memwrite_apply(lab->target, &op, &plan, admit, NULL, old, &result);
	assert_int_equal(result.error, VMSIG_ERR_OK);
	memwrite_plan_deinit(&plan);
}

static void a_holder_reads_what_the_broker_writes(void **state)
{
	static const char text[] = "written here, read there";
	struct lab *lab = *state;
	char got[sizeof(text)] = "";
	uint64_t before, after;

	assert_int_equal(vmsig_mem_read_begin(lab->mem, &before), 0);
	broker_writes(lab, HIGH + 8, text, sizeof(text));
	/* What was read in between would be read again. */
	assert_int_equal(vmsig_mem_read_end(lab->mem, before), -VMSIG_ERR_TORN);
	assert_int_equal(vmsig_gva_read(lab->mem, lab->guest.root, HIGH + 8, got, sizeof(got)), 0);
	assert_string_equal(got, text);
	assert_int_equal(vmsig_phys_read(lab->mem, 0x5008, got, sizeof(got)), 0);
	assert_string_equal(got, text);
	assert_int_equal(vmsig_mem_read_begin(lab->mem, &after), 0);
	assert_true(after != before);
}

static void a_holder_learns_of_the_end_of_the_broker(void **state)
{
	struct lab *lab = *state;
	uint64_t word;

	assert_int_equal(vmsig_phys_read(lab->mem, 0x5000, &word, sizeof(word)), 0);
	lab->coherence = coherence_free(lab->coherence);
	assert_int_equal(
		vmsig_phys_read(lab->mem, 0x5000, &word, sizeof(word)), -VMSIG_ERR_NO_BROKER);
}

/* The rest of the library is there too. */
static void the_whole_library_is_linked(void **state)
{
	const vmsig_options options = {.identity_dir = "/nonexistent"};
	vmsig_writer *writer;
	char error[256];
	vmsig *v;

	assert_int_equal(vmsig_open(&v, &options, error, sizeof(error)), -VMSIG_ERR_IO);
	assert_int_equal(vmsig_writer_open(&writer, &options, error, sizeof(error)), -VMSIG_ERR_IO);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_holder_reads_what_the_broker_writes),
		TEST(a_holder_learns_of_the_end_of_the_broker),
		cmocka_unit_test(the_whole_library_is_linked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
