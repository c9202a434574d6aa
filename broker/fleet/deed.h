/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_FLEET_DEED_H
#define BROKER_FLEET_DEED_H

/*
 * What the values in the store say: lines of NAME VALUE, in one order, behind a line that names the
 * kind and its version. They are foreign input: what is not exactly so is damaged, and nobody acts
 * on it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/fleet/fleet.h"

#define DEED_TEXT_MAX 1024u /* bytes of a value */
#define DEED_NONCE_MAX 31u  /* bytes */

enum deed_status {
	DEED_HELD,
	DEED_RELEASED, /* its holder had stopped before; with a session: for its next process */
	DEED_OFFERED,  /* the same, and the target may go on with what it had */
	DEED_STATUSES
};

/* Who has a guest: a process of a broker, in one tenure. */
struct deed_holder {
	char host[FLEET_NAME_MAX + 1], boot[FLEET_NAME_MAX + 1];
	char nonce[DEED_NONCE_MAX + 1]; /* never used for another tenure */
	uint32_t ttl_ms, rho_ppm, margin_ms;
};

/* Zeroed: there is none. */
struct deed {
	uint64_t change;     /* rises with each change; 0: there is no deed */
	uint64_t generation; /* of the store, in which it was written */
	enum deed_status status;
	struct deed_holder holder;
	char target[FLEET_NAME_MAX + 1];  /* DEED_OFFERED */
	uint32_t floor;                   /* its epochs are above; others' are not */
	uint32_t epoch;                   /* the guest's, when it was written; 0: it has none yet */
	uint32_t reserved;                /* no epoch above was used */
	char session[FLEET_NAME_MAX + 1]; /* of its guest; "": not known */
	uint64_t token;                   /* none above was given */
	uint64_t recorded;                /* of the newest lease that was recorded */
	uint32_t lease_ms;                /* longest TTL of a lease that may be out; 0: none is */
	/* How long its holder waits, or waited, before it applies, by its own clock: until it has
	 * the deed say 0, whoever comes next waits for that as well. */
	uint32_t wait_ms;
};

#define DEED_EPOCH_MAX (UINT32_MAX - 2 * FLEET_EPOCHS) /* there can be reserved ones above */
#define DEED_TOKEN_MAX ((uint64_t)INT64_MAX)
/* Where those of all guests begin. No honest one has come so far, and one that says so must not
 * take the others' numbers away. */
#define DEED_EPOCH_FLOOR_MAX (DEED_EPOCH_MAX / 2)
#define DEED_TOKEN_FLOOR_MAX (DEED_TOKEN_MAX / 2)
/* So many operators' bumps, each by itself, nobody has missed: a number beyond that is forged, and
 * must not leave the next bump without one. */
#define DEED_BUMPS_MAX (1ull << 32)

/* What the fleet trusts. */
struct deed_generation {
	uint64_t number; /* 0: there is none */
	uint64_t cluster_id;
	uint32_t epoch_floor;
	uint64_t token_floor;
};

/* The length of the text. */
size_t deed_write(const struct deed *deed, char ret_text[static DEED_TEXT_MAX]);
/* False: damaged. */
__attribute__((warn_unused_result)) bool deed_read(
	struct deed *ret_deed, const void *text, size_t len);
/* The value of an owner key; no two tenures have one. */
size_t deed_write_owner(const struct deed_holder *holder, uint64_t cluster_id, uint32_t epoch,
	const char *name, char ret_text[static DEED_TEXT_MAX]);
size_t deed_write_generation(
	const struct deed_generation *generation, char ret_text[static DEED_TEXT_MAX]);
__attribute__((warn_unused_result)) bool deed_read_generation(
	struct deed_generation *ret_generation, const void *text, size_t len);

/* Of [A-Za-z0-9._-], and not empty. */
bool deed_is_name(const char *text);

/* ---- how long ---- */

/* From when a renewal was sent, how long its holder may apply by its own clock; 0: not at all. */
uint64_t deed_right_ns(const struct deed_holder *holder);
/* How long, by the clock of `by`, nobody applies who has renewed before. */
uint64_t deed_wait_ns(const struct deed_holder *holder, const struct deed_holder *by);
/* How long, by the clock of `by`, the guest of this deed is left alone by who takes it: until
 * nobody applies any more, and holders of leases know that they are over. */
uint64_t deed_patience_ns(const struct deed *deed, const struct deed_holder *by);

#endif
