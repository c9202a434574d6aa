/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_WRITE_OPS_H
#define BROKER_WRITE_OPS_H

/*
 * All that the write plane needs of the world, as calls that its owner binds: the broker to its
 * store, jobs and guests (broker/desk_shell.c), a simulator to its own. The plane itself does no
 * I/O and reads no clock: time comes in with each event, and with each piece of memory that it
 * is asked to admit.
 *
 * Calls return at once: what takes long is answered later, from the owner's loop, never inside
 * of the call that asked for it. Errors are positive enum vmsig_error or -errno.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/memwrite/memwrite.h"
#include "broker/multihash.h"
#include "broker/store/ledger.h"
#include "broker/store/marks.h"
#include "lease/lease.h"
#include "proto/wire/vmsig.pb-c.h"

#define DESK_HASH 32            /* bytes of SHA-256 */
#define DESK_READING (1u << 20) /* bytes that a thread reads before another line has its turn */
#define DESK_SLICE (256u << 10) /* bytes of bulk data that are stored in one go: some 100 us */
#define DESK_ROOM (2u << 20)    /* a huge page, and a multiple of a reading */
#define DESK_SUM_NONE 1u        /* the sum of no bytes */

struct desk_line;   /* the owner's: work for one tenant, one piece after the other */
struct desk_source; /* the owner's: bulk data of one command, and a hash of bytes */
struct desk_target; /* the owner's: the RAM of an endpoint in one epoch */

enum desk_pressure {
	DESK_PRESSURE_NONE,
	DESK_PRESSURE_HIGH, /* who records more than others has to wait */
	DESK_PRESSURE_FULL, /* everybody has */
};

enum desk_log { DESK_LOG_ERROR, DESK_LOG_WARNING, DESK_LOG_INFO };

/* What a log line says beside its sentence: a text, or without one a number. NULL: nothing. */
struct desk_fact {
	const char *name;
	const char *text;
	uint64_t number;
};

/* Records that were durable once and are gone. */
struct desk_loss {
	uint64_t had, has; /* ids of the newest record, then and now */
	uint8_t hash[DESK_HASH];
};

/* Whether these guest-physical bytes may be changed at `now_ns`, read for this very question.
 * 0 or the error of the refusal. */
typedef int (*desk_admit_fn)(void *arg, uint64_t now_ns, const struct lease_range *range);

/* ---- what is durable ---- */

/* Records, the ledger and leases change in one batch at a time, which commit() ends. A change
 * that failed dooms the batch: it is rolled back. */
struct desk_record_ops {
	/* Opens the batch; ignored while one is open. */
	int (*begin)(void *ctx);
	/* Fills in id and both clocks; *ret_bytes is what it costs the disk. */
	int (*append)(void *ctx, Vmsig__AuditRecord *record, uint64_t *ret_bytes);
	/* Ends the batch. 0 with *ret_ticket 0: it is durable. 0 with a ticket: it will be, or
	 * not, when desk_committed() says so of this ticket or a later one; tickets rise. With an
	 * error nothing of it has happened. `waits`: somebody waits for the answer; without, the
	 * batch needs no ticket of its own. */
	int (*commit)(void *ctx, bool waits, uint64_t *ret_ticket);
	void (*rollback)(void *ctx);
	enum desk_pressure (*pressure)(void *ctx);
	/* Why nothing may be granted or written; NULL: it may. Borrowed. */
	const char *(*refusal)(void *ctx, uint64_t now_ns);
	/* The last failure, in words. Borrowed. */
	const char *(*error)(void *ctx);
	/* A committed record, to be freed with vmsig__audit_record__free_unpacked(). */
	int (*get)(void *ctx, uint64_t id, Vmsig__AuditRecord **ret_record);
	/* Whether the log is not the one that was there before. */
	bool (*lost)(void *ctx, struct desk_loss *ret_loss);
};

/* Where leases are durable and tokens come from. */
struct desk_lease_ops {
	/* In the batch. 0 with *ret_token: the lease holds with the batch. 0 with token 0: the
	 * answer is desk_lease_stored() or desk_lease_failed(). */
	int (*grant)(
		void *ctx, const struct lease_view *lease, uint64_t now_ns, uint64_t *ret_token);
	int (*renew)(void *ctx, const struct lease_view *lease);
	/* `lease` may have nothing but its id, and not be known: 0. */
	int (*end)(void *ctx, const struct lease_view *lease);
	/* Calls `each` for all leases that were not ended, in the order of their ids; a non-zero
	 * return stops. */
	int (*load)(void *ctx, int (*each)(void *arg, const struct lease_view *lease), void *arg);
	/* Above every id that was ever used. */
	int (*next_id)(void *ctx, uint64_t *ret_id);
	/* Whose lease it was and under which token, also for some time after its end.
	 * VMSIG_ERR_NO_LEASE. */
	int (*find)(void *ctx, uint64_t id, char tenant[static LEASE_NAME_MAX + 1],
		uint64_t *ret_token);
};

