/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_NET_PORTER_H
#define BROKER_NET_PORTER_H

/*
 * The porter: a process at the door that receives descriptors in place of the broker. It lets
 * memfds through (fcntl(2) F_GET_SEALS knows them, and asks no file system) and keeps whatever
 * else a client sends.
 *
 * Why a process: each close(2) of a file on FUSE, not only the last one, waits for FLUSH, and no
 * signal ends that; a process that exits waits as well. So once such a file is in the broker's
 * table of descriptors, the broker can neither get rid of it nor end, and its locks and
 * connections stay with it. In the porter it harms nobody: the broker does not wait for it,
 * neither while it runs nor at its end. It is gone when the file's owner has answered, or when
 * an administrator aborts that file system (/sys/fs/fuse/connections/N/abort).
 *
 * It is asked only for bytes that bring descriptors, one message of the socket at a time.
 *
 * What of a uid is stuck is a number here and no charge to an account (policy/account.h): the
 * process reports how much it is now, not what came and went, so that a lost report is mended by
 * the next one; nothing in the broker could give it back; and it outlives the broker, while an
 * account has to be empty by then. A uid that has some is barred, which is its refusal.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

struct closer;
struct porter;

/* What the porter has received from a socket. */
struct porter_catch {
	int result;       /* 0, VMSIG_ERR_WOULD_BLOCK, VMSIG_ERR_DISCONNECTED, -errno; -EMFILE: the
			   * porter,       or the broker, has no descriptor free, and what came is lost */
	unsigned foreign; /* descriptors that were no memfds, or too many: all were kept */
	const void *data;
	size_t len;
	const int *fds; /* memfds; the callee's */
	size_t nfds;
};

/* Part of what the caller allocates; starts as zeroes. */
struct porter_request {
	void (*done)(struct porter_request *request, const struct porter_catch *catch);
	int socket; /* stays open until done() or porter_cancel() */
	uid_t uid;  /* of its peer */
	void *data; /* the caller's own */

	/* private */
	uint64_t id; /* 0: not under way */
	bool sent;
	struct porter_request *prev, *next;
};

/* Starts the process; before the caller has threads. 0 or -errno. */
__attribute__((warn_unused_result)) int porter_start(struct porter **ret_porter);
/* Closes the way to it, and waits for its end only as long as nothing is stuck in it. Accepts
 * NULL, returns NULL. */
struct porter *porter_stop(struct porter *porter);

/* From now on it can be asked. What comes too late goes to `closer`, which is borrowed. */
__attribute__((warn_unused_result)) int porter_open(
	struct porter *porter, uv_loop_t *loop, struct closer *closer);
/* No request is under way any more. `closed` is called from the loop. */
void porter_close(struct porter *porter, void (*closed)(void *arg), void *arg);

/* Something that this uid has sent is stuck in it, or was no memfd within the last seconds. */
bool porter_bars(const struct porter *porter, uid_t uid);
/* Whether clients of this uid may send descriptors: the porter is there and does not bar it. NULL:
 * no. */
bool porter_serves(const struct porter *porter, uid_t uid);
/* done() follows from the loop, or is called at once when the porter cannot be asked. */
void porter_ask(struct porter *porter, struct porter_request *request);
/* done() will not follow; what comes for it is disposed of. Accepts one that is not under way. */
void porter_cancel(struct porter *porter, struct porter_request *request);

#endif
