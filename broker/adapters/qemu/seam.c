/* SPDX-License-Identifier: Apache-2.0 */
/* What the core asks of the adapter: the locator, descriptors, and whether a write may go. */
#include <errno.h>

#include "broker/adapters/qemu/qemu.h"
#include "vmsig/vmsig_error.h"
#include "vmsig/vmsig_memctx.h"

/* ---- reading ---- */

void qemu_describe(
	void *ctx, vmsig_memctx *out_pod, const vmsig_memseg **out_segs, uint32_t *out_nseg)
{
	const struct qemu *q = ctx;

	*out_pod = (vmsig_memctx){.epoch = q->publisher.epoch, .flags = VMSIG_MEMCTX_RDONLY};
	*out_segs = NULL;
	*out_nseg = 0;
	if (!q->guest || !q->guest->ram)
		return;
	*out_segs = q->guest->physmap.segs;
	*out_nseg = (uint32_t)q->guest->physmap.nseg;
	out_pod->kcr3 = q->proof.kcr3;
	out_pod->low = q->guest->map.low;
	out_pod->nseg = *out_nseg;
	out_pod->flags = publisher_flags(q->guest->ram, q->proof.levels);
}

/* The only file; RAM in several is had by share_files(). */
static int share_fd(void *ctx)
{
	const struct qemu *q = ctx;

	if (!q->ready || !q->guest)
		return -ENODEV;
	return ramset_count(q->guest->ram) == 1 ? ram_share(ramset_file(q->guest->ram, 0))
						: -EOPNOTSUPP;
}

static int share_files(void *ctx, int ret_fds[static VMSIG_MEMFILES_MAX],
	uint64_t ret_sizes[static VMSIG_MEMFILES_MAX])
{
	const struct qemu *q = ctx;

	return q->ready && q->guest ? ramset_share(q->guest->ram, ret_fds, ret_sizes) : -ENODEV;
}

/* ---- writing ---- */

static int share_writable(void *ctx)
{
	const struct qemu *q = ctx;

	if (!q->ready || !q->guest)
		return -ENODEV;
	return ramset_count(q->guest->ram) == 1 ? ram_open_writable(ramset_file(q->guest->ram, 0))
						: -EOPNOTSUPP;
}

static int share_files_writable(void *ctx, int ret_fds[static VMSIG_MEMFILES_MAX],
	uint64_t ret_sizes[static VMSIG_MEMFILES_MAX])
{
	const struct qemu *q = ctx;

	return q->ready && q->guest ? ramset_share_writable(q->guest->ram, ret_fds, ret_sizes)
				    : -ENODEV;
}

/* QEMU's dirty log does not see our stores: what is written while memory is copied may be
 * missing on the other side. And the holder of a lease meant the memory of its epoch. A kernel that
 * has panicked is evidence of what went wrong, and runs on no write that could help it. */
static int may_write(void *ctx, const char **ret_why)
{
	const struct qemu *q = ctx;

	if (q->panicked) {
		*ret_why = "the guest's kernel has panicked, and what it left is kept as it is; "
			   "reset the guest, which is a new epoch, to write to it";
		return VMSIG_ERR_NO_WRITE_PATH;
	}
	if (!q->ready)
		*ret_why = "the guest was reset, or is not ready yet; write when it is";
	else if (q->lost)
		*ret_why =
			"QEMU does not answer, so that nothing is known of the guest; write when "
			"it is reachable again";
	else if (restore_in_doubt(&q->restore))
		*ret_why = "QEMU stopped or continued the guest, and it is being looked at whether "
			   "a snapshot was loaded; write again";
	else if (q->migrating)
		*ret_why = "a migration of the guest is under way; write when it is over";
	else
		return 0;
	return VMSIG_ERR_BUSY;
}

static void stop_vcpus(void *ctx, uint64_t bound_ms, void (*done)(void *arg, int error), void *arg)
{
	struct qemu *q = ctx;

	quiesce_start(&q->quiesce, bound_ms, done, arg);
}

static bool is_quiesced(void *ctx)
{
	const struct qemu *q = ctx;

	return quiesce_is_still(&q->quiesce);
}

static void resume(void *ctx)
{
	struct qemu *q = ctx;

	quiesce_end(&q->quiesce);
}

/* ---- */

int seam_register(struct qemu *q, void (*invalidate)(void *ctx, uint32_t epoch))
{
	const vmsig_memctx_reg reader = {.ctx = q,
		.describe = qemu_describe,
		.share_fd = share_fd,
		.invalidate = invalidate};
	const vmsig_memwrite_reg writer = {
		.ctx = q,
		.share_writable = share_writable,
		.may_write = may_write,
		.quiesce = q->env.guardian ? stop_vcpus : NULL,
		.is_quiesced = is_quiesced,
		.resume = resume,
	};

	const vmsig_memfiles_reg files = {
		.ctx = q, .share = share_files, .share_writable = share_files_writable};

	return publisher_register(&q->publisher, &q->env, &reader, &files, &writer);
}
