/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/sandbox/sandbox.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <linux/capability.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "broker/config/config.h"
#include "broker/config/url.h"
#include "broker/log.h"
#include "broker/sandbox/fence.h"
#include "broker/sandbox/privileges.h"
#include "broker/sandbox/syscalls.h"

/* Each with what fails without it. */
static const int broker_needs[] = {
	CAP_DAC_OVERRIDE, /* RAM files and QMP sockets of other users */
	CAP_FOWNER,       /* to narrow the mode of their RAM files */
	CAP_LEASE,        /* to see whether the administrator still writes the configuration */
	CAP_SYS_ADMIN,    /* read-only mount clones, /proc/PID/map_files */
	CAP_SYS_PTRACE,   /* /proc/PID/maps and fd of QEMUs of other users */
};
static const int guardian_needs[] = {CAP_DAC_OVERRIDE}; /* QMP sockets of other users */

static const struct {
	struct privileges privileges;
	bool forks;
} processes[] = {
	[SANDBOX_BROKER] = {{broker_needs, sizeof(broker_needs) / sizeof(broker_needs[0])}, false},
	[SANDBOX_GUARDIAN] = {{guardian_needs, sizeof(guardian_needs) / sizeof(guardian_needs[0])},
		true},
	[SANDBOX_PORTER] = {{NULL, 0}, false},
};

/* Between sandbox_begin() and sandbox_shut(), in the first process and those that it forks. */
static struct {
	bool on;
	enum syscalls_mode syscalls;
	bool landlock, looks; /* looks: into QEMUs, so that the broker itself is not fenced */
	bool fenced;
	char **folders; /* in which the broker may make files */
	size_t nfolders;
	unsigned ports[16]; /* of etcd, that the broker may connect to */
	size_t nports;
} plan;

static void plan_folder(const char *folder)
{
	char **folders = realloc(plan.folders, (plan.nfolders + 1) * sizeof(*folders));
	char *copy = strdup(folder);

	/* One that is missing shows when a file in it is. */
	if (folders)
		plan.folders = folders;
	if (folders && copy)
		folders[plan.nfolders++] = copy;
	else
		free(copy);
}

static void folder_of(const char *path, char folder[static PATH_MAX])
{
	char copy[PATH_MAX];

	snprintf(copy, sizeof(copy), "%s", path);
	snprintf(folder, PATH_MAX, "%s", dirname(copy));
}

static void plan_folders(const struct config *config)
{
	const struct config_listen *listens[] = {&config->ctx, &config->write, &config->admin};
	const char *user = config->sandbox.user;
	char folder[PATH_MAX];

	privileges_make_folder(user, config->state_dir, 0700);
	plan_folder(config->state_dir);
	plan_folder("/dev/shm");
	for (size_t i = 0; i < sizeof(listens) / sizeof(listens[0]); i++) {
		if (!listens[i]->path)
			continue;
		folder_of(listens[i]->path, folder);
		privileges_make_folder(user, folder, 0755);
		plan_folder(folder);
	}
	for (size_t i = 0; i < config->nendpoints; i++) {
		char *const *files;
		size_t n = config_endpoint_files(&config->endpoints[i], &files);

		/* The self-test's probes. */
		for (size_t j = 0; j < n; j++) {
			folder_of(files[j], folder);
			plan_folder(folder);
		}
	}
}

/* The list of etcd's members is no longer. */
static void plan_ports(const struct config *config)
{
	struct url url;

	for (size_t i = 0; config->fleet.given && i < config->fleet.netcd && i < 16; i++) {
		if (url_read(&url, config->fleet.etcd[i]))
			plan.ports[plan.nports++] = url.port;
	}
}

/* Landlock lets nobody look into processes outside of its own domain, and in the links of
 * /proc/PID is where a QEMU's RAM is found. */
static bool looks_into_processes(const struct config *config)
{
	for (size_t i = 0; i < config->nendpoints; i++) {
		const struct config_endpoint *endpoint = &config->endpoints[i];

		if (endpoint->adapter != CONFIG_ADAPTER_FILE && !endpoint->ram)
			return true;
	}
	return config->ndiscover != 0;
}

static int drop(const char *user, enum sandbox_process process)
{
	char error[256] = "";
	int r = privileges_drop(user, &processes[process].privileges, error, sizeof(error));

	if (r)
		log_error("cannot enter the sandbox", LOG_STR("error", error));
	return r;
}

int sandbox_begin(const struct config *config)
{
	const struct config_sandbox *sandbox = &config->sandbox;

	if (!sandbox->enabled) {
		log_warning("the sandbox is off: whoever takes over vmsigd has all that it was "
			    "started with; remove 'enabled: no' from 'sandbox'");
		return 0;
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
		log_error("cannot set no_new_privs", LOG_STR("error", strerror(errno)));
		return -errno;
	}
	plan.on = true;
	plan.syscalls = (enum syscalls_mode)sandbox->syscalls;
	plan.landlock = sandbox->landlock;
	plan.looks = looks_into_processes(config);
	plan_folders(config);
	plan_ports(config);
	if (plan.syscalls != SYSCALLS_ENFORCE || !plan.landlock)
		log_warning("a part of the sandbox is off",
			LOG_STR("syscalls", plan.syscalls == SYSCALLS_ENFORCE ? "enforce"
					    : plan.syscalls == SYSCALLS_LOG   ? "log"
									      : "off"),
			LOG_STR("landlock", plan.landlock ? "yes" : "no"));
	return drop(sandbox->user, SANDBOX_BROKER);
}

static int raise_fence(enum sandbox_process process)
{
	size_t n = process == SANDBOX_BROKER ? plan.nfolders : 0;
	size_t nports = process == SANDBOX_BROKER ? plan.nports : 0;
	bool wanted = plan.landlock && !(process == SANDBOX_BROKER && plan.looks);
	int r = wanted ? fence_raise((const char *const *)plan.folders, n, plan.ports, nports) : 0;

	if (r == -EOPNOTSUPP) {
		if (process == SANDBOX_BROKER)
			log_info("this kernel has no Landlock, or has it off");
		return 0;
	}
	plan.fenced = wanted && !r;
	if (r)
		log_error("cannot fence the file system", LOG_STR("error", strerror(-r)));
	return r;
}

static int filter_calls(enum sandbox_process process)
{
	bool tcp = process == SANDBOX_BROKER && plan.nports;
	unsigned more = (processes[process].forks ? SYSCALLS_FORKS : 0) | (tcp ? SYSCALLS_TCP : 0);
	int r = plan.syscalls == SYSCALLS_OFF ? 0 : syscalls_allow(plan.syscalls, more);

	if (r == -EOPNOTSUPP) {
		if (process == SANDBOX_BROKER)
			log_warning("system calls are not filtered: this is a build with a "
				    "sanitizer, which has calls of its own");
		return 0;
	}
	if (r)
		log_error("cannot filter system calls", LOG_STR("error", strerror(-r)));
	return r;
}

static void forget_plan(void)
{
	for (size_t i = 0; i < plan.nfolders; i++)
		free(plan.folders[i]);
	free(plan.folders);
	plan.folders = NULL;
	plan.nfolders = 0;
}

int sandbox_shut(enum sandbox_process process)
{
	int r = 0;

	if (!plan.on)
		return 0;
	if (process != SANDBOX_BROKER)
		r = drop(NULL, process);
	if (!r)
		r = raise_fence(process);
	if (!r)
		r = filter_calls(process);
	forget_plan();
	return r;
}

bool sandbox_serves(const struct config *config)
{
	return !plan.fenced || !looks_into_processes(config);
}
