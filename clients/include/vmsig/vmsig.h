/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VMSIG_H
#define VMSIG_H

/*
 * libvmsig: a holder's connection to vmsigd's read plane.
 *
 * One opaque handle is one connection, with its identity, its subscriptions and a queue of
 * what the broker said. Any event loop can drive it:
 *
 *	wait until vmsig_fd() has vmsig_poll_events(), or vmsig_deadline() has come;
 *	vmsig_process();
 *	while (vmsig_next(v, &delivery) == 0) { ...; vmsig_delivery_clear(&delivery); }
 *
 * Scripts and tools use the blocking helpers instead: vmsig_wait(), vmsig_wait_connected(),
 * vmsig_subscribe_wait(), vmsig_list(). Both styles mix on one handle.
 *
 * Calls return 0 or a negated enum vmsig_error; vmsig_last_error() has the sentence. A
 * handle is used by one thread at a time; different handles are independent. No threads, no
 * signal handlers, no printing, no exit; SIGPIPE is never raised.
 *
 * What a holder can rely on, for one endpoint: MEMCTX(e), INVALIDATED(e+n), MEMCTX(e+n), and
 * nothing of an older epoch after something of a newer one, also across reconnections. While
 * the connection is down, contexts stay usable while the broker lives: the coherence page says
 * when they are void, and when nobody looks after them any more.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "vmsig/vmsig_error.h"
#include "vmsig/vmsig_event.h"
#include "vmsig/vmsig_memfile.h"

#ifdef __cplusplus
extern "C" {
#endif

#ifndef VMSIG_API
#define VMSIG_API __attribute__((visibility("default")))
#define VMSIG_MUST_USE __attribute__((warn_unused_result))
#endif

#define VMSIG_CTX_SOCKET "/run/vmsig/ctx.sock" /* where vmsigd's read plane listens by default */
#define VMSIG_NAME_MAX 63                      /* bytes of an endpoint's name or of a pattern */
#define VMSIG_DETAIL_MAX 255                   /* bytes of a sentence that vmsig_open() gives */

typedef struct vmsig vmsig;

/* ---- opening ---- */

enum vmsig_option_flags {
	/* A connection that fails or ends is an error of the call instead of being made anew. */
	VMSIG_OPT_NO_RECONNECT = 0x1,
	/* The broker must run as broker_uid, beside having the right certificate. */
	VMSIG_OPT_PIN_UID = 0x2,
};

/* Zero-initialised members mean the default. Strings are copied. */
typedef struct {
	const char *socket_path;     /* default: VMSIG_CTX_SOCKET */
	const char *identity_dir;    /* needed: key.pem (0600), cert.pem, ca.pem and, when the file
				      * is there, crl.pem. Read anew for every connection */
	uint32_t flags;              /* enum vmsig_option_flags */
	uid_t broker_uid;            /* with VMSIG_OPT_PIN_UID */
	uint32_t connect_timeout_ms; /* socket, TLS and hello together; default 10000 */
	uint32_t request_timeout_ms; /* an answer to a request; default 10000 */
	uint32_t backoff_min_ms;     /* pause before the first new attempt; default 100 */
	uint32_t backoff_max_ms;     /* pauses double up to this, with jitter; default 10000 */
	uint32_t queue_max;          /* deliveries held before reading stops; default 64 */
} vmsig_options;

/* Reads the identity; connects only when it is driven. NULL options are not allowed.
 * `error` (may be NULL) receives a sentence that names the file and what to do.
 * -BAD_REQUEST: an option or a file's content; -FORBIDDEN: the key's mode; -IO: a file cannot
 * be read; -NO_MEMORY. The caller ends the handle with vmsig_close(). */
VMSIG_API VMSIG_MUST_USE int vmsig_open(
	vmsig **ret_vmsig, const vmsig_options *options, char *error, size_t error_size);
/* Ends the connection, closes every descriptor of deliveries that were not taken. Contexts
 * opened from delivered descriptors are not touched. Accepts NULL, returns NULL. */
VMSIG_API vmsig *vmsig_close(vmsig *v);

/* ---- driving it from an event loop ---- */

/* A descriptor that stays the same for the life of the handle and belongs to it: never read
 * it or close it. It is an epoll(7) descriptor, so it can be nested in any poller. */
