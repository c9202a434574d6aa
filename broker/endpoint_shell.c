/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/endpoint_shell.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/jobs.h"
#include "broker/boot_clock.h"
#include "broker/error_text.h"
#include "broker/log.h"
#include "broker/ram/ram.h"
#include "vmsig/vmsig_error.h"

static const struct adapter_ops *const adapters[] = {
	[CONFIG_ADAPTER_FILE] = &adapter_file,
	[CONFIG_ADAPTER_QEMU] = &adapter_qemu,
};

struct endpoint_shell *endpoint_shell_find(struct broker *broker, uint32_t id)
{
	struct endpoint_shell *shell = NULL;

	HASH_FIND(hh, broker->endpoints, &id, sizeof(id), shell);
	return shell;
}

static void shell_free(struct endpoint_shell *shell)
{
	/* Its last epoch is stored, its leases revoked, sleepers on its page woken. */
	broker_perform(shell->broker);
	if (shell->broker->desk)
		desk_endpoint_remove(shell->broker->desk, shell->id);
	core_endpoint_remove(shell->broker->core, shell->id);
	HASH_DEL(shell->broker->endpoints, shell);
	HASH_DELETE(hh_name, shell->broker->endpoints_by_name, shell);
	coherence_free(shell->coherence);
	config_unref(shell->origin);
	free(shell);
}

static bool same_folder(const char *a, const char *b)
{
	size_t na = (size_t)(strrchr(a, '/') - a), nb = (size_t)(strrchr(b, '/') - b);

	return na == nb && memcmp(a, b, na) == 0;
}

/* An endpoint before this one in the configuration has its file in the same folder. */
static bool folder_was_tested(const struct config *all, const struct config_endpoint *config)
{
	for (const struct config_endpoint *other = all->endpoints; other != config; other++) {
		if (other->adapter == CONFIG_ADAPTER_FILE && same_folder(other->path, config->path))
			return true;
	}
	return false;
}

/* The self-test of a folder; it touches the file system, so it is a job. */
struct selftest {
	struct job job; /* first */
	char *name;     /* the endpoint's */
	char folder[PATH_MAX];
	enum vmsig_guard guard;
	int result;
	char report[512];
};

static enum job_step on_selftest(struct job *job)
{
	struct selftest *test = (struct selftest *)job;

	test->result = ram_selftest(
		dirname(test->folder), &test->guard, test->report, sizeof(test->report));
	return JOB_DONE;
}

static void on_selftested(struct job *job)
{
	struct selftest *test = (struct selftest *)job;

	if (job->finished)
		log_at(test->result || test->guard < VMSIG_GUARD_RO_MOUNT ? LOG_LEVEL_WARNING
									  : LOG_LEVEL_INFO,
			"read-only guarantee self-test", LOG_STR("endpoint", test->name),
			LOG_STR("result", test->report));
	free(test->name);
	free(test);
}

/* Says in the log, once per folder, what descriptors from there are worth. */
static void selftest(struct broker *broker, const struct config_endpoint *config)
{
	static const struct job_ops ops = {.work = on_selftest, .done = on_selftested};
	struct job_line *line;
	struct selftest *test;

	if (config->adapter != CONFIG_ADAPTER_FILE || folder_was_tested(broker->config, config))
		return;
	test = calloc(1, sizeof(*test));
	if (!test || !(test->name = strdup(config->name)) || job_line_new(&line, broker->jobs)) {
		log_warning("out of memory for the self-test", LOG_STR("endpoint", config->name));
		if (test)
			free(test->name);
		free(test);
		return;
	}
	snprintf(test->folder, sizeof(test->folder), "%s", config->path);
	test->job.ops = &ops;
	job_start(&test->job, line);
	job_line_leave(line);
}

static int share_page(void *ctx)
{
	return coherence_share(ctx);
}

static int add_to_core(struct endpoint_shell *shell, const struct store_endpoint *row)
{
	const struct config_endpoint *config = shell->config;
	const struct core_endpoint_config core = {
		.id = shell->id,
		.name = config->name,
		.adapter = adapters[config->adapter]->name,
		.epoch = row->epoch,
		.session = row->session,
		.min_guard = (enum vmsig_guard)config->min_guard,
		.page = coherence_page(shell->coherence),
		.share_page = share_page,
		.page_ctx = shell->coherence,
	};

	return core_endpoint_add(shell->broker->core, &core);
}

static int start_adapter(struct endpoint_shell *shell)
{
	const struct adapter_env env = {
		.loop = &shell->broker->loop,
		.shares = shell->broker->shares,
		.emit = core_emit(shell->broker->core),
		.endpoint = shell->id,
		.config = shell->config,
		.jobs = shell->broker->jobs,
		.claims = &shell->broker->claims,
		.guardian = shell->broker->guardian,
	};
	char error[256] = "";
	int r = adapters[shell->config->adapter]->start(
		&shell->adapter, &env, error, sizeof(error));

	if (r)
		log_error("adapter did not start", LOG_STR("endpoint", shell->config->name),
			LOG_STR("error", error_text(r)), LOG_STR("why", error));
	return r;
}

