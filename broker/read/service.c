/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a session is served an endpoint that can be read: the guard has to suffice, and RAM that
 * is in several files needs a holder that can take them. One that is not served is told why, in
 * place of a context.
 */
#include "broker/read/state.h"

static bool can_take(const struct endpoint *endpoint, const struct session *session)
{
	return endpoint->files <= 1 || session->takes_files;
}

bool service_is_due(const struct endpoint *endpoint, const struct session *session)
{
	return guard_suffices(endpoint, session) && can_take(endpoint, session);
}

const char *service_refusal(const struct endpoint *endpoint, const struct session *session)
{
	if (can_take(endpoint, session))
		return guard_advice(endpoint, session);
	return "UNSUPPORTED: guest RAM is in several files, and this holder's library takes one; "
	       "link a newer libvmsig, or put the guest's RAM into a single file";
}

const char *service_detail(const struct endpoint *endpoint, const struct session *session)
{
	if (!session || !core_state_is_readable(endpoint->state) ||
		service_is_due(endpoint, session))
		return endpoint->detail;
	return service_refusal(endpoint, session);
}