VMSIG_API int vmsig_fd(const vmsig *v);
/* What to poll it for: POLLIN, or 0 while only the deadline matters. */
VMSIG_API short vmsig_poll_events(const vmsig *v);
/* CLOCK_MONOTONIC nanoseconds at which vmsig_process() has something to do even when the
 * descriptor is quiet; 0: at once, -1: never. */
VMSIG_API int64_t vmsig_deadline(const vmsig *v);
/* Does whatever can be done without waiting. 0; with VMSIG_OPT_NO_RECONNECT, why the
 * connection failed (-DISCONNECTED, -UNAUTHENTICATED, -PROTOCOL, -TIMEOUT, -SHUTTING_DOWN,
 * -IO), and the same again from then on. -NO_MEMORY: call again later. */
VMSIG_API VMSIG_MUST_USE int vmsig_process(vmsig *v);

/* ---- what the broker said ---- */

/* Kinds beside those of vmsig_event.h: what becomes of the connection and of requests. */
enum vmsig_client_event {
	VMSIG_EV_CONNECTED = 0x101,    /* said hello; subscriptions are being renewed */
	VMSIG_EV_DISCONNECTED = 0x102, /* `error` and the payload's text say why. Also after an
					* attempt to connect that failed for another reason than
					* the one before it */
	VMSIG_EV_SUBSCRIBED = 0x103,   /* `endpoint` is the pattern, `error` the answer. After a
					* reconnection only when the answer is an error */
	VMSIG_EV_LISTED = 0x104, /* answer to vmsig_request_list(): vmsig_delivery_take_list() */
};

/* One delivery. It owns two descriptors and the event's payload: vmsig_delivery_clear()
 * releases whatever was not taken out by vmsig_delivery_take_fd(). */
typedef struct {
	vmsig_event event; /* vmsig_memctx_segs(&event, ...) works; event.payload as text
			    * (ENDPOINT_STATE, DISCONNECTED, SUBSCRIBED) has a NUL behind len */
	char endpoint[VMSIG_NAME_MAX + 1]; /* name of the endpoint, or the pattern; may be "" */
	uint32_t guard;                    /* enum vmsig_guard; MEMCTX and ENDPOINT_STATE */
	int error;                         /* 0 or a negated enum vmsig_error */
	int ram_fd;          /* MEMCTX: guest RAM, verified to be O_RDONLY; -1 otherwise. Of RAM
			      * in several files the first: vmsig_memctx_files(&event, ...) has
			      * all of them, and the event owns the others */
	int coherence_fd;    /* MEMCTX: the coherence page, O_RDONLY, or -1 */
	vmsig_system system; /* MEMCTX: what runs in the guest and what proves it; the release is
			      * clean text. All zero otherwise, and from a broker that does not
			      * say. Names: vmsig_os_name(), vmsig_proof_name() */
} vmsig_delivery;

/* A delivery that owns nothing. */
#define VMSIG_DELIVERY_INIT ((vmsig_delivery){.ram_fd = -1, .coherence_fd = -1})

/* Takes the oldest delivery out of the queue; *ret_delivery is overwritten, so clear the one
 * before first. -WOULD_BLOCK: none is there. Never waits and never reads the socket. */
VMSIG_API VMSIG_MUST_USE int vmsig_next(vmsig *v, vmsig_delivery *ret_delivery);
/* Closes what the delivery still owns and makes it VMSIG_DELIVERY_INIT. Accepts NULL. */
VMSIG_API void vmsig_delivery_clear(vmsig_delivery *delivery);
/* Hands a descriptor (&delivery->ram_fd or &delivery->coherence_fd) to the caller, who closes
 * it. Returns it, or -1 when there is none. */
VMSIG_API VMSIG_MUST_USE int vmsig_delivery_take_fd(int *fd);
/* The payload's text, "" when there is none; lives as long as the delivery. */
VMSIG_API const char *vmsig_delivery_text(const vmsig_delivery *delivery);

/* ---- subscriptions ---- */

/* `pattern` names an endpoint, or is a glob (fnmatch(3)) that also covers endpoints that come
 * later. The subscription belongs to the handle and is renewed after every reconnection; it
 * may be made before there is a connection. The answer comes as VMSIG_EV_SUBSCRIBED; one with
 * an error ends the subscription, unless it had been granted before or a retry can help
 * (vmsig_error_retryable()): then it is asked for again, with pauses like those between
 * connections.
 * -BAD_REQUEST: empty or too long; -QUOTA: more than 1024; -NO_MEMORY. Twice is no error. */
