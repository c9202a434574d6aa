/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_FAULT_SESSION_H
#define TESTS_FAULT_SESSION_H

/*
 * A session of the write plane as a program has it, by the library: handshake, hello, a lease of
 * alice's of one word of w1, the write of it, the release. What is between it and the broker may
 * fail at any moment.
 */

#include "tests/integration/vmsigd/desk_scene.h"
#include "vmsig/vmsig_write.h"

#define SESSION_ADDR 0x3000u

struct session {
	char identity[PATH_MAX], socket[PATH_MAX];
	int patience_ms; /* for a connection, for an answer */
};

/* By the socket DIR/`name` of the scene; once for each name. */
void session_init(
	struct session *session, struct desk_scene *scene, const char *name, int patience_ms);
/* As far as it comes: 0, or what failed. */
__attribute__((warn_unused_result)) int session_run(const struct session *session, uint64_t word);
/* What is there. */
uint64_t session_word(struct desk_scene *scene);

/* Bob, by a connection of his own, writes what nobody else does. */
void session_of_another(struct desk_scene *scene, uint64_t word);

#endif
