/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/fleet_shell.h"

#include <stdio.h>
#include <time.h>

#include "broker/boot_clock.h"
#include "broker/fleet/deed.h"
#include "broker/fleet_memory.h"
#include "broker/fleet_seat.h"
#include "broker/log.h"
#include "vmsig/vmsig_error.h"

#define NS_PER_MS 1000000u
#define TURN_ACTIONS 64u    /* in one turn */
#define PACK_NS 20000000ull /* between two looks whether a guest that has left can be packed */

/* ---- endpoints ---- */

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

/* What is served goes by another name now: before its guest leaves, and when it has come. */
static void rename_session(struct seat *seat)
{
	if (!seat->tenure || !seat->voyage.kernel[0] || seat->voyage.lasts)
		return;
	fleet_seat_session(seat, "");
	(void)!tenure_session(seat->tenure, boot_clock_ns(), seat->session);
}

static void look_at(struct fleet_shell *shell, uint64_t at_ns)
{
	if (at_ns < shell->look_ns)
		shell->look_ns = at_ns;
}

/* Whether leases may be had: in an epoch of its own, with what came along. */
static bool settle(struct seat *seat)
{
	const struct fleet_bounds bounds = {.token = seat->token_floor, .epoch = seat->epoch};

	if (!settle_epoch(seat))
		return false;
	if (fleet_voyage_unpack(&seat->voyage, seat->tenure, &bounds, boot_clock_ns())) {
		rename_session(seat);
		return true;
	}
	/* What is not stored yet is gone on with. */
	look_at(seat->shell, seat->voyage.retry_ns);
	return false;
}

static struct seat *seat_or_waiting(const struct fleet_shell *shell, uint32_t endpoint)
{
	struct seat *seat = seat_find(shell, endpoint);

	return seat ? seat : seat_waiting(shell, endpoint);
}

void fleet_shell_session(struct fleet_shell *shell, uint32_t endpoint, const char *fingerprint)
{
	struct seat *seat = seat_or_waiting(shell, endpoint);

	if (!seat || shell->closing)
		return;
	fleet_seat_session(seat, fingerprint);
	/* What is offered is of the session that has left. */
	if (seat->tenure && !fleet_voyage_keeps(&seat->voyage))
		(void)!tenure_session(seat->tenure, boot_clock_ns(), seat->session);
}

bool fleet_shell_ready(
	struct fleet_shell *shell, uint32_t endpoint, uint32_t epoch, const char *fingerprint)
{
	struct seat *seat = seat_or_waiting(shell, endpoint);

	if (!seat || shell->closing)
		return false;
	seat->ready = true;
	seat->epoch = epoch;
	fleet_voyage_proven(&seat->voyage);
	fleet_seat_session(seat, fingerprint);
	if (!seat->tenure)
		return false;
	fleet_seat_run(seat);
	return seat->owned && settle(seat);
}

static void forget_session(struct seat *seat)
{
	seat->session[0] = '\0';
	fleet_voyage_over(&seat->voyage, seat->tenure, boot_clock_ns());
}

bool fleet_shell_over(struct fleet_shell *shell, uint32_t endpoint)
{
	struct seat *seat = seat_or_waiting(shell, endpoint);

	if (!seat)
		return false;
	seat->ready = false;
	if (fleet_voyage_keeps(&seat->voyage))
		return true;
	forget_session(seat);
	return false;
}

static void take_step(struct seat *seat, enum passage_step step)
{
	seat->voyage.step = step;
	rename_session(seat);
	fleet_voyage_step(&seat->voyage, seat->tenure, seat->ready, boot_clock_ns(), step);
	if (fleet_voyage_is_due(&seat->voyage))
		look_at(seat->shell, 0);
	seat->shell->pending = true;
}

static void hold_step(struct seat *seat, uint64_t until_ns, uint64_t now_ns)
{
	if (seat->damper.until_ns != until_ns)
		log_warning("migrations of the guest begin and end again and again: what QEMU says "
			    "of that waits",
			LOG_STR("endpoint", seat->name),
			LOG_INT("ms", (seat->damper.until_ns - now_ns) / NS_PER_MS));
	look_at(seat->shell, seat->damper.until_ns);
	seat->shell->pending = true;
}

static void on_step(void *ctx, uint32_t endpoint, enum passage_step step)
{
	struct fleet_shell *shell = ctx;
	struct seat *seat = seat_or_waiting(shell, endpoint);
	uint64_t now_ns = boot_clock_ns(), until_ns;

	if (!seat || shell->closing)
		return;
	until_ns = seat->damper.until_ns;
	if (fleet_damper_step(&seat->damper, now_ns, step))
		take_step(seat, step);
	else if (seat->damper.holds)
		hold_step(seat, until_ns, now_ns);
}

static void on_kernel(void *ctx, uint32_t endpoint, const char *kernel, bool lasts)
{
	struct seat *seat = seat_or_waiting(ctx, endpoint);

	if (!seat)
		return;
	snprintf(seat->voyage.kernel, sizeof(seat->voyage.kernel), "%s", kernel);
	seat->voyage.lasts = lasts;
}

static void on_over(void *ctx, uint32_t endpoint)
{
	const struct fleet_shell *shell = ctx;
	struct seat *seat = seat_or_waiting(shell, endpoint);

	if (seat && !shell->closing)
		forget_session(seat);
}

