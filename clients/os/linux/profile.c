/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/linux/profile.h"

#include <stdlib.h>
#include <string.h>
#include <threads.h>

#include "vmsig/vmsig_error.h"

#define SAMPLE 256u
#define SAMPLES 4u
#define BANNER "linux_banner"

struct linux_profile {
	struct linux_profile *next;
	unsigned users;
	struct linux_symbols symbols;
	struct linux_fields fields;
	bool inferred;
	struct {
		uint64_t gva;
		uint8_t bytes[SAMPLE];
	} samples[SAMPLES];
	size_t count;
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

static void take_sample(struct linux_profile *profile, struct linux_kernel *kernel, uint64_t gva)
{
	if (!gva)
		return;
	linux_begin(kernel);
	linux_read(kernel, gva, profile->samples[profile->count].bytes, SAMPLE);
	profile->samples[profile->count].gva = gva;
	profile->count += !kernel->fault;
}

static bool is_of(const struct linux_profile *profile, struct linux_kernel *kernel)
{
	uint8_t bytes[SAMPLE];

	for (size_t i = 0; i < profile->count; i++) {
		linux_begin(kernel);
		linux_read(kernel, profile->samples[i].gva, bytes, SAMPLE);
		if (kernel->fault || memcmp(bytes, profile->samples[i].bytes, SAMPLE) != 0)
			return false;
	}
	return profile->count > 1;
}

static void give(struct linux_profile *profile, struct linux_kernel *kernel)
{
	profile->users++;
	kernel->profile = profile;
	kernel->symbols = profile->symbols;
	kernel->fields = profile->fields;
	kernel->inferred = profile->inferred;
}

static void put_first(struct linux_profile *profile)
{
	profile->next = profiles;
	profiles = profile;
}

int linux_profile_keep(struct linux_kernel *kernel)
{
	struct linux_profile *profile = calloc(1, sizeof(*profile));
	uint32_t len = kernel->fields.types_len;

	if (!profile)
		return VMSIG_ERR_NO_MEMORY;
	profile->symbols = kernel->symbols;
	profile->fields = kernel->fields;
	profile->inferred = kernel->inferred;
	take_sample(profile, kernel, linux_symbols_addr(&kernel->symbols, BANNER));
	take_sample(profile, kernel, kernel->symbols.at);
	/* Of one that says nothing of its types any more there is a place for that, too. */
	take_sample(profile, kernel,
		len ? kernel->fields.types : linux_symbols_addr(&kernel->symbols, "__start_BTF"));
	if (len > SAMPLE)
		take_sample(profile, kernel, kernel->fields.types + len - SAMPLE);
	linux_begin(kernel);
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
		free(profile);
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
