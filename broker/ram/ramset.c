/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/ram/ramset.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "proto/guest/physmap.h"
#include "vmsig/vmsig_error.h"

/* FNV-1a, 64 bits */
#define FNV_BASIS 0xcbf29ce484222325ull
#define FNV_PRIME 0x100000001b3ull

struct part {
	struct ram *file;
	struct claim claim;
};

struct ramset {
	struct span span; /* of the files' own descriptors, which are never asked for data */
	size_t n;
	struct part parts[];
};

static bool same_inode(const struct ram *a, const struct ram *b)
{
	return ram_device(a) == ram_device(b) && ram_inode(a) == ram_inode(b);
}

static int check_twice(struct ram *const *files, size_t n, char *error, size_t error_size)
{
	for (size_t i = 0; i < n; i++) {
		for (size_t j = 0; j < i; j++) {
			if (!same_inode(files[i], files[j]))
				continue;
			snprintf(error, error_size,
				"RAM files %zu and %zu are the same file, and a page of it "
				"cannot be in two places; give each part of RAM a file of its own",
				j + 1, i + 1);
			return VMSIG_ERR_BAD_REQUEST;
		}
	}
	return 0;
}

static int check_pages(struct ram *const *files, size_t n, char *error, size_t error_size)
{
	uint64_t at = 0;

	for (size_t i = 0; i < n; i++) {
		if (at % ram_page_size(files[i])) {
			snprintf(error, error_size,
				"RAM file %zu is mapped by pages of %" PRIu64 " bytes, and the "
				"files before it have %" PRIu64 " bytes, no multiple of that; "
				"make them whole pages, and begin with the files of the largest",
				i + 1, ram_page_size(files[i]), at);
			return VMSIG_ERR_BAD_REQUEST;
		}
		at += ram_size(files[i]);
	}
	return 0;
}

static int lay_out(struct ramset *set, char *error, size_t error_size)
{
	uint64_t sizes[VMSIG_MEMFILES_MAX];
	int fds[VMSIG_MEMFILES_MAX], r;

	for (size_t i = 0; i < set->n; i++) {
		fds[i] = ram_fd(set->parts[i].file);
		sizes[i] = ram_size(set->parts[i].file);
	}
	r = span_init(&set->span, fds, sizes, set->n);
	if (r)
		snprintf(error, error_size, r < 0 ? "out of memory" : "RAM has too many bytes");
	return r;
}

int ramset_new(
	struct ramset **ret_set, struct ram *const *files, size_t n, char *error, size_t error_size)
{
	struct ramset *set;
	int r = check_twice(files, n, error, error_size);

	if (!r)
		r = check_pages(files, n, error, error_size);
	if (r)
		return r;
	set = calloc(1, sizeof(*set) + n * sizeof(set->parts[0]));
	if (!set) {
		snprintf(error, error_size, "out of memory");
		return -ENOMEM;
	}
	set->n = n;
	for (size_t i = 0; i < n; i++)
		set->parts[i].file = files[i];
	r = lay_out(set, error, error_size);
	if (r)
		free(set);
	else
		*ret_set = set;
	return r;
}

struct ramset *ramset_free(struct ramset *set)
{
	if (!set)
		return NULL;
	span_deinit(&set->span);
	for (size_t i = 0; i < set->n; i++) {
		claim_drop(&set->parts[i].claim);
		ram_free(set->parts[i].file);
	}
	free(set);
	return NULL;
}

void ramset_order(struct ram **files, size_t n)
{
	for (size_t i = 1; i < n; i++) {
		struct ram *file = files[i];
		size_t j = i;

		for (; j && ram_page_size(files[j - 1]) < ram_page_size(file); j--)
			files[j] = files[j - 1];
		files[j] = file;
	}
}

size_t ramset_count(const struct ramset *set)
{
	return set->n;
}

const struct ram *ramset_file(const struct ramset *set, size_t i)
{
	return set->parts[i].file;
}

uint64_t ramset_start(const struct ramset *set, size_t i)
{
	return set->span.files[i].start;
}

uint64_t ramset_size(const struct ramset *set)
{
	return set->span.size;
}

const char *ramset_claim(struct ramset *set, struct claims *claims, const char *name)
{
	const char *other = NULL;

	/* Who cannot have all of them takes nothing from anybody. */
	for (size_t i = 0; !other && i < set->n; i++)
		other = claim_obstacle(&set->parts[i].claim, claims, set->parts[i].file);
	for (size_t i = 0; !other && i < set->n; i++)
		other = claim_take(&set->parts[i].claim, claims, set->parts[i].file, name);
	for (size_t i = 0; other && i < set->n; i++)
		claim_drop(&set->parts[i].claim);
	return other;
}

