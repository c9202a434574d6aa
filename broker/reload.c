/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/reload.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <utlist.h>

#include "broker/config/check.h"
#include "broker/config/compare.h"
#include "broker/core_shell.h"
#include "broker/desk_shell.h"
#include "broker/discovery.h"
#include "broker/provision.h"
#include "broker/endpoints.h"
#include "broker/error_text.h"
#include "broker/fleet_keys.h"
#include "broker/fleet_shell.h"
#include "broker/jobs.h"
#include "broker/log.h"
#include "broker/net/net.h"
#include "broker/net/renewal.h"
#include "broker/planes/steward.h"
#include "broker/sandbox/sandbox.h"
#include "broker/shell.h"
#include "broker/store/store.h"
#include "vmsig/vmsig_error.h"

#define WRITER_LOOK_US 50000 /* between two looks at a file that is being written */
#define WRITER_LOOKS 200     /* before that is given up */
#define LOGGED_MAX 64u       /* changes */

struct reload {
	struct broker *broker;
	struct job_line *line;
	struct job job;
	bool running, again;
	struct steward_reload *asked; /* those who wait */
	uint64_t succeeded, failed, ended_ns;
	char last_error[512];

	/* What the thread needs and makes; nobody else looks meanwhile. */
	char *file;
	const struct config *old; /* the broker's */
	const struct renewal_plane *planes;
	size_t nplanes;
	unsigned looks;
	struct config *config;
	struct renewal renewal;
	struct fleet_keys keys;
	struct compare_result changes;
	int result;
	char error[512];
};

/* ---- what it changed, for who has no other answer ---- */

static void log_change(const struct compare_change *change)
{
	const struct log_field fields[] = {
		LOG_STR("section", compare_section_name(change->section)),
		LOG_STR("name", change->name), LOG_STR("change", compare_kind_name(change->kind)),
		LOG_STR("detail", change->detail), {.type = LOG_FIELD_END}};

	log_record(change->warns ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO,
		change->warns ? "changed by the reload, but see `detail`" : "changed by the reload",
		fields);
}

/* Those with a warning first: of a long list the rest is only counted. */
static void log_changes(const struct compare_result *changes)
{
	size_t told = 0, all = 0;

	for (int warns = 1; warns >= 0; warns--) {
		for (size_t i = 0; i < changes->nchanges && told < LOGGED_MAX; i++) {
			if (changes->changes[i].warns == warns) {
				log_change(&changes->changes[i]);
				told++;
			}
		}
	}
	for (int section = 0; section < COMPARE_SECTIONS; section++) {
		for (int kind = 0; kind < COMPARE_KINDS; kind++)
			all += changes->counts[section][kind];
	}
	if (all > told)
		log_info("the reload changed more than is listed", LOG_INT("more", all - told));
}

static void warn_of_sandbox(const struct config *config)
{
	if (!sandbox_serves(config))
		log_warning("there is an endpoint of QEMU or libvirt without 'ram' now, or "
			    "'discover', and the sandbox that was shut at the start keeps vmsigd "
			    "from looking into QEMU; restart vmsigd, or name the RAM file in 'ram'",
			LOG_STR("key", "sandbox.landlock"));
}

/* ---- on the thread ---- */

