/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/membership.h"

#include <stddef.h>

#include "broker/boot_clock.h"
#include "broker/desk_shell.h"
#include "broker/endpoints.h"
#include "broker/error_text.h"
#include "broker/fleet_shell.h"
#include "broker/log.h"
#include "broker/shell.h"

static void on_owned(void *ctx, uint32_t endpoint, uint32_t epoch)
{
	const struct broker *broker = ctx;
	vmsig_coherence *page = endpoints_page(broker->endpoints, endpoint);

	if (page && broker->desk)
		desk_endpoint_ready(broker->desk, boot_clock_ns(), endpoint, epoch, page);
}

static void on_lost(void *ctx, uint32_t endpoint)
{
	const struct broker *broker = ctx;

	if (broker->desk)
		desk_endpoint_over(broker->desk, boot_clock_ns(), endpoint);
}

static void on_raise(void *ctx, uint32_t endpoint, uint32_t epoch)
{
	core_endpoint_raise(((struct broker *)ctx)->core, endpoint, epoch);
}

static void on_granted(void *ctx, uint64_t lease, uint64_t token)
{
	const struct broker *broker = ctx;

	if (broker->desk)
		desk_lease_stored(broker->desk, boot_clock_ns(), lease, token);
}

static void on_not_granted(void *ctx, uint64_t lease)
{
	const struct broker *broker = ctx;

	if (broker->desk)
		desk_lease_failed(broker->desk, boot_clock_ns(), lease, VMSIG_ERR_BUSY);
}

static void on_left(void *ctx, uint32_t endpoint)
{
	const struct broker *broker = ctx;

	if (broker->desk)
		desk_endpoint_leave(broker->desk, boot_clock_ns(), endpoint);
}

static int on_pack(void *ctx, uint32_t endpoint, bool last, uint8_t **ret_data, size_t *ret_len)
{
	const struct broker *broker = ctx;

	return broker->desk ? desk_shell_pack(broker->desk_shell, endpoint, last, FLEET_BAGGAGE_MAX,
				      ret_data, ret_len)
			    : 0;
}

static int on_unpack(void *ctx, struct baggage_intake *intake, const void *data, size_t len)
{
	const struct broker *broker = ctx;

	return broker->desk ? desk_shell_unpack(broker->desk_shell, intake, data, len)
			    : VMSIG_ERR_IO;
}

static void on_moved(void *ctx, uint32_t endpoint, const char *host)
{
	const struct broker *broker = ctx;

	if (broker->desk)
		desk_endpoint_moved(broker->desk, boot_clock_ns(), endpoint, host);
	core_endpoint_moved(broker->core, endpoint, host);
}

static void on_awaited(void *ctx, uint32_t endpoint)
{
	core_endpoint_moved(((struct broker *)ctx)->core, endpoint, NULL);
}

static const struct fleet_shell_events events = {
	.owned = on_owned,
	.lost = on_lost,
	.raise = on_raise,
	.granted = on_granted,
	.not_granted = on_not_granted,
	.left = on_left,
	.pack = on_pack,
	.unpack = on_unpack,
	.moved = on_moved,
	.awaited = on_awaited,
};

int membership_start(struct broker *broker)
{
	struct fleet_shell_env env = {
		.loop = &broker->loop, .jobs = broker->jobs, .events = &events, .ctx = broker};
	char error[256];
	int r;

	if (!broker->config->fleet.given)
		return 0;
	broker->membership = config_ref(broker->config);
	env.config = broker->membership;
	r = fleet_shell_new(&broker->fleet, &env, error, sizeof(error));
	if (r) {
		log_error("cannot join the fleet", LOG_STR("error", error));
		broker->membership = config_unref(broker->membership);
		return r;
	}
	log_info("in a fleet", LOG_STR("fleet", broker->config->fleet.name),
		LOG_STR("host", broker->config->fleet.host));
	return 0;
}

static void on_closed(void *arg)
{
	struct broker *broker = arg;

	broker->fleet = NULL;
	desk_shell_part(broker->desk_shell);
	broker->membership = config_unref(broker->membership);
	if (broker->left)
		broker->left(broker);
}

void membership_close(struct broker *broker, void (*closed)(struct broker *broker))
{
	if (broker->leaving)
		return;
	broker->left = closed;
	if (broker->fleet) {
		broker->leaving = true;
		fleet_shell_close(broker->fleet, on_closed, broker);
	} else if (closed) {
		closed(broker);
	}
}
