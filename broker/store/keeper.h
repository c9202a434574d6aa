/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_STORE_KEEPER_H
#define BROKER_STORE_KEEPER_H

/*
 * Keeps the database's write-ahead log small: a second connection, open for as long as the
 * store, that moves the log into the database on a pool thread.
 *
 * A log that is written to all the time is never copied completely, so it would grow for ever:
 * at the end of a checkpoint writers are held for as long as the last few frames take, and the
 * next commit begins the log anew. keeper_holds() says so to the loop, which does something
 * else meanwhile instead of waiting in SQLite's lock; and it is the loop that lets it come to
 * that, between two of its turns (keeper_grant()), so that no turn meets the lock half way.
 *
 * One connection for life, and not one for each checkpoint: SQLite keeps the descriptor of a
 * closed one open while another of the process has locks on the same file.
 *
 * Returns: 0, a positive enum vmsig_error, or -errno.
 */

#include <stdbool.h>
#include <stddef.h>

struct keeper;
struct sqlite3;

/* Takes over the connection in any case, on which nothing was done. VMSIG_ERR_IO, -ENOMEM. */
__attribute__((warn_unused_result)) int keeper_new(struct keeper **ret_keeper, struct sqlite3 *db);
/* No thread may be in it. Accepts NULL, returns NULL. */
struct keeper *keeper_free(struct keeper *keeper);

/* On a pool thread, one at a time: copies the log and syncs. `asks`: holds writers only when
 * keeper_grant() lets it, and gives that up after a while. *ret_complete: the next commit
 * begins it anew; not so while somebody else reads the database. VMSIG_ERR_IO. */
__attribute__((warn_unused_result)) int keeper_checkpoint(
	struct keeper *keeper, bool asks, bool *ret_complete);
/* On the loop, no transaction being open: writers may be held from now on, if that is asked for. */
void keeper_grant(struct keeper *keeper);
/* On any thread: a commit would have to wait now. */
bool keeper_holds(const struct keeper *keeper);

/* On a pool thread, not beside a checkpoint: looks at every page. `problem` gets what is wrong
 * in SQLite's words, or "". VMSIG_ERR_IO: it could not be looked at, which `problem` says. */
__attribute__((warn_unused_result)) int keeper_inspect(
	struct keeper *keeper, char *problem, size_t size);

#endif
