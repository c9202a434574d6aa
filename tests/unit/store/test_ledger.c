/* SPDX-License-Identifier: Apache-2.0 */
/* Leases that have ended are kept for a while, and take memory meanwhile: it is counted, and given
 * back however many there are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "broker/store/ledger.h"
#include "broker/store/state.h"
#include "tests/support/scratch.h"

#define LEASES 600u         /* more than go in one step, and than go in two */
#define ENDED 1000u         /* when: seconds of the wall clock */
#define MANY (300ull << 20) /* bytes of memory that are more than may be kept for long */

struct lab {
	char dir[64];
	struct store *store;
	struct ledger *ledger;
};

static void change(struct lab *lab, const struct change *change)
{
	assert_int_equal(store_change(lab->store, change), 0);
}

static void grant(struct lab *lab, uint64_t id)
{
	const struct lease_range range = {.start = 0, .last = 1};

	change(lab, &(struct change){.kind = CHANGE_GRANT,
			    .key.lease = id,
			    .number = id,
			    .endpoint = 1,
			    .epoch = 1,
			    .ranges = &range,
			    .nranges = 1,
			    .bytes = "ops",
			    .len = 3});
}

static void end(struct lab *lab, uint64_t id)
{
	change(lab, &(struct change){.kind = CHANGE_END, .key.lease = id, .number = ENDED});
}

static int setup(void **state)
{
	static struct lab lab;
	char error[256];

	strcpy(lab.dir, "/tmp/vmsig-ledger-XXXXXX");
	scratch_make(lab.dir);
	if (store_open(&lab.store, lab.dir, error, sizeof(error)))
		fail_msg("%s", error);
	assert_int_equal(ledger_new(&lab.ledger, lab.store), 0);
	/* One lasts on. */
	for (uint64_t id = 1; id <= LEASES + 1; id++)
		grant(&lab, id);
	for (uint64_t id = 1; id <= LEASES; id++)
		end(&lab, id);
	assert_int_equal(store_commit(lab.store), 0);
	*state = &lab;
	return 0;
}

static int teardown(void **state)
{
	struct lab *lab = *state;

	ledger_free(lab->ledger);
	store_close(lab->store);
	scratch_remove(lab->dir);
	return 0;
}

static void steps_go_on_until_nothing_old_is_left(void **state)
{
	struct lab *lab = *state;
	uint64_t all = lab->store->tables.lease_bytes;
	unsigned steps = 0;
	bool more = true;

	assert_int_equal(ledger_prune(lab->ledger, ENDED, &more), 0);
	assert_false(more);
	assert_int_equal(lab->store->tables.lease_bytes, all);
	do {
		assert_int_equal(ledger_prune(lab->ledger, ENDED + 1, &more), 0);
		assert_true(++steps < LEASES);
	} while (more);
	assert_int_equal(lab->store->tables.lease_bytes, all / (LEASES + 1));
	assert_non_null(tables_lease(&lab->store->tables, LEASES + 1));
	assert_null(tables_lease(&lab->store->tables, LEASES));
}

static void many_leases_are_as_much_as_many_answers(void **state)
{
	struct lab *lab = *state;
	bool more = true;

	assert_false(store_is_crowded(lab->store));
	lab->store->tables.lease_bytes += MANY;
	assert_true(store_is_crowded(lab->store));
	assert_int_equal(store_pressure(lab->store), STORE_PRESSURE_HIGH);
	/* Those that have ended just now as well. */
	assert_int_equal(ledger_prune(lab->ledger, 0, &more), 0);
	assert_true(more);
	assert_null(tables_lease(&lab->store->tables, 1));
	lab->store->tables.lease_bytes -= MANY;
	assert_int_equal(ledger_prune(lab->ledger, 0, &more), 0);
	assert_false(more);
	assert_non_null(tables_lease(&lab->store->tables, LEASES));
}

#define WRITERS 20u
#define WRITES 1000u /* of each: many more than are freed in one step */

static const struct answer_lease *gone(const struct lab *lab)
{
	return lab->store->tables.answers.gone;
}

/* All at once it would hold up everybody. */
static void a_lease_with_many_answers_goes_in_pieces(void **state)
{
	static const uint8_t digest[LEDGER_DIGEST];
	struct lab *lab = *state;
	unsigned steps = 0;
	bool more = true;

	for (unsigned i = 0; i < WRITERS * WRITES; i++)
		change(lab, &(struct change){.kind = CHANGE_INTEND,
				    .key = {LEASES + 1, i % WRITERS, 1 + i / WRITERS},
				    .number = 1,
				    .digest = digest});
	end(lab, LEASES + 1);
	assert_int_equal(store_commit(lab->store), 0);
	assert_true(lab->store->tables.answers.bytes > 0);
	while (!gone(lab)) {
		assert_true(more);
		assert_int_equal(ledger_prune(lab->ledger, ENDED + 1, &more), 0);
	}
	assert_int_equal(lab->store->tables.answers.bytes, 0);
	for (; more; steps++)
		assert_int_equal(ledger_prune(lab->ledger, ENDED + 1, &more), 0);
	assert_in_range(steps, 3, WRITERS * WRITES / 1000);
	assert_null(gone(lab));
	assert_null(lab->store->tables.leases.root);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(steps_go_on_until_nothing_old_is_left),
		T(many_leases_are_as_much_as_many_answers),
		T(a_lease_with_many_answers_goes_in_pieces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
