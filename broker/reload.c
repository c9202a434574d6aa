/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/reload.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/config/check.h"
#include "broker/desk_shell.h"
#include "broker/endpoints.h"
#include "broker/jobs.h"
#include "broker/log.h"
#include "broker/net/net.h"
#include "broker/net/tls_set.h"
#include "broker/shell.h"
#include "broker/store/store.h"
#include "vmsig/vmsig_error.h"

#define WRITER_LOOK_US 50000 /* between two looks at a file that is being written */
#define WRITER_LOOKS 200     /* before that is given up */

struct reload {
	struct broker *broker;
	struct job_line *line;
	struct job job;
	bool running, again;

	/* What the thread needs and makes; nobody else looks meanwhile. */
	char *file;
	bool had_tenants, was_ended;
	unsigned looks;
	struct config *config;
	struct tls_set tls;
	int result;
	char error[512];
};

/* ---- what cannot be changed ---- */

static bool is_same_core(const struct core_limits *a, const struct core_limits *b)
{
	return a->endpoints == b->endpoints && a->sessions == b->sessions &&
	       a->inflight == b->inflight && a->take_timeout_ns == b->take_timeout_ns;
}

static bool is_same_listen(const struct config_listen *a, const struct config_listen *b)
{
	return a->given == b->given && strcmp(a->path, b->path) == 0 && a->mode == b->mode;
}

static bool is_same_leases(const struct lease_limits *a, const struct lease_limits *b)
{
	return a->leases == b->leases && a->waiters == b->waiters && a->ranges == b->ranges &&
	       a->preempt_grace_ns == b->preempt_grace_ns &&
	       a->resume_grace_ns == b->resume_grace_ns;
}

/* What is only read at start. */
static void warn_unchanged(const struct config *old, const struct config *config)
{
	const struct {
		const char *key;
		bool changed;
	} settings[] = {
		{"state_dir", strcmp(old->state_dir, config->state_dir) != 0},
		{"listen", !is_same_listen(&old->ctx, &config->ctx) ||
				   !is_same_listen(&old->write, &config->write) ||
				   !is_same_listen(&old->admin, &config->admin)},
		{"limits: leases, waiters, lease_ranges, preempt_grace, resume_grace",
			!is_same_leases(&old->leases, &config->leases)},
		{"limits: endpoints, connections, inflight_contexts, take_timeout",
			!is_same_core(&old->core, &config->core)},
	};

	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
		if (settings[i].changed)
			log_warning("the setting changes with the next start, not with a reload",
				LOG_STR("key", settings[i].key));
	}
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
	if (reload->had_tenants && !reload->config->ntenants)
		return refuse(reload,
			"no tenants are left in it, which would disconnect everybody; "
			"if that is meant, stop the broker");
	if (reload->was_ended && !reload->config->ended)
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
		reload->result = tls_set_load(
			&reload->tls, reload->config, reload->error, sizeof(reload->error));
	return JOB_DONE;
}

/* ---- on the loop ---- */

static void clear(struct reload *reload)
{
	tls_set_deinit(&reload->tls);
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

static int adopt(struct reload *reload)
{
	struct broker *broker = reload->broker;
	struct config *config = reload->config, *old = broker->config;
	int r = net_reload(broker->net, config, &reload->tls);

	if (r) {
		snprintf(reload->error, sizeof(reload->error), "out of memory");
		return r;
	}
	reload->config = NULL;
	warn_unchanged(old, config);
	reload_warn(config);
	broker->config = config;
	config_unref(old);
	/* Whoever asks for a reload has seen to the disk. */
	store_reopen(broker->store);
	if (broker->desk)
		desk_shell_reload(broker->desk_shell, config);
	log_setup((enum log_level)config->log_level, config->log_json);
	endpoints_adopt(broker->endpoints, config, on_settled);
	return 0;
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
	if (r)
		log_error("reload failed; the old configuration stays",
			LOG_STR("error", reload->error));
	clear(reload);
	if (reload->again)
		reload_request(reload);
}

static void on_late(struct job *job)
{
	struct reload *reload = job->arg;

	log_error(
		"reload hangs: the configuration, a key or the revocation list cannot be read; the "
		"old configuration stays",
		LOG_STR("file", reload->broker->config->file));
}

static const struct job_ops ops = {.work = on_work, .late = on_late, .done = on_done};

void reload_request(struct reload *reload)
{
	const struct config *config = reload->broker->config;

	reload->again = reload->running;
	if (reload->running)
		return;
	reload->file = strdup(config->file);
	if (!reload->file) {
		log_error("reload failed; the old configuration stays",
			LOG_STR("error", "out of memory"));
		return;
	}
	reload->had_tenants = config->ntenants > 0;
	reload->was_ended = config->ended;
	net_planes(reload->broker->net, &reload->tls);
	reload->job = (struct job){.ops = &ops, .arg = reload};
	reload->running = true;
	job_start(&reload->job, reload->line);
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

struct reload *reload_free(struct reload *reload)
{
	if (!reload)
		return NULL;
	job_line_free(reload->line);
	/* A thread that hangs may use it for ever; the process is about to end. */
	if (reload->running)
		return NULL;
	clear(reload);
	free(reload);
	return NULL;
}
