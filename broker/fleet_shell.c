/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/fleet_shell.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <utlist.h>

#include "broker/boot_clock.h"
#include "broker/error_text.h"
#include "broker/fleet_memory.h"
#include "broker/fleet_seat.h"
#include "broker/journal/shared.h"
#include "broker/log.h"
#include "lease/lease.h"
#include "vmsig/vmsig_error.h"

#define NS_PER_MS 1000000u
#define FAREWELL_MS 1000u    /* for guests to be given up before the broker ends */
#define TURN_ACTIONS 64u     /* in one turn */
#define PEM_MAX (256u << 10) /* bytes of a file of keys */

/* ---- endpoints ---- */

static struct seat *waiting_find(const struct fleet_shell *shell, uint32_t endpoint)
{
	struct seat *seat;

	DL_FOREACH (shell->waiting, seat) {
		if (seat->endpoint == endpoint)
			return seat;
	}
	return NULL;
}

static bool is_taken(const struct fleet_shell *shell, const char *uuid)
{
	const struct seat *seat;

	for (seat = shell->seats; seat; seat = seat->hh.next) {
		if (strcmp(seat->uuid, uuid) == 0)
			return true;
	}
	return false;
}

/* Frees it if that fails. */
static int take_seat(struct seat *seat)
{
	struct fleet_shell *shell = seat->shell;
	int r = fleet_guest_add(shell->fleet, seat->uuid, seat->epoch, seat, &seat->tenure);

	if (!r) {
		HASH_ADD(hh, shell->seats, endpoint, sizeof(seat->endpoint), seat);
		if (seat->hh.tbl)
			return 0;
		fleet_guest_remove(seat->tenure, boot_clock_ns());
		r = -ENOMEM;
	}
	log_error("the guest is not the fleet's, and nobody can write to it",
		LOG_STR("endpoint", seat->name), LOG_STR("uuid", seat->uuid),
		LOG_STR("error", error_text(r)));
	free(seat);
	return r;
}

void fleet_shell_add(struct fleet_shell *shell, uint32_t endpoint, const char *name,
	const char *uuid, uint32_t epoch)
{
	/* Of one that is about to leave nobody wants to write. */
	struct seat *seat = uuid && !shell->closing ? calloc(1, sizeof(*seat)) : NULL;

	if (!seat)
		return;
	*seat = (struct seat){.shell = shell, .endpoint = endpoint, .epoch = epoch};
	snprintf(seat->name, sizeof(seat->name), "%s", name);
	snprintf(seat->uuid, sizeof(seat->uuid), "%s", uuid);
	if (!is_taken(shell, uuid)) {
		(void)!take_seat(seat);
		return;
	}
	DL_APPEND(shell->waiting, seat);
	log_warning("another endpoint of this host is the same guest: nobody can write to this one "
		    "until that has ended",
		LOG_STR("endpoint", name), LOG_STR("uuid", uuid));
}

/* Who waited for a seat of this guest gets it. */
static void hand_over(struct fleet_shell *shell, const char *uuid)
{
	struct seat *seat;

	DL_FOREACH (shell->waiting, seat) {
		if (strcmp(seat->uuid, uuid) == 0)
			break;
	}
	if (!seat || shell->closing)
		return;
	DL_DELETE(shell->waiting, seat);
	if (!take_seat(seat) && seat->ready)
		tenure_runs(seat->tenure, boot_clock_ns());
}

static void waiting_free(struct fleet_shell *shell, struct seat *seat)
{
	if (!seat)
		return;
	DL_DELETE(shell->waiting, seat);
	free(seat);
}

void fleet_shell_remove(struct fleet_shell *shell, uint32_t endpoint)
{
	struct seat *seat = seat_find(shell, endpoint);

	waiting_free(shell, waiting_find(shell, endpoint));
	if (!seat)
		return;
	HASH_DEL(shell->seats, seat);
	fleet_guest_remove(seat->tenure, boot_clock_ns());
	hand_over(shell, seat->uuid);
	free(seat);
}

/* Whether its epoch is one that it may have here; else a higher one is asked for. */
static bool settle_epoch(struct seat *seat)
{
	const struct fleet_shell_env *env = &seat->shell->env;

	if (seat->epoch > seat->floor) {
		tenure_epoch(seat->tenure, boot_clock_ns(), seat->epoch);
		return true;
	}
	seat->shell->pending = true;
	env->events->raise(env->ctx, seat->endpoint, seat->floor);
	return false;
}

static struct seat *seat_or_waiting(const struct fleet_shell *shell, uint32_t endpoint)
{
	struct seat *seat = seat_find(shell, endpoint);

