/* SPDX-License-Identifier: Apache-2.0 */
/* The endpoints that are guests of the fleet: which of them has its guest's seat, and its leases.
 */
#include "broker/fleet_seat.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <utlist.h>

#include "broker/boot_clock.h"
#include "broker/error_text.h"
#include "broker/log.h"
#include "lease/lease.h"
#include "vmsig/vmsig_error.h"

#define NS_PER_MS 1000000u
#define SESSION_BYTES 16u /* of a session's name: no two guests get one by accident or will */
/* For how long what goes with a guest outlives its endpoint: etcd may be away for a while. */
#define PART_NS 60000000000ull

/* ---- endpoints ---- */

static struct seat *seat_with(const struct fleet_shell *shell, const char *uuid)
{
	struct seat *seat = shell->seats;

	while (seat && strcmp(seat->uuid, uuid) != 0)
		seat = seat->hh.next;
	return seat;
}

static struct seat *seat_of_guest(struct seat *waiting, const char *uuid)
{
	struct seat *seat;

	DL_FOREACH (waiting, seat) {
		if (strcmp(seat->uuid, uuid) == 0)
			break;
	}
	return seat;
}

/* Frees it if that fails. */
static int take_seat(struct seat *seat)
{
	struct fleet_shell *shell = seat->shell;
	int r = fleet_guest_add(shell->fleet, seat->uuid, seat->epoch, seat, &seat->tenure);

	if (!r) {
		tenure_name(seat->tenure, seat->name);
		HASH_ADD(hh, shell->seats, endpoint, sizeof(seat->endpoint), seat);
		if (seat->hh.tbl)
			return 0;
		fleet_guest_remove(seat->tenure, boot_clock_ns());
		r = -ENOMEM;
	}
	log_error("the guest is not the fleet's, and nobody can write to it",
		LOG_STR("endpoint", seat->name), LOG_STR("uuid", seat->uuid),
		LOG_STR("error", error_text(r)));
	free(seat);
	return r;
}

static void seat_end(struct seat *seat);

static void end_parting(struct seat *seat)
{
	if (seat && seat->parts)
		seat_end(seat);
}

void fleet_shell_add(struct fleet_shell *shell, uint32_t endpoint, const char *name,
	const char *uuid, uint32_t epoch)
{
	/* Of one that is about to leave nobody wants to write. */
	struct seat *seat = uuid && !shell->closing ? calloc(1, sizeof(*seat)) : NULL;

	/* Who has the guest, or its name, here again waits for nobody. */
	end_parting(seat_find(shell, endpoint));
	if (!seat)
		return;
	end_parting(seat_with(shell, uuid));
	*seat = (struct seat){.shell = shell, .endpoint = endpoint, .epoch = epoch};
	snprintf(seat->name, sizeof(seat->name), "%s", name);
	snprintf(seat->uuid, sizeof(seat->uuid), "%s", uuid);
	seat->voyage = (struct fleet_voyage){.events = shell->env.events,
		.ctx = shell->env.ctx,
		.endpoint = endpoint,
		.name = seat->name};
	if (!seat_with(shell, uuid)) {
		(void)!take_seat(seat);
		return;
	}
	DL_APPEND(shell->waiting, seat);
	log_warning("another endpoint of this host is the same guest: nobody can write to this one "
		    "until that has ended",
		LOG_STR("endpoint", name), LOG_STR("uuid", uuid));
}

void fleet_seat_run(struct seat *seat)
{
	/* Hexadecimal digits make a name; and it is said first: what goes on depends on it. */
	(void)!tenure_session(seat->tenure, boot_clock_ns(), seat->session);
	fleet_voyage_begin(&seat->voyage, seat->tenure, true, boot_clock_ns());
}

/* Who waited for a seat of this guest gets it. */
static void hand_over(struct fleet_shell *shell, const char *uuid)
{
	struct seat *seat = seat_of_guest(shell->waiting, uuid);

	if (!seat || shell->closing)
		return;
	DL_DELETE(shell->waiting, seat);
	if (take_seat(seat))
		return;
	if (seat->ready)
		fleet_seat_run(seat);
	else
		fleet_voyage_begin(&seat->voyage, seat->tenure, false, boot_clock_ns());
}

static void waiting_free(struct fleet_shell *shell, struct seat *seat)
{
	if (!seat)
		return;
	DL_DELETE(shell->waiting, seat);
	fleet_voyage_forget(&seat->voyage);
	free(seat);
}

static void seat_end(struct seat *seat)
{
	struct fleet_shell *shell = seat->shell;

	HASH_DEL(shell->seats, seat);
	/* Nobody is left who could end its leases otherwise. */
	if (fleet_voyage_keeps(&seat->voyage) && !shell->closing)
		shell->env.events->lost(shell->env.ctx, seat->endpoint);
	fleet_guest_remove(seat->tenure, boot_clock_ns());
	hand_over(shell, seat->uuid);
	free(seat);
}

