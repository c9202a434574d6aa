/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guests whose RAM a provider hands over: what it may lie about, its resets, its absence.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/adapters/provider/offer.h"
#include "tests/integration/file/scene.h"
#include "vmsig/vmsig_error.h"

static struct {
	int error;
	unsigned calls;
	char why[400];
} verdict;

static void on_opened(void *ctx, int error, const char *why)
{
	verdict.error = error;
	verdict.calls++;
	snprintf(verdict.why, sizeof(verdict.why), "%s", why);
}

static int memfd(off_t size)
{
	int fd = memfd_create("guest", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	return fd;
}

static int dup_of(int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	assert_true(copy >= 0);
	return copy;
}

/* Takes the descriptor over. */
static struct offer *offer_of(int fd, uint64_t low, uint32_t levels)
{
	const struct offer_wish wish = {
		.name = "vm", .low = low, .kcr3 = KCR3, .levels = levels, .uid = getuid()};
	struct offer *offer;

	assert_int_equal(offer_new(&offer, &wish, &fd, 1, NULL), 0);
	memset(&verdict, 0, sizeof(verdict));
	offer->opened = on_opened;
	return offer;
}

static struct offer *serve(int fd)
{
	struct offer *offer = offer_of(fd, SIZE, 4);

	adapter_start_offer(offer);
	wait_for(scene.memctx == 1);
	assert_int_equal(verdict.calls, 1);
	assert_int_equal(verdict.error, 0);
	return offer;
}

/* The adapter has its own reference, until the scene stops it. */
static void end(struct offer *offer)
{
	offer_unref(offer);
}

static void a_guest_is_served(void **state)
{
	struct offer *offer = serve(memfd(SIZE));
	int fd;

	assert_int_equal(scene.pod.kcr3, KCR3);
	assert_int_equal(scene.pod.low, SIZE);
	assert_int_equal(scene.facts.guard, VMSIG_GUARD_MODE);
	fd = scene.reg.share_fd(scene.reg.ctx);
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	close(fd);
	end(offer);
}

static void refused(int fd, uint64_t low, const char *words)
{
	struct offer *offer = offer_of(fd, low, 4);

	adapter_start_offer(offer);
	wait_for(verdict.calls == 1);
	assert_int_not_equal(verdict.error, 0);
	assert_non_null(strstr(verdict.why, words));
	assert_int_equal(scene.memctx, 0);
	end(offer);
}

static void a_file_that_is_too_small_is_refused(void **state)
{
	refused(memfd(SIZE / 2), SIZE, "do not hold the provided layout");
}

static void an_empty_file_is_refused(void **state)
{
	refused(memfd(0), SIZE, "is empty");
}

static void what_is_no_file_in_memory_is_refused(void **state)
{
	int pipes[2];

	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	close(pipes[1]);
	refused(pipes[0], SIZE, "no file in memory");
}

static void one_file_twice_is_refused(void **state)
{
	const struct offer_wish wish = {
		.name = "vm", .low = SIZE, .kcr3 = KCR3, .levels = 4, .uid = getuid()};
	int fds[2] = {memfd(SIZE)};
	struct offer *offer;

	fds[1] = dup_of(fds[0]);
	assert_int_equal(offer_new(&offer, &wish, fds, 2, NULL), 0);
	memset(&verdict, 0, sizeof(verdict));
	offer->opened = on_opened;
	adapter_start_offer(offer);
	wait_for(verdict.calls == 1);
	assert_non_null(strstr(verdict.why, "are the same file"));
	end(offer);
}

static void a_file_that_shrinks_ends_its_session(void **state)
{
	int fd = memfd(SIZE);
	struct offer *offer = serve(dup_of(fd));

	assert_int_equal(ftruncate(fd, SIZE / 2), 0);
	wait_for(scene.invalidated == 1);
	wait_for(scene.state == VMSIG_STATE_GONE);
	end(offer);
	close(fd);
}

static void a_reset_is_another_epoch_with_the_kernel_it_names(void **state)
{
	struct offer *offer = serve(memfd(SIZE));
	uint32_t epoch = scene.epoch;

	offer_set_kernel(offer, KCR3 + 0x1000, 5);
	offer->guest->invalidate(offer->guest_ctx, "the guest was reset");
	wait_for(scene.memctx == 2);
	assert_int_equal(scene.epoch, epoch + 1);
	assert_int_equal(scene.pod.kcr3, KCR3 + 0x1000);
	assert_true(scene.pod.flags & VMSIG_MEMCTX_LA57);
	/* It was told once that its RAM is good. */
	assert_int_equal(verdict.calls, 1);
	end(offer);
}

static void who_comes_back_goes_on_in_the_same_epoch(void **state)
{
	struct offer *offer = serve(memfd(SIZE));
	uint32_t epoch = scene.epoch;

	offer->guest->away(offer->guest_ctx);
	assert_int_equal(scene.state, VMSIG_STATE_UNREACHABLE);
	scene.found = scene.memctx; /* the scene wants RAM to be told with each context */
	scene.found++;
	offer->guest->back(offer->guest_ctx);
	assert_int_equal(scene.state, VMSIG_STATE_READY);
	assert_int_equal(scene.epoch, epoch);
	assert_int_equal(scene.invalidated, 0);
	end(offer);
}

static void the_same_ram_is_known_by_its_files_and_layout(void **state)
{
	int fd = memfd(SIZE);
	struct offer *a = offer_of(dup_of(fd), SIZE, 4), *b = offer_of(dup_of(fd), SIZE, 5);
	struct offer *smaller = offer_of(dup_of(fd), SIZE / 2, 4);
	struct offer *other = offer_of(memfd(SIZE), SIZE, 4);

	assert_true(offer_is_same_ram(a, b));
	assert_false(offer_is_same_ram(a, smaller));
	assert_false(offer_is_same_ram(a, other));
	assert_true(a->number != b->number);
	offer_unref(a);
	offer_unref(b);
	offer_unref(smaller);
	offer_unref(other);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_guest_is_served, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_file_that_is_too_small_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(an_empty_file_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(
			what_is_no_file_in_memory_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(one_file_twice_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_file_that_shrinks_ends_its_session, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_reset_is_another_epoch_with_the_kernel_it_names, setup, teardown),
		cmocka_unit_test_setup_teardown(
			who_comes_back_goes_on_in_the_same_epoch, setup, teardown),
		cmocka_unit_test(the_same_ram_is_known_by_its_files_and_layout),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