	return seat ? seat : waiting_find(shell, endpoint);
}

bool fleet_shell_ready(struct fleet_shell *shell, uint32_t endpoint, uint32_t epoch)
{
	struct seat *seat = seat_or_waiting(shell, endpoint);

	if (!seat || shell->closing)
		return false;
	seat->ready = true;
	seat->epoch = epoch;
	if (!seat->tenure)
		return false;
	tenure_runs(seat->tenure, boot_clock_ns());
	return seat->owned && settle_epoch(seat);
}

void fleet_shell_over(struct fleet_shell *shell, uint32_t endpoint)
{
	struct seat *seat = seat_or_waiting(shell, endpoint);

	if (seat)
		seat->ready = false;
}

/* ---- leases ---- */

uint64_t fleet_shell_token_floor(const struct fleet_shell *shell, uint32_t endpoint)
{
	const struct seat *seat = seat_find(shell, endpoint);
	struct tenure_view view;

	if (!seat)
		return 0;
	tenure_look(seat->tenure, &view);
	return view.token > seat->token_floor ? view.token : seat->token_floor;
}

int fleet_shell_grant(struct fleet_shell *shell, const struct lease_view *lease, uint64_t token)
{
	struct seat *seat = seat_find(shell, lease->endpoint);
	char record[LEASE_NAME_MAX + 64];
	const struct tenure_lease wanted = {.id = lease->id,
		.token = token,
		.ttl_ns = lease->ttl_ns,
		.record = record,
		.record_len = (size_t)snprintf(record, sizeof(record), "tenant %s\nepoch %u\n",
			lease->tenant, lease->epoch)};

	return seat ? tenure_grant(seat->tenure, boot_clock_ns(), &wanted) : VMSIG_ERR_NOT_READY;
}

void fleet_shell_end(struct fleet_shell *shell, const struct lease_view *lease)
{
	struct seat *seat = seat_find(shell, lease->endpoint);

	if (seat)
		tenure_end(seat->tenure, boot_clock_ns(), lease->id, lease->token);
}

/* ---- actions ---- */

static void do_request(struct fleet_shell *shell, const struct fleet_action *action)
{
	struct txn_answer answer = {.number = action->request->number, .outcome = TXN_UNAVAILABLE};
	bool answered = action->request->kind < TXN_WATCH;

	if (!etcd_send(shell->etcd, action->request))
		return;
	snprintf(answer.why, sizeof(answer.why), "it could not be asked");
	if (answered)
		fleet_answer(shell->fleet, boot_clock_ns(), &answer);
}

static void do_remember(struct fleet_shell *shell, const struct fleet_action *action)
{
	fleet_memory_keep(shell->keeper, &action->memory);
}

static void do_frozen(struct fleet_shell *shell, const struct fleet_action *action)
{
	const char *why = fleet_frozen(shell->fleet);

	log_error("the fleet is frozen: nothing is granted or taken over until an operator has "
		  "looked at etcd and said 'vmsigctl fleet bump'",
		LOG_STR("why", why ? why : ""));
}

static void do_thawed(struct fleet_shell *shell, const struct fleet_action *action)
{
	log_info("the fleet goes on");
}

static void do_bumped(struct fleet_shell *shell, const struct fleet_action *action)
{
	if (action->error)
		log_error("the fleet was not bumped; ask again",
			LOG_STR("error", vmsig_error_text(action->error)));
	else
		log_warning("the fleet trusts its etcd as it is now: an operator has bumped it");
}

static void lose(struct fleet_shell *shell, struct seat *seat)
{
	if (!seat->owned)
		return;
	seat->owned = false;
	shell->env.events->lost(shell->env.ctx, seat->endpoint);
}

static void do_lost(struct fleet_shell *shell, const struct fleet_action *action)
{
	struct seat *seat = action->user;

	log_warning("the guest is not this host's any more, and its leases are over",
		LOG_STR("endpoint", seat->name),
		LOG_STR("host", action->host && action->host[0] ? action->host : "unknown"));
	lose(shell, seat);
}

static void do_moved(struct fleet_shell *shell, const struct fleet_action *action)
{
	struct seat *seat = action->user;

	log_info("the guest has moved", LOG_STR("endpoint", seat->name),
		LOG_STR("host", action->host ? action->host : ""));
	lose(shell, seat);
}

static void do_cut_off(struct fleet_shell *shell, const struct fleet_action *action)
{
	const struct seat *seat = action->user;
	struct etcd_status status;

	etcd_status(shell->etcd, &status);
	log_warning("cut off from the fleet's etcd: writes have stopped, reads go on",
		LOG_STR("endpoint", seat->name), LOG_STR("why", status.why));
}