VMSIG_API VMSIG_MUST_USE int vmsig_subscribe(vmsig *v, const char *pattern);
/* Ends it. Deliveries in the queue or on the way may still come. -NO_SUCH_ENDPOINT: there is
 * no such subscription. */
VMSIG_API VMSIG_MUST_USE int vmsig_unsubscribe(vmsig *v, const char *pattern);

/* ---- endpoints ---- */

typedef struct {
	uint32_t id;
	uint32_t epoch;
	uint32_t state;       /* enum vmsig_endpoint_state */
	uint32_t guard;       /* enum vmsig_guard */
	uint64_t ram_bytes;   /* 0 until RAM was found */
	uint32_t subscribers; /* of the own tenant */
	bool writable;        /* has a write path */
	const char *name;     /* the strings live as long as the list */
	const char *adapter;
	const char *detail;  /* why it is not ready, for people; may be "" */
	vmsig_system system; /* as in vmsig_delivery; all zero without a context */
} vmsig_endpoint;

typedef struct {
	size_t count;
	vmsig_endpoint *endpoints; /* sorted by name */
} vmsig_endpoint_list;

/* Asks for the endpoints that the tenant may see; the answer is VMSIG_EV_LISTED.
 * -DISCONNECTED: not connected at the moment; -BUSY: too many requests are pending. */
VMSIG_API VMSIG_MUST_USE int vmsig_request_list(vmsig *v);
/* Takes out the list that came with VMSIG_EV_LISTED; the caller frees it. NULL when the
 * delivery has none (any more): delivery->error says why. */
VMSIG_API VMSIG_MUST_USE vmsig_endpoint_list *vmsig_delivery_take_list(vmsig_delivery *delivery);
/* Accepts NULL, returns NULL. */
VMSIG_API vmsig_endpoint_list *vmsig_endpoint_list_free(vmsig_endpoint_list *list);

/* "booting", "ready", ...; "sealed", "ro-mount", ...; "unknown" for another number. */
VMSIG_API const char *vmsig_state_name(uint32_t state);
VMSIG_API const char *vmsig_guard_name(uint32_t guard);

/* ---- blocking ---- */

/* They poll, process and return when what they are named after has happened. timeout_ms: -1
 * waits without limit; then -TIMEOUT. Deliveries stay in the queue, except for the one that
 * vmsig_wait() returns; -BUSY: the queue is full, so that nothing more can be read before
 * some are taken. Errors of vmsig_process() are passed on. */

VMSIG_API VMSIG_MUST_USE int vmsig_wait_connected(vmsig *v, int timeout_ms);
/* The next delivery. */
VMSIG_API VMSIG_MUST_USE int vmsig_wait(vmsig *v, vmsig_delivery *ret_delivery, int timeout_ms);
/* vmsig_subscribe(), and the broker's answer instead of VMSIG_EV_SUBSCRIBED. Any error ends
 * the subscription. */
VMSIG_API VMSIG_MUST_USE int vmsig_subscribe_wait(vmsig *v, const char *pattern, int timeout_ms);
VMSIG_API VMSIG_MUST_USE int vmsig_list(vmsig *v, vmsig_endpoint_list **ret_list, int timeout_ms);

/* ---- about the connection ---- */

typedef struct {
	const char *host;     /* from the broker's certificate; valid until the handle is driven */
	const char *software; /* what it calls itself; the same */
	uid_t uid;            /* kernel's word */
	pid_t pid;            /* kernel's word; may be 0 from another pid namespace */
} vmsig_broker_info;

VMSIG_API bool vmsig_is_connected(const vmsig *v);
/* -DISCONNECTED while there is no connection. */
VMSIG_API VMSIG_MUST_USE int vmsig_broker(const vmsig *v, vmsig_broker_info *ret_info);
/* The sentence to the last error that a call on this handle returned or a delivery carried;
 * "" when there was none. Valid until the handle is used again. Never has secrets. */
VMSIG_API const char *vmsig_last_error(const vmsig *v);
/* Version of the library, "MAJOR.MINOR.PATCH". */
VMSIG_API const char *vmsig_version(void);

#ifdef __cplusplus
}
#endif

#endif