/* What ran a guest that has left ends at once, mostly, and with it a discovered endpoint: what goes
 * with the guest is offered all the same, unless somebody waits for the seat. */
static bool parts(const struct seat *seat)
{
	const struct fleet_shell *shell = seat->shell;

	return fleet_voyage_keeps(&seat->voyage) && !shell->closing &&
	       !seat_of_guest(shell->waiting, seat->uuid);
}

bool fleet_seat_part(struct seat *seat, uint64_t now_ns)
{
	if (!seat->parted && now_ns < seat->parts_ns)
		return false;
	if (!seat->parted)
		log_warning("no host has taken the guest that has left, nor what goes with it; it "
			    "begins a new epoch wherever it is",
			LOG_STR("endpoint", seat->name), LOG_STR("uuid", seat->uuid));
	seat_end(seat);
	return true;
}

void fleet_shell_remove(struct fleet_shell *shell, uint32_t endpoint)
{
	struct seat *seat = seat_find(shell, endpoint);

	waiting_free(shell, seat_waiting(shell, endpoint));
	if (!seat || seat->parts)
		return;
	seat->parts = parts(seat);
	if (!seat->parts) {
		seat_end(seat);
		return;
	}
	seat->parts_ns = boot_clock_ns() + PART_NS;
	shell->look_ns = 0;
	shell->pending = true;
}

/* One that came by a migration has to be known by some name, also when nobody can tell its kernel
 * from another boot of it, and by the same one to a later process that goes on with its epoch. No
 * other host has one of that name, and this one no other session. */
static void name_by_epoch(const struct seat *seat, char *ret_name, size_t size)
{
	snprintf(ret_name, size, "epoch %s/%" PRIu32 "/%" PRIu32,
		seat->shell->env.config->fleet.host, seat->endpoint, seat->epoch);
}

/* A fingerprint is longer than a name of the fleet, and has what no name has. "" if it cannot be
 * told: then a later process begins other epochs. */
void fleet_seat_session(struct seat *seat, const char *fingerprint)
{
	const struct fleet_voyage *voyage = &seat->voyage;
	unsigned char digest[EVP_MAX_MD_SIZE];
	char name[FLEET_NAME_MAX + 64];
	bool came = voyage->step == PASSAGE_COMES;

	seat->session[0] = '\0';
	if (came && (!voyage->kernel[0] || (seat->owned && !voyage->lasts))) {
		name_by_epoch(seat, name, sizeof(name));
		fingerprint = name;
	} else if (voyage->kernel[0]) {
		fingerprint = voyage->kernel;
	}
	if (!*fingerprint ||
		!EVP_Digest(fingerprint, strlen(fingerprint), digest, NULL, EVP_sha256(), NULL))
		return;
	for (size_t i = 0; i < SESSION_BYTES; i++)
		snprintf(seat->session + 2 * i, 3, "%02x", digest[i]);
}

void fleet_seats_free(struct fleet_shell *shell)
{
	struct seat *seat, *next;

	/* HASH_ITER takes the next one before, which the analyser does not see through. */
	/* NOLINTBEGIN(clang-analyzer-unix.Malloc) */
	HASH_ITER (hh, shell->seats, seat, next) {
		HASH_DEL(shell->seats, seat);
		fleet_voyage_forget(&seat->voyage);
		free(seat);
	}
	/* NOLINTEND(clang-analyzer-unix.Malloc) */
	while (shell->waiting)
		waiting_free(shell, shell->waiting);
}

/* ---- leases ---- */

uint64_t fleet_shell_token_floor(const struct fleet_shell *shell, uint32_t endpoint)
{
	const struct seat *seat = seat_find(shell, endpoint);
	struct tenure_view view;

	if (!seat)
		return 0;
	tenure_look(seat->tenure, &view);
	return view.token > seat->token_floor ? view.token : seat->token_floor;
}

int fleet_shell_grant(struct fleet_shell *shell, const struct lease_view *lease, uint64_t token)
{
	struct seat *seat = seat_find(shell, lease->endpoint);
	char record[LEASE_NAME_MAX + 160];
	const struct tenure_lease wanted = {.id = lease->id,
		.token = token,
		.ttl_ns = lease->ttl_ns,
		.record = record,
		.record_len = (size_t)snprintf(record, sizeof(record),
			"tenant %s\nepoch %u\nlease %" PRIu64 "\nuid %u\nttl_ms %" PRIu64 "\n",
			lease->tenant, lease->epoch, lease->id, (unsigned)lease->uid,
			lease->ttl_ns / NS_PER_MS)};

	return seat ? tenure_grant(seat->tenure, boot_clock_ns(), &wanted) : VMSIG_ERR_NOT_READY;
}

void fleet_shell_end(struct fleet_shell *shell, const struct lease_view *lease)
{
	struct seat *seat = seat_find(shell, lease->endpoint);

	if (seat)
		tenure_end(seat->tenure, boot_clock_ns(), lease->id, lease->token);
}
