/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_CTL_OPERATOR_H
#define CLIENTS_CTL_OPERATOR_H

/*
 * What the commands of the write plane share: the connection, and the lease that a command
 * writes under. Calls return EXIT_OK, or the exit code after a message.
 */

#include "clients/ctl/ctl.h"
#include "vmsig/vmsig_write.h"

/* What `vmsigctl lease acquire` tells its command. */
#define CTL_ENV_LEASE "VMSIG_LEASE"
#define CTL_ENV_TOKEN "VMSIG_TOKEN"
#define CTL_ENV_ENDPOINT "VMSIG_LEASE_ENDPOINT"

#define CTL_RELEASE_MS 2000 /* for the broker's word on a release */
#define CTL_WRITE_MS 60000  /* and on a write, over lost connections, without --timeout */

/* Connects; a broker that is not there is an error of this call. Later on the connection is
 * made anew when it is lost. */
int ctl_writer_open(const struct ctl *ctl, vmsig_writer **ret_writer);

/* Acquires, and says so on standard error when it has to wait for others. An endpoint that is
 * not ready is waited for as --wait says, unless request->no_wait. */
int ctl_lease_ask(const struct ctl *ctl, vmsig_writer *writer, const vmsig_lease_request *request,
	vmsig_lease **ret_lease);

/* The message for a lease of the tenant that cannot be had, and its exit code; with the host when
 * its guest has moved there. `endpoint`: NULL, it is not known; `what` was wanted: a verb. */
int ctl_lease_fail(const struct ctl *ctl, const vmsig_writer *writer, int error, uint64_t id,
	const char *endpoint, const char *what);
/* "17" and the text of its token, NULL: VMSIG_TOKEN has it. EXIT_OK, or EXIT_USAGE after a message.
 */
int ctl_lease_words(const struct ctl_command *command, const char *id, const char *token,
	uint64_t *ret_id, uint64_t *ret_token);

/* Of a write under way. */
struct ctl_answer {
	bool there;
	vmsig_write_result result;
};

struct ctl_hold {
	vmsig_writer *writer;
	const char *endpoint;
	vmsig_lease *lease; /* NULL: it was let go of */
	bool own;           /* it ends with this command */
	vmsig_lease_info info;
	struct ctl_answer answer;
};

/* The lease of the environment when it is one of that endpoint; otherwise a new one of
 * `range`, or with NULL of the whole endpoint. */
int ctl_hold_take(const struct ctl *ctl, vmsig_writer *writer, const char *endpoint,
	const vmsig_lease_range *range, struct ctl_hold *ret_hold);
/* Gives it back if it is our own. */
void ctl_hold_put(const struct ctl *ctl, struct ctl_hold *hold);
/* One turn of its connection, until something has happened or CLOCK_MONOTONIC is at `until`; and so
 * many milliseconds of them. 0, or a negated enum vmsig_error. */
__attribute__((warn_unused_result)) int ctl_hold_turn(struct ctl_hold *hold, int64_t until);
__attribute__((warn_unused_result)) int ctl_hold_pause(struct ctl_hold *hold, uint32_t ms);

/* --timeout T of the commands that write. */
bool ctl_timeout_parse(struct ctl *ctl, const char *value);
uint32_t ctl_timeout(const struct ctl *ctl);
/* The sentence on why a write has failed. */
const char *ctl_write_why(const vmsig_writer *writer, int error, const vmsig_write_result *result);
/* The message for a write that has failed with `error`, and its exit code. */
int ctl_write_fail(const vmsig_writer *writer, int error, const vmsig_write_result *result,
	const char *endpoint, uint64_t addr, size_t len);

#endif
