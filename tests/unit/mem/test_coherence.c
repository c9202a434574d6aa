/* SPDX-License-Identifier: Apache-2.0 */
/* A holder's reads against the coherence page. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/guest.h"
#include "vmsig/vmsig_mem.h"

#define MIB (1ull << 20)
#define SIZE (16 * MIB)
#define TABLES (8 * MIB)
#define HIGH 0xffffffff81000000ull

struct lab {
	struct guest guest;
	vmsig_mem *mem;
};

static int setup(void **state)
{
	static struct lab lab;

	guest_init(&lab.guest, SIZE, 4, TABLES);
	guest_map(&lab.guest, HIGH, 0x5000, GUEST_4K, GUEST_W);
	guest_set_epoch(&lab.guest, 7, VMSIG_STATE_READY);
	lab.mem = vmsig_mem_from_ro_fd(lab.guest.fd, SIZE);
	assert_non_null(lab.mem);
	assert_int_equal(vmsig_mem_attach_coherence(lab.mem, lab.guest.coherence_fd, 7), 0);
	*state = &lab;
	return 0;
}

static int teardown(void **state)
{
	struct lab *lab = *state;

	vmsig_mem_close(lab->mem);
	guest_deinit(&lab->guest);
	return 0;
}

static int read_word(struct lab *lab, uint64_t *ret_word)
{
	return vmsig_gva_read(lab->mem, lab->guest.root, HIGH, ret_word, sizeof(*ret_word));
}

static void a_new_epoch_ends_every_read(void **state)
{
	struct lab *lab = *state;
	vmsig_range page;
	uint64_t word;

	assert_int_equal(read_word(lab, &word), 0);
	guest_set_epoch(&lab->guest, 8, VMSIG_STATE_INVALID);
	assert_int_equal(read_word(lab, &word), -VMSIG_ERR_STALE_EPOCH);
	assert_int_equal(vmsig_phys_read(lab->mem, 0, &word, 8), -VMSIG_ERR_STALE_EPOCH);
	assert_int_equal(vmsig_gva_translate(lab->mem, lab->guest.root, HIGH, &page),
		-VMSIG_ERR_STALE_EPOCH);
	/* Ready again, and still not our epoch. */
	guest_set_epoch(&lab->guest, 8, VMSIG_STATE_READY);
	assert_int_equal(read_word(lab, &word), -VMSIG_ERR_STALE_EPOCH);
}

static void out_of_contact_is_no_reset(void **state)
{
	struct lab *lab = *state;
	uint64_t word, sequence;

	assert_int_equal(vmsig_mem_read_begin(lab->mem, &sequence), 0);
	guest_set_epoch(&lab->guest, 7, VMSIG_STATE_UNREACHABLE);
	assert_int_equal(vmsig_mem_read_end(lab->mem, sequence), -VMSIG_ERR_NOT_READY);
	assert_int_equal(read_word(lab, &word), -VMSIG_ERR_NOT_READY);
	/* The same context is good again. */
	guest_set_epoch(&lab->guest, 7, VMSIG_STATE_READY);
	assert_int_equal(read_word(lab, &word), 0);
}

/* What a kernel left behind is read as what it did. */
static void a_panic_is_no_reset(void **state)
{
	struct lab *lab = *state;
	uint64_t word, sequence;

	assert_int_equal(vmsig_mem_read_begin(lab->mem, &sequence), 0);
	guest_set_epoch(&lab->guest, 7, VMSIG_STATE_PANICKED);
	assert_int_equal(vmsig_mem_read_end(lab->mem, sequence), 0);
	assert_int_equal(read_word(lab, &word), 0);
	/* Who sleeps is told. */
	assert_int_equal(vmsig_mem_wait(lab->mem, -1), 0);
	guest_set_epoch(&lab->guest, 8, VMSIG_STATE_INVALID);
	assert_int_equal(read_word(lab, &word), -VMSIG_ERR_STALE_EPOCH);
}

/* However long it had vouched for. */
static void a_broker_that_ends_says_so(void **state)
{
	struct lab *lab = *state;
	uint64_t word, sequence;

	assert_int_equal(vmsig_mem_read_begin(lab->mem, &sequence), 0);
	guest_set_epoch(&lab->guest, 7, VMSIG_STATE_UNATTENDED);
	assert_int_equal(vmsig_mem_read_end(lab->mem, sequence), -VMSIG_ERR_NO_BROKER);
	assert_int_equal(vmsig_mem_read_begin(lab->mem, &sequence), -VMSIG_ERR_NO_BROKER);
	assert_int_equal(read_word(lab, &word), -VMSIG_ERR_NO_BROKER);
	assert_int_equal(vmsig_mem_wait(lab->mem, -1), -VMSIG_ERR_NO_BROKER);
	guest_set_epoch(&lab->guest, 8, VMSIG_STATE_UNATTENDED);
	assert_int_equal(read_word(lab, &word), -VMSIG_ERR_STALE_EPOCH);
}

