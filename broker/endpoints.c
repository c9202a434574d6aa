/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/endpoints.h"

#include <assert.h>
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An entry that could not be added has hh.tbl == NULL; the default would exit. */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "broker/adapters/adapter.h"
#include "broker/boot_clock.h"
#include "broker/coherence.h"
#include "broker/error_text.h"
#include "broker/jobs.h"
#include "broker/log.h"
#include "broker/ram/claims.h"
#include "broker/ram/ram.h"
#include "broker/read/core.h"
#include "broker/store/store.h"
#include "broker/write/desk.h"
#include "vmsig/vmsig_error.h"

struct endpoints {
	struct endpoints_env env;
	struct config *config; /* what shall run */
	struct desk *desk;
	struct claims claims; /* who has which RAM file */
	bool closing;
	struct endpoint_shell *by_id, *by_name;
};

/* One that runs. */
struct endpoint_shell {
	struct endpoints *endpoints;
	struct config *origin; /* the configuration that `config` is in; a reference */
	const struct config_endpoint *config;
	uint32_t id;
	struct coherence *coherence;
	struct adapter *adapter;
	bool stopping;
	bool misplaced;         /* has another id in the store, and starts again with it */
	UT_hash_handle hh;      /* by id */
	UT_hash_handle hh_name; /* by name; at most one of a name runs */
};

static const struct adapter_ops *const adapters[] = {
	[CONFIG_ADAPTER_FILE] = &adapter_file,
	[CONFIG_ADAPTER_QEMU] = &adapter_qemu,
};

static struct endpoint_shell *shell_find(const struct endpoints *endpoints, uint32_t id)
{
	struct endpoint_shell *shell = NULL;

	HASH_FIND(hh, endpoints->by_id, &id, sizeof(id), shell);
	return shell;
}

static void shell_free(struct endpoint_shell *shell)
{
	struct endpoints *endpoints = shell->endpoints;

	/* Its last epoch is stored, its leases revoked, sleepers on its page woken. */
	endpoints->env.perform(endpoints->env.ctx);
	if (endpoints->desk)
		desk_endpoint_remove(endpoints->desk, shell->id);
	core_endpoint_remove(endpoints->env.core, shell->id);
	HASH_DEL(endpoints->by_id, shell);
	HASH_DELETE(hh_name, endpoints->by_name, shell);
	coherence_free(shell->coherence);
	config_unref(shell->origin);
	free(shell);
}

static bool same_folder(const char *a, const char *b)
{
	size_t na = (size_t)(strrchr(a, '/') - a), nb = (size_t)(strrchr(b, '/') - b);

	return na == nb && memcmp(a, b, na) == 0;
}

/* One of the endpoint's first `n` files, at most, is in the folder of `path`. */
static bool has_file_there(const struct config_endpoint *endpoint, size_t n, const char *path)
{
	char *const *files;
	size_t nfiles = config_endpoint_files(endpoint, &files);

	for (size_t i = 0; i < nfiles && i < n; i++) {
		if (same_folder(files[i], path))
			return true;
	}
	return false;
}

