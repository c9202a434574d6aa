/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/read/state.h"

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
	assert(!core->outstanding && !core->waiting && !core->turns && !core->nturns);
	free(core);
	return NULL;
}

const vmsig_emit *core_emit(struct core *core)
{
	return &core->emit;
}

void core_advance(struct core *core, uint64_t now_ns)
{
	struct session *session;

	core->now_ns = now_ns;
	while ((session = core->outstanding) && session->take_by_ns <= now_ns) {
		/* Said once; it stays in flight until the shell has freed the session. */
		DL_DELETE2(core->outstanding, session, out_prev, out_next);
		session->overdue = true;
		session_disconnect(session, VMSIG_ERR_TIMEOUT);
	}
	session_end_turns(core, now_ns);
}

uint64_t core_deadline(const struct core *core)
{
	uint64_t take = core->outstanding ? core->outstanding->take_by_ns : UINT64_MAX;
	/* A turn that nobody is behind needs no end. */
	uint64_t turn = core->turns && core->waiting ? core->turns->turn_by_ns : UINT64_MAX;

	for (size_t q = 0; q < QUEUES; q++) {
		if (core->queues[q])
			return 0;
	}
	return take < turn ? take : turn;
}
