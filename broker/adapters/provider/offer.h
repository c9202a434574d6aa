/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ADAPTERS_PROVIDER_OFFER_H
#define BROKER_ADAPTERS_PROVIDER_OFFER_H

/*
 * A guest that a provider offers over the admin plane: its RAM's descriptors, its layout, and the
 * seam to the adapter that serves it (the adapter `file`, which has files here instead of paths).
 * Counted references, of the loop's thread; the descriptors are closed by the closer's threads,
 * because who gave them away may be dead, and then the last close frees the guest's RAM.
 *
 *   offer  what is offered, and both sides of it
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "broker/config/config.h"

#define OFFER_FILES_MAX 16u /* as many as come with one message */
#define OFFER_NAME_MAX 64u

struct closer;

/* What the adapter does when the provider speaks, or is heard of no more. */
struct offer_guest {
	/* The guest was reset; the kernel is at offer_config()->kcr3 now, or to be found. */
	void (*invalidate)(void *ctx, const char *why);
	/* The provider is gone, and may come back. */
	void (*away)(void *ctx);
	/* It is, and says that the guest has been the same meanwhile. */
	void (*back)(void *ctx);
};

struct offer {
	unsigned refs;
	struct closer *closer; /* borrowed */
	struct config_endpoint config;
	int fds[OFFER_FILES_MAX];
	size_t nfds;
	uid_t uid;       /* the provider's */
	uint64_t number; /* tells it from all others of this and other brokers */

	/* The adapter's side; NULL: none serves it at the moment. */
	const struct offer_guest *guest;
	void *guest_ctx;

	/* The other side: RAM was opened (0), or why not. Called once. */
	void (*opened)(void *ctx, int error, const char *why);
	void *opened_ctx;
};

/* What a provider says of it. Texts and lists are copied. */
struct offer_wish {
	const char *name;
	uint64_t low;
	const vmsig_memseg *segs;
	size_t nseg;
	uint64_t kcr3;
	uint32_t levels; /* of its tables; 0: to be found */
	bool writable;
	uid_t uid;
};

/* Takes the descriptors over when it succeeds. -ENOMEM. */
__attribute__((warn_unused_result)) int offer_new(struct offer **ret_offer,
	const struct offer_wish *wish, const int *fds, size_t nfds, struct closer *closer);
struct offer *offer_ref(struct offer *offer);
/* Accepts NULL, returns NULL. */
struct offer *offer_unref(struct offer *offer);

/* Whether both are of the same files, in the same layout. fstat(2) of files in memory waits for
 * nobody. */
bool offer_is_same_ram(const struct offer *a, const struct offer *b);
/* Where the guest's kernel is from now on. */
void offer_set_kernel(struct offer *offer, uint64_t kcr3, uint32_t levels);

/* By the adapter: what has become of the RAM; only the first time counts. */
void offer_tell(struct offer *offer, int error, const char *why);

#endif
