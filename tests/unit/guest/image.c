/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/guest/image.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmsig/vmsig_error.h"

#define KERNEL_MAP 0xffffffff80000000ull
#define UTS_RELEASE 130 /* struct new_utsname */
#define TABLES_AT 0x400000ull

static int read_gpa(void *ctx, uint64_t gpa, void *buf, size_t len)
{
	struct image *image = ctx;

	if (gpa > IMAGE_SIZE || len > IMAGE_SIZE - gpa)
		return VMSIG_ERR_OUT_OF_RANGE;
	if (pread(image->fd, buf, len, (off_t)gpa) != (ssize_t)len)
		return VMSIG_ERR_OUT_OF_RANGE;
	return 0;
}

void image_init(struct image *image)
{
	const uint64_t size = IMAGE_SIZE;

	memset(image, 0, sizeof(*image));
	image->fd = memfd_create("vmsig-image", MFD_CLOEXEC);
	assert_true(image->fd >= 0);
	assert_int_equal(ftruncate(image->fd, IMAGE_SIZE), 0);
	image->ram = mmap(NULL, IMAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, image->fd, 0);
	assert_ptr_not_equal(image->ram, MAP_FAILED);
	assert_int_equal(physmap_init_low(&image->map, IMAGE_SIZE, IMAGE_SIZE), 0);
	assert_int_equal(span_init(&image->span, &image->fd, &size, 1), 0);
	image->memory = (struct kcr3_memory){
		.read = read_gpa, .ctx = image, .map = &image->map, .files = &image->span};
	image->next_table = TABLES_AT;
}

void image_deinit(struct image *image)
{
	physmap_deinit(&image->map);
	munmap(image->ram, IMAGE_SIZE);
	span_close(&image->span);
}

static uint64_t *entry_at(struct image *image, uint64_t table, unsigned level, uint64_t gva)
{
	uint64_t *entries = (uint64_t *)(void *)(image->ram + table);

	return &entries[gva >> (12 + 9 * (level - 1)) & 511];
}

void image_map(struct image *image, uint64_t root, unsigned levels, uint64_t gva, uint64_t gpa,
	uint64_t flags)
{
	uint64_t table = root;

	for (unsigned level = levels; level > 1; level--) {
		uint64_t *entry = entry_at(image, table, level, gva);

		if (!*entry) {
			*entry = image->next_table | IMAGE_PRESENT;
			image->next_table += 4096;
			assert_true(image->next_table < IMAGE_SIZE);
		}
		table = *entry & PGWALK_ADDR_MASK;
	}
	*entry_at(image, table, 1, gva) = gpa | flags;
}

void image_clone_root(struct image *image, uint64_t root, uint64_t clone)
{
	memcpy(image->ram + clone + 2048, image->ram + root + 2048, 2048);
}

/* Virtual address of a guest-physical one in the kernel's image mapping. */
static uint64_t kernel_gva(const struct image_linux *linux_, uint64_t gpa)
{
	return KERNEL_MAP + gpa - (uint64_t)linux_->phys_base;
}

void image_put_note(struct image *image, const struct image_linux *linux_, const char *extra)
{
	char *at = (char *)image->ram + linux_->note + linux_->note_offset;

	snprintf(at, 4000,
		"OSRELEASE=%s\nBUILD-ID=0123\nPAGESIZE=4096\nSYMBOL(init_uts_ns)=%" PRIx64
		"\nOFFSET(uts_namespace.name)=0\nSYMBOL(swapper_pg_dir)=%" PRIx64
		"\nNUMBER(phys_base)=%" PRId64
		"\nNUMBER(pgtable_l5_enabled)=%d\nNUMBER(sme_mask)=0\nKERNELOFFSET=%" PRIx64 "\n%s",
		linux_->release, kernel_gva(linux_, linux_->text), kernel_gva(linux_, linux_->root),
		linux_->phys_base, linux_->levels == 5, linux_->offset, extra);
}

void image_put_linux(struct image *image, const struct image_linux *linux_)
{
	uint64_t direct = linux_->levels == 5 ? 0xff11000000000000ull : 0xffff888000000000ull;

	if (linux_->direct_map)
		direct = linux_->direct_map;
	image_map(image, linux_->root, linux_->levels, kernel_gva(linux_, linux_->text),
		linux_->text, IMAGE_PRESENT);
	image_map(image, linux_->root, linux_->levels, kernel_gva(linux_, linux_->root),
		linux_->root, IMAGE_PRESENT);
	/* The direct map: a live kernel has more than its image. */
	image_map(image, linux_->root, linux_->levels, direct, 0, IMAGE_PRESENT);
	strcpy((char *)image->ram + linux_->text + UTS_RELEASE, linux_->release);
	image_put_note(image, linux_, "");
}

void image_replace_text(struct image *image, uint64_t gpa, const char *from, const char *to)
{
	char *text = (char *)image->ram + gpa, *at = strstr(text, from);

	assert_non_null(at);
	memmove(at + strlen(to), at + strlen(from), strlen(at + strlen(from)) + 1);
	/* NOLINTNEXTLINE(bugprone-not-null-terminated-result): the rest of the text follows */
	memcpy(at, to, strlen(to));
}

int image_lab_setup(void **state)
{
	struct image_lab *lab = calloc(1, sizeof(*lab));

	assert_non_null(lab);
	image_init(&lab->image);
	*state = lab;
	return 0;
}

int image_lab_teardown(void **state)
{
	struct image_lab *lab = *state;

	image_deinit(&lab->image);
	free(lab);
	return 0;
}
