/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A MEMCTX whose RAM is in several files: what a holder gets of an honest one, and the lies that
 * there are about files.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/wire/feature.h"
#include "tests/unit/lib/fake_broker.h"
#include "vmsig/vmsig_mem.h"

#define PAGE 4096u

/* A MEMCTX of so many files of FAKE_RAM bytes each, of which the first half is at 0 in the guest
 * and all the rest from 4 GiB on. */
struct several {
	struct fake_memctx memctx;
	Vmsig__RamFile files[VMSIG_MEMFILES_MAX + 1];
	Vmsig__RamFile *pointers[VMSIG_MEMFILES_MAX + 1];
};

static void several_init(struct several *several, uint32_t epoch, size_t n)
{
	struct fake_memctx *memctx = &several->memctx;

	fake_memctx_init(memctx, "a", epoch);
	for (size_t i = 0; i < n; i++) {
		vmsig__ram_file__init(&several->files[i]);
		several->files[i].size = FAKE_RAM;
		several->pointers[i] = &several->files[i];
		if (!i)
			continue;
		/* Behind the coherence page. */
		memctx->fds[i + 1] = fake_file(FAKE_RAM, O_RDONLY);
		memctx->descriptors[i + 1].purpose = VMSIG__DESCRIPTOR__PURPOSE__GUEST_RAM;
		fake_memctx_describe(memctx, i + 1);
	}
	memctx->nfds = memctx->body.n_descriptors = n + 1;
	memctx->body.files = several->pointers;
	memctx->body.n_files = n;
	memctx->segments[1].len = n * FAKE_RAM - FAKE_RAM / 2;
}

static void hello_offers_files(void **state)
{
	struct fake *fake = *state;
	Vmsig__CtxRequest *request;

	fake_open(fake);
	request = fake_request(fake, VMSIG__CTX_REQUEST__BODY_HELLO);
	assert_true(request->hello->features & FEATURE_RAM_FILES);
	assert_true(request->hello->features & FEATURE_TAKEN_UNSAID);
	fake_request_free(request);
}

/* Of one without a number nothing is said, and another one may be right behind it. */
static void what_need_not_be_said_is_not_said(void **state)
{
	struct fake *fake = *state;
	struct fake_memctx memctx;

	fake_connect(fake);
	for (uint32_t epoch = 1; epoch <= 2; epoch++) {
		fake_memctx_init(&memctx, "a", epoch);
		memctx.body.delivery = 0;
		fake_memctx_send(fake, &memctx);
	}
	for (unsigned i = 0; i < 2; i++) {
		vmsig_delivery delivery = fake_expect(fake, VMSIG_EV_MEMCTX);

		vmsig_delivery_clear(&delivery);
		if (i)
			break;
		delivery = fake_expect(fake, VMSIG_EV_MEMCTX_INVALIDATED);
		vmsig_delivery_clear(&delivery);
	}
	assert_int_equal(vmsig_subscribe(fake->v, "a"), 0);
	/* The next that the broker hears. */
	fake_grant(fake, "a");
}

static void put(int fd, uint64_t off, const char *text)
{
	char path[64];
	int w;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	w = open(path, O_WRONLY | O_CLOEXEC);
	assert_true(w >= 0);
	assert_int_equal(pwrite(w, text, strlen(text), (off_t)off), (ssize_t)strlen(text));
	close(w);
}

/* The descriptor that a test keeps of a file that it gives away. */
static void keep(struct several *several, int kept[3])
{
	static const size_t at[3] = {0, 2, 3};

	for (size_t i = 0; i < 3; i++) {
		kept[i] = fcntl(several->memctx.fds[at[i]], F_DUPFD_CLOEXEC, 0);
		assert_true(kept[i] >= 0);
	}
}

static void several_files_are_one_memory(void **state)
{
	struct fake *fake = *state;
	struct several several;
	vmsig_delivery delivery;
	const vmsig_memfile *files;
	vmsig_mem *mem;
	char text[8] = "";
	uint32_t n;
	int kept[3];

	fake_connect(fake);
	several_init(&several, 1, 3);
	keep(&several, kept);
	fake_memctx_send(fake, &several.memctx);
	delivery = fake_expect(fake, VMSIG_EV_MEMCTX);
	files = vmsig_memctx_files(&delivery.event, &n);
	assert_int_equal(n, 3);
	assert_int_equal(files[0].fd, delivery.ram_fd);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(files[i].size, FAKE_RAM);
		assert_int_equal(fcntl(files[i].fd, F_GETFL) & O_ACCMODE, O_RDONLY);
		assert_true(fcntl(files[i].fd, F_GETFD) & FD_CLOEXEC);
	}
	assert_non_null(vmsig_memctx_segs(&delivery.event, &n));
	assert_int_equal(n, 2);
	/* Over a border of files, in an address space that does not know of it. */
	put(kept[0], FAKE_RAM - 2, "ab");
	put(kept[1], 0, "cd");
	put(kept[2], FAKE_RAM - 1, "z");
	/* Also when the first descriptor was taken out. */
	assert_int_equal(vmsig_delivery_take_fd(&delivery.ram_fd), files[0].fd);
	assert_int_equal(vmsig_mem_from_event(&mem, &delivery.event, files[0].fd, -1), 0);
	close(files[0].fd);
	vmsig_delivery_clear(&delivery);
	assert_int_equal(vmsig_phys_read(mem, (1ull << 32) + FAKE_RAM / 2 - 2, text, 4), 0);
	assert_string_equal(text, "abcd");
	memset(text, 0, sizeof(text));
	assert_int_equal(
		vmsig_phys_read(mem, (1ull << 32) + 3 * FAKE_RAM - FAKE_RAM / 2 - 1, text, 1), 0);
	assert_string_equal(text, "z");
	vmsig_mem_close(mem);
	for (size_t i = 0; i < 3; i++)
		close(kept[i]);
}

