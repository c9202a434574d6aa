/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/ctl/piece.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/common/moment.h"

#define QUIET_MS 1000 /* without a word; then that is told */

/* ---- the outcome ---- */

/* What lives in the callback only, kept. */
static void on_outcome(void *arg, const vmsig_write_result *result)
{
	struct ctl_answer *answer = arg;
	vmsig_write_result *to = &answer->result;
	size_t text = strlen(result->text) + 1;
	unsigned char *owned = malloc(result->old_len + text);

	*to = *result;
	to->owned = owned;
	to->old = owned;
	to->text = owned ? (char *)owned + result->old_len : "";
	to->old_len = owned ? result->old_len : 0;
	if (owned) {
		if (result->old_len)
			memcpy(owned, result->old, result->old_len);
		memcpy(owned + result->old_len, result->text, text);
	}
	answer->there = true;
}

static int piece_send(struct ctl_hold *hold, const struct ctl_piece *piece)
{
	const vmsig_write_op *op = &piece->op;

	return piece->memfd < 0
		       ? vmsig_write(hold->lease, op, 1, piece->flags, on_outcome, &hold->answer)
		       : vmsig_write_bulk(hold->lease, op->addr, op->flags, op->cr3, piece->memfd,
				 piece->offset, piece->len, piece->flags, on_outcome,
				 &hold->answer);
}

/* ---- waiting ---- */

/* Once for each piece. */
static void tell_quiet(const struct ctl *ctl, const struct ctl_hold *hold, uint64_t addr)
{
	bool up = vmsig_writer_is_connected(hold->writer);
	const char *why = vmsig_writer_last_error(hold->writer);

	ctl_note("no word yet about the write at 0x%" PRIx64
		 " of %s: %s%s%s; waiting for %g s, see "
		 "--timeout",
		addr, hold->endpoint,
		up ? "the broker takes its time" : "the broker is not there, trying again",
		up || !why[0] ? "" : ": ", up ? "" : why, ctl_timeout(ctl) / 1000.0);
}

/* The lease goes, and with it whatever was not sent: that makes a difference. */
static int give_up(const struct ctl *ctl, struct ctl_hold *hold)
{
	char why[VMSIG_DETAIL_MAX + 1], *owned;
	int r;

	snprintf(why, sizeof(why), "%s", vmsig_writer_last_error(hold->writer));
	hold->lease = vmsig_lease_free(hold->lease);
	r = hold->answer.result.outcome == -VMSIG_ERR_UNKNOWN_OUTCOME ? -VMSIG_ERR_TIMEOUT
								      : -VMSIG_ERR_DISCONNECTED;
	vmsig_write_result_clear(&hold->answer.result);
	if (asprintf(&owned, "no word from the broker in %g s%s%s", ctl_timeout(ctl) / 1000.0,
		    why[0] ? ": " : "", why) >= 0)
		hold->answer.result = (vmsig_write_result){.text = owned, .owned = owned};
	return r;
}

static int await(const struct ctl *ctl, struct ctl_hold *hold, uint64_t addr)
{
	int64_t until = moment_in_ms(ctl_timeout(ctl)), quiet = moment_in_ms(QUIET_MS);
	int r = 0;

	while (!r && !hold->answer.there) {
		int64_t now = moment_now();

		if (now >= until)
			return give_up(ctl, hold);
		if (now >= quiet) {
			tell_quiet(ctl, hold, addr);
			quiet = MOMENT_NEVER;
		}
		r = ctl_hold_turn(hold, quiet < until ? quiet : until);
	}
	return hold->answer.there ? hold->answer.result.outcome : r;
}

int ctl_piece_write(const struct ctl *ctl, struct ctl_hold *hold, const struct ctl_piece *piece,
	vmsig_write_result *ret_result)
{
	int r;

	hold->answer = (struct ctl_answer){.result = {.text = ""}};
	r = hold->lease ? piece_send(hold, piece) : -VMSIG_ERR_NO_LEASE;
	if (!r)
		r = await(ctl, hold, piece->op.addr);
	*ret_result = hold->answer.result;
	hold->answer.result = (vmsig_write_result){.text = ""};
	return r;
}
