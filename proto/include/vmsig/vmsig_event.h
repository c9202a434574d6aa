/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VMSIG_EVENT_H
#define VMSIG_EVENT_H

/*
 * The event that crosses the seam between adapters, core and holders: a small header,
 * an inline area that carries one POD, and an optional owned payload. The same struct is
 * what the client library hands to a subscriber, so code written against
 * vmsig_memctx_segs() works in the broker's process and across the socket.
 */

#include <stddef.h>
#include <stdint.h>

#include "vmsig_abi.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of the inline area. 48 is the contract's upper bound for an inline POD. */
#define VMSIG_EVENT_INLN_SIZE 48

/* UP: adapter -> core -> holder. DOWN: holder -> core -> adapter. */
enum vmsig_event_kind {
	VMSIG_EV_NONE = 0,
	/* inln: vmsig_memctx; payload: vmsig_memseg[nseg], absent when nseg == 0. */
	VMSIG_EV_MEMCTX = 1,
	/* inln: vmsig_memctx_inv. */
	VMSIG_EV_MEMCTX_INVALIDATED = 2,
	/* inln: vmsig_endpoint_status; payload: the reason as text, absent when there is none. */
	VMSIG_EV_ENDPOINT_STATE = 3,

	VMSIG_CMD_MEMWRITE = 0x8001,
};

enum vmsig_source {
	VMSIG_SRC_NONE = 0,
	VMSIG_SRC_MEMCTX = 1,
	VMSIG_SRC_MEMWRITE = 2,
};

/* Life of an endpoint. The numbers are also the coherence page's and the wire's. */
enum vmsig_endpoint_state {
	VMSIG_STATE_UNKNOWN = 0,
	VMSIG_STATE_BOOTING = 1, /* the adapter looks for a live kernel root */
	VMSIG_STATE_READY = 2,   /* a MEMCTX of the current epoch can be had */
	VMSIG_STATE_INVALID = 3, /* the epoch has just ended; BOOTING or GONE follows */
	VMSIG_STATE_GONE = 4,    /* the guest or its RAM file is not there */
	/* Nobody vouches for the guest at the moment, but nothing says that its session ended:
	 * the epoch goes on. READY in the same epoch follows when the same session is found
	 * again, INVALID when it is another one. */
	VMSIG_STATE_UNREACHABLE = 5,
	/* As READY, and the guest's kernel has panicked: its memory is what it left, and nothing
	 * is written to it. Until it is reset, which is a new epoch. */
	VMSIG_STATE_PANICKED = 6,
	/* On coherence pages only: the broker has ended, and nobody would say that the guest was
	 * reset. The page stays so; a new broker hands out a MEMCTX with a page of its own. */
	VMSIG_STATE_UNATTENDED = 7,
	/* The guest was migrated to another host, which the reason names, and is served there.
	 * Until one comes back; there may be another state before that. */
	VMSIG_STATE_MOVED = 8,
};

/* inln of VMSIG_EV_ENDPOINT_STATE. */
typedef struct {
	uint32_t endpoint;
	uint32_t epoch;
	uint32_t state; /* enum vmsig_endpoint_state */
	uint32_t
		guard; /* enum vmsig_guard; VMSIG_GUARD_NONE until RAM was found. Set by the core */
} vmsig_endpoint_status;

/* How strongly the read-only descriptor resists being turned into a writable one, weakest
 * first so that they compare. deploy/THREATS.md says what each one withstands. */
enum vmsig_guard {
	VMSIG_GUARD_NONE = 0,
	VMSIG_GUARD_MODE = 1,     /* file mode and a different uid only */
	VMSIG_GUARD_RO_MOUNT = 2, /* opened through a dissolved read-only mount clone */
	VMSIG_GUARD_SEALED = 3,   /* memfd with F_SEAL_FUTURE_WRITE or F_SEAL_WRITE */
};

/* Bytes that travel with an event. `data` belongs to whoever holds the event; release it
 * with vmsig_event_clear(). `release` may be NULL for borrowed data. */
typedef struct {
	const void *data;
	size_t len; /* bytes */
	void (*release)(void *data);
} vmsig_payload;

typedef struct vmsig_event {
	uint32_t kind;     /* enum vmsig_event_kind */
	uint32_t source;   /* enum vmsig_source */
	uint32_t endpoint; /* stable id of the endpoint */
	uint32_t _pad;
	vmsig_payload payload;
	VMSIG_ALIGNAS(uint64_t) unsigned char inln[VMSIG_EVENT_INLN_SIZE];
} vmsig_event;

/* Releases the payload and zeroes the event. Accepts NULL. */
static inline void vmsig_event_clear(vmsig_event *ev)
{
	if (!ev)
		return;
	if (ev->payload.release)
		ev->payload.release((void *)(uintptr_t)ev->payload.data);
	__builtin_memset(ev, 0, sizeof(*ev));
}

/* Which operating system a context is of. */
enum vmsig_os {
	VMSIG_OS_UNKNOWN = 0, /* none was looked for: the configuration gave the root */
	VMSIG_OS_LINUX = 1,
	VMSIG_OS_WINDOWS = 2,
};

