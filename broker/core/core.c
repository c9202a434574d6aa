/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/core/state.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

int core_new(struct core **ret_core, const struct core_limits *limits)
{
	struct core *core = calloc(1, sizeof(*core));

	if (!core)
		return -ENOMEM;
	core->limits = *limits;
	endpoint_emit_init(core);
	*ret_core = core;
	return 0;
}

void core_closing(struct core *core)
{
	core->closing = true;
}

struct core *core_free(struct core *core)
{
	if (!core)
		return NULL;
	assert(!core->nsessions && !core->nendpoints && !core->inflight);
	assert(!core->outstanding && !core->waiting);
	free(core);
	return NULL;
}

const vmsig_emit *core_emit(struct core *core)
{
	return &core->emit;
}

void core_advance(struct core *core, uint64_t now_ns)
{
	struct session *session, *next;

	DL_FOREACH_SAFE2(core->outstanding, session, next, out_next)
	{
		if (session->take_by_ns > now_ns)
			return;
		/* Once: it stays outstanding until the shell has freed it. */
		session->take_by_ns = UINT64_MAX;
		DL_DELETE2(core->outstanding, session, out_prev, out_next);
		DL_APPEND2(core->outstanding, session, out_prev, out_next);
		session_disconnect(session, VMSIG_ERR_TIMEOUT);
	}
}

uint64_t core_deadline(const struct core *core)
{
	return core->outstanding ? core->outstanding->take_by_ns : UINT64_MAX;
}