static void a_new_epoch_empties_the_cache(void **state)
{
	struct lab *lab = *state;
	uint64_t word;

	memset(lab->guest.ram + 0x5000, 0x11, 8);
	memset(lab->guest.ram + 0x6000, 0x22, 8);
	assert_int_equal(read_word(lab, &word), 0);
	assert_int_equal(word, 0x1111111111111111ull);
	guest_map(&lab->guest, HIGH, 0x6000, GUEST_4K, GUEST_W);
	guest_set_epoch(&lab->guest, 8, VMSIG_STATE_READY);
	assert_int_equal(vmsig_mem_attach_coherence(lab->mem, lab->guest.coherence_fd, 8), 0);
	assert_int_equal(read_word(lab, &word), 0);
	assert_int_equal(word, 0x2222222222222222ull);
}

static void a_write_that_does_not_end_is_torn(void **state)
{
	struct lab *lab = *state;
	uint64_t word, sequence;

	__atomic_add_fetch(&lab->guest.page->sequence, 1, __ATOMIC_SEQ_CST);
	assert_int_equal(read_word(lab, &word), -VMSIG_ERR_TORN);
	assert_int_equal(vmsig_mem_read_begin(lab->mem, &sequence), -VMSIG_ERR_TORN);
	__atomic_add_fetch(&lab->guest.page->sequence, 1, __ATOMIC_SEQ_CST);
	assert_int_equal(read_word(lab, &word), 0);
}

static void without_a_broker_nothing_is_read(void **state)
{
	struct lab *lab = *state;
	vmsig_coherence *page = lab->guest.page;
	uint64_t word, sequence;

	/* It stands still; then it goes on. */
	page->vouched_ns = 1;
	assert_int_equal(read_word(lab, &word), -VMSIG_ERR_NO_BROKER);
	assert_int_equal(vmsig_mem_wait(lab->mem, -1), -VMSIG_ERR_NO_BROKER);
	page->vouched_ns = UINT64_MAX;
	assert_int_equal(read_word(lab, &word), 0);
	/* It dies between two looks, in the middle of a write. */
	assert_int_equal(vmsig_mem_read_begin(lab->mem, &sequence), 0);
	page->owner |= VMSIG_COHERENCE_OWNER_DIED;
	assert_int_equal(vmsig_mem_read_end(lab->mem, sequence), -VMSIG_ERR_NO_BROKER);
	page->sequence++;
	assert_int_equal(read_word(lab, &word), -VMSIG_ERR_NO_BROKER);
	page->sequence++;
	/* It has ended. */
	page->owner = 0;
	assert_int_equal(vmsig_phys_read(lab->mem, 0, &word, 8), -VMSIG_ERR_NO_BROKER);
	assert_int_equal(vmsig_mem_wait(lab->mem, -1), -VMSIG_ERR_NO_BROKER);
	/* What is known to be over is over, whoever says so. */
	guest_set_epoch(&lab->guest, 8, VMSIG_STATE_READY);
	assert_int_equal(read_word(lab, &word), -VMSIG_ERR_STALE_EPOCH);
}

/* A page that was read often is read by a short way, which asks for as much. */
static void what_was_read_often_is_read_as_strictly(void **state)
{
	struct lab *lab = *state;
	vmsig_coherence *page = lab->guest.page;
	uint64_t word;

	for (int i = 0; i < 3; i++)
		assert_int_equal(read_word(lab, &word), 0);
	page->vouched_ns = 1;
	assert_int_equal(read_word(lab, &word), -VMSIG_ERR_NO_BROKER);
	page->vouched_ns = UINT64_MAX;
	assert_int_equal(read_word(lab, &word), 0);
	page->owner |= VMSIG_COHERENCE_OWNER_DIED;
	assert_int_equal(read_word(lab, &word), -VMSIG_ERR_NO_BROKER);
	page->owner &= ~VMSIG_COHERENCE_OWNER_DIED;
	page->sequence++;
	assert_int_equal(read_word(lab, &word), -VMSIG_ERR_TORN);
	page->sequence++;
	for (int i = 0; i < 3; i++)
		assert_int_equal(read_word(lab, &word), 0);
	guest_set_epoch(&lab->guest, 7, VMSIG_STATE_UNREACHABLE);
	assert_int_equal(read_word(lab, &word), -VMSIG_ERR_NOT_READY);
	guest_set_epoch(&lab->guest, 8, VMSIG_STATE_READY);
	assert_int_equal(read_word(lab, &word), -VMSIG_ERR_STALE_EPOCH);
}

