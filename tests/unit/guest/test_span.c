/* SPDX-License-Identifier: Apache-2.0 */
/* Files laid end to end: where each byte is, their holes, and one mapping of all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/guest/span.h"
#include "vmsig/vmsig_error.h"

#define PAGE 4096u
#define FILES 3

/* Of 4, 2 and 8 pages; the last one ends within a page. */
static const uint64_t sizes[FILES] = {4 * PAGE, 2 * PAGE, 8 * PAGE - 100};

struct lab {
	int fds[FILES];
	struct span span;
};

static int setup(void **state)
{
	static struct lab lab;

	for (size_t i = 0; i < FILES; i++) {
		lab.fds[i] = memfd_create("ram", MFD_CLOEXEC);
		assert_true(lab.fds[i] >= 0);
		assert_int_equal(ftruncate(lab.fds[i], (off_t)sizes[i]), 0);
	}
	assert_int_equal(span_init(&lab.span, lab.fds, sizes, FILES), 0);
	*state = &lab;
	return 0;
}

static int teardown(void **state)
{
	struct lab *lab = *state;

	span_close(&lab->span);
	return 0;
}

static void put(const struct lab *lab, size_t file, uint64_t off, const char *text)
{
	assert_int_equal(
		pwrite(lab->fds[file], text, strlen(text), (off_t)off), (ssize_t)strlen(text));
}

static void each_byte_is_in_its_file(void **state)
{
	struct lab *lab = *state;
	char text[16] = "";

	assert_int_equal(lab->span.size, sizes[0] + sizes[1] + sizes[2]);
	assert_int_equal(span_index(&lab->span, 0), 0);
	assert_int_equal(span_index(&lab->span, 4 * PAGE - 1), 0);
	assert_int_equal(span_index(&lab->span, 4 * PAGE), 1);
	assert_int_equal(span_index(&lab->span, 6 * PAGE), 2);
	assert_int_equal(span_index(&lab->span, lab->span.size - 1), 2);
	put(lab, 0, 4 * PAGE - 2, "ab");
	put(lab, 1, 0, "cd");
	put(lab, 1, 2 * PAGE - 1, "e");
	put(lab, 2, 0, "f");
	assert_int_equal(span_pread(&lab->span, 4 * PAGE - 2, text, 4), 0);
	assert_string_equal(text, "abcd");
	memset(text, 0, sizeof(text));
	assert_int_equal(span_pread(&lab->span, 6 * PAGE - 1, text, 2), 0);
	assert_string_equal(text, "ef");
}

static void beyond_the_end_is_no_byte(void **state)
{
	struct lab *lab = *state;
	char byte;

	assert_int_equal(span_pread(&lab->span, lab->span.size - 1, &byte, 1), 0);
	assert_int_equal(
		span_pread(&lab->span, lab->span.size - 1, &byte, 2), VMSIG_ERR_OUT_OF_RANGE);
	assert_int_equal(span_pread(&lab->span, UINT64_MAX, &byte, 1), VMSIG_ERR_OUT_OF_RANGE);
	/* A file in the middle shrinks: its part, and no other, is gone. */
	assert_int_equal(ftruncate(lab->fds[1], PAGE), 0);
	assert_int_equal(span_pread(&lab->span, 5 * PAGE, &byte, 1), VMSIG_ERR_OUT_OF_RANGE);
	assert_int_equal(span_pread(&lab->span, 6 * PAGE, &byte, 1), 0);
}

static void expect_data(struct lab *lab, uint64_t from, uint64_t end, uint64_t wanted)
{
	uint64_t off = from;
	bool found = span_next_data(&lab->span, &off, end);

	assert_int_equal(found, wanted < end);
	if (found)
		assert_int_equal(off, wanted);
}

static void holes_go_on_from_file_to_file(void **state)
{
	struct lab *lab = *state;
	uint64_t size = lab->span.size;

	expect_data(lab, 0, size, size);
	put(lab, 2, 3 * PAGE, "x");
	expect_data(lab, 0, size, 9 * PAGE);
	expect_data(lab, 0, 9 * PAGE, 9 * PAGE);
	expect_data(lab, 9 * PAGE + 7, size, 9 * PAGE + 7);
	expect_data(lab, 10 * PAGE, size, size);
	put(lab, 1, PAGE, "x");
	expect_data(lab, 0, size, 5 * PAGE);
	/* One that does not tell has data everywhere. */
	lab->span.files[0].fd = -1;
	expect_data(lab, PAGE, size, PAGE);
	lab->span.files[0].fd = lab->fds[0];
}

/* What a file has beyond what counts of it is nobody's. */
static void a_longer_file_ends_where_it_counts(void **state)
{
	struct lab *lab = *state;
	char byte = 0;

	assert_int_equal(ftruncate(lab->fds[0], 6 * PAGE), 0);
	put(lab, 0, 5 * PAGE, "x");
	put(lab, 1, PAGE, "y");
	assert_int_equal(span_pread(&lab->span, 5 * PAGE, &byte, 1), 0);
	assert_int_equal(byte, 'y');
	expect_data(lab, 0, lab->span.size, 5 * PAGE);
}

