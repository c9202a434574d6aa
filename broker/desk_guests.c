/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guests as the write plane sees them: the core's endpoints, their adapters' write paths, and
 * broker/memwrite. The clock is read for each piece of memory that is admitted, in the step that
 * stores to it.
 */
#include "broker/adapters/memfiles_reg.h"
#include "broker/desk_shell.h"
#include "broker/fleet_shell.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include <utlist.h>

#include "broker/memwrite/memwrite.h"
#include "broker/read/core.h"
#include "broker/adapters/memwrite_reg.h"
#include "vmsig/vmsig_error.h"
#include "vmsig/vmsig_memctx.h"

/* ---- endpoints ---- */

static const vmsig_memwrite_reg *reg_of(const struct desk_shell *shell, uint32_t endpoint)
{
	return core_endpoint_memwrite(shell->env.core, endpoint);
}

static int guest_find(void *ctx, const char *name, uint32_t *ret_endpoint, bool *ret_writable)
{
	struct desk_shell *shell = ctx;
	struct core_endpoint_info info;
	int r = core_endpoint_find(shell->env.core, NULL, name, &info);

	if (r)
		return r;
	*ret_endpoint = info.id;
	*ret_writable = info.writable;
	return 0;
}

struct desk_target {
	struct memwrite_target *memory;
	uint32_t endpoint;
};

static struct memwrite_target *target_of(struct desk_target *target)
{
	return target->memory;
}

/* Every file of its RAM, as vmsig_memfiles_reg.share_writable(); a size of 0 is the file's own. */
static int share_writable(struct core *core, const vmsig_memwrite_reg *reg, uint32_t endpoint,
	int fds[static VMSIG_MEMFILES_MAX], uint64_t sizes[static VMSIG_MEMFILES_MAX])
{
	const vmsig_memfiles_reg *several = core_endpoint_memfiles(core, endpoint);

	if (several)
		return several->share_writable(several->ctx, fds, sizes);
	fds[0] = reg->share_writable(reg->ctx);
	sizes[0] = 0;
	return fds[0] < 0 ? fds[0] : 1;
}

/* Takes the memory in any case. */
static int target_new(
	struct desk_target **ret_target, uint32_t endpoint, struct memwrite_target *memory)
{
	struct desk_target *target = calloc(1, sizeof(*target));

	if (!target) {
		memwrite_target_free(memory);
		return -ENOMEM;
	}
	*target = (struct desk_target){.memory = memory, .endpoint = endpoint};
	*ret_target = target;
	return 0;
}

static int guest_open(
	void *ctx, uint32_t endpoint, vmsig_coherence *page, struct desk_target **ret_target)
{
	struct desk_shell *shell = ctx;
	const vmsig_memwrite_reg *reg = reg_of(shell, endpoint);
	struct memwrite_target *memory;
	uint64_t sizes[VMSIG_MEMFILES_MAX];
	int fds[VMSIG_MEMFILES_MAX], n;
	const vmsig_memseg *segs;
	vmsig_memctx pod;
	uint32_t nseg;
	int r = reg ? core_endpoint_describe(shell->env.core, endpoint, &pod, &segs, &nseg)
		    : VMSIG_ERR_NOT_READY;

	if (r)
		return r;
	n = share_writable(shell->env.core, reg, endpoint, fds, sizes);
	if (n < 0)
		return n;
	r = memwrite_target_new_files(&memory, &(struct memwrite_files){fds, sizes, (size_t)n},
		segs, nseg, pod.low, pod.kcr3, pod.flags & VMSIG_MEMCTX_LA57 ? 5 : 4, page);
	while (n)
		close(fds[--n]);
	return r ? r : target_new(ret_target, endpoint, memory);
}

static void guest_close(void *ctx, struct desk_target *target)
{
	memwrite_target_free(target->memory);
	free(target);
}

/* Whether this host may: in a fleet the guest may be another's. */
static int guest_may_grant(void *ctx, uint32_t endpoint, const char **ret_why)
{
	const struct desk_shell *shell = ctx;

	if (shell->parted)
		return VMSIG_ERR_SHUTTING_DOWN;
	return shell->env.fleet ? fleet_shell_may_write(
					  shell->env.fleet, endpoint, shell->env.now_ns(), ret_why)
				: 0;
}

static bool guest_may_prolong(void *ctx, uint32_t endpoint)
{
	const struct desk_shell *shell = ctx;

	return !shell->env.fleet ||
	       fleet_shell_may_prolong(shell->env.fleet, endpoint, shell->env.now_ns());
}

static int guest_may_write(void *ctx, uint32_t endpoint, const char **ret_why)
{
	const vmsig_memwrite_reg *reg = reg_of(ctx, endpoint);
	int r = reg ? reg->may_write(reg->ctx, ret_why) : VMSIG_ERR_NOT_READY;

	return r ? r : guest_may_grant(ctx, endpoint, ret_why);
}

/* ---- vCPUs ---- */

