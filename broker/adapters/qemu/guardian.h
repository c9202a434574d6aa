/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ADAPTERS_QEMU_GUARDIAN_H
#define BROKER_ADAPTERS_QEMU_GUARDIAN_H

/*
 * A process of its own that continues guests which the broker has stopped, should the broker
 * die before it does so. It is forked before anything is loaded, holds one socket, and does
 * nothing until the broker's end of it is closed; then it continues what is armed, and exits.
 * Each guest is continued by a short-lived process of its own: over its QMP socket, or, where it
 * has none, by what guardian_start() was given for that.
 *
 * QEMU serves one QMP client at a time, so it can only come in when the broker is gone or has
 * closed its connection.
 */

#include <stdbool.h>
#include <sys/types.h>

#define GUARDIAN_WARD_MAX 300

struct guardian;

/* Has a guest without a QMP socket go on: `ward` says which one, and `process` is its QEMU's pidfd.
 * It may wait, as it is called in a process of its own that is ended after some seconds. Whether
 * there is nothing more to do; else it is called again. */
typedef bool (*guardian_rescue_fn)(const char *ward, int process);

/* Forks: before threads, the loop, and secrets. `rescue_fn` for guardian_arm_ward(), or NULL.
 * -errno.
 */
__attribute__((warn_unused_result)) int guardian_start(
	struct guardian **ret_guardian, guardian_rescue_fn rescue_fn);
/* Has it exit, and waits for that: some seconds while a QEMU that was given up hangs. Accepts
 * NULL, returns NULL. */
struct guardian *guardian_stop(struct guardian *guardian);

/* The guest behind this QMP socket is going to be stopped: `place` is the socket file itself,
 * O_PATH, so that no other guest can be meant when the time comes, and `qmp` what it is called
 * here. -errno: the guardian is not there, so do not. Accepts NULL: -ENOENT. */
__attribute__((warn_unused_result)) int guardian_arm(
	struct guardian *guardian, const char *qmp, int place);
/* The same without a QMP socket: `name` is what the guest is called here, `ward` and `process` are
 * what rescue() gets. */
__attribute__((warn_unused_result)) int guardian_arm_ward(
	struct guardian *guardian, const char *name, const char *ward, int process);
/* Whether the guardian has said since that it cannot (it has no descriptor left, say), so that
 * the guest is to be continued at once. Its word comes a moment after the order. NULL has. */
__attribute__((warn_unused_result)) bool guardian_has_refused(
	struct guardian *guardian, const char *qmp);
/* It was continued. Accepts NULL. */
void guardian_disarm(struct guardian *guardian, const char *qmp);
/* The broker gives the socket up; continue the guest now. Accepts NULL. */
void guardian_release(struct guardian *guardian, const char *qmp);

#endif
