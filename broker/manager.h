/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_MANAGER_H
#define BROKER_MANAGER_H

/*
 * The service manager that started this process, if one did: systemd, or what speaks its protocol
 * (sd_listen_fds(3), sd_notify(3)). It hands in listening sockets and what an earlier broker left
 * with it, hears how the broker does, and keeps descriptors for the next one. One of a process;
 * belongs to the loop's thread. Telling it something never waits: what it does not take at once is
 * lost, which costs a restart's comfort and nothing else.
 *
 * What is kept has a name of the form KIND/OWNER/REST, without ':' and control characters.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#define MANAGER_NAME_MAX 256 /* with the NUL; systemd's own limit */

/* Before anything is opened: takes what was handed in, and closes all other descriptors above 2.
 * -errno. */
__attribute__((warn_unused_result)) int manager_begin(void);
/* Waits, some seconds at most, until the manager has what it was told, and forgets it. */
void manager_end(void);

/* The socket that listens at `path`, or -ENOENT. The caller's; its file is the manager's. On any
 * thread. */
__attribute__((warn_unused_result)) int manager_take_socket(const char *path);
/* Whether a socket came from manager_take_socket(); asked once, when it is about to be closed. */
__attribute__((warn_unused_result)) bool manager_lends_socket(int fd);

/* Has the next broker find `fd` under the name; the caller keeps its own. -errno: -ENOENT without
 * a manager. */
__attribute__((warn_unused_result)) int manager_keep(const char *name, int fd);
/* What an earlier broker left as KIND/, whoever's, and /REST: the caller's, and no more the
 * manager's; or -ENOENT. */
__attribute__((warn_unused_result)) int manager_take(
	const char *kind, const char *rest, char ret_name[static MANAGER_NAME_MAX]);
/* Takes over what manager_take() gave, for whoever of this process takes it next. */
void manager_return(const char *name, int fd);
/* Lets go of all of KIND/OWNER/ that is left. */
void manager_drop(const char *kind, const char *owner);
/* Lets go of what nobody will ask for: `wanted` is asked for each. */
void manager_sift(bool (*wanted)(void *ctx, const char *kind, const char *owner), void *ctx);
/* Lets go of what has been here since before then, of uv_hrtime(), with nobody taking it: what
 * was given back counts from that on. */
void manager_forget(uint64_t before_ns);

/* "READY=1" and the like. */
void manager_tell(const char *text);
/* Tells it that the loop runs, as often as it wants to hear that, until manager_detach(). */
__attribute__((warn_unused_result)) int manager_attach(uv_loop_t *loop);
void manager_detach(void);

#endif