/* Somebody waits for an adapter to stop them. */
struct desk_stop {
	struct desk_shell *shell;
	void (*done)(void *arg, uint64_t now_ns, int error);
	void *arg;
	struct desk_stop *prev, *next;
};

static void on_stopped(void *arg, int error)
{
	struct desk_stop stop = *(struct desk_stop *)arg, *own = arg;

	DL_DELETE(stop.shell->stops, own);
	free(own);
	stop.done(stop.arg, stop.shell->env.now_ns(), error);
}

static int guest_quiesce(void *ctx, uint32_t endpoint, uint64_t bound_ms,
	void (*done)(void *arg, uint64_t now_ns, int error), void *arg)
{
	struct desk_shell *shell = ctx;
	const vmsig_memwrite_reg *reg = reg_of(shell, endpoint);
	struct desk_stop *stop;

	if (!reg || !reg->quiesce)
		return VMSIG_ERR_UNSUPPORTED;
	stop = malloc(sizeof(*stop));
	if (!stop)
		return VMSIG_ERR_NO_MEMORY;
	*stop = (struct desk_stop){.shell = shell, .done = done, .arg = arg};
	DL_APPEND(shell->stops, stop);
	reg->quiesce(reg->ctx, bound_ms, on_stopped, stop);
	return 0;
}

void desk_guests_free(struct desk_shell *shell)
{
	struct desk_stop *stop, *next;

	DL_FOREACH_SAFE (shell->stops, stop, next)
		free(stop);
}

static int guest_quiesced(void *ctx, uint32_t endpoint)
{
	const vmsig_memwrite_reg *reg = reg_of(ctx, endpoint);

	if (!reg)
		return VMSIG_ERR_GONE;
	return reg->is_quiesced(reg->ctx) ? 0 : VMSIG_ERR_TIMEOUT;
}

static void guest_resume(void *ctx, uint32_t endpoint)
{
	const vmsig_memwrite_reg *reg = reg_of(ctx, endpoint);

	if (reg)
		reg->resume(reg->ctx);
}

/* ---- bytes ---- */

struct admission {
	const struct desk_shell *shell;
	uint32_t endpoint;
	desk_admit_fn admit;
	void *arg;
};

static int admit_now(void *ctx, const struct lease_range *range)
{
	const struct admission *admission = ctx;
	const struct desk_shell *shell = admission->shell;
	uint64_t now_ns = shell->env.now_ns();
	int r = shell->parted ? VMSIG_ERR_SHUTTING_DOWN
		: shell->env.fleet
			? fleet_shell_may_write(shell->env.fleet, admission->endpoint, now_ns, NULL)
			: 0;

	return r ? r : admission->admit(admission->arg, now_ns, range);
}

static int guest_resolve(void *ctx, struct desk_target *target, const struct memwrite_op *ops,
	size_t nops, struct memwrite_plan *plan, uint32_t *ret_failed_op)
{
	return memwrite_resolve(target_of(target), ops, nops, plan, ret_failed_op);
}

static int guest_resolve_part(void *ctx, struct desk_target *target, const struct memwrite_op *op,
	uint64_t len, struct memwrite_plan *plan)
{
	return memwrite_resolve_part(target_of(target), op, len, plan);
}

static int guest_plan_holds(void *ctx, struct desk_target *target, const struct memwrite_op *ops,
	size_t nops, const struct memwrite_plan *plan)
{
	return memwrite_plan_holds(target_of(target), ops, nops, plan);
}

static bool guest_plan_fits(void *ctx, const struct memwrite_plan *plan, struct desk_target *target)
{
	return memwrite_plan_fits(plan, target_of(target));
}

static void guest_check(void *ctx, struct desk_target *target, const struct memwrite_op *ops,
	const struct memwrite_plan *plan, desk_admit_fn admit, void *arg, uint8_t *old,
	struct memwrite_result *ret_result)
{
	struct admission admission = {
		.shell = ctx, .endpoint = target->endpoint, .admit = admit, .arg = arg};

	memwrite_check(target_of(target), ops, plan, admit_now, &admission, old, ret_result);
}

static void guest_apply(void *ctx, struct desk_target *target, const struct memwrite_op *ops,
	const struct memwrite_plan *plan, desk_admit_fn admit, void *arg, uint8_t *old,
	struct memwrite_result *ret_result)
{
	struct admission admission = {
		.shell = ctx, .endpoint = target->endpoint, .admit = admit, .arg = arg};

	memwrite_apply(target_of(target), ops, plan, admit_now, &admission, old, ret_result);
}

const struct desk_guest_ops desk_guests = {
	.find = guest_find,
	.open = guest_open,
	.close = guest_close,
	.may_write = guest_may_write,
	.may_grant = guest_may_grant,
	.may_prolong = guest_may_prolong,
	.quiesce = guest_quiesce,
	.quiesced = guest_quiesced,
	.resume = guest_resume,
	.resolve = guest_resolve,
	.resolve_part = guest_resolve_part,
	.plan_holds = guest_plan_holds,
	.plan_fits = guest_plan_fits,
	.check = guest_check,
	.apply = guest_apply,
};
