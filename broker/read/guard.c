/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What keeps holders from writing to an endpoint's RAM, and whether that is enough for a
 * session: the guard as the adapter found it, against the holder's uid, and what the endpoint's
 * and the tenant's policies demand.
 */
#include "broker/read/state.h"

enum vmsig_guard guard_against(const struct endpoint *endpoint, uint32_t uid)
{
	/* A file mode does not stop its owner, nor root. */
	if (endpoint->guard == VMSIG_GUARD_MODE && (uid == 0 || uid == endpoint->owner))
		return VMSIG_GUARD_NONE;
	return endpoint->guard;
}

static enum vmsig_guard demanded(const struct endpoint *endpoint, const struct session *session)
{
	enum vmsig_guard tenant = (enum vmsig_guard)session->tenant->min_guard;

	return endpoint->min_guard > tenant ? endpoint->min_guard : tenant;
}

bool guard_suffices(const struct endpoint *endpoint, const struct session *session)
{
	return guard_against(endpoint, session->uid) >= demanded(endpoint, session);
}

const char *guard_advice(const struct endpoint *endpoint, const struct session *session)
{
	static const char *const details[] = {
		[VMSIG_GUARD_NONE] = "",
		[VMSIG_GUARD_MODE] =
			"WEAK_GUARD: weaker than the min_guard 'mode' of the policy: give "
			"the holder a uid that is neither root nor the RAM file's "
			"owner",
		[VMSIG_GUARD_RO_MOUNT] =
			"WEAK_GUARD: weaker than the min_guard 'ro-mount' of the policy: back "
			"guest RAM by a file on a tmpfs (memory-backend-file)",
		[VMSIG_GUARD_SEALED] =
			"WEAK_GUARD: weaker than the min_guard 'sealed' of the policy: only RAM "
			"in a sealed memfd satisfies it",
	};

	return details[demanded(endpoint, session)];
}
