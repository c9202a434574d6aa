/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_INTEGRATION_VMSIGD_DESK_SCENE_H
#define TESTS_INTEGRATION_VMSIGD_DESK_SCENE_H

/*
 * A broker with two writable file endpoints, w1 and w2, one that is not (r1), and operators:
 *   alice  may write to w1 and w2, priority 0, also in bulk
 *   bob    the same, priority up to 9
 *   carol  only w2, only [64 KiB, 128 KiB), her bytes are kept
 * and an administrator who sees everything.
 */

#include "tests/support/write_client.h"
#include "vmsig/vmsig_error.h"

#define DESK_RAM (1u << 20) /* bytes of each endpoint */

struct desk_scene {
	struct daemon *daemon;
	struct pki_cert alice, bob, carol, admin;
	size_t fds; /* of the idle broker */
};

/* cmocka fixtures, as those of scene.h. */
int desk_scene_setup(void **state);
int desk_scene_teardown(void **state);
/* Writes the configuration with other limits and other keys of alice's rule. */
void desk_scene_configure(struct desk_scene *scene, const char *limits, const char *alice_rule);
/* Starts it and waits until its endpoints are ready. */
void desk_scene_start(struct desk_scene *scene);
/* Ends it by the signal, and starts it again. */
void desk_scene_restart(struct desk_scene *scene, int signal);
void desk_scene_reload(struct desk_scene *scene);
/* Leases wait for their holders from now on, however late a loaded machine lets them come back. */
void desk_scene_wait_long(struct desk_scene *scene);

/* What is in the endpoint's RAM at `addr`. */
void desk_scene_read(
	struct desk_scene *scene, const char *endpoint, uint64_t addr, void *buf, size_t len);
/* Changes it behind the broker's back, as the guest does. */
void desk_scene_poke(struct desk_scene *scene, const char *endpoint, uint64_t addr,
	const void *data, size_t len);
/* Ends the endpoint's session: its file is replaced by a new one. */
void desk_scene_reset(struct desk_scene *scene, const char *endpoint);

/* How many audit records of this kind there are, and the newest of them (NULL: not wanted),
 * which the caller frees. */
unsigned desk_scene_audit(
	struct desk_scene *scene, Vmsig__AuditRecord__Kind kind, Vmsig__AuditRecord **ret_newest);

#endif