/* A file before this one in the configuration is in the same folder. */
static bool folder_was_tested(
	const struct config *all, const struct config_endpoint *config, size_t file)
{
	char *const *files;

	(void)config_endpoint_files(config, &files);
	for (const struct config_endpoint *other = all->endpoints; other != config; other++) {
		if (other->adapter == CONFIG_ADAPTER_FILE &&
			has_file_there(other, SIZE_MAX, files[file]))
			return true;
	}
	return has_file_there(config, file, files[file]);
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

static void selftest_folder(
	struct endpoints *endpoints, const struct config_endpoint *config, const char *path)
{
	static const struct job_ops ops = {.work = on_selftest, .done = on_selftested};
	struct job_line *line;
	struct selftest *test;

	test = calloc(1, sizeof(*test));
	if (!test || !(test->name = strdup(config->name)) ||
		job_line_new(&line, endpoints->env.jobs)) {
		log_warning("out of memory for the self-test", LOG_STR("endpoint", config->name));
		if (test)
			free(test->name);
		free(test);
		return;
	}
	snprintf(test->folder, sizeof(test->folder), "%s", path);
	test->job.ops = &ops;
	job_start(&test->job, line);
	job_line_leave(line);
}

/* Says in the log, once per folder, what descriptors from there are worth. */
static void selftest(struct endpoints *endpoints, const struct config_endpoint *config)
{
	char *const *files;
	size_t n =
		config->adapter == CONFIG_ADAPTER_FILE ? config_endpoint_files(config, &files) : 0;

	for (size_t i = 0; i < n; i++) {
		if (!folder_was_tested(endpoints->config, config, i))
			selftest_folder(endpoints, config, files[i]);
	}
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

	return core_endpoint_add(shell->endpoints->env.core, &core);
}

static int start_adapter(struct endpoint_shell *shell)
{
	const struct endpoints_env *env = &shell->endpoints->env;
	const struct adapter_env adapter = {
		.loop = env->loop,
		.shares = env->shares,
		.emit = core_emit(env->core),
		.endpoint = shell->id,
		.config = shell->config,
		.jobs = env->jobs,
		.claims = &shell->endpoints->claims,
		.guardian = env->guardian,
	};
	char error[256] = "";
	int r = adapters[shell->config->adapter]->start(
		&shell->adapter, &adapter, error, sizeof(error));

	if (r)
		log_error("adapter did not start", LOG_STR("endpoint", shell->config->name),
			LOG_STR("error", error_text(r)), LOG_STR("why", error));
	return r;
}

static int index_add(struct endpoint_shell *shell)
{
	struct endpoints *endpoints = shell->endpoints;
	const char *name = shell->config->name;

	HASH_ADD(hh, endpoints->by_id, id, sizeof(shell->id), shell);
	if (!shell->hh.tbl)
		return -ENOMEM;
	HASH_ADD_KEYPTR(hh_name, endpoints->by_name, name, strlen(name), shell);
	if (shell->hh_name.tbl)
		return 0;
	HASH_DEL(endpoints->by_id, shell);
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
	core_endpoint_remove(shell->endpoints->env.core, shell->id);
	return -ENOMEM;
}

/* One that is not known to anybody but the desk. Accepts NULL. */
static void shell_abandon(struct endpoint_shell *shell)
{
	if (!shell)
		return;
	if (shell->endpoints && shell->endpoints->desk)
		desk_endpoint_remove(shell->endpoints->desk, shell->id);
	coherence_free(shell->coherence);
	free(shell);
}

static void shell_start(struct endpoints *endpoints, const struct config_endpoint *config)
{
	struct endpoint_shell *shell = calloc(1, sizeof(*shell));
	struct store_endpoint row;
	int r = shell ? store_endpoint(endpoints->env.store, config->name, &row) : -ENOMEM;

	if (!r) {
		shell->endpoints = endpoints;
		shell->config = config;
		shell->id = row.id;
		if (endpoints->desk)
			r = desk_endpoint_add(endpoints->desk, row.id, config->name);
	}
	if (!r)
		r = shell_add(shell, &row);
	if (r) {
		log_error("cannot set the endpoint up", LOG_STR("endpoint", config->name),
			LOG_STR("error", error_text(r)),
			LOG_STR("store", store_error(endpoints->env.store)));
		shell_abandon(shell);
		return;
	}
	shell->origin = config_ref(endpoints->config);
	coherence_vouch(shell->coherence, uv_hrtime() + endpoints->config->vouch_ns);
	selftest(endpoints, config);
	if (start_adapter(shell))
		shell_free(shell);
}

static bool is_current(const struct endpoint_shell *shell)
{
	const struct endpoints *endpoints = shell->endpoints;
	const struct config_endpoint *wanted =
		config_endpoint_find(endpoints->config, shell->config->name);

	return !endpoints->closing && !shell->misplaced && wanted &&
	       config_endpoint_equal(wanted, shell->config);
}

static bool is_running(const struct endpoints *endpoints, const char *name)
{
	struct endpoint_shell *shell = NULL;

	HASH_FIND(hh_name, endpoints->by_name, name, strlen(name), shell);
	return shell != NULL;
}

static void on_stopped(void *arg)
{
	struct endpoint_shell *shell = arg;
	struct endpoints *endpoints = shell->endpoints;
	const struct config_endpoint *wanted =
		config_endpoint_find(endpoints->config, shell->config->name);

	shell_free(shell);
	if (!endpoints->closing && wanted)
		shell_start(endpoints, wanted);
	else if (endpoints->closing && endpoints_are_idle(endpoints))
		endpoints->env.idle(endpoints->env.ctx);
}

static void stop_outdated(struct endpoints *endpoints)
{
	struct endpoint_shell *shell, *next;

	HASH_ITER (hh, endpoints->by_id, shell, next) {
		if (shell->stopping || is_current(shell))
			continue;
		shell->stopping = true;
		/* From here on nobody would notice a reset. */
		coherence_vouch(shell->coherence, 0);
		shell->adapter->ops->stop(shell->adapter, on_stopped, shell);
	}
}

void endpoints_reconcile(struct endpoints *endpoints, struct config *config)
{
	endpoints->config = config;
	stop_outdated(endpoints);
	for (size_t i = 0; !endpoints->closing && i < config->nendpoints; i++) {
		if (!is_running(endpoints, config->endpoints[i].name))
			shell_start(endpoints, &config->endpoints[i]);
	}
}

void endpoints_close(struct endpoints *endpoints)
{
	endpoints->closing = true;
	if (endpoints_are_idle(endpoints))
		endpoints->env.idle(endpoints->env.ctx);
	else
		stop_outdated(endpoints);
}

bool endpoints_are_idle(const struct endpoints *endpoints)
{
	return !endpoints->by_id;
}

void endpoints_complain(const struct endpoints *endpoints)
{
	const struct endpoint_shell *shell;

	for (shell = endpoints->by_id; shell; shell = shell->hh.next)
		log_error("the endpoint's adapter does not end; giving up on it",
			LOG_STR("endpoint", shell->config->name));
}

/* ---- the store and the desk come later ---- */

void endpoints_rebind(struct endpoints *endpoints)
{
	struct endpoint_shell *shell, *next;

	HASH_ITER (hh, endpoints->by_id, shell, next) {
		struct store_endpoint row = {0};

		shell->misplaced =
			store_endpoint(endpoints->env.store, shell->config->name, &row) ||
			row.id != shell->id;
	}
	endpoints_reconcile(endpoints, endpoints->config);
}

static int tell_desk(struct endpoint_shell *shell)
{
	struct endpoints *endpoints = shell->endpoints;
	struct core_endpoint_info info;
	int r = desk_endpoint_add(endpoints->desk, shell->id, shell->config->name);

	if (r || core_endpoint_find(endpoints->env.core, NULL, shell->config->name, &info))
		return r;
	if (core_state_is_readable(info.state))
		desk_endpoint_ready(endpoints->desk, boot_clock_ns(), shell->id, info.epoch,
			coherence_page(shell->coherence));
	return 0;
}

void endpoints_set_desk(struct endpoints *endpoints, struct desk *desk)
{
	struct endpoint_shell *shell, *next;

	endpoints->desk = desk;
	if (!desk)
		return;
	HASH_ITER (hh, endpoints->by_id, shell, next) {
		if (tell_desk(shell))
			log_error("out of memory; the endpoint cannot be written to",
				LOG_STR("endpoint", shell->config->name));
	}
}

/* ---- pages ---- */

void endpoints_vouch(struct endpoints *endpoints, uint64_t until_ns)
{
	struct endpoint_shell *shell, *next;

	HASH_ITER (hh, endpoints->by_id, shell, next) {
		if (!shell->stopping)
			coherence_vouch(shell->coherence, until_ns);
	}
}

vmsig_coherence *endpoints_page(const struct endpoints *endpoints, uint32_t id)
{
	const struct endpoint_shell *shell = shell_find(endpoints, id);

	return shell ? coherence_page(shell->coherence) : NULL;
}

void endpoints_wake(const struct endpoints *endpoints, uint32_t id)
{
	const struct endpoint_shell *shell = shell_find(endpoints, id);

	if (shell)
		coherence_wake(shell->coherence);
}

/* ---- life ---- */

int endpoints_new(struct endpoints **ret_endpoints, const struct endpoints_env *env)
{
	struct endpoints *endpoints = calloc(1, sizeof(*endpoints));

	if (!endpoints)
		return -ENOMEM;
	endpoints->env = *env;
	*ret_endpoints = endpoints;
	return 0;
}

struct endpoints *endpoints_free(struct endpoints *endpoints)
{
	assert(!endpoints || endpoints_are_idle(endpoints));
	free(endpoints);
	return NULL;
}
