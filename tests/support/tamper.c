/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/tamper.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/journal/entry.h"
#include "broker/journal/segment.h"

struct segment_image {
	uint8_t *data;
	size_t size, end; /* of the entries */
};

static void newest_path(const char *state_dir, char path[static PATH_MAX])
{
	uint64_t newest = 0, first;
	char name[SEGMENT_NAME_MAX];
	struct dirent *entry;
	DIR *dir;

	snprintf(path, PATH_MAX, "%s/journal", state_dir);
	dir = opendir(path);
	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		if (segment_parse_name(entry->d_name, &first) && first > newest)
			newest = first;
	}
	closedir(dir);
	assert_true(newest > 0);
	segment_name(newest, name);
	snprintf(path, PATH_MAX, "%s/journal/%s", state_dir, name);
}

static int image_load(struct segment_image *image, const char *path)
{
	struct stat st;
	struct entry_view view;
	int fd = open(path, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	image->size = (size_t)st.st_size;
	image->data = malloc(image->size);
	assert_non_null(image->data);
	assert_int_equal(pread(fd, image->data, image->size, 0), image->size);
	image->end = SEGMENT_HEADER;
	while (entry_parse(image->data + image->end, image->size - image->end, &view))
		image->end += view.size;
	return fd;
}

/* Where the record is. */
static size_t find(const struct segment_image *image, uint64_t id, struct entry_view *ret_view)
{
	size_t at = SEGMENT_HEADER;

	while (entry_parse(image->data + at, image->size - at, ret_view)) {
		if (ret_view->entry.type == JOURNAL_AUDIT && ret_view->entry.id == id)
			return at;
		at += ret_view->size;
	}
	fail_msg("the newest segment does not have record %lu", (unsigned long)id);
	return 0;
}

static void seal(struct segment_image *image, size_t at, const uint8_t *hash)
{
	uint8_t kept[JOURNAL_HASH] = {0};
	struct entry_view view;

	assert_true(entry_parse(image->data + at, image->size - at, &view));
	if (view.entry.type == JOURNAL_AUDIT)
		memcpy(kept, hash ? hash : view.hash, JOURNAL_HASH);
	entry_seal(image->data + at, &view, kept);
}

/* Entries from `at` on have numbers and ids that follow those before. */
static void renumber(struct segment_image *image, size_t at, uint64_t number, uint64_t id)
{
	struct entry_header header;
	struct entry_view view;

	for (; entry_parse(image->data + at, image->size - at, &view); at += view.size) {
		memcpy(&header, image->data + at, sizeof(header));
		id += view.entry.type == JOURNAL_AUDIT;
		header.number = number++;
		header.id = id;
		memcpy(image->data + at, &header, sizeof(header));
		seal(image, at, NULL);
	}
}

static void tamper_body(struct segment_image *image, size_t at, const struct entry_view *view)
{
	image->data[at + entry_body_at(JOURNAL_AUDIT) + view->entry.len - 1] ^= 1;
	seal(image, at, NULL);
}

static void tamper_hash(struct segment_image *image, size_t at, const struct entry_view *view)
{
	static const uint8_t zeros[JOURNAL_HASH];

	seal(image, at, zeros);
}

static void tamper_swap(struct segment_image *image, size_t at, const struct entry_view *view)
{
	struct entry_view behind;
	uint8_t *copy = malloc(view->size);

	assert_non_null(copy);
	memcpy(copy, image->data + at, view->size);
	assert_true(
		entry_parse(image->data + at + view->size, image->size - at - view->size, &behind));
	memmove(image->data + at, image->data + at + view->size, behind.size);
	memcpy(image->data + at + behind.size, copy, view->size);
	free(copy);
	renumber(image, at, view->entry.number, view->entry.id - 1);
}

static void tamper_remove(struct segment_image *image, size_t at, const struct entry_view *view)
{
	size_t rest = image->end - at - view->size;

	memmove(image->data + at, image->data + at + view->size, rest);
	memset(image->data + at + rest, 0, view->size);
	renumber(image, at, view->entry.number, view->entry.id - 1);
}

static void tamper_cut(struct segment_image *image, size_t at, const struct entry_view *view)
{
	memset(image->data + at + view->size, 0, image->end - at - view->size);
}

static void (*const tampers[TAMPERS])(
	struct segment_image *image, size_t at, const struct entry_view *view) = {
	[TAMPER_BODY] = tamper_body,
	[TAMPER_HASH] = tamper_hash,
	[TAMPER_SWAP] = tamper_swap,
	[TAMPER_REMOVE] = tamper_remove,
	[TAMPER_CUT] = tamper_cut,
};

void tamper_with(const char *state_dir, enum tamper tamper, uint64_t id)
{
	struct segment_image image;
	struct entry_view view;
	char path[PATH_MAX];
	size_t at;
	int fd;

	newest_path(state_dir, path);
	fd = image_load(&image, path);
	at = find(&image, id, &view);
	tampers[tamper](&image, at, &view);
	assert_int_equal(pwrite(fd, image.data, image.size, 0), image.size);
	close(fd);
	free(image.data);
}
