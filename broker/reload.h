/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_RELOAD_H
#define BROKER_RELOAD_H

/*
 * SIGHUP: configuration, policy, keys and revocation list are read on another thread, whatever
 * time that takes and whatever file system they are on; the loop then takes all of it over, or
 * nothing. What arrives while one is being read is one more afterwards.
 *
 * A file that somebody is still writing is waited for (the kernel tells: a read lease can be had
 * on a file that nobody has open for writing). One that ended with a line "..." before has to
 * end so again, and one that has no tenants any more is not taken for the truth: a policy that
 * was cut off must not disconnect anybody.
 */

struct broker;
struct config;
struct reload;

/* Says in the log what its administrator should know of a configuration that is adopted: when it
 * keeps less than a day of the audit log. */
void reload_warn(const struct config *config);

/* -ENOMEM. */
__attribute__((warn_unused_result)) int reload_new(
	struct reload **ret_reload, struct broker *broker);
void reload_request(struct reload *reload);
/* After jobs_close(). Accepts NULL, returns NULL. */
struct reload *reload_free(struct reload *reload);

#endif