static void one_mapping_has_all(void **state)
{
	struct lab *lab = *state;
	char *base;
	void *at;

	put(lab, 0, 4 * PAGE - 1, "a");
	put(lab, 1, 0, "b");
	put(lab, 2, 8 * PAGE - 101, "z");
	assert_int_equal(span_map(&lab->span, PROT_READ, &at), 0);
	base = at;
	assert_memory_equal(base + 4 * PAGE - 1, "ab", 2);
	assert_int_equal(base[lab->span.size - 1], 'z');
	assert_int_equal(mprotect(base, PAGE, PROT_READ), 0);
	munmap(base, lab->span.size);
	assert_int_equal(span_map(&lab->span, PROT_READ | PROT_WRITE, &at), 0);
	memset(at, 7, lab->span.size);
	munmap(at, lab->span.size);
	for (uint64_t off = 0; off < lab->span.size; off += PAGE / 2) {
		char byte;

		assert_int_equal(span_pread(&lab->span, off, &byte, 1), 0);
		assert_int_equal(byte, 7);
	}
}

static void a_mapping_that_fails_leaves_nothing(void **state)
{
	struct lab *lab = *state;
	int fd = lab->span.files[2].fd;
	void *at = NULL;

	lab->span.files[2].fd = -1;
	assert_true(span_map(&lab->span, PROT_READ, &at) < 0);
	assert_null(at);
	lab->span.files[2].fd = fd;
}

/* On hugetlbfs a part begins and ends at a multiple of its pages: the kernel maps no less, and
 * would put the rest over what is not the span's. That no page is free is found out later. */
static void huge_pages_are_whole_or_refused(void **state)
{
	struct lab *lab = *state;
	int fd = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB);
	const uint64_t alone[] = {PAGE}, last[] = {2u << 20, PAGE}, later[] = {PAGE, 2u << 20};
	const int fds[] = {fd, fd}, behind[] = {lab->fds[0], fd};
	const struct {
		const int *fds;
		const uint64_t *sizes;
		size_t n;
	} refused[] = {{fds, alone, 1}, {fds, last, 2}, {behind, later, 2}};
	struct span span;
	void *at = NULL;

	if (fd < 0)
		skip();
	assert_int_equal(ftruncate(fd, 4 << 20), 0);
	assert_int_equal(span_page_size(fd), 2u << 20);
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		assert_int_equal(
			span_init(&span, refused[i].fds, refused[i].sizes, refused[i].n), 0);
		assert_int_equal(span_map(&span, PROT_READ, &at), -EINVAL);
		assert_null(at);
		span_deinit(&span);
	}
	close(fd);
}

static void what_cannot_lie_end_to_end_is_refused(void **state)
{
	static const uint64_t odd[] = {PAGE + 1, PAGE}, none[] = {PAGE, 0},
			      huge[] = {INT64_MAX - PAGE + 1, PAGE, PAGE};
	uint64_t many[VMSIG_MEMFILES_MAX + 1];
	int fds[VMSIG_MEMFILES_MAX + 1];
	struct span span;

	for (size_t i = 0; i <= VMSIG_MEMFILES_MAX; i++) {
		many[i] = PAGE;
		fds[i] = -1;
	}
	assert_int_equal(span_init(&span, fds, many, 0), VMSIG_ERR_BAD_REQUEST);
	assert_int_equal(span_init(&span, fds, odd, 2), VMSIG_ERR_BAD_REQUEST);
	assert_int_equal(span_init(&span, fds, none, 2), VMSIG_ERR_BAD_REQUEST);
	assert_int_equal(span_init(&span, fds, huge, 3), VMSIG_ERR_BAD_REQUEST);
	assert_int_equal(
		span_init(&span, fds, many, VMSIG_MEMFILES_MAX + 1), VMSIG_ERR_BAD_REQUEST);
	assert_int_equal(span_init(&span, fds, many, VMSIG_MEMFILES_MAX), 0);
	assert_int_equal(span_index(&span, span.size - 1), VMSIG_MEMFILES_MAX - 1);
	span_deinit(&span);
	assert_int_equal(span_init(&span, fds, odd, 1), 0);
	span_deinit(&span);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(each_byte_is_in_its_file),
		TEST(beyond_the_end_is_no_byte),
		TEST(holes_go_on_from_file_to_file),
		TEST(a_longer_file_ends_where_it_counts),
		TEST(one_mapping_has_all),
		TEST(a_mapping_that_fails_leaves_nothing),
		TEST(huge_pages_are_whole_or_refused),
		TEST(what_cannot_lie_end_to_end_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