/* broker/store/ledger.h, in the batch. */
struct desk_ledger_ops {
	int (*find)(void *ctx, const struct ledger_key *key, struct ledger_entry *ret_entry);
	int (*intend)(void *ctx, const struct ledger_key *key,
		const uint8_t digest[static LEDGER_DIGEST], uint64_t intent);
	int (*settle)(void *ctx, const struct ledger_key *key, const void *reply, size_t len);
	int (*forget)(void *ctx, const struct ledger_key *key);
	bool (*next_open)(void *ctx, struct ledger_key *cursor, struct ledger_entry *ret_entry);
	int (*highest)(void *ctx, uint64_t lease, uint64_t writer, uint64_t *ret_sequence);
};

/* broker/store/marks.h: what outlives the process; not part of a batch. */
struct desk_mark_ops {
	/* Finds them, or makes them; what is taken stays. VMSIG_ERR_WOULD_BLOCK: it is under way,
	 * to be asked again in a later turn; else `error` gets a sentence. */
	int (*open)(void *ctx, char *error, size_t error_size);
	/* The others only after open() has given 0. */
	int (*take)(void *ctx, const struct ledger_key *key,
		const uint8_t digest[static LEDGER_DIGEST], uint32_t *ret_mark);
	void (*begin)(void *ctx, uint32_t mark);
	/* What pause() or end() says next is of bulk data whose first bytes have this sum. */
	void (*sum)(void *ctx, uint32_t mark, uint32_t sum);
	void (*pause)(void *ctx, uint32_t mark, uint64_t done);
	void (*end)(void *ctx, uint32_t mark, const void *reply, size_t len);
	void (*hash)(void *ctx, uint32_t mark, const uint8_t hash[static MARKS_HASH]);
	void (*release)(void *ctx, uint32_t mark);
	bool (*next)(void *ctx, uint32_t *cursor, struct mark_view *ret_view);
};

/* ---- guests ---- */

struct desk_guest_ops {
	/* The configured endpoint of this name: its id, and whether it has a write path at the
	 * moment. VMSIG_ERR_NO_SUCH_ENDPOINT. */
	int (*find)(void *ctx, const char *name, uint32_t *ret_endpoint, bool *ret_writable);
	/* The RAM of the context that can be had now. VMSIG_ERR_NOT_READY: there is no write
	 * path. */
	int (*open)(void *ctx, uint32_t endpoint, vmsig_coherence *page,
		struct desk_target **ret_target);
	void (*close)(void *ctx, struct desk_target *target);
	/* Whether bytes may be changed right now; *ret_why may get a static sentence.
	 * VMSIG_ERR_NOT_READY: there is no write path. */
	int (*may_write)(void *ctx, uint32_t endpoint, const char **ret_why);
	/* Likewise whether leases may be had. NULL: they may. */
	int (*may_grant)(void *ctx, uint32_t endpoint, const char **ret_why);
	/* Whether a lease may be had for longer than was said last. NULL: it may. */
	bool (*may_prolong)(void *ctx, uint32_t endpoint);
	/* Stops the vCPUs for at most `bound_ms`. After 0, done() comes exactly once: 0: they
	 * stand still until resume(); else they do not. One at a time for an endpoint. Else done()
	 * does not come: VMSIG_ERR_UNSUPPORTED. */
	int (*quiesce)(void *ctx, uint32_t endpoint, uint64_t bound_ms,
		void (*done)(void *arg, uint64_t now_ns, int error), void *arg);
	/* 0: they still stand still; VMSIG_ERR_TIMEOUT: the bound is over; VMSIG_ERR_GONE. */
	int (*quiesced)(void *ctx, uint32_t endpoint);
	void (*resume)(void *ctx, uint32_t endpoint);