static void do_owned(struct fleet_shell *shell, const struct fleet_action *action)
{
	struct seat *seat = action->user;

	seat->floor = action->epoch_floor;
	seat->token_floor = action->token_floor;
	seat->owned = true;
	log_info("this host has the guest", LOG_STR("endpoint", seat->name),
		LOG_INT("epoch_floor", seat->floor));
	if (action->baggage)
		tenure_settled(seat->tenure, boot_clock_ns());
	if (seat->ready && settle_epoch(seat))
		shell->env.events->owned(shell->env.ctx, seat->endpoint, seat->epoch);
}

static void do_back(struct fleet_shell *shell, const struct fleet_action *action)
{
	const struct seat *seat = action->user;

	log_info("writes go on", LOG_STR("endpoint", seat->name));
}

static void do_released(struct fleet_shell *shell, const struct fleet_action *action)
{
	struct seat *seat = action->user;

	log_info("the guest was given up", LOG_STR("endpoint", seat->name));
	lose(shell, seat);
}

static void do_granted(struct fleet_shell *shell, const struct fleet_action *action)
{
	shell->env.events->granted(shell->env.ctx, action->lease, action->token);
}

static void do_not_granted(struct fleet_shell *shell, const struct fleet_action *action)
{
	shell->env.events->not_granted(shell->env.ctx, action->lease);
}

static const struct {
	void (*perform)(struct fleet_shell *shell, const struct fleet_action *action);
	bool of_guest; /* nothing, of one that was removed */
} performers[] = {
	[FLEET_ACT_REQUEST] = {do_request, false},
	[FLEET_ACT_REMEMBER] = {do_remember, false},
	[FLEET_ACT_FROZEN] = {do_frozen, false},
	[FLEET_ACT_THAWED] = {do_thawed, false},
	[FLEET_ACT_BUMPED] = {do_bumped, false},
	[FLEET_ACT_LOST] = {do_lost, true},
	[FLEET_ACT_MOVED] = {do_moved, true},
	[FLEET_ACT_CUT_OFF] = {do_cut_off, true},
	[FLEET_ACT_OWNED] = {do_owned, true},
	[FLEET_ACT_BACK] = {do_back, true},
	[FLEET_ACT_OFFERED] = {NULL, true},
	[FLEET_ACT_RELEASED] = {do_released, true},
	[FLEET_ACT_GRANTED] = {do_granted, true},
	[FLEET_ACT_NOT_GRANTED] = {do_not_granted, true},
};

static void perform(struct fleet_shell *shell, const struct fleet_action *action)
{
	/* What is borrowed is gone when the fleet is called again. */
	char host[FLEET_NAME_MAX + 1];
	struct fleet_action copy = *action;

	if (!performers[action->kind].perform ||
		(performers[action->kind].of_guest && !action->user))
		return;
	snprintf(host, sizeof(host), "%s", action->host ? action->host : "");
	copy.host = host;
	performers[action->kind].perform(shell, &copy);
}

/* ---- the loop ---- */

static void on_timer(uv_timer_t *timer)
{
	/* The turn before the loop sleeps does what is due. */
}

static void arm(struct fleet_shell *shell, uint64_t now_ns)
{
	uint64_t deadline = fleet_deadline(shell->fleet);
	uint64_t delay;

	if (shell->closing && shell->farewell_ns < deadline)
		deadline = shell->farewell_ns;
	shell->due_ns = deadline;
	shell->changes = fleet_changes(shell->fleet);
	if (deadline == UINT64_MAX) {
		uv_timer_stop(&shell->timer);
		return;
	}
	delay = deadline > now_ns ? (deadline - now_ns) / NS_PER_MS + 1 : 0;
	uv_timer_start(&shell->timer, on_timer, delay, 0);
}

static void end(struct fleet_shell *shell);

/* Whether nobody waits for this host. */
static bool is_given_up(const struct fleet_shell *shell)
{
	struct tenure *tenure = NULL;
	struct tenure_view view;

	while ((tenure = fleet_next_guest(shell->fleet, tenure))) {
		tenure_look(tenure, &view);
		if (view.state != TENURE_NONE && view.state != TENURE_FOREIGN)
			return false;
	}
	return true;
}

/* Nothing has happened since, and nothing is due: most turns are about writes, and guests are many.
 * A timer that came too early is to be started again. */
static bool is_quiet(const struct fleet_shell *shell, uint64_t now_ns)
{
	return !shell->pending && !shell->closing && now_ns < shell->due_ns &&
	       shell->changes == fleet_changes(shell->fleet) &&
	       (shell->due_ns == UINT64_MAX || uv_is_active((const uv_handle_t *)&shell->timer));
}