static int index_add(struct endpoint_shell *shell)
{
	struct broker *broker = shell->broker;
	const char *name = shell->config->name;

	HASH_ADD(hh, broker->endpoints, id, sizeof(shell->id), shell);
	if (!shell->hh.tbl)
		return -ENOMEM;
	HASH_ADD_KEYPTR(hh_name, broker->endpoints_by_name, name, strlen(name), shell);
	if (shell->hh_name.tbl)
		return 0;
	HASH_DEL(broker->endpoints, shell);
	return -ENOMEM;
}

static int shell_add(struct endpoint_shell *shell, const struct store_endpoint *row)
{
	int r = coherence_new(&shell->coherence, row->id);

	if (!r)
		r = add_to_core(shell, row);
	if (r)
		return r;
	if (index_add(shell) == 0)
		return 0;
	core_endpoint_remove(shell->broker->core, shell->id);
	return -ENOMEM;
}

/* One that is not known to anybody but the desk. Accepts NULL. */
static void shell_abandon(struct endpoint_shell *shell)
{
	if (!shell)
		return;
	if (shell->broker && shell->broker->desk)
		desk_endpoint_remove(shell->broker->desk, shell->id);
	coherence_free(shell->coherence);
	free(shell);
}

static void shell_start(struct broker *broker, const struct config_endpoint *config)
{
	struct endpoint_shell *shell = calloc(1, sizeof(*shell));
	struct store_endpoint row;
	int r = shell ? store_endpoint(broker->store, config->name, &row) : -ENOMEM;

	if (!r) {
		shell->broker = broker;
		shell->config = config;
		shell->id = row.id;
		if (broker->desk)
			r = desk_endpoint_add(broker->desk, row.id, config->name);
	}
	if (!r)
		r = shell_add(shell, &row);
	if (r) {
		log_error("cannot set the endpoint up", LOG_STR("endpoint", config->name),
			LOG_STR("error", error_text(r)),
			LOG_STR("store", store_error(broker->store)));
		shell_abandon(shell);
		return;
	}
	shell->origin = config_ref(broker->config);
	coherence_vouch(shell->coherence, uv_hrtime() + broker->config->vouch_ns);
	selftest(broker, config);
	if (start_adapter(shell))
		shell_free(shell);
}

static bool is_current(const struct endpoint_shell *shell)
{
	const struct broker *broker = shell->broker;
	const struct config_endpoint *wanted =
		config_endpoint_find(broker->config, shell->config->name);

	return !broker->closing && !shell->misplaced && wanted &&
	       config_endpoint_equal(wanted, shell->config);
}

static bool is_running(const struct broker *broker, const char *name)
{
	struct endpoint_shell *shell = NULL;

	HASH_FIND(hh_name, broker->endpoints_by_name, name, strlen(name), shell);
	return shell != NULL;
}

static void on_stopped(void *arg)
{
	struct endpoint_shell *shell = arg;
	struct broker *broker = shell->broker;
	const struct config_endpoint *wanted =
		config_endpoint_find(broker->config, shell->config->name);

	shell_free(shell);
	if (broker->closing)
		broker_closed(broker);
	else if (wanted)
		shell_start(broker, wanted);
}

void endpoint_shells_vouch(struct broker *broker, uint64_t until_ns)
{
	struct endpoint_shell *shell, *next;

	HASH_ITER (hh, broker->endpoints, shell, next) {
		if (!shell->stopping)
			coherence_vouch(shell->coherence, until_ns);
	}
}

void endpoint_shells_reconcile(struct broker *broker)
{
	struct endpoint_shell *shell, *next;

	HASH_ITER (hh, broker->endpoints, shell, next) {
		if (shell->stopping || is_current(shell))
			continue;
		shell->stopping = true;
		/* From here on nobody would notice a reset. */
		coherence_vouch(shell->coherence, 0);
		shell->adapter->ops->stop(shell->adapter, on_stopped, shell);
	}
	for (size_t i = 0; !broker->closing && i < broker->config->nendpoints; i++) {
		if (!is_running(broker, broker->config->endpoints[i].name))
			shell_start(broker, &broker->config->endpoints[i]);
	}
}

void endpoint_shells_rebind(struct broker *broker)
{
	struct endpoint_shell *shell, *next;

	HASH_ITER (hh, broker->endpoints, shell, next) {
		struct store_endpoint row = {0};

		shell->misplaced = store_endpoint(broker->store, shell->config->name, &row) ||
				   row.id != shell->id;
	}
	endpoint_shells_reconcile(broker);
}

static int tell_desk(struct endpoint_shell *shell)
{
	struct broker *broker = shell->broker;
	struct core_endpoint_info info;
	int r = desk_endpoint_add(broker->desk, shell->id, shell->config->name);

	if (r || core_endpoint_find(broker->core, NULL, shell->config->name, &info))
		return r;
	if (core_state_is_readable(info.state))
		desk_endpoint_ready(broker->desk, boot_clock_ns(), shell->id, info.epoch,
			coherence_page(shell->coherence));
	return 0;
}

void endpoint_shells_tell_desk(struct broker *broker)
{
	struct endpoint_shell *shell, *next;

	HASH_ITER (hh, broker->endpoints, shell, next) {
		if (tell_desk(shell))
			log_error("out of memory; the endpoint cannot be written to",
				LOG_STR("endpoint", shell->config->name));
	}
}
