/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/guest/ntimage.h"

#include <stdio.h>
#include <string.h>

#include "proto/guest/space.h"
#include "vmsig/vmsig_error.h"

#define HEADERS 1024u /* bytes of the image that have all headers that are looked at */
#define DOS_MAGIC 0x5a4du
#define DOS_LFANEW 0x3cu
#define NT_SIGNATURE 0x4550u
#define NT_MACHINE 4u /* offsets from the NT headers on */
#define NT_STAMP 8u
#define NT_OPTIONAL 24u
#define MACHINE_AMD64 0x8664u
#define OPTIONAL_PE32_PLUS 0x20bu
#define OPTIONAL_OS_MAJOR 40u /* offsets in the optional header */
#define OPTIONAL_OS_MINOR 42u
#define OPTIONAL_IMAGE_SIZE 56u
#define OPTIONAL_EXPORTS 112u /* RVA and size of the export directory */
#define OPTIONAL_USED 120u

#define EXPORTS_SIZE 40u
#define EXPORTS_NAME 12u
#define EXPORTS_NFUNCTIONS 20u
#define EXPORTS_NNAMES 24u
#define EXPORTS_FUNCTIONS 28u
#define EXPORTS_NAMES 32u
#define EXPORTS_ORDINALS 36u
#define EXPORTS_MAX 65536u /* an ordinal has 16 bits */

#define IMAGE_MAX (256u << 20) /* real ones have 5 to 24 MiB */
#define NAME_MAX_LEN 32u       /* bytes of a name, with its NUL, that is looked for */
#define BUILD_FIRST 3790u      /* of the first Windows for x86-64 */
#define KERNEL_HALF 0xffff800000000000ull
#define DIRECTORY_TABLE_BASE 0x28u /* of KPROCESS, in every Windows for x86-64 */

#define TABLES_MAX 1024u /* read in one go through the tables */
#define LARGE_MAX (2u << 20)

