/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VMSIG_ERROR_H
#define VMSIG_ERROR_H

/*
 * The one enumeration of errors: it crosses the wire and is what the libraries
 * return. Numbers are stable; a new error is appended, a number is never reused.
 *
 * Public library calls return 0 or the *negated* number (-VMSIG_ERR_STALE_EPOCH).
 */

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* X(name, number, a retry of the same request can help, sentence for people) */
#define VMSIG_ERROR_LIST(X)                                                                        \
	X(OK, 0, 0, "Success.")                                                                    \
	X(READ_ONLY, 1, 0, "The context is read-only; writing needs a MEMWRITE lease.")            \
	X(BAD_REQUEST, 2, 0, "The request is malformed or its arguments do not fit together.")     \
	X(UNSUPPORTED, 3, 0, "The peer does not implement this request.")                          \
	X(UNAUTHENTICATED, 4, 0, "Certificate, role or uid of the peer was not accepted.")         \
	X(FORBIDDEN, 5, 0, "The policy does not allow this to the tenant.")                        \
	X(NO_SUCH_ENDPOINT, 6, 0, "There is no such endpoint that this tenant may see.")           \
	X(NOT_READY, 7, 1,                                                                         \
		"The endpoint has no valid context: it is booting, gone, or out of contact.")      \
	X(STALE_EPOCH, 8, 0, "The guest was reset or restored since; the named epoch is over.")    \
	X(NO_WRITE_PATH, 9, 0, "The endpoint cannot be written to.")                               \
	X(LEASE_HELD, 10, 1, "A conflicting lease is held by somebody else.")                      \
	X(LEASE_EXPIRED, 11, 0, "The lease has expired.")                                          \
	X(LEASE_REVOKED, 12, 0, "The lease was revoked.")                                          \
	X(NO_LEASE, 13, 0, "No such lease, or its token does not match.")                          \
	X(OUT_OF_RANGE, 14, 0, "An address is outside guest RAM or outside the lease's ranges.")   \
	X(COMPARE_FAILED, 15, 0, "The bytes in place differ from the expected ones.")              \
	X(PARTIAL, 16, 0, "Only a part was applied; the reply says how much.")                     \
	X(UNKNOWN_OUTCOME, 17, 0, "It cannot be told whether the write was applied.")              \
	X(QUOTA, 18, 1, "A quota of the tenant or a limit of the broker is used up.")              \
	X(BUSY, 19, 1, "The broker or the endpoint is busy with something that excludes this.")    \
	X(TIMEOUT, 20, 1, "The time allowed for the request is over.")                             \
	X(SHUTTING_DOWN, 21, 1, "The broker is shutting down.")                                    \
	X(INTERNAL, 22, 0, "Internal error; the broker's log has the details.")                    \
	X(PROTOCOL, 23, 0, "The peer broke the protocol; the connection is closed.")               \
	X(DISCONNECTED, 24, 1, "The connection is closed.")                                        \
	X(TORN, 25, 1, "The read overlapped a write of the broker; read again.")                   \
	X(NOT_MAPPED, 26, 0, "The guest-virtual address is not mapped.")                           \
	X(BAD_PAGE_TABLE, 27, 0, "The guest's page tables are not well-formed.")                   \
	X(IO, 28, 0, "The operating system reported an error.")                                    \
	X(NO_MEMORY, 29, 1, "Out of memory.")                                                      \
	X(WEAK_GUARD, 30, 0, "The endpoint's read-only guarantee is weaker than demanded.")        \
	X(GONE, 31, 1, "The guest is not running.")                                                \
	X(WOULD_BLOCK, 32, 1, "Nothing to do before the descriptor or the deadline fires.")        \
	X(REPLAY_MISMATCH, 33, 0, "The sequence number was used before with another body.")        \
	X(NO_BROKER, 34, 1, "The broker that vouches for the memory is gone or stands still.")     \
	X(MOVED, 35, 0, "The guest runs on another host now; go on there.")

#define VMSIG_ERROR_ENUM(name, number, retry, text) VMSIG_ERR_##name = (number),
enum vmsig_error { VMSIG_ERROR_LIST(VMSIG_ERROR_ENUM) };
#undef VMSIG_ERROR_ENUM

/* All of these take the number with either sign and never return NULL; a number that
 * this version does not know gives "UNKNOWN" and a generic sentence. The strings are
 * static. */
__attribute__((visibility("default"))) const char *vmsig_error_name(int error);
__attribute__((visibility("default"))) const char *vmsig_error_text(int error);
/* Whether the same request can succeed later without anything else changing. */
__attribute__((visibility("default"))) bool vmsig_error_retryable(int error);

#ifdef __cplusplus
}
#endif

#endif
