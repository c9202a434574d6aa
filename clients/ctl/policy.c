/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `vmsigctl policy`: a configuration's policy, looked at without a broker. What it says is decided
 * by the code that decides in the broker, so it is vmsigd itself that is asked.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients/ctl/ctl.h"

#define DEFAULT_CONFIG "/etc/vmsig/vmsigd.yaml"

static const struct ctl_command policy_check, policy_explain;

/* Beside this program, as it was installed or built; else wherever PATH says. */
static const char *find_vmsigd(char path[static PATH_MAX])
{
	static const char *const places[] = {"../sbin/vmsigd", "vmsigd", "../broker/vmsigd"};
	char self[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (len <= 0)
		return "vmsigd";
	self[len] = '\0';
	slash = strrchr(self, '/');
	if (!slash)
		return "vmsigd";
	*slash = '\0';
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		if (snprintf(path, PATH_MAX, "%s/%s", self, places[i]) < PATH_MAX &&
			access(path, X_OK) == 0)
			return path;
	}
	return "vmsigd";
}

_Noreturn static void become_vmsigd(char **line)
{
	char path[PATH_MAX];

	line[0] = (char *)(uintptr_t)find_vmsigd(path);
	ctl_become(line);
}

static int run_check(struct ctl *ctl, int argc, char **argv)
{
	char option[] = "-c", check[] = "--check", json[] = "--json";
	char *line[6] = {NULL, option, NULL, check, NULL, NULL};
	int code = ctl_options(ctl, &policy_check, argc, argv, NULL, NULL, NULL);

	if (code)
		return code;
	if (optind + 1 != argc)
		return ctl_usage(&policy_check, "it takes the FILE of a configuration");
	line[2] = argv[optind];
	line[4] = ctl->json ? json : NULL;
	become_vmsigd(line);
}

static const struct ctl_command policy_check = {
	.name = "policy check",
	.arguments = "FILE",
	.summary = "Say what is wrong with a configuration, and in which line",
	.help = "Status 0: nothing; 1: something is. Warnings are of what does nothing as it is.\n"
		"\n"
		"Examples:\n"
		"  vmsigctl policy check /etc/vmsig/vmsigd.yaml\n",
	.run = run_check,
};

enum { OPT_FILE = CTL_OPT_FIRST };

static bool handle_explain(void *ctx, int code, const char *value)
{
	*(const char **)ctx = value;
	return code == OPT_FILE;
}

static int run_explain(struct ctl *ctl, int argc, char **argv)
{
	static const struct option own[] = {
		{"config", required_argument, NULL, OPT_FILE}, {NULL, 0, NULL, 0}};
	char option[] = "-c", explain[] = "--explain", json[] = "--json", end[] = "--";
	char *line[9] = {NULL, option, NULL, explain, NULL, NULL, NULL, NULL, NULL};
	const char *file = NULL;
	int code = ctl_options(ctl, &policy_explain, argc, argv, own, handle_explain, &file), n = 4;

	if (code)
		return code;
	if (optind + 2 != argc)
		return ctl_usage(&policy_explain, "it takes a TENANT and an ENDPOINT");
	if (!file && access(DEFAULT_CONFIG, F_OK) < 0) {
		ctl_fail_with(VMSIG_ERR_IO, "name the configuration with --config FILE", "%s: %s",
			DEFAULT_CONFIG, strerror(errno));
		return EXIT_ERROR;
	}
	line[2] = (char *)(uintptr_t)(file ? file : DEFAULT_CONFIG);
	if (ctl->json)
		line[n++] = json;
	line[n++] = end;
	line[n++] = argv[optind];
	line[n++] = argv[optind + 1];
	become_vmsigd(line);
}

static const struct ctl_command policy_explain = {
	.name = "policy explain",
	.arguments = "TENANT ENDPOINT [--config FILE]",
	.summary = "Say what a tenant may do with an endpoint, and which line says so",
	.help = "  --config FILE  the configuration (default " DEFAULT_CONFIG ")\n"
		"\n"
		"TENANT is a name, in all of its roles, or ROLE/NAME. Status 3: nothing is "
		"granted.\n"
		"\n"
		"Examples:\n"
		"  vmsigctl policy explain acme web1\n"
		"  vmsigctl policy explain operator/acme web1 --json | jq .roles[].write\n",
	.run = run_explain,
};

static const struct ctl_action actions[] = {{"check", &policy_check}, {"explain", &policy_explain}};

static int run_policy(struct ctl *ctl, int argc, char **argv)
{
	return ctl_run_action(ctl, &ctl_policy, actions, sizeof(actions) / sizeof(actions[0]),
		"say check or explain", argc, argv);
}

const struct ctl_command ctl_policy = {
	.name = "policy",
	.arguments = "check FILE | explain TENANT ENDPOINT",
	.summary = "Look at a configuration's policy, without a broker",
	.help = "  check          what is wrong with a configuration\n"
		"  explain        what holds for somebody, and which line says so\n"
		"\n"
		"`vmsigctl policy explain -h` and so on have options and examples.\n",
	.has_command = true,
	.has_actions = true,
	.run = run_policy,
};