	/* broker/memwrite/memwrite.h, of these names; `admit` gets a time of its own for each
	 * piece, and apply() stores a piece in the same step in which it was admitted. */
	int (*resolve)(void *ctx, struct desk_target *target, const struct memwrite_op *ops,
		size_t nops, struct memwrite_plan *plan, uint32_t *ret_failed_op);
	int (*resolve_part)(void *ctx, struct desk_target *target, const struct memwrite_op *op,
		uint64_t len, struct memwrite_plan *plan);
	int (*plan_holds)(void *ctx, struct desk_target *target, const struct memwrite_op *ops,
		size_t nops, const struct memwrite_plan *plan);
	bool (*plan_fits)(void *ctx, const struct memwrite_plan *plan, struct desk_target *target);
	void (*check)(void *ctx, struct desk_target *target, const struct memwrite_op *ops,
		const struct memwrite_plan *plan, desk_admit_fn admit, void *arg, uint8_t *old,
		struct memwrite_result *ret_result);
	void (*apply)(void *ctx, struct desk_target *target, const struct memwrite_op *ops,
		const struct memwrite_plan *plan, desk_admit_fn admit, void *arg, uint8_t *old,
		struct memwrite_result *ret_result);
};

/* ---- bulk data ---- */

/* What a thread reads. */
struct desk_reading {
	uint64_t at;    /* in the bulk data; readings follow each other */
	uint8_t *data;  /* where it goes: `len` bytes */
	size_t len;     /* at most DESK_READING */
	uint8_t *touch; /* memory that is going to be written to; NULL: none */
	size_t touch_len;
	/* Of all data up to the end of each slice of DESK_SLICE bytes. */
	uint32_t sums[DESK_READING / DESK_SLICE];
};

/* What a thread hashes, each as the next bytes of its kind. */
struct desk_hashing {
	const uint8_t *old; /* bytes that were there before */
	size_t old_len;
	const uint8_t *data; /* NULL: the thread reads the data itself */
	uint64_t data_len;
	uint64_t sum_at; /* the sum of so many bytes of what it reads is wanted */
};

typedef void (*desk_done_fn)(void *arg, uint64_t now_ns, int error);

struct desk_bulk_ops {
	/* Whether the descriptor has these bytes, and nobody can change them. `why` gets a
	 * sentence. VMSIG_ERR_BAD_REQUEST. */
	int (*check)(void *ctx, int fd, uint64_t offset, uint64_t len, const char **ret_why);
	/* Pieces of DESK_ROOM bytes, for bytes that were there before. *ret_fresh: nobody has
	 * written to it yet, and whoever does first takes long. NULL: there is no memory. */
	uint8_t *(*room_take)(void *ctx, bool *ret_fresh);
	void (*room_give)(void *ctx, uint8_t *room);
	int (*line_open)(void *ctx, struct desk_line **ret_line);
	/* No source of it is left. */
	void (*line_close)(void *ctx, struct desk_line *line);
	/* Borrows the descriptor. */
	int (*open)(void *ctx, struct desk_line *line, int fd, uint64_t offset, uint64_t len,
		struct desk_source **ret_source);
	/* Nothing of it is under way. */
	void (*close)(void *ctx, struct desk_source *source);
	/* Borrows the reading until done(), which comes exactly once; VMSIG_ERR_SHUTTING_DOWN:
	 * nobody works any more. */
	void (*read)(void *ctx, struct desk_source *source, struct desk_reading *reading,
		desk_done_fn done, void *arg);
	/* Likewise, beside read(). What a tenant has hashed does not hold up what it has read. */
	void (*hash)(void *ctx, struct desk_source *source, const struct desk_hashing *hashing,
		desk_done_fn done, void *arg);
	/* SHA-256 of all data and of all old bytes that were hashed; no more are. */
	int (*digest)(void *ctx, struct desk_source *source, uint8_t ret_data[static DESK_HASH],
		uint8_t ret_old[static DESK_HASH]);
	/* Of the first `sum_at` bytes of what was hashed; 0: it has not come so far. */
	uint32_t (*sum)(void *ctx, const struct desk_source *source);
	/* The sum of `data` behind that which has the sum `before`; DESK_SUM_NONE to begin with.
	 * Never 0. A check against mistakes and no more. */
	uint32_t (*add)(void *ctx, uint32_t before, const void *data, size_t len);
};

/* ---- */

struct desk_ops {
	const struct desk_record_ops *records;
	const struct desk_lease_ops *leases;
	const struct desk_ledger_ops *ledger;
	const struct desk_mark_ops *marks;
	const struct desk_guest_ops *guests;
	const struct desk_bulk_ops *bulk;
	/* SHA-256. */
	int (*digest)(
		void *ctx, const void *data, size_t len, uint8_t ret_digest[static DESK_HASH]);
	/* The same of several messages, MULTIHASH_LANES at most, which may be made together. */
	int (*digests)(void *ctx, const struct multihash_message *messages, size_t n);
	/* Takes the descriptor, which came from a client of this uid: closing may take long. */
	void (*fd_close)(void *ctx, int fd, uint32_t uid);
	void (*log)(void *ctx, enum desk_log level, const char *text,
		const struct desk_fact facts[static 2]);
	void *ctx; /* of all calls */
};

#endif
