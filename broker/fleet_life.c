/* SPDX-License-Identifier: Apache-2.0 */
/* The life of the fleet's shell: what it is made of, and how it leaves. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "broker/boot_clock.h"
#include "broker/fleet_keys.h"
#include "broker/fleet_memory.h"
#include "broker/fleet_seat.h"
#include "broker/journal/shared.h"
#include "vmsig/vmsig_error.h"

#define NS_PER_MS 1000000u
#define FAREWELL_MS 1000u /* for guests to be given up before the broker ends */

static void on_answered(void *arg, const struct txn_answer *answer)
{
	struct fleet_shell *shell = arg;

	if (fleet_survey_takes(&shell->survey, answer))
		fleet_survey_take(&shell->survey, answer);
	else
		fleet_answer(shell->fleet, boot_clock_ns(), answer);
}

static void on_noticed(void *arg, const struct txn_notice *notice)
{
	fleet_notice(((struct fleet_shell *)arg)->fleet, boot_clock_ns(), notice);
}

static int open_etcd(struct fleet_shell *shell, char *error, size_t error_size)
{
	const struct config_fleet *config = &shell->env.config->fleet;
	struct fleet_keys keys = {0};
	int r = fleet_keys_read(&keys, config, error, error_size);
	const struct etcd_options options = {.loop = shell->env.loop,
		.urls = (const char *const *)config->etcd,
		.nurls = config->netcd,
		.keys = {keys.ca, keys.cert, keys.key},
		.allow_old = config->allow_old_etcd,
		.answered = on_answered,
		.noticed = on_noticed,
		.arg = shell};

	if (!r)
		r = etcd_new(&shell->etcd, &options);
	shell->etcd_open = !r;
	shell->survey = (struct fleet_survey){
		.etcd = shell->etcd, .fleet = config->name, .timeout_ms = config->timeout_ms};
	fleet_keys_deinit(&keys);
	return r;
}

int fleet_shell_rekey(struct fleet_shell *shell, const struct fleet_keys *keys)
{
	return etcd_rekey(shell->etcd, &(struct courier_keys){keys->ca, keys->cert, keys->key});
}

static int open_fleet(struct fleet_shell *shell)
{
	const struct config_fleet *config = &shell->env.config->fleet;
	char boot[SHARED_BOOT_ID_MAX];
	struct fleet_options options = {.fleet = config->name,
		.host = config->host,
		.boot = boot,
		.ttl_s = (uint32_t)(config->ttl_ms / 1000),
		.rho_ppm = config->rho_ppm,
		.margin_ns = config->margin_ns,
		.timeout_ms = config->timeout_ms};
	int r = shared_boot_id(boot);

	if (!r)
		r = fleet_memory_open(&shell->keeper, shell->env.jobs, shell->env.config->state_dir,
			&options.memory);
	if (!r && getrandom(&options.nonce, sizeof(options.nonce), 0) != sizeof(options.nonce))
		r = -errno;
	return r ? r : fleet_new(&shell->fleet, boot_clock_ns(), &options);
}

static void release(struct fleet_shell *shell)
{
	fleet_seats_free(shell);
	shell->fleet = fleet_free(shell->fleet);
	shell->keeper = fleet_memory_close(shell->keeper);
}

static void part_closed(struct fleet_shell *shell)
{
	void (*closed)(void *arg) = shell->closed;
	void *arg = shell->arg;

	if (shell->timer_open || shell->etcd_open)
		return;
	free(shell);
	if (closed)
		closed(arg);
}

static void on_etcd_closed(void *arg)
{
	struct fleet_shell *shell = arg;

	shell->etcd_open = false;
	part_closed(shell);
}

static void on_timer_closed(uv_handle_t *handle)
{
	struct fleet_shell *shell = handle->data;

	shell->timer_open = false;
	part_closed(shell);
}

static void on_end(struct fleet_shell *shell)
{
	release(shell);
	shell->timer.data = shell;
	uv_close((uv_handle_t *)&shell->timer, on_timer_closed);
	etcd_close(shell->etcd, on_etcd_closed, shell);
}

int fleet_shell_new(struct fleet_shell **ret_shell, const struct fleet_shell_env *env, char *error,
	size_t error_size)
{
	struct fleet_shell *shell = calloc(1, sizeof(*shell));
	int r;

	error[0] = '\0';
	if (!shell)
		return -ENOMEM;
	shell->env = *env;
	shell->look_ns = UINT64_MAX;
	shell->end = on_end;
	r = open_fleet(shell);
	if (!r)
		r = uv_timer_init(env->loop, &shell->timer);
	shell->timer_open = !r;
	if (!r)
		r = open_etcd(shell, error, error_size);
	if (r) {
		if (!error[0])
			snprintf(error, error_size, "%s",
				r < 0 ? strerror(-r) : vmsig_error_text(r));
		/* The loop will not run: what is open there stays until the process ends. */
		release(shell);
		return r;
	}
	*ret_shell = shell;
	return 0;
}

/* What an earlier process had of a guest that this one has not seen yet stays as it is. */
static void take_leave(struct seat *seat, uint64_t now_ns)
{
	struct tenure_view view;

	tenure_look(seat->tenure, &view);
	if (seat->ready)
		tenure_pauses(seat->tenure, now_ns);
	else if (view.state != TENURE_NONE)
		tenure_gone(seat->tenure, now_ns);
}

void fleet_shell_close(struct fleet_shell *shell, void (*closed)(void *arg), void *arg)
{
	uint64_t now_ns = boot_clock_ns();
	struct seat *seat, *next;

	shell->closing = true;
	fleet_survey_end(&shell->survey);
	shell->closed = closed;
	shell->arg = arg;
	shell->farewell_ns = now_ns + FAREWELL_MS * (uint64_t)NS_PER_MS;
	HASH_ITER (hh, shell->seats, seat, next)
		take_leave(seat, now_ns);
	fleet_shell_turn(shell);
}
