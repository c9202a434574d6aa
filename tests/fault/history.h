/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_FAULT_HISTORY_H
#define TESTS_FAULT_HISTORY_H

/*
 * The invariants of leases and writes, checked from what the audit log has recorded and what
 * is in guest memory at the end. A violation fails the test and names the records.
 *
 *   I1   no two leases with overlapping ranges are held together
 *   I2   tokens of an endpoint rise
 *   I3   a write was applied under a lease that was held, with its token and epoch
 *   I4   none was applied after the end of its lease was recorded
 *   I5   memory is what the last applied write of each address has left
 *   I6   one (lease, writer, sequence) was applied at most once
 *   I12  the log is intact
 */

#include "tests/integration/vmsigd/desk_scene.h"

struct history_word {
	const char *endpoint;
	uint64_t addr; /* of 8 bytes that only operators have written to */
};

/* Reads the whole log of the running broker. `words`: what I5 is checked for; every write to
 * them was of exactly these 8 bytes. Returns how many writes were applied. */
unsigned history_check(struct desk_scene *scene, const struct history_word *words, size_t nwords);

#endif