/* File systems without leases know no writers. */
static bool is_being_written(const char *file)
{
	int fd = open(file, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	bool busy;

	if (fd < 0)
		return false;
	/* Who opens it for writing in between is made to wait, and the lease's holder told by a
	 * signal: by one that is ignored unless somebody asks for it. */
	(void)fcntl(fd, F_SETSIG, SIGURG);
	busy = fcntl(fd, F_SETLEASE, F_RDLCK) < 0 && errno == EAGAIN;
	if (!busy)
		(void)fcntl(fd, F_SETLEASE, F_UNLCK);
	close(fd);
	return busy;
}

static int refuse(struct reload *reload, const char *why)
{
	snprintf(reload->error, sizeof(reload->error), "%s: %s", reload->file, why);
	return VMSIG_ERR_BAD_REQUEST;
}

static int check_whole(struct reload *reload)
{
	if (reload->old->ntenants && !reload->config->ntenants)
		return refuse(reload,
			"no tenants are left in it, which would disconnect everybody; "
			"if that is meant, stop the broker");
	if (reload->old->ended && !reload->config->ended)
		return refuse(reload,
			"it does not end with a line '...' as it did before, so it may "
			"have been cut off; end it with one");
	return 0;
}

static enum job_step on_work(struct job *job)
{
	struct reload *reload = job->arg;

	if (is_being_written(reload->file)) {
		if (++reload->looks < WRITER_LOOKS) {
			usleep(WRITER_LOOK_US);
			return JOB_AGAIN;
		}
		reload->result = refuse(reload, "somebody has it open for writing; close it");
		return JOB_DONE;
	}
	reload->result =
		config_load(&reload->config, reload->file, reload->error, sizeof(reload->error));
	if (!reload->result)
		reload->result = check_whole(reload);
	if (!reload->result)
		reload->result = compare_configs(&reload->changes, reload->old, reload->config);
	if (!reload->result)
		reload->result = renewal_make(&reload->renewal, reload->planes, reload->nplanes,
			reload->old, reload->config, reload->error, sizeof(reload->error));
	if (!reload->result && reload->old->fleet.given && reload->config->fleet.given)
		reload->result = fleet_keys_read(&reload->keys, &reload->config->fleet,
			reload->error, sizeof(reload->error));
	return JOB_DONE;
}

/* ---- on the loop ---- */

static void clear(struct reload *reload)
{
	renewal_deinit(&reload->renewal);
	fleet_keys_deinit(&reload->keys);
	compare_deinit(&reload->changes);
	reload->config = config_unref(reload->config);
	free(reload->file);
	reload->file = NULL;
	reload->looks = 0;
}

static void on_settled(void *ctx)
{
	const struct broker *broker = ctx;

	log_info("configuration reloaded", LOG_STR("file", broker->config->file));
}

void reload_warn(const struct config *config)
{
	uint64_t seconds = check_audit_history(config);

	if (seconds < CHECK_HISTORY_S)
		log_warning("operators that record as much as quota.audit allows fill the audit "
			    "log within minutes, and the oldest records go then; raise "
			    "audit.size or lower quota.audit, or export the log as often",
			LOG_INT("seconds", seconds));
}

/* The dates may be new ones: whoever asks from now on is told of them, the log with the next vouch.
 */
static void look_at_keys(struct broker *broker)
{
	struct tls_dates dates;

	broker->expiry.told_s = 0;
	if (net_dates(broker->net, &dates))
		expiry_look(&broker->expiry, &dates, (int64_t)time(NULL));
}

static int adopt(struct reload *reload)
{
	struct broker *broker = reload->broker;
	struct config *config = reload->config, *old = broker->config;
	struct core_limits limits = core_shell_limits(config);
	int r = 0;

	/* Keys that were read hold, whatever becomes of the rest. */
	if (broker->fleet && config->fleet.given)
		r = fleet_shell_rekey(broker->fleet, &reload->keys);
	if (!r)
		r = net_reload(broker->net, config, &reload->renewal);
	if (r) {
		snprintf(reload->error, sizeof(reload->error), "cannot take it over: %s",
			error_text(r));
		return r;
	}
	reload->config = NULL;
	log_changes(&reload->changes);
	warn_of_sandbox(config);
	reload_warn(config);
	broker->config = config;
	look_at_keys(broker);
	config_unref(old);
	core_set_limits(broker->core, &limits);
	/* Whoever asks for a reload has seen to the disk. */
	store_reopen(broker->store);
	if (broker->desk)
		desk_shell_reload(broker->desk_shell, config);
	log_setup((enum log_level)config->log_level, config->log_json);
	endpoints_adopt(broker->endpoints, config, on_settled);
	discovery_adopt(broker->discovery, config);
	provisions_adopt(broker->provisions, config);
	return 0;
}

/* ---- who asked ---- */

static struct steward_reload *next_served(struct reload *reload)
{
	struct steward_reload *asked;

	DL_FOREACH (reload->asked, asked) {
		if (asked->is_served)
			return asked;
	}
	return NULL;
}

/* Being told may end the asker, and others. */
static void tell(struct reload *reload, int result, const char *text)
{
	struct steward_reload *asked;

	while ((asked = next_served(reload))) {
		DL_DELETE(reload->asked, asked);
		asked->done(asked, result, text, &reload->changes);
	}
}

static void note(struct reload *reload, int result)
{
	reload->succeeded += !result;
	reload->failed += result != 0;
	reload->ended_ns = uv_hrtime();
	snprintf(reload->last_error, sizeof(reload->last_error), "%s", result ? reload->error : "");
	if (result)
		log_error("reload failed; the old configuration stays",
			LOG_STR("error", reload->error));
}

static void on_done(struct job *job)
{
	struct reload *reload = job->arg;
	int r = reload->result;

	reload->running = false;
	if (!job->finished || reload->broker->closing) {
		clear(reload);
		return;
	}
	if (!r)
		r = adopt(reload);
	note(reload, r);
	tell(reload, r, reload->error);
	clear(reload);
	if (reload->again)
		reload_request(reload, NULL);
}

static void on_late(struct job *job)
{
	static const char why[] = "reload hangs: the configuration, a key or the revocation list "
				  "cannot be read; the old configuration stays";
	struct reload *reload = job->arg;

	log_error(why, LOG_STR("file", reload->broker->config->file));
	tell(reload, VMSIG_ERR_TIMEOUT, why);
}

static const struct job_ops ops = {.work = on_work, .late = on_late, .done = on_done};

static void begin(struct reload *reload)
{
	struct steward_reload *asked;

	reload->old = reload->broker->config;
	reload->planes = net_planes(reload->broker->net, &reload->nplanes);
	reload->error[0] = '\0';
	reload->job = (struct job){.ops = &ops, .arg = reload};
	reload->running = true;
	DL_FOREACH (reload->asked, asked)
		asked->is_served = true;
	job_start(&reload->job, reload->line);
}

void reload_request(struct reload *reload, struct steward_reload *asked)
{
	if (asked) {
		asked->is_served = false;
		DL_APPEND(reload->asked, asked);
	}
	reload->again = reload->running;
	if (reload->running)
		return;
	reload->file = strdup(reload->broker->config->file);
	if (reload->file) {
		begin(reload);
		return;
	}
	snprintf(reload->error, sizeof(reload->error), "out of memory");
	note(reload, -ENOMEM);
	DL_FOREACH (reload->asked, asked)
		asked->is_served = true;
	tell(reload, -ENOMEM, reload->error);
}

struct reload_stats reload_stats(const struct reload *reload)
{
	return (struct reload_stats){.succeeded = reload->succeeded,
		.failed = reload->failed,
		.ended_ns = reload->ended_ns,
		.last_error = reload->last_error};
}

int reload_new(struct reload **ret_reload, struct broker *broker)
{
	struct reload *reload = calloc(1, sizeof(*reload));

	if (!reload || job_line_new(&reload->line, broker->jobs)) {
		free(reload);
		return -ENOMEM;
	}
	reload->broker = broker;
	*ret_reload = reload;
	return 0;
}

/* Those who have gone before, and whom nobody served. */
static void tell_end(struct reload *reload)
{
	struct steward_reload *asked;

	DL_FOREACH (reload->asked, asked)
		asked->is_served = true;
	tell(reload, VMSIG_ERR_SHUTTING_DOWN, "the broker is shutting down");
}

struct reload *reload_free(struct reload *reload)
{
	if (!reload)
		return NULL;
	tell_end(reload);
	job_line_free(reload->line);
	/* A thread that hangs may use it for ever; the process is about to end. */
	if (reload->running)
		return NULL;
	clear(reload);
	free(reload);
	return NULL;
}
