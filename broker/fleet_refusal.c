/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether this host may write to a guest, and in words why not: for operators, for `vmsigctl
 * status` and in numbers.
 */
#include <stdio.h>
#include <string.h>

#include "broker/fleet_seat.h"
#include "broker/metrics/metrics.h"
#include "vmsig/vmsig_error.h"

#define MOVED_HOSTS 32u /* that are told apart in numbers; of more samples there is no room */

static const char *const state_words[TENURE_STATES] = {
	[TENURE_NONE] = "this host has not asked for the guest yet",
	[TENURE_LOOKING] = "it is being found out which host has the guest",
	[TENURE_CLAIMING] = "this host is asking for the guest",
	[TENURE_WAITING] = "the host that had the guest may still write for a while; wait",
	[TENURE_CUT_OFF] = "this host is cut off from the fleet's etcd: writes stop, reads go on",
	[TENURE_DRAINING] = "the guest is being migrated away",
	[TENURE_OFFERING] = "the guest is being migrated away",
	[TENURE_RETAKING] = "a migration of the guest has failed, and this host is taking it back",
	[TENURE_RELEASING] = "this host is giving the guest up",
};

static const char *explain(struct fleet_shell *shell, const struct seat *seat)
{
	const char *frozen = fleet_frozen(shell->fleet);
	struct tenure_view view;

	tenure_look(seat->tenure, &view);
	if (frozen)
		snprintf(shell->why, sizeof(shell->why), "the fleet is frozen: %s", frozen);
	else if (view.damaged)
		snprintf(shell->why, sizeof(shell->why),
			"what etcd says of the guest (vm/%s/mark of the fleet) cannot be read; "
			"when no "
			"host has the guest, delete that key, and it is taken anew",
			view.uuid);
	else if (seat->damper.holds)
		snprintf(shell->why, sizeof(shell->why),
			"migrations of the guest begin and end again and again; it is asked for "
			"again when its QEMU has been quiet for a while, a minute at most");
	else if (view.state == TENURE_FOREIGN || seat->voyage.host[0])
		snprintf(shell->why, sizeof(shell->why), "the host '%s' has the guest; write there",
			view.state == TENURE_FOREIGN ? view.holder : seat->voyage.host);
	else
		snprintf(shell->why, sizeof(shell->why), "%s",
			state_words[view.state]
				? state_words[view.state]
				: "the fleet has not said yet that this host may write");
	return shell->why;
}

int fleet_shell_may_write(
	const struct fleet_shell *shell, uint32_t endpoint, uint64_t now_ns, const char **ret_why)
{
	const struct seat *seat = seat_find(shell, endpoint);

	if (seat && tenure_may_apply(seat->tenure, now_ns))
		return 0;
	/* The sentence is made in what is the shell's own. */
	if (ret_why)
		*ret_why = seat ? explain(seat->shell, seat)
				: "the guest has no identity in the fleet; its endpoint needs a "
				  "'uuid'";
	/* One that has left from here is waited for by nobody. */
	return seat && seat->voyage.host[0] ? VMSIG_ERR_MOVED : VMSIG_ERR_BUSY;
}

bool fleet_shell_may_prolong(const struct fleet_shell *shell, uint32_t endpoint, uint64_t now_ns)
{
	const struct seat *seat = seat_find(shell, endpoint);

	return seat && tenure_may_prolong(seat->tenure, now_ns);
}

bool fleet_shell_look(
	const struct fleet_shell *shell, uint32_t endpoint, struct tenure_view *ret_view)
{
	const struct seat *seat = seat_find(shell, endpoint);

	if (seat)
		tenure_look(seat->tenure, ret_view);
	return seat;
}

struct fleet *fleet_shell_fleet(const struct fleet_shell *shell)
{
	return shell->fleet;
}

struct fleet_survey *fleet_shell_survey(struct fleet_shell *shell)
{
	return &shell->survey;
}

void fleet_shell_etcd(const struct fleet_shell *shell, struct etcd_status *ret_status)
{
	etcd_status(shell->etcd, ret_status);
}

/* Guests of this host whose right is over for now. */
static unsigned count_cut_off(const struct fleet_shell *shell)
{
	struct tenure *tenure = NULL;
	struct tenure_view view;
	unsigned n = 0;

	while ((tenure = fleet_next_guest(shell->fleet, tenure))) {
		tenure_look(tenure, &view);
		n += view.state == TENURE_CUT_OFF;
	}
	return n;
}

const char *fleet_shell_warning(struct fleet_shell *shell)
{
	const char *frozen = fleet_frozen(shell->fleet);
	unsigned cut_off = count_cut_off(shell);
	struct etcd_status status;

	etcd_status(shell->etcd, &status);
	if (frozen)
		snprintf(shell->why, sizeof(shell->why),
			"the fleet is frozen, and nothing is granted: %s", frozen);
	else if (cut_off)
		snprintf(shell->why, sizeof(shell->why),
			"cut off from the fleet's etcd: writes to %u of this host's guests have "
			"stopped, reads go on: %s",
			cut_off, status.answers ? "it answers again" : status.why);
	else if (!status.answers)
		snprintf(shell->why, sizeof(shell->why),
			"the fleet's etcd does not answer; writes stop when ttl is over: %s",
			status.why);
	return frozen || cut_off || !status.answers ? shell->why : NULL;
}

/* Those that have moved, by their hosts. */
static void count_moved(const struct fleet_shell *shell, struct metrics *metrics)
{
	const char *hosts[MOVED_HOSTS];
	uint64_t counts[MOVED_HOSTS] = {0};
	const struct seat *seat;
	size_t n = 0, at;

	for (seat = shell->seats; seat; seat = seat->hh.next) {
		if (!seat->voyage.host[0])
			continue;
		for (at = 0; at < n && strcmp(hosts[at], seat->voyage.host) != 0; at++)
			;
		if (at == MOVED_HOSTS)
			continue;
		hosts[at] = seat->voyage.host;
		n += at == n;
		counts[at]++;
	}
	for (at = 0; at < n; at++)
		metrics_add(metrics, METRICS_MOVED, hosts[at], counts[at]);
}

void fleet_shell_stats(const struct fleet_shell *shell, struct metrics *metrics)
{
	uint64_t counts[TENURE_STATES] = {0};
	struct tenure *tenure = NULL;
	struct etcd_status status;
	struct tenure_view view;

	while ((tenure = fleet_next_guest(shell->fleet, tenure))) {
		tenure_look(tenure, &view);
		counts[view.state]++;
	}
	for (int state = 0; state < TENURE_STATES; state++) {
		if (counts[state])
			metrics_add(metrics, METRICS_FLEET,
				tenure_state_name((enum tenure_state)state), counts[state]);
	}
	count_moved(shell, metrics);
	etcd_status(shell->etcd, &status);
	metrics_add(metrics, METRICS_ETCD, "", status.requests);
	metrics_add(metrics, METRICS_ETCD_FAILURES, "", status.failures);
}