bool ramset_is_claimed(const struct ramset *set)
{
	bool claimed = true;

	for (size_t i = 0; i < set->n; i++)
		claimed &= claim_holds(&set->parts[i].claim);
	return claimed;
}

/* ---- what is said of all ---- */

/* Of a file that only its mode guards somebody else than root is the owner: root passes any. */
static bool has_owner(const struct ram *file)
{
	return ram_guard(file) == VMSIG_GUARD_MODE && ram_owner(file) != 0;
}

uid_t ramset_owner(const struct ramset *set)
{
	for (size_t i = 0; i < set->n; i++) {
		if (has_owner(set->parts[i].file))
			return ram_owner(set->parts[i].file);
	}
	return ram_owner(set->parts[0].file);
}

enum vmsig_guard ramset_guard(const struct ramset *set)
{
	enum vmsig_guard weakest = VMSIG_GUARD_SEALED;

	for (size_t i = 0; i < set->n; i++) {
		enum vmsig_guard guard = ram_guard(set->parts[i].file);

		if (has_owner(set->parts[i].file) &&
			ram_owner(set->parts[i].file) != ramset_owner(set))
			guard = VMSIG_GUARD_NONE;
		weakest = guard < weakest ? guard : weakest;
	}
	return weakest;
}

bool ramset_is_sparse(const struct ramset *set)
{
	for (size_t i = 0; i < set->n; i++) {
		if (ram_is_sparse(set->parts[i].file))
			return true;
	}
	return false;
}

static uint64_t mix(uint64_t digest, uint64_t value)
{
	for (unsigned i = 0; i < sizeof(value); i++)
		digest = (digest ^ ((value >> 8 * i) & 0xff)) * FNV_PRIME;
	return digest;
}

uint64_t ramset_digest(const struct ramset *set)
{
	uint64_t digest = FNV_BASIS;

	for (size_t i = 0; i < set->n; i++) {
		digest = mix(digest, ram_device(set->parts[i].file));
		digest = mix(digest, ram_inode(set->parts[i].file));
	}
	return digest;
}

enum ram_change ramset_check(const struct ramset *set)
{
	/* A name that is gone says least: what is mapped is still the guest's. */
	static const int weights[] = {[RAM_SAME] = 0,
		[RAM_MISSING] = 1,
		[RAM_REPLACED] = 2,
		[RAM_UNMAPPED] = 3,
		[RAM_SHRUNK] = 4};
	enum ram_change worst = RAM_SAME;

	for (size_t i = 0; i < set->n; i++) {
		enum ram_change change = ram_check(set->parts[i].file);

		worst = weights[change] > weights[worst] ? change : worst;
	}
	return worst;
}

/* ---- descriptors and bytes ---- */

static int share_all(const struct ramset *set, int (*open_one)(const struct ram *ram), int *ret_fds,
	uint64_t *ret_sizes)
{
	for (size_t i = 0; i < set->n; i++) {
		ret_fds[i] = open_one(set->parts[i].file);
		ret_sizes[i] = ram_size(set->parts[i].file);
		if (ret_fds[i] < 0) {
			int r = ret_fds[i];

			while (i)
				close(ret_fds[--i]);
			return r;
		}
	}
	return (int)set->n;
}

int ramset_share(const struct ramset *set, int ret_fds[static VMSIG_MEMFILES_MAX],
	uint64_t ret_sizes[static VMSIG_MEMFILES_MAX])
{
	return share_all(set, ram_share, ret_fds, ret_sizes);
}

int ramset_share_writable(const struct ramset *set, int ret_fds[static VMSIG_MEMFILES_MAX],
	uint64_t ret_sizes[static VMSIG_MEMFILES_MAX])
{
	return share_all(set, ram_open_writable, ret_fds, ret_sizes);
}

int ramset_span(const struct ramset *set, struct span *ret_span)
{
	uint64_t sizes[VMSIG_MEMFILES_MAX];
	int fds[VMSIG_MEMFILES_MAX], r;

	for (size_t i = 0; i < set->n; i++) {
		fds[i] = ram_share(set->parts[i].file);
		sizes[i] = ram_size(set->parts[i].file);
	}
	r = span_init(ret_span, fds, sizes, set->n);
	for (size_t i = 0; r && i < set->n; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
	}
	return r;
}

static int read_piece(void *ctx, uint64_t off, void *buf, size_t len)
{
	const struct ramset *set = ctx;

	return span_pread(&set->span, off, buf, len);
}

int ramset_read_gpa(
	const struct ramset *set, const struct physmap *map, uint64_t gpa, void *buf, size_t len)
{
	return physmap_read(map, gpa, buf, len, read_piece, (void *)(uintptr_t)set);
}
