/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/linux/profile.h"

#include <stdlib.h>
#include <string.h>
#include <threads.h>

#include "vmsig/vmsig_error.h"

#define BANNER "linux_banner"
#define BANNER_BYTES 256u
#define CHUNK (64u << 10)

/* What was learnt from. */
enum profile_source { SOURCE_BANNER, SOURCE_SYMBOLS, SOURCE_TYPES, SOURCES };

struct linux_profile {
	struct linux_profile *next;
	unsigned users;
	struct linux_symbols symbols;
	struct linux_fields fields;
	struct profile_part {
		uint64_t gva;
		size_t len;
		uint8_t *bytes;
	} parts[SOURCES];
};

/* The one that was used last comes first. */
static struct linux_profile *profiles;
static mtx_t lock;
static once_flag made = ONCE_FLAG_INIT;

static void make_lock(void)
{
	/* A plain one always can be. */
	(void)mtx_init(&lock, mtx_plain);
}

static void alone(void)
{
	call_once(&made, make_lock);
	mtx_lock(&lock);
}

static struct linux_profile *profile_free(struct linux_profile *profile)
{
	for (size_t i = 0; profile && i < SOURCES; i++)
		free(profile->parts[i].bytes);
	free(profile);
	return NULL;
}

/* VMSIG_ERR_NO_MEMORY, or why it cannot be read. */
static int take_part(
	struct profile_part *part, struct linux_kernel *kernel, uint64_t gva, size_t len)
{
	*part = (struct profile_part){.gva = gva, .len = len, .bytes = malloc(len)};
	if (!part->bytes)
		return VMSIG_ERR_NO_MEMORY;
	linux_begin(kernel);
	linux_read(kernel, gva, part->bytes, len);
	return kernel->fault;
}

static int take_parts(struct linux_profile *profile, struct linux_kernel *kernel)
{
	const struct {
		uint64_t gva;
		size_t len;
	} sources[SOURCES] = {
		[SOURCE_BANNER] = {linux_symbols_addr(&kernel->symbols, BANNER), BANNER_BYTES},
		[SOURCE_SYMBOLS] = {kernel->symbols.at, kernel->symbols.len},
		[SOURCE_TYPES] = {kernel->fields.types, kernel->fields.types_len}};
	int r = 0;

	for (size_t i = 0; i < SOURCES && !r; i++)
		r = sources[i].len
			    ? take_part(&profile->parts[i], kernel, sources[i].gva, sources[i].len)
			    : VMSIG_ERR_UNSUPPORTED;
	return r;
}

static bool is_part_of(const struct profile_part *part, struct linux_kernel *kernel, uint8_t *bytes)
{
	for (size_t at = 0; at < part->len; at += CHUNK) {
		size_t n = part->len - at < CHUNK ? part->len - at : CHUNK;

		linux_begin(kernel);
		linux_read(kernel, part->gva + at, bytes, n);
		if (kernel->fault || memcmp(bytes, part->bytes + at, n) != 0)
			return false;
	}
	return true;
}

static bool is_of(const struct linux_profile *profile, struct linux_kernel *kernel)
{
	uint8_t *bytes = malloc(CHUNK);
	bool is = bytes;

	for (size_t i = 0; i < SOURCES && is; i++)
		is = is_part_of(&profile->parts[i], kernel, bytes);
	free(bytes);
	return is;
}

static void give(struct linux_profile *profile, struct linux_kernel *kernel)
{
	profile->users++;
	kernel->profile = profile;
	kernel->symbols = profile->symbols;
	kernel->fields = profile->fields;
}

static void put_first(struct linux_profile *profile)
{
	profile->next = profiles;
	profiles = profile;
}

int linux_profile_keep(struct linux_kernel *kernel)
{
	struct linux_profile *profile = kernel->inferred ? NULL : calloc(1, sizeof(*profile));
	int r = kernel->inferred ? VMSIG_ERR_UNSUPPORTED : VMSIG_ERR_NO_MEMORY;

	if (profile)
		r = take_parts(profile, kernel);
	linux_begin(kernel);
	if (r) {
		profile_free(profile);
		return r == VMSIG_ERR_NO_MEMORY ? r : 0;
	}
	profile->symbols = kernel->symbols;
	profile->fields = kernel->fields;
	alone();
	put_first(profile);
	give(profile, kernel);
	mtx_unlock(&lock);
	return 0;
}

bool linux_profile_find(struct linux_kernel *kernel)
{
	alone();
	for (struct linux_profile **at = &profiles; *at; at = &(*at)->next) {
		struct linux_profile *profile = *at;

		if (!is_of(profile, kernel))
			continue;
		*at = profile->next;
		put_first(profile);
		give(profile, kernel);
		break;
	}
	mtx_unlock(&lock);
	linux_begin(kernel);
	return kernel->profile;
}

/* The ones that nobody has used for longest go. */
static void forget_some(void)
{
	unsigned unused = 0;

	for (struct linux_profile **at = &profiles; *at;) {
		struct linux_profile *profile = *at;

		if (profile->users || ++unused <= LINUX_PROFILES_KEPT) {
			at = &profile->next;
			continue;
		}
		*at = profile->next;
		linux_symbols_deinit(&profile->symbols);
		profile_free(profile);
	}
}

void linux_profile_release(struct linux_kernel *kernel)
{
	alone();
	kernel->profile->users--;
	kernel->profile = NULL;
	kernel->symbols = (struct linux_symbols){0};
	forget_some();
	mtx_unlock(&lock);
}