/* As many as there may be, in one message. */
static void there_may_be_many(void **state)
{
	struct fake *fake = *state;
	struct several several;
	vmsig_delivery delivery;
	vmsig_mem *mem;
	uint32_t n;

	fake_connect(fake);
	several_init(&several, 1, VMSIG_MEMFILES_MAX);
	fake_memctx_send(fake, &several.memctx);
	delivery = fake_expect(fake, VMSIG_EV_MEMCTX);
	assert_non_null(vmsig_memctx_files(&delivery.event, &n));
	assert_int_equal(n, VMSIG_MEMFILES_MAX);
	assert_int_equal(
		vmsig_mem_from_event(&mem, &delivery.event, delivery.ram_fd, delivery.coherence_fd),
		-VMSIG_ERR_BAD_REQUEST); /* the page is none */
	assert_int_equal(vmsig_mem_from_event(&mem, &delivery.event, delivery.ram_fd, -1), 0);
	vmsig_mem_close(mem);
	vmsig_delivery_clear(&delivery);
}

/* The flag says what is in the payload, and only the library puts something there. */
static void a_flag_alone_is_no_file(void **state)
{
	struct fake *fake = *state;
	struct fake_memctx memctx;
	vmsig_delivery delivery;
	uint32_t n;

	fake_connect(fake);
	fake_memctx_init(&memctx, "a", 1);
	memctx.body.flags |= VMSIG_MEMCTX_FILES;
	fake_memctx_send(fake, &memctx);
	delivery = fake_expect(fake, VMSIG_EV_MEMCTX);
	assert_null(vmsig_memctx_files(&delivery.event, &n));
	assert_int_equal(n, 0);
	vmsig_delivery_clear(&delivery);
}

/* ---- lies ---- */

static void more_files_than_descriptors(struct several *several)
{
	several->memctx.body.n_files = 4;
	vmsig__ram_file__init(&several->files[3]);
	several->files[3].size = FAKE_RAM;
	several->pointers[3] = &several->files[3];
}

static void fewer_files_than_descriptors(struct several *several)
{
	several->memctx.body.n_files = 2;
}

static void one_file_for_all(struct several *several)
{
	several->memctx.body.n_files = 0;
}

static void a_longer_size(struct several *several)
{
	several->files[1].size += PAGE;
}

static void an_empty_file(struct several *several)
{
	several->files[1].size = 0;
}

static void no_whole_pages(struct several *several)
{
	several->files[1].size -= 1;
}

static void a_size_that_wraps(struct several *several)
{
	several->files[2].size = UINT64_MAX;
}

static void the_same_twice(struct several *several)
{
	struct fake_memctx *memctx = &several->memctx;

	close(memctx->fds[3]);
	memctx->fds[3] = fcntl(memctx->fds[2], F_DUPFD_CLOEXEC, 0);
	fake_memctx_describe(memctx, 3);
}

static void one_is_writable(struct several *several)
{
	struct fake_memctx *memctx = &several->memctx;

	close(memctx->fds[3]);
	memctx->fds[3] = fake_file(FAKE_RAM, O_RDWR);
	fake_memctx_describe(memctx, 3);
}

static void one_is_a_device(struct several *several)
{
	struct fake_memctx *memctx = &several->memctx;

	close(memctx->fds[3]);
	memctx->fds[3] = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	fake_memctx_describe(memctx, 3);
}

static void a_segment_beyond_the_last(struct several *several)
{
	several->memctx.segments[1].len += PAGE;
}

static void every_lie_about_files_is_caught(void **state)
{
	static void (*const lies[])(struct several *) = {more_files_than_descriptors,
		fewer_files_than_descriptors, one_file_for_all, a_longer_size, an_empty_file,
		no_whole_pages, a_size_that_wraps, the_same_twice, one_is_writable, one_is_a_device,
		a_segment_beyond_the_last};
	struct fake *fake = *state;
	struct several several;
	vmsig_delivery delivery;

	fake_connect(fake);
	for (uint32_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		several_init(&several, 2, 3);
		lies[i](&several);
		fake_memctx_send(fake, &several.memctx);
		fake_expect_error(fake, VMSIG_EV_DISCONNECTED, VMSIG_ERR_PROTOCOL);
		fake_drop(fake);
		fake_greet(fake);
		delivery = fake_expect(fake, VMSIG_EV_CONNECTED);
		vmsig_delivery_clear(&delivery);
	}
}

static void too_many_files_are_a_lie(void **state)
{
	struct fake *fake = *state;
	struct several several;

	fake_connect(fake);
	several_init(&several, 1, VMSIG_MEMFILES_MAX + 1);
	fake_memctx_send(fake, &several.memctx);
	fake_expect_error(fake, VMSIG_EV_DISCONNECTED, VMSIG_ERR_PROTOCOL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fake_setup, fake_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(hello_offers_files),
		TEST(what_need_not_be_said_is_not_said),
		TEST(several_files_are_one_memory),
		TEST(there_may_be_many),
		TEST(a_flag_alone_is_no_file),
		TEST(every_lie_about_files_is_caught),
		TEST(too_many_files_are_a_lie),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