void fleet_shell_turn(struct fleet_shell *shell)
{
	struct fleet_action action;
	uint64_t now_ns = boot_clock_ns();

	if (shell->fleet && is_quiet(shell, now_ns))
		return;
	shell->pending = false;
	if (!shell->fleet)
		return;
	fleet_advance(shell->fleet, now_ns);
	for (unsigned i = 0; !shell->pending && fleet_next_action(shell->fleet, &action); i++) {
		perform(shell, &action);
		shell->pending |= i == TURN_ACTIONS;
	}
	arm(shell, boot_clock_ns());
	if (shell->closing && (now_ns >= shell->farewell_ns || is_given_up(shell)))
		end(shell);
}

bool fleet_shell_is_pending(const struct fleet_shell *shell)
{
	return shell->pending;
}

static void on_answered(void *arg, const struct txn_answer *answer)
{
	fleet_answer(((struct fleet_shell *)arg)->fleet, boot_clock_ns(), answer);
}

static void on_noticed(void *arg, const struct txn_notice *notice)
{
	fleet_notice(((struct fleet_shell *)arg)->fleet, boot_clock_ns(), notice);
}

/* ---- life ---- */

/* NULL: there is none, or it cannot be read. */
static char *read_pem(const char *path)
{
	char *text = path ? calloc(1, PEM_MAX + 1) : NULL;
	FILE *file = text ? fopen(path, "re") : NULL;
	size_t len = file ? fread(text, 1, PEM_MAX, file) : 0;

	if (file)
		fclose(file);
	if (len)
		return text;
	free(text);
	return NULL;
}

static int open_etcd(struct fleet_shell *shell, char *error, size_t error_size)
{
	const struct config_fleet *config = &shell->env.config->fleet;
	char *ca = read_pem(config->ca), *cert = read_pem(config->cert),
	     *key = read_pem(config->key);
	const struct etcd_options options = {.loop = shell->env.loop,
		.urls = (const char *const *)config->etcd,
		.nurls = config->netcd,
		.keys = {ca, cert, key},
		.allow_old = config->allow_old_etcd,
		.answered = on_answered,
		.noticed = on_noticed,
		.arg = shell};
	int r = VMSIG_ERR_IO;

	if ((config->ca && !ca) || (config->cert && !cert) || (config->key && !key))
		snprintf(error, error_size, "cannot read %s",
			config->ca && !ca       ? config->ca
			: config->cert && !cert ? config->cert
						: config->key);
	else
		r = etcd_new(&shell->etcd, &options);
	shell->etcd_open = !r;
	if (key)
		explicit_bzero(key, strlen(key));
	free(ca);
	free(cert);
	free(key);
	return r;
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
	struct seat *seat, *next;

	/* HASH_ITER takes the next one before, which the analyser does not see through. */
	/* NOLINTBEGIN(clang-analyzer-unix.Malloc) */
	HASH_ITER (hh, shell->seats, seat, next) {
		HASH_DEL(shell->seats, seat);
		free(seat);
	}
	/* NOLINTEND(clang-analyzer-unix.Malloc) */
	while (shell->waiting)
		waiting_free(shell, shell->waiting);
	shell->fleet = fleet_free(shell->fleet);
	shell->keeper = fleet_memory_close(shell->keeper);
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

static void end(struct fleet_shell *shell)
{
	release(shell);
	shell->timer.data = shell;
	uv_close((uv_handle_t *)&shell->timer, on_timer_closed);
	etcd_close(shell->etcd, on_etcd_closed, shell);
}

void fleet_shell_close(struct fleet_shell *shell, void (*closed)(void *arg), void *arg)
{
	uint64_t now_ns = boot_clock_ns();
	struct seat *seat, *next;

	shell->closing = true;
	shell->closed = closed;
	shell->arg = arg;
	shell->farewell_ns = now_ns + FAREWELL_MS * (uint64_t)NS_PER_MS;
	HASH_ITER (hh, shell->seats, seat, next)
		tenure_gone(seat->tenure, now_ns);
	fleet_shell_turn(shell);
}

int fleet_shell_bump(struct fleet_shell *shell)
{
	const struct seat *seat;
	uint32_t epoch = 0;
	uint64_t token = 0, floor;

	for (seat = shell->seats; seat; seat = seat->hh.next) {
		floor = fleet_shell_token_floor(shell, seat->endpoint);
		epoch = seat->epoch > epoch ? seat->epoch : epoch;
		token = floor > token ? floor : token;
	}
	return fleet_bump(shell->fleet, boot_clock_ns(), epoch, token);
}
