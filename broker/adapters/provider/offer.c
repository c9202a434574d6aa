/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/adapters/provider/offer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "broker/net/closer.h"
#include "broker/ram/beneath.h"

#define POLL_MS 1000u /* between two looks whether its files have shrunk */

static int copy_wish(struct offer *offer, const struct offer_wish *wish)
{
	struct config_endpoint *config = &offer->config;
	size_t bytes = wish->nseg * sizeof(*wish->segs);

	*config = (struct config_endpoint){.name = strdup(wish->name),
		.adapter = CONFIG_ADAPTER_PROVIDER,
		.writable = wish->writable,
		.owner = UINT32_MAX,
		.low = wish->low,
		.segs = bytes ? malloc(bytes) : NULL,
		.nseg = wish->nseg,
		.poll_ms = POLL_MS};
	if (!config->name || (bytes && !config->segs))
		return -ENOMEM;
	if (bytes)
		memcpy(config->segs, wish->segs, bytes);
	offer_set_kernel(offer, wish->kcr3, wish->levels);
	return 0;
}

int offer_new(struct offer **ret_offer, const struct offer_wish *wish, const int *fds, size_t nfds,
	struct closer *closer)
{
	struct offer *offer = calloc(1, sizeof(*offer));

	if (!offer)
		return -ENOMEM;
	offer->refs = 1;
	offer->closer = closer;
	offer->uid = wish->uid;
	if (copy_wish(offer, wish) ||
		getrandom(&offer->number, sizeof(offer->number), 0) != sizeof(offer->number)) {
		offer_unref(offer);
		return -ENOMEM;
	}
	memcpy(offer->fds, fds, nfds * sizeof(*fds));
	offer->nfds = nfds;
	*ret_offer = offer;
	return 0;
}

struct offer *offer_ref(struct offer *offer)
{
	offer->refs++;
	return offer;
}

struct offer *offer_unref(struct offer *offer)
{
	if (!offer || --offer->refs)
		return NULL;
	for (size_t i = 0; i < offer->nfds; i++)
		closer_give(offer->closer, offer->fds[i], offer->uid);
	free(offer->config.name);
	free(offer->config.segs);
	free(offer);
	return NULL;
}

static bool is_same_file(int a, int b)
{
	struct stat x, y;

	return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino;
}

bool offer_is_same_ram(const struct offer *a, const struct offer *b)
{
	const struct config_endpoint *x = &a->config, *y = &b->config;
	bool same = a->nfds == b->nfds && x->low == y->low && x->nseg == y->nseg &&
		    x->writable == y->writable;

	if (same && x->nseg)
		same = memcmp(x->segs, y->segs, x->nseg * sizeof(*x->segs)) == 0;
	for (size_t i = 0; same && i < a->nfds; i++)
		same = is_same_file(a->fds[i], b->fds[i]);
	return same;
}

void offer_set_kernel(struct offer *offer, uint64_t kcr3, uint32_t levels)
{
	offer->config.kcr3_given = levels != 0;
	offer->config.kcr3 = kcr3;
	offer->config.levels = levels;
}

void offer_tell(struct offer *offer, int error, const char *why)
{
	void (*opened)(void *ctx, int error, const char *why) = offer->opened;

	offer->opened = NULL;
	if (opened)
		opened(offer->opened_ctx, error, why);
}