static uint16_t half(const uint8_t *at)
{
	uint16_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static uint32_t word(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

/* An image that is being read. */
struct ntimage_reader {
	const struct pgwalk *walk;
	uint64_t base;
	uint32_t size;
	uint8_t exports[EXPORTS_SIZE];
};

static int rva_read(const struct ntimage_reader *reader, uint64_t rva, void *buf, size_t len)
{
	if (rva > reader->size || len > reader->size - rva)
		return VMSIG_ERR_NOT_READY;
	return space_read(reader->walk, reader->base + rva, buf, len) ? VMSIG_ERR_NOT_READY : 0;
}

static int headers_read(struct ntimage_reader *reader, struct ntimage *image)
{
	uint8_t headers[HEADERS];
	const uint8_t *nt, *optional;
	uint32_t lfanew;

	if (space_read(reader->walk, reader->base, headers, sizeof(headers)) ||
		half(headers) != DOS_MAGIC)
		return VMSIG_ERR_NOT_READY;
	lfanew = word(headers + DOS_LFANEW);
	if (lfanew > HEADERS - NT_OPTIONAL - OPTIONAL_USED)
		return VMSIG_ERR_NOT_READY;
	nt = headers + lfanew;
	optional = nt + NT_OPTIONAL;
	if (word(nt) != NT_SIGNATURE || half(nt + NT_MACHINE) != MACHINE_AMD64 ||
		half(optional) != OPTIONAL_PE32_PLUS)
		return VMSIG_ERR_NOT_READY;
	reader->size = word(optional + OPTIONAL_IMAGE_SIZE);
	if (reader->size > IMAGE_MAX)
		return VMSIG_ERR_NOT_READY;
	image->stamp = word(nt + NT_STAMP);
	snprintf(image->release, sizeof(image->release), "%u.%u",
		half(optional + OPTIONAL_OS_MAJOR), half(optional + OPTIONAL_OS_MINOR));
	return rva_read(reader, word(optional + OPTIONAL_EXPORTS), reader->exports, EXPORTS_SIZE);
}

/* How the string at `rva` stands to the name, as strcmp() says: behind the first difference, or the
 * NUL that they share, nothing counts. */
static int name_compare(
	const struct ntimage_reader *reader, uint64_t rva, const char *name, int *ret_order)
{
	char text[NAME_MAX_LEN];
	size_t len = strlen(name) + 1;
	int r = rva_read(reader, rva, text, len);

	if (!r)
		*ret_order = memcmp(text, name, len);
	return r;
}

static int calls_itself(const struct ntimage_reader *reader, const char *name)
{
	int order, r = name_compare(reader, word(reader->exports + EXPORTS_NAME), name, &order);

	return r || order ? VMSIG_ERR_NOT_READY : 0;
}

/* The names are sorted, as the loader needs them. */
static int export_index(const struct ntimage_reader *reader, const char *name, uint32_t *ret_index)
{
	uint32_t low = 0, high = word(reader->exports + EXPORTS_NNAMES);
	uint64_t names = word(reader->exports + EXPORTS_NAMES);

	if (high > EXPORTS_MAX)
		return VMSIG_ERR_NOT_READY;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		uint8_t rva[4];
		int order, r = rva_read(reader, names + 4ull * middle, rva, sizeof(rva));

		if (!r)
			r = name_compare(reader, word(rva), name, &order);
		if (r)
			return r;
		if (order == 0) {
			*ret_index = middle;
			return 0;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return VMSIG_ERR_NOT_READY;
}

/* The bytes of the variable that is exported as `name`. */
static int export_read(const struct ntimage_reader *reader, const char *name, void *buf, size_t len)
{
	uint8_t ordinal[2], rva[4];
	uint32_t index;
	int r = export_index(reader, name, &index);

	if (!r)
		r = rva_read(reader, word(reader->exports + EXPORTS_ORDINALS) + 2ull * index,
			ordinal, sizeof(ordinal));
	if (!r && half(ordinal) >= word(reader->exports + EXPORTS_NFUNCTIONS))
		r = VMSIG_ERR_NOT_READY;
	if (!r)
		r = rva_read(reader,
			word(reader->exports + EXPORTS_FUNCTIONS) + 4ull * half(ordinal), rva,
			sizeof(rva));
	return r ? r : rva_read(reader, word(rva), buf, len);
}

/* NtBuildNumber has the build in its low half, and in its highest digit that it is a free (f)
 * or a checked (c) one. */
static int build_read(const struct ntimage_reader *reader, struct ntimage *image)
{
	size_t len = strlen(image->release);
	uint32_t number;
	int r = export_read(reader, "NtBuildNumber", &number, sizeof(number));

	if (r)
		return r;
	if ((number >> 28 != 0xf && number >> 28 != 0xc) || (number & 0xffff) < BUILD_FIRST)
		return VMSIG_ERR_NOT_READY;
	snprintf(image->release + len, sizeof(image->release) - len, ".%u", number & 0xffff);
	return 0;
}

static int system_read(const struct ntimage_reader *reader, struct ntimage *image)
{
	uint64_t process, root;
	int r = export_read(reader, "PsInitialSystemProcess", &process, sizeof(process));

	image->root = 0;
	if (r || process < KERNEL_HALF)
		return r;
	if (space_read(reader->walk, process + DIRECTORY_TABLE_BASE, &root, sizeof(root)))
		return VMSIG_ERR_NOT_READY;
	image->root = root & PGWALK_ADDR_MASK;
	return 0;
}

int ntimage_read(const struct pgwalk *walk, uint64_t base, struct ntimage *ret_image)
{
	struct ntimage_reader reader = {.walk = walk, .base = base};
	struct ntimage image = {.base = base};
	int r = headers_read(&reader, &image);

	if (!r)
		r = calls_itself(&reader, "ntoskrnl.exe");
	if (!r)
		r = build_read(&reader, &image);
	if (!r)
		r = system_read(&reader, &image);
	if (!r)
		*ret_image = image;
	return r;
}

/* ---- searching ---- */

struct ntimage_visit {
	const struct pgwalk *walk;
	struct ntimage_search *search;
	bool (*is_spent)(void *ctx);
	void *ctx;
	struct ntimage image;
	bool found;
};

static bool is_image(struct ntimage_visit *visit, uint64_t gva, uint64_t gpa)
{
	uint8_t magic[2];

	return visit->walk->read(visit->walk->ctx, gpa, magic, sizeof(magic)) == 0 &&
	       half(magic) == DOS_MAGIC && ntimage_read(visit->walk, gva, &visit->image) == 0;
}

/* pgwalk_visit_fn. An image may begin at any page, also within a large one. */
static int look_at_leaf(void *ctx, const struct pgwalk_leaf *leaf)
{
	struct ntimage_visit *visit = ctx;
	struct ntimage_search *search = visit->search;
	uint64_t into = search->next > leaf->gva ? search->next - leaf->gva : 0;

	if ((leaf->perm & PGWALK_USER) || leaf->size > LARGE_MAX)
		return 0;
	for (; into < leaf->size; into += PGWALK_PAGE) {
		search->next = leaf->gva + into;
		if (visit->is_spent(visit->ctx))
			return VMSIG_ERR_WOULD_BLOCK;
		if (!search->pages)
			return VMSIG_ERR_NOT_READY;
		search->pages--;
		visit->found = is_image(visit, search->next, leaf->gpa + into);
		if (visit->found)
			return VMSIG_ERR_BUSY; /* ends the visit */
	}
	search->next = leaf->gva + leaf->size;
	return 0;
}

int ntimage_find(const struct pgwalk *walk, struct ntimage_search *search,
	bool (*is_spent)(void *ctx), void *ctx, struct ntimage *ret_image)
{
	struct ntimage_visit visit = {
		.walk = walk, .search = search, .is_spent = is_spent, .ctx = ctx};
	int r;

	if (search->next > NTIMAGE_LAST)
		return VMSIG_ERR_NOT_READY;
	r = pgwalk_visit(walk, search->next, NTIMAGE_LAST, TABLES_MAX, look_at_leaf, &visit);
	if (visit.found) {
		*ret_image = visit.image;
		return 0;
	}
	return r == VMSIG_ERR_WOULD_BLOCK ? r : VMSIG_ERR_NOT_READY;
}
