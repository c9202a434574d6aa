/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_INTEGRATION_VMSIGD_PROVIDER_H
#define TESTS_INTEGRATION_VMSIGD_PROVIDER_H

/*
 * A scene with providers: `maker` may offer m* (as a test says), `other` may too, and a1, which is
 * configured; ops may write to whatever there is.
 */

#include "tests/integration/vmsigd/scene.h"
#include "tests/support/write_client.h"

#define PROVIDER_KCR3 0x7000u
#define PROVIDER_LONG "{provider_grace: 10min}"

struct provider_guest {
	const char *name;
	uint64_t low;
	int fds[2];
	size_t nfds;
	Vmsig__Segment *segments[2];
	size_t nsegments;
	bool writable, find; /* find: its kernel is not known */
};

extern struct pki_cert provider_maker, provider_other, provider_ops;

/* cmocka's; scene_teardown() ends it. */
int provider_setup(void **state);
/* Writes the configuration anew: limits, the names that maker may offer, and its uid. */
void provider_configure(struct scene *scene, const char *limits, const char *names, unsigned uid);
/* A connection to the administrators' plane. */
void provider_dial(struct scene *scene, struct write_client *client, const struct pki_cert *cert);
/* A file in memory; the caller's. */
int provider_memfd(off_t size);
/* These return the error's code, or 0; -1: the connection has ended. */
int provider_answer(struct write_client *client, bool *ret_resumed);
int provider_offer(
	struct write_client *client, const struct provider_guest *guest, bool *ret_resumed);
int provider_offer_one(struct write_client *client, const char *name, int fd);
/* The guest was reset, or it ends. */
int provider_say(struct write_client *client, bool invalidate, const char *name);
/* Its epoch, once it is ready. */
uint32_t provider_epoch(struct scene *scene, const char *name);

#endif