static void on_arrived(void *ctx, uint32_t endpoint)
{
	struct seat *seat = seat_or_waiting(ctx, endpoint);

	if (seat)
		fleet_voyage_arrived(&seat->voyage, boot_clock_ns());
}

/* Of each endpoint by its id. */
void fleet_shell_passage(struct fleet_shell *shell, struct passage *ret_passage)
{
	*ret_passage = (struct passage){.step = on_step,
		.kernel = on_kernel,
		.over = on_over,
		.arrived = on_arrived,
		.ctx = shell};
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

/* Another host has it, or will: one that only waited for that is freed, though not in here. */
static void let_go(struct seat *seat)
{
	fleet_voyage_forget(&seat->voyage);
	seat->parted = seat->parts;
	if (seat->parts)
		look_at(seat->shell, 0);
}

static void lose(struct fleet_shell *shell, struct seat *seat)
{
	bool had = seat->owned || fleet_voyage_keeps(&seat->voyage);

	seat->owned = false;
	let_go(seat);
	/* Leases wait for the next process. */
	if (had && !shell->closing)
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
		LOG_STR("host", action->host));
	seat->owned = false;
	let_go(seat);
	fleet_voyage_moved(&seat->voyage, action->host);
}

/* Another host takes it as soon as nobody is in its way; one that finds another guest there than
 * was offered begins anew. */
static void do_offered(struct fleet_shell *shell, const struct fleet_action *action)
{
	const struct seat *seat = action->user;

	log_info("the guest is offered to the host that it has moved to",
		LOG_STR("endpoint", seat->name));
	tenure_gone(seat->tenure, boot_clock_ns());
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
	fleet_voyage_forget(&seat->voyage);
	if (action->baggage)
		fleet_voyage_bring(&seat->voyage);
	if (action->error)
		log_error("what was offered with the guest is larger than it may be, and is "
			  "deleted: its leases are over",
			LOG_STR("endpoint", seat->name), LOG_INT("bytes_max", FLEET_BAGGAGE_MAX));
	if (seat->ready && settle(seat))
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
	[FLEET_ACT_OFFERED] = {do_offered, true},
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

/* ---- the way ---- */

static void pack(struct fleet_shell *shell, struct seat *seat, uint64_t now_ns)
{
	struct tenure_view view;

	tenure_look(seat->tenure, &view);
	fleet_voyage_pack(&seat->voyage, seat->tenure, seat->owned || view.adopted, now_ns);
	if (fleet_voyage_is_due(&seat->voyage))
		look_at(shell, now_ns + PACK_NS);
}

static void take_held(struct fleet_shell *shell, struct seat *seat, uint64_t now_ns)
{
	enum passage_step step;

	if (fleet_damper_due(&seat->damper, now_ns, &step))
		take_step(seat, step);
	if (seat->damper.holds)
		look_at(shell, seat->damper.until_ns);
}

static void go_on(struct fleet_shell *shell, struct seat *seat, uint64_t now_ns)
{
	const struct fleet_shell_env *env = &shell->env;

	take_held(shell, seat, now_ns);
	if (fleet_voyage_is_due(&seat->voyage))
		pack(shell, seat, now_ns);
	if (seat->voyage.brought && seat->ready && seat->owned && settle(seat))
		env->events->owned(env->ctx, seat->endpoint, seat->epoch);
	if (seat->parts && !fleet_seat_part(seat, now_ns))
		look_at(shell, seat->parts_ns);
}

/* Guests that have left, and those that have come. */
static void go_on_all(struct fleet_shell *shell, uint64_t now_ns)
{
	struct seat *seat, *next;

	if (now_ns < shell->look_ns)
		return;
	shell->look_ns = UINT64_MAX;
	HASH_ITER (hh, shell->seats, seat, next)
		go_on(shell, seat, now_ns);
	/* One without a tenure notes what is said of it. */
	DL_FOREACH (shell->waiting, seat)
		take_held(shell, seat, now_ns);
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

	if (shell->look_ns < deadline)
		deadline = shell->look_ns;
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
	go_on_all(shell, now_ns);
	fleet_advance(shell->fleet, now_ns);
	for (unsigned i = 0; !shell->pending && fleet_next_action(shell->fleet, &action); i++) {
		perform(shell, &action);
		shell->pending |= i == TURN_ACTIONS;
	}
	arm(shell, boot_clock_ns());
	if (shell->closing && (now_ns >= shell->farewell_ns || is_given_up(shell)))
		shell->end(shell);
}

bool fleet_shell_is_pending(const struct fleet_shell *shell)
{
	return shell->pending;
}

/* Tokens are at least the microseconds of the wall clock of the host that gave them: those of which
 * nobody here knows are about as high as this. */
static uint64_t wall_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

int fleet_shell_bump(struct fleet_shell *shell)
{
	const struct seat *seat;
	uint32_t epoch = 0;
	uint64_t token = wall_us(), floor;

	for (seat = shell->seats; seat; seat = seat->hh.next) {
		floor = fleet_shell_token_floor(shell, seat->endpoint);
		/* A guest of which the store says more than anybody can have used has its own
		 * numbers used up, and nobody else's. */
		if (seat->epoch <= DEED_EPOCH_FLOOR_MAX)
			epoch = seat->epoch > epoch ? seat->epoch : epoch;
		if (floor <= DEED_TOKEN_FLOOR_MAX)
			token = floor > token ? floor : token;
	}
	return fleet_bump(shell->fleet, boot_clock_ns(), epoch, token);
}
