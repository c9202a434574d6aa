/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_INTEGRATION_VMSIGD_SCENE_H
#define TESTS_INTEGRATION_VMSIGD_SCENE_H

/*
 * A broker with three file endpoints and two tenants:
 *   acme    sees a1, a2
 *   globex  sees g1
 * and certificates for them, for an operator that nobody named, and for an admin.
 */

#include "tests/support/ctx_client.h"
#include "vmsig/vmsig_error.h"
#include "vmsig/vmsig_event.h"

#define SCENE_RAM (1u << 20) /* bytes of each endpoint */
#define SCENE_KCR3 0x2000u

struct scene {
	struct daemon *daemon;
	struct pki_cert acme, globex, stranger, admin;
	size_t fds; /* of the idle broker */
};

/* cmocka fixtures: a running broker, and none after. Teardown checks that it ends cleanly
 * and that nothing was left open. */
int scene_setup(void **state);
int scene_teardown(void **state);

/* The scene's configuration with other limits and quota of acme, as YAML flow mappings. */
void scene_configure(struct scene *scene, const char *limits, const char *acme_quota);
/* The same with the uid of acme. */
void scene_configure_uid(
	struct scene *scene, const char *limits, const char *acme_quota, unsigned uid);
/* Ends the broker, which must succeed, and starts it with what is configured now. */
void scene_restart(struct scene *scene);
/* Reloads what is configured now and waits until that is done. */
void scene_reload(struct scene *scene);

/* The broker serves somebody else as if nothing had happened. */
void scene_expect_service(struct scene *scene);
/* Another file in the place of a1's RAM, which is a reset of the guest. */
void scene_replace_ram(struct scene *scene);

#endif