/* The mapping of what has gone is a SIGBUS. */
static void what_was_read_often_obeys_the_mode(void **state)
{
	struct lab *lab = *state;
	uint64_t root = lab->guest.root, word;

	/* Behind the page tables. */
	guest_map(&lab->guest, 0x400000, 12 * MIB, GUEST_4K, GUEST_W);
	guest_fill(&lab->guest, 12 * MIB, 4096);
	for (int i = 0; i < 3; i++)
		assert_int_equal(vmsig_gva_read(lab->mem, root, 0x400000, &word, 8), 0);
	assert_int_equal(vmsig_mem_set_mode(lab->mem, VMSIG_MEM_PREAD), 0);
	assert_int_equal(ftruncate(lab->guest.fd, 12 * MIB), 0);
	assert_int_equal(
		vmsig_gva_read(lab->mem, root, 0x400000, &word, 8), -VMSIG_ERR_OUT_OF_RANGE);
}

static void several_reads_belong_together_or_not(void **state)
{
	struct lab *lab = *state;
	uint64_t word, sequence;

	assert_int_equal(vmsig_mem_read_begin(lab->mem, &sequence), 0);
	assert_int_equal(read_word(lab, &word), 0);
	assert_int_equal(vmsig_mem_read_end(lab->mem, sequence), 0);
	assert_int_equal(vmsig_mem_read_begin(lab->mem, &sequence), 0);
	__atomic_add_fetch(&lab->guest.page->sequence, 2, __ATOMIC_SEQ_CST);
	assert_int_equal(vmsig_mem_read_end(lab->mem, sequence), -VMSIG_ERR_TORN);
	assert_int_equal(vmsig_mem_read_begin(lab->mem, &sequence), 0);
	guest_set_epoch(&lab->guest, 9, VMSIG_STATE_READY);
	assert_int_equal(vmsig_mem_read_end(lab->mem, sequence), -VMSIG_ERR_STALE_EPOCH);
}

static void without_a_page_there_is_nothing_to_ask(void **state)
{
	struct lab *lab = *state;
	vmsig_mem *bare = vmsig_mem_from_ro_fd(lab->guest.fd, SIZE);
	uint64_t sequence;

	assert_non_null(bare);
	assert_int_equal(vmsig_mem_read_begin(bare, &sequence), -VMSIG_ERR_UNSUPPORTED);
	assert_int_equal(vmsig_mem_read_end(bare, 0), -VMSIG_ERR_UNSUPPORTED);
	vmsig_mem_close(bare);
}

