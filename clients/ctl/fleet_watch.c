/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `vmsigctl fleet watch`: a line for each guest as it is, and for each change. It looks again and
 * again, so what lasted for less than that is not seen.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clients/ctl/fleet.h"
#include "clients/ctl/message.h"

#define INTERVAL_MS 1000u
#define INTERVAL_LEAST_MS 50u
#define FACT_MAX 64

/* What was said of a guest last. */
struct known {
	char uuid[FACT_MAX], name[FACT_MAX], state[FACT_MAX], holder[FACT_MAX], target[FACT_MAX];
	bool seen; /* in this look */
};

struct watched {
	const struct ctl *ctl;
	struct ctl_fleet fleet;
	uint32_t interval_ms;
	struct known *known;
	size_t n;
	char problem[512];
	bool alone;
};

/* ---- what is said ---- */

static void time_text(char ret_text[static 32])
{
	time_t now = time(NULL);
	struct tm tm;

	strftime(ret_text, 32, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
}

static int say_json(const Vmsig__FleetGuest *guest, const char *state)
{
	json_t *json = ctl_message_json(&guest->base);
	char at[32];

	time_text(at);
	json_object_set_new(json, "time", json_string(at));
	json_object_set_new(json, "state", json_string(state));
	return ctl_print_json(json);
}

static int say_text(const Vmsig__FleetGuest *guest, const char *state)
{
	char line[512], at[32];

	time_text(at);
	snprintf(line, sizeof(line), "%s %s %s %s %s%s%s", at, ctl_fleet_name(guest), guest->uuid,
		state, guest->holder[0] ? guest->holder : "-", guest->target[0] ? " -> " : "",
		guest->target);
	text_clean(line);
	puts(line);
	return ctl_flush();
}

static int say(const struct watched *watched, const Vmsig__FleetGuest *guest, const char *state)
{
	return watched->ctl->json ? say_json(guest, state) : say_text(guest, state);
}

/* ---- what is known ---- */

static struct known *find(struct watched *watched, const char *uuid)
{
	for (size_t i = 0; i < watched->n; i++) {
		if (strcmp(watched->known[i].uuid, uuid) == 0)
			return &watched->known[i];
	}
	return NULL;
}

static struct known *add(struct watched *watched, const char *uuid)
{
	struct known *grown = realloc(watched->known, (watched->n + 1) * sizeof(*watched->known));

	if (!grown)
		return NULL;
	watched->known = grown;
	grown += watched->n++;
	*grown = (struct known){0};
	snprintf(grown->uuid, sizeof(grown->uuid), "%s", uuid);
	return grown;
}

/* Whether it is another one now. */
static bool learn(char fact[static FACT_MAX], const char *text)
{
	char next[FACT_MAX];

	snprintf(next, sizeof(next), "%s", text);
	if (strcmp(fact, next) == 0)
		return false;
	memcpy(fact, next, sizeof(next));
	return true;
}

static int take_guest(struct watched *watched, const Vmsig__FleetGuest *guest)
{
	struct known *known = find(watched, guest->uuid);
	bool news;

	if (!known)
		known = add(watched, guest->uuid);
	if (!known)
		return ctl_fail(VMSIG_ERR_NO_MEMORY, "no memory for another guest");
	known->seen = true;
	news = learn(known->state, guest->state);
	news |= learn(known->holder, guest->holder);
	news |= learn(known->target, guest->target);
	(void)learn(known->name, ctl_fleet_name(guest));
	return news ? say(watched, guest, guest->state) : EXIT_OK;
}

/* Those that no host has any more. */
static int drop_gone(struct watched *watched)
{
	int code = EXIT_OK;
	size_t kept = 0;

	for (size_t i = 0; !code && i < watched->n; i++) {
		struct known *known = &watched->known[i];
		Vmsig__FleetGuest guest = VMSIG__FLEET_GUEST__INIT;

		if (known->seen) {
			watched->known[kept++] = *known;
			continue;
		}
		guest.endpoint = known->name;
		guest.uuid = known->uuid;
		code = say(watched, &guest, "GONE");
	}
	watched->n = code ? watched->n : kept;
	return code;
}

static void take_problem(struct watched *watched, const Vmsig__FleetView *view)
{
	if (view->alone != watched->alone)
		ctl_note("%s", view->alone ? "the fleet's etcd does not answer: changes on other "
					     "hosts are not seen"
					   : "the fleet's etcd answers again");
	watched->alone = view->alone;
	if (strncmp(watched->problem, view->problem, sizeof(watched->problem) - 1) == 0)
		return;
	snprintf(watched->problem, sizeof(watched->problem), "%s", view->problem);
	if (view->problem[0])
		ctl_fleet_complain(view);
	else
		ctl_note("nothing is wrong with the fleet any more");
}

static int look(struct watched *watched)
{
	const Vmsig__FleetView *view;
	int code = ctl_fleet_ask(&watched->fleet, &view);

	if (code)
		return code;
	for (size_t i = 0; i < watched->n; i++)
		watched->known[i].seen = false;
	for (size_t i = 0; !code && i < view->n_guests; i++)
		code = take_guest(watched, view->guests[i]);
	take_problem(watched, view);
	/* Of more than there are in an answer some may be left out; those of other hosts are, as
	 * long as etcd does not answer. */
	return code || view->more || view->alone ? code : drop_gone(watched);
}

/* Over restarts of the broker. */
static int follow(struct watched *watched)
{
	const struct timespec pause = {.tv_sec = watched->interval_ms / 1000,
		.tv_nsec = watched->interval_ms % 1000 * 1000000l};
	int code = look(watched);

	while ((!code || code == EXIT_CONNECT) && !ctl_output_is_gone()) {
		if (!code)
			nanosleep(&pause, NULL);
		else if (ctl_fleet_reopen(&watched->fleet))
			break;
		code = look(watched);
	}
	return ctl_output_is_gone() ? EXIT_OK : code;
}

/* ---- the command ---- */

enum { OPT_INTERVAL = CTL_OPT_FIRST };

static bool handle(void *ctx, int code, const char *value)
{
	struct watched *watched = ctx;

	return text_duration(value, &watched->interval_ms) &&
	       watched->interval_ms >= INTERVAL_LEAST_MS;
}

static int run_watch(struct ctl *ctl, int argc, char **argv)
{
	static const struct option own[] = {
		{"interval", required_argument, NULL, OPT_INTERVAL}, {NULL, 0, NULL, 0}};
	struct watched watched = {.ctl = ctl, .interval_ms = INTERVAL_MS};
	int code = ctl_options(ctl, &ctl_fleet_watch, argc, argv, own, handle, &watched);

	if (!code && optind != argc)
		code = ctl_usage(&ctl_fleet_watch, "it takes no arguments");
	if (!code)
		code = ctl_fleet_open(ctl, &watched.fleet);
	if (code)
		return code;
	code = follow(&watched);
	free(watched.known);
	ctl_fleet_close(&watched.fleet);
	return code;
}

const struct ctl_command ctl_fleet_watch = {
	.name = "fleet watch",
	.arguments = "[--interval T]",
	.summary = "Print each guest's state and host, and each change of them",
	.help = "  --interval T  between two looks (default 1s)\n"
		"\n"
		"TIME ENDPOINT UUID STATE HOST [-> TARGET], of all hosts' guests; GONE when no "
		"host\n"
		"has it any more. ENDPOINT is the guest's name here, or else on HOST.\n"
		"It goes on over restarts of the broker.\n"
		"\n"
		"Examples:\n"
		"  vmsigctl fleet watch --identity admin\n"
		"  vmsigctl fleet watch --json | jq -r '\"\\(.endpoint): \\(.state)\"'\n",
	.run = run_watch,
};