/* What the choice of the kernel root rests on. Nothing that has only the shape of a system's
 * page tables is among it. */
enum vmsig_proof {
	VMSIG_PROOF_NONE = 0,       /* no context, or a broker that does not say */
	VMSIG_PROOF_CONFIGURED = 1, /* the administrator's word, not checked */
	VMSIG_PROOF_VMCOREINFO = 2, /* Linux: its note, and its release string under that root */
	VMSIG_PROOF_LOW_STUB = 3,   /* Windows: the start block of its CPUs names the root, under
				     * which ntoskrnl.exe and its System process lead back to it */
	VMSIG_PROOF_SELF_MAP = 4,   /* Windows: the same from a vCPU's root, without that block */
};

#define VMSIG_RELEASE_MAX 65 /* bytes of a release with its NUL: __NEW_UTS_LEN of Linux + 1 */

/* The system that runs in a guest, as far as it was proven. */
typedef struct {
	uint32_t os;    /* enum vmsig_os */
	uint32_t proof; /* enum vmsig_proof */
	/* "6.1.0-18-amd64", "10.0.19041"; "" when unknown. The guest's word, printable ASCII. */
	char release[VMSIG_RELEASE_MAX];
} vmsig_system;

/* "linux", "windows", "unknown"; "vmcoreinfo", "low-stub+ntoskrnl", "self-map+ntoskrnl",
 * "configured", "none". A number that this version does not know is "unknown". Static strings. */
__attribute__((visibility("default"))) const char *vmsig_os_name(uint32_t os);
__attribute__((visibility("default"))) const char *vmsig_proof_name(uint32_t proof);

#define VMSIG_SESSION_MAX 96 /* bytes of a session fingerprint with its NUL */

/* What an adapter found out about the RAM behind its endpoint. */
typedef struct {
	uint64_t bytes; /* size of guest RAM */
	uint32_t guard; /* enum vmsig_guard */
	uint32_t owner; /* uid that owns the file: VMSIG_GUARD_MODE is void against it */
	/* Fingerprint of the VM session, "" when unknown: equal fingerprints prove that the
	 * guest did not reset in between, also across a restart of the broker. */
	char session[VMSIG_SESSION_MAX];
	/* What runs in it; all zero until a context can be had. */
	vmsig_system system;
	uint32_t files; /* that RAM is in; 0 counts as 1 */
} vmsig_ram_facts;

struct vmsig_memctx_reg;
struct vmsig_memwrite_reg;
struct vmsig_memfiles_reg;

/*
 * What the core gives an adapter. All calls are made on the loop thread. Each returns 0 or
 * a positive enum vmsig_error; the core copies what it keeps.
 */
typedef struct vmsig_emit {
	void *core; /* first argument of every callback */

	/* Announces the endpoint named by reg->endpoint. reg->ctx and the callbacks must stay
	 * valid until unregister_memctx() returned. The endpoint enters BOOTING in a new epoch;
	 * the core asks for the bootstrap through reg->invalidate(). */
	int (*register_memctx)(void *core, const struct vmsig_memctx_reg *reg);
	void (*unregister_memctx)(void *core, uint32_t endpoint);

	/* Announces the write path of an endpoint; an endpoint without one refuses leases. */
	int (*register_memwrite)(void *core, const struct vmsig_memwrite_reg *reg);
	void (*unregister_memwrite)(void *core, uint32_t endpoint);

	/* The RAM file was found or found again; with the session's fingerprint, if there is one,
	 * before MEMCTX is emitted. */
	int (*ram_found)(void *core, uint32_t endpoint, const vmsig_ram_facts *facts);

	/* UP event. The core borrows it for the call.
	 *   MEMCTX              bootstrap done; inln.epoch names the epoch it was done for, and
	 *                       one that is over is dropped (VMSIG_ERR_STALE_EPOCH)
	 *   MEMCTX_INVALIDATED  the VM session ended; inln.epoch is ignored, the core decides
	 *   ENDPOINT_STATE      BOOTING or GONE with a reason for people; UNREACHABLE, only while
	 *                       a context is out: the epoch goes on, and MEMCTX of the same epoch
	 *                       makes the endpoint READY again. PANICKED, likewise: the context
	 *                       stays good, and is still handed out */
	int (*event)(void *core, const vmsig_event *ev);

	/* Where the endpoint's RAM files are had, when they may be several; after
	 * register_memctx(), and over with unregister_memctx(). */
	int (*register_memfiles)(void *core, const struct vmsig_memfiles_reg *reg);
} vmsig_emit;

VMSIG_STATIC_ASSERT(
	offsetof(vmsig_event, inln) % __alignof__(uint64_t) == 0, "inln holds uint64_t PODs");
VMSIG_STATIC_ASSERT(sizeof(vmsig_endpoint_status) == 16, "vmsig_endpoint_status is 16 bytes");
VMSIG_STATIC_ASSERT(sizeof(vmsig_endpoint_status) <= VMSIG_EVENT_INLN_SIZE, "status fits inline");

#ifdef __cplusplus
}
#endif

#endif
