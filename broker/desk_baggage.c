/* SPDX-License-Identifier: Apache-2.0 */
/* What goes with a guest to another host, and what comes with one: leases, and the answers to
 * writes under them. */
#include "broker/desk_shell.h"

#include <errno.h>
#include <stdlib.h>

#include "broker/log.h"
#include "broker/store/baggage.h"
#include "proto/wire/vmsig.pb-c.h"
#include "vmsig/vmsig_error.h"

#define LEAST_NS 2000000000ull /* of a lease that goes along */
#define REPLY_MAX 64u          /* bytes of a result without data or sentence */

/* What is told of a write that was under way when its guest left. */
static size_t unknown_pack(uint8_t reply[static REPLY_MAX])
{
	Vmsig__WriteResult result = VMSIG__WRITE_RESULT__INIT;

	result.outcome = VMSIG_ERR_UNKNOWN_OUTCOME;
	return vmsig__write_result__pack(&result, reply);
}

/* One that nobody was told of ends here, and one that is about to expire, so that it does not go on
 * there after that. */
static bool is_packed(const struct lease_view *lease, uint32_t endpoint, uint64_t now_ns)
{
	return lease->endpoint == endpoint && lease->state == LEASE_ACTIVE && lease->told &&
	       lease->deadline_ns > now_ns + LEAST_NS;
}

static int pack(struct desk_shell *shell, uint32_t endpoint, bool last, struct baggage *baggage)
{
	uint64_t cursor = 0, now_ns = shell->env.now_ns();
	uint8_t reply[REPLY_MAX];
	size_t len = unknown_pack(reply);
	struct lease_view lease;
	int r = 0;

	while (!r && desk_lease_next(shell->desk, &cursor, &lease)) {
		if (!is_packed(&lease, endpoint, now_ns))
			continue;
		r = baggage_add(
			baggage, shell->env.store, &lease, now_ns, last ? reply : NULL, len);
		if (r != VMSIG_ERR_QUOTA)
			continue;
		log_warning("a lease does not fit into what goes to the other host, and ends",
			LOG_STR("endpoint", desk_endpoint_name(shell->desk, endpoint)),
			LOG_INT("lease", lease.id));
		r = 0;
	}
	return r;
}

int desk_shell_pack(struct desk_shell *shell, uint32_t endpoint, bool last, size_t max,
	uint8_t **ret_data, size_t *ret_len)
{
	struct baggage baggage = {.max = max};
	int r;

	/* What was told is recorded, and so in the ledger. */
	desk_settle(shell->desk, shell->env.now_ns());
	r = pack(shell, endpoint, last, &baggage);
	if (r) {
		free(baggage.data);
		return r;
	}
	*ret_data = baggage.data;
	*ret_len = baggage.len;
	return 0;
}

static int adopt(void *arg, const struct lease_view *lease)
{
	struct desk_shell *shell = arg;

	return desk_lease_adopt(shell->desk, shell->env.now_ns(), lease);
}

static void limit(void *arg, uint64_t now_ns, struct lease_view *lease)
{
	const struct desk_shell *shell = arg;

	desk_lease_limit(shell->desk, now_ns, lease);
}

int desk_shell_unpack(
	struct desk_shell *shell, struct baggage_intake *intake, const void *data, size_t len)
{
	if (!intake->now_ns)
		intake->now_ns = shell->env.now_ns();
	intake->each = adopt;
	intake->limit = limit;
	intake->arg = shell;
	return len ? baggage_take(shell->env.store, intake, data, len) : 0;
}
