/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_RELOAD_H
#define BROKER_RELOAD_H

/*
 * SIGHUP, or an administrator's word: configuration, policy, keys and revocation list are read on
 * another thread, and new sockets bound, whatever time that takes and whatever file system they are
 * on; the loop then takes all of it over, or nothing. What arrives while one is being read is one
 * more afterwards.
 *
 * A file that somebody is still writing is waited for (the kernel tells: a read lease can be had
 * on a file that nobody has open for writing). One that ended with a line "..." before has to
 * end so again, and one that has no tenants any more is not taken for the truth: a policy that
 * was cut off must not disconnect anybody.
 *
 * When it is told that a reload is over, policy, limits and sockets hold; endpoints that changed
 * are begun anew after that, some at a time.
 */

#include <stdint.h>

struct broker;
struct config;
struct reload;
struct steward_reload;

struct reload_stats {
	uint64_t succeeded, failed;
	uint64_t ended_ns;      /* uv_hrtime() of the last one; 0: there was none */
	const char *last_error; /* "": it succeeded; borrowed */
};

/* Says in the log what its administrator should know of a configuration that is adopted: when it
 * keeps less than a day of the audit log. */
void reload_warn(const struct config *config);

/* -ENOMEM. */
__attribute__((warn_unused_result)) int reload_new(
	struct reload **ret_reload, struct broker *broker);
/* `asked` is told when it is over, at the latest by reload_free(); NULL: nobody wants to know. */
void reload_request(struct reload *reload, struct steward_reload *asked);
struct reload_stats reload_stats(const struct reload *reload);
/* After jobs_close(). Accepts NULL, returns NULL. */
struct reload *reload_free(struct reload *reload);

#endif
