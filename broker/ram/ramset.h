/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_RAM_RAMSET_H
#define BROKER_RAM_RAMSET_H

/*
 * All of a guest's RAM: one file or several, laid end to end (proto/guest/span.h). What is said
 * of it is said of the weakest of its files: the guard, whether it may have holes, whether it is
 * still what it was.
 */

#include "broker/ram/claims.h"
#include "broker/ram/ram.h"
#include "proto/guest/span.h"

struct ramset;
struct physmap;

/* Takes the files over when it succeeds. 0; VMSIG_ERR_BAD_REQUEST: they cannot lie end to end
 * (one is in it twice, or is no multiple of the pages that the next one is mapped by), `error`
 * gets a sentence; -ENOMEM. */
__attribute__((warn_unused_result)) int ramset_new(struct ramset **ret_set,
	struct ram *const *files, size_t n, char *error, size_t error_size);
/* Gives up the claims, closes the files. Accepts NULL, returns NULL. */
struct ramset *ramset_free(struct ramset *set);

/* An order in which files of whole pages lie end to end: those of the largest pages first. Sorts,
 * and leaves the order of equals as it was. */
void ramset_order(struct ram **files, size_t n);

size_t ramset_count(const struct ramset *set);
const struct ram *ramset_file(const struct ramset *set, size_t i);
uint64_t ramset_start(const struct ramset *set, size_t i); /* bytes, of the file in the whole */
uint64_t ramset_size(const struct ramset *set);            /* bytes of all */

/* Claims every file for the endpoint, or none: as claim_take(). */
__attribute__((warn_unused_result)) const char *ramset_claim(
	struct ramset *set, struct claims *claims, const char *name);
/* Whether it still has all that it claimed. */
bool ramset_is_claimed(const struct ramset *set);

enum vmsig_guard ramset_guard(const struct ramset *set);
/* GUARD_MODE does not hold against this uid. Of several owners it is not said: then the guard is
 * none. */
uid_t ramset_owner(const struct ramset *set);
bool ramset_is_sparse(const struct ramset *set);
/* Tells which files these are, for fingerprints. */
uint64_t ramset_digest(const struct ramset *set);

/* The worst of ram_check(). For jobs. */
enum ram_change ramset_check(const struct ramset *set);

/* Fresh descriptors of all files, as ram_share() and ram_open_writable(), or none; and the bytes
 * that count of each. How many there are, or -errno. */
__attribute__((warn_unused_result)) int ramset_share(const struct ramset *set,
	int ret_fds[static VMSIG_MEMFILES_MAX], uint64_t ret_sizes[static VMSIG_MEMFILES_MAX]);
__attribute__((warn_unused_result)) int ramset_share_writable(const struct ramset *set,
	int ret_fds[static VMSIG_MEMFILES_MAX], uint64_t ret_sizes[static VMSIG_MEMFILES_MAX]);
/* Fresh ones for a search, which moves their offsets: span_close() them. Where there is none to be
 * had the span has no descriptor. 0 or -ENOMEM. */
__attribute__((warn_unused_result)) int ramset_span(
	const struct ramset *set, struct span *ret_span);

/* By guest-physical address, across segments that touch; never allocates holes, never faults.
 * 0, VMSIG_ERR_OUT_OF_RANGE (no RAM, or a file that has shrunk), VMSIG_ERR_IO. */
__attribute__((warn_unused_result)) int ramset_read_gpa(
	const struct ramset *set, const struct physmap *map, uint64_t gpa, void *buf, size_t len);

#endif