static void what_is_no_coherence_page_is_refused(void **state)
{
	struct lab *lab = *state;
	int unsealed = memfd_create("vmsig-test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_int_equal(ftruncate(unsealed, VMSIG_COHERENCE_SIZE), 0);
	/* It could shrink under the mapping. */
	assert_int_equal(vmsig_mem_attach_coherence(lab->mem, unsealed, 7), -VMSIG_ERR_BAD_REQUEST);
	/* It has no magic. */
	assert_int_equal(fcntl(unsealed, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	assert_int_equal(vmsig_mem_attach_coherence(lab->mem, unsealed, 7), -VMSIG_ERR_BAD_REQUEST);
	assert_int_equal(
		vmsig_mem_attach_coherence(lab->mem, lab->guest.fd, 7), -VMSIG_ERR_BAD_REQUEST);
	close(unsealed);
}

/* More of it would be mapped than a page, and what is mapped could not be let go of. */
static void a_huge_page_is_no_coherence_page(void **state)
{
	struct lab *lab = *state;
	int huge = memfd_create("vmsig-test", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB);

	if (huge < 0 || ftruncate(huge, 1 << 30) < 0)
		skip();
	assert_int_equal(fcntl(huge, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	assert_int_equal(vmsig_mem_attach_coherence(lab->mem, huge, 7), -VMSIG_ERR_BAD_REQUEST);
	close(huge);
}

static void *reset_soon(void *arg)
{
	const struct timespec soon = {.tv_nsec = 30 * 1000 * 1000};

	nanosleep(&soon, NULL);
	guest_set_epoch(arg, 8, VMSIG_STATE_INVALID);
	return NULL;
}

static void a_holder_can_sleep_until_the_epoch_ends(void **state)
{
	struct lab *lab = *state;
	pthread_t thread;

	assert_int_equal(vmsig_mem_wait(lab->mem, 0), -VMSIG_ERR_TIMEOUT);
	assert_int_equal(vmsig_mem_wait(lab->mem, 10), -VMSIG_ERR_TIMEOUT);
	assert_int_equal(pthread_create(&thread, NULL, reset_soon, &lab->guest), 0);
	assert_int_equal(vmsig_mem_wait(lab->mem, -1), 0);
	pthread_join(thread, NULL);
	/* It is over: there is nothing to sleep for. */
	assert_int_equal(vmsig_mem_wait(lab->mem, -1), 0);
}

/* Another holder, whose mapping is as read-only: the kernel lets it move who sleeps at the page to
 * a futex of its own, where nobody is told anything. Then the epoch ends. */
static void *lure_away(void *arg)
{
	const struct timespec pause = {.tv_nsec = 1000 * 1000};
	struct guest *guest = arg;
	char path[64];
	uint32_t *elsewhere = mmap(NULL, sizeof(*elsewhere), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	const vmsig_coherence *page;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", guest->coherence_fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	page = mmap(NULL, VMSIG_COHERENCE_SIZE, PROT_READ, MAP_SHARED, fd, 0);
	if (fd < 0 || page == MAP_FAILED || elsewhere == MAP_FAILED)
		return arg;
	/* Nobody is woken, one is moved. */
	while (syscall(SYS_futex, &page->change, FUTEX_REQUEUE, 0, 1ul, elsewhere, 0) != 1)
		nanosleep(&pause, NULL);
	guest_set_epoch(guest, 8, VMSIG_STATE_INVALID);
	munmap((void *)(uintptr_t)page, VMSIG_COHERENCE_SIZE);
	munmap(elsewhere, sizeof(*elsewhere));
	close(fd);
	return NULL;
}

static void who_is_lured_away_looks_all_the_same(void **state)
{
	struct lab *lab = *state;
	pthread_t thread;
	void *trouble;

	assert_int_equal(pthread_create(&thread, NULL, lure_away, &lab->guest), 0);
	assert_int_equal(vmsig_mem_wait(lab->mem, -1), 0);
	pthread_join(thread, &trouble);
	assert_null(trouble);
}

#define WORDS 64u
#define ROUNDS 3000u

static atomic_bool stop;

/* The broker's writer: all words of the page change together, under an odd sequence. */
static void *writer(void *arg)
{
	struct guest *guest = arg;
	uint64_t *words = (uint64_t *)(void *)(guest->ram + 0x5000);

	for (uint64_t value = 1; !atomic_load(&stop); value++) {
		__atomic_add_fetch(&guest->page->sequence, 1, __ATOMIC_SEQ_CST);
		for (unsigned i = 0; i < WORDS; i++)
			__atomic_store_n(&words[i], value, __ATOMIC_RELAXED);
		__atomic_add_fetch(&guest->page->sequence, 1, __ATOMIC_SEQ_CST);
		for (volatile unsigned pause = 0; pause < 200; pause++)
			;
	}
	return NULL;
}

static void no_torn_read_is_ever_good(void **state)
{
	struct lab *lab = *state;
	uint64_t words[WORDS];
	unsigned good = 0;
	pthread_t thread;

	atomic_store(&stop, false);
	assert_int_equal(pthread_create(&thread, NULL, writer, &lab->guest), 0);
	for (unsigned i = 0; i < ROUNDS; i++) {
		int r = vmsig_gva_read(lab->mem, lab->guest.root, HIGH, words, sizeof(words));

		if (r == -VMSIG_ERR_TORN)
			continue;
		assert_int_equal(r, 0);
		good++;
		for (unsigned w = 1; w < WORDS; w++)
			assert_int_equal(words[w], words[0]);
	}
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	assert_true(good > 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_new_epoch_ends_every_read),
		T(out_of_contact_is_no_reset),
		T(a_panic_is_no_reset),
		T(a_broker_that_ends_says_so),
		T(a_new_epoch_empties_the_cache),
		T(a_write_that_does_not_end_is_torn),
		T(without_a_broker_nothing_is_read),
		T(what_was_read_often_is_read_as_strictly),
		T(what_was_read_often_obeys_the_mode),
		T(several_reads_belong_together_or_not),
		T(without_a_page_there_is_nothing_to_ask),
		T(what_is_no_coherence_page_is_refused),
		T(a_huge_page_is_no_coherence_page),
		T(a_holder_can_sleep_until_the_epoch_ends),
		T(who_is_lured_away_looks_all_the_same),
		T(no_torn_read_is_ever_good),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
