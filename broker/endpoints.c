/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/endpoints.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An entry that could not be added has hh.tbl == NULL; the default would exit. */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "broker/adapters/adapter.h"
#include "broker/additions.h"
#include "broker/boot_clock.h"
#include "broker/coherence.h"
#include "broker/error_text.h"
#include "broker/jobs.h"
#include "broker/log.h"
#include "broker/ram/claims.h"
#include "broker/policy/share.h"
#include "broker/read/core.h"
#include "broker/selftests.h"
#include "broker/store/store.h"
#include "broker/write/desk.h"
#include "vmsig/vmsig_error.h"

#define WALK_STEP 64u /* endpoints that are compared in a piece of work; some 10 us */

struct endpoints {
	struct endpoints_env env;
	struct config *config;      /* what shall run, */
	struct additions additions; /* and that */
	struct desk *desk;
	struct claims claims; /* who has which RAM file */
	struct selftests *selftests;
	bool closing;
	struct endpoint_shell *by_id, *by_name;
	struct finding *found; /* by name */

	/* Of endpoints_adopt(): what comes next. */
	struct share *share;
	struct share_task walk;
	struct endpoint_shell *next; /* to be compared; NULL: all are */
	size_t missing;              /* place in the configuration, to be looked for */
	void (*settled)(void *ctx);
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

/* An endpoint that was discovered, whether it runs or not. */
struct finding {
	struct config *config; /* of this one; a reference */
	UT_hash_handle hh;
};

static const struct adapter_ops *const adapters[] = {
	[CONFIG_ADAPTER_FILE] = &adapter_file,
	[CONFIG_ADAPTER_QEMU] = &adapter_qemu,
	[CONFIG_ADAPTER_LIBVIRT] = &adapter_libvirt,
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
	if (endpoints->next == shell)
		endpoints->next = shell->hh.next;
	HASH_DEL(endpoints->by_id, shell);
	HASH_DELETE(hh_name, endpoints->by_name, shell);
	coherence_free(shell->coherence);
	config_unref(shell->origin);
	free(shell);
}

/* ---- what shall run ---- */

static struct finding *finding_of(const struct endpoints *endpoints, const char *name)
{
	struct finding *finding = NULL;

	HASH_FIND(hh, endpoints->found, name, strlen(name), finding);
	return finding;
}

/* NULL: it shall not run. *ret_origin is the configuration that it is in. What somebody has named
 * comes before what was discovered. */
static const struct config_endpoint *find_wanted(
	const struct endpoints *endpoints, const char *name, struct config **ret_origin)
{
	const struct config_endpoint *wanted = config_endpoint_find(endpoints->config, name);
	const struct addition *addition =
		wanted ? NULL : additions_find(&endpoints->additions, name);

	const struct finding *finding = wanted || addition ? NULL : finding_of(endpoints, name);

	*ret_origin = addition ? addition->config : finding ? finding->config : endpoints->config;
	return wanted ? wanted : *ret_origin != endpoints->config ? (*ret_origin)->endpoints : NULL;
}

/* ---- one of them ---- */

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
		.labels = config->labels,
		.nlabels = config->nlabels,
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

static int tell_desk_of(
	struct endpoints *endpoints, uint32_t id, const struct config_endpoint *config)
{
	const struct selector_subject subject = config_endpoint_subject(config);

	return desk_endpoint_add(endpoints->desk, id, &subject);
}

/* What fails is logged. */
static int shell_start(
	struct endpoints *endpoints, struct config *origin, const struct config_endpoint *config)
{
	struct endpoint_shell *shell = calloc(1, sizeof(*shell));
	struct store_endpoint row;
	int r = shell ? store_endpoint(endpoints->env.store, config->name, &row) : -ENOMEM;

	if (!r) {
		shell->endpoints = endpoints;
		shell->config = config;
		shell->id = row.id;
		if (endpoints->desk)
			r = tell_desk_of(endpoints, row.id, config);
	}
	if (!r)
		r = shell_add(shell, &row);
	if (r) {
		log_error("cannot set the endpoint up", LOG_STR("endpoint", config->name),
			LOG_STR("error", error_text(r)),
			LOG_STR("store", store_error(endpoints->env.store)));
		shell_abandon(shell);
		return r;
	}
	shell->origin = config_ref(origin);
	coherence_vouch(shell->coherence, uv_hrtime() + endpoints->config->vouch_ns);
	selftests_start(endpoints->selftests, config);
	r = start_adapter(shell);
	if (r)
		shell_free(shell);
	return r;
}

static bool is_current(const struct endpoint_shell *shell)
{
	const struct endpoints *endpoints = shell->endpoints;
	struct config *origin;
	const struct config_endpoint *wanted = find_wanted(endpoints, shell->config->name, &origin);

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
	struct config *origin;
	const struct config_endpoint *wanted = find_wanted(endpoints, shell->config->name, &origin);

	shell_free(shell);
	if (!endpoints->closing && wanted)
		(void)shell_start(endpoints, origin, wanted);
	else if (endpoints->closing && endpoints_are_idle(endpoints))
		endpoints->env.idle(endpoints->env.ctx);
}

/* Whether it had to be stopped. */
static bool stop_outdated(struct endpoint_shell *shell)
{
	if (shell->stopping || is_current(shell))
		return false;
	shell->stopping = true;
	/* From here on nobody would notice a reset. */
	coherence_vouch(shell->coherence, 0);
	if (shell->endpoints->closing && shell->adapter->ops->leave)
		shell->adapter->ops->leave(shell->adapter);
	shell->adapter->ops->stop(shell->adapter, on_stopped, shell);
	return true;
}

static void stop_all_outdated(struct endpoints *endpoints)
{
	struct endpoint_shell *shell, *next;

	HASH_ITER (hh, endpoints->by_id, shell, next)
		(void)stop_outdated(shell);
}

/* Whether it had to be started. */
static bool start_missing(struct endpoints *endpoints, const struct config_endpoint *config)
{
	if (is_running(endpoints, config->name))
		return false;
	(void)shell_start(endpoints, endpoints->config, config);
	return true;
}

void endpoints_reconcile(struct endpoints *endpoints, struct config *config)
{
	endpoints->config = config;
	stop_all_outdated(endpoints);
	for (size_t i = 0; !endpoints->closing && i < config->nendpoints; i++)
		(void)start_missing(endpoints, &config->endpoints[i]);
}

/* ---- a configuration that others wait beside ---- */

/* What runs comes first, so that a file that goes to another endpoint is free. A started one was
 * put behind `next`, and is current. */
static bool walk_some(struct endpoints *endpoints)
{
	for (unsigned n = 0; n < WALK_STEP; n++) {
		struct endpoint_shell *shell = endpoints->next;

		if (shell) {
			endpoints->next = shell->hh.next;
			if (stop_outdated(shell))
				return true;
		} else if (endpoints->missing < endpoints->config->nendpoints) {
			if (start_missing(
				    endpoints, &endpoints->config->endpoints[endpoints->missing++]))
				return true;
		} else {
			return false;
		}
	}
	return true;
}

static void on_walk(struct share_task *task)
{
	struct endpoints *endpoints =
		(struct endpoints *)((char *)task - offsetof(struct endpoints, walk));

	void (*settled)(void *ctx) = endpoints->settled;

	if (walk_some(endpoints)) {
		share_task_ready(task);
		return;
	}
	endpoints->settled = NULL;
	if (settled)
		settled(endpoints->env.ctx);
}

void endpoints_adopt(struct endpoints *endpoints, struct config *config, void (*settled)(void *ctx))
{
	endpoints->config = config;
	additions_sift(&endpoints->additions, config);
	endpoints->next = endpoints->by_id;
	endpoints->missing = 0;
	if (settled)
		endpoints->settled = settled;
	share_task_ready(&endpoints->walk);
}

void endpoints_close(struct endpoints *endpoints)
{
	endpoints->closing = true;
	share_task_cancel(&endpoints->walk);
	if (endpoints_are_idle(endpoints))
		endpoints->env.idle(endpoints->env.ctx);
	else
		stop_all_outdated(endpoints);
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

/* ---- beside the configuration ---- */

__attribute__((format(printf, 4, 5))) static int refuse(
	int result, char *error, size_t error_size, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(error, error_size, format, args);
	va_end(args);
	return result;
}

static int addition_check(struct endpoints *endpoints, const struct config_endpoint *config,
	bool (*may)(void *who, const struct selector_subject *endpoint), void *who, char *error,
	size_t error_size)
{
	const struct selector_subject subject = config_endpoint_subject(config);
	struct config *origin;

	if (!may(who, &subject))
		return refuse(VMSIG_ERR_FORBIDDEN, error, error_size,
			"the policy does not let this administrator see an endpoint '%s'",
			config->name);
	if (endpoints->closing)
		return refuse(
			VMSIG_ERR_SHUTTING_DOWN, error, error_size, "the broker is shutting down");
	if (find_wanted(endpoints, config->name, &origin) || is_running(endpoints, config->name))
		return refuse(VMSIG_ERR_BAD_REQUEST, error, error_size,
			"the name '%s' is taken; choose another", config->name);
	return 0;
}

/* Takes over the configuration. */
static int addition_start(
	struct endpoints *endpoints, struct config *config, char *error, size_t error_size)
{
	struct addition *addition;
	int r = additions_take(&endpoints->additions, config, &addition);

	if (r)
		return r;
	r = shell_start(endpoints, config, &config->endpoints[0]);
	if (r) {
		(void)refuse(r, error, error_size, "it does not start: %s; the log says more",
			error_text(r));
		additions_drop(&endpoints->additions, addition);
	}
	return r;
}

int endpoints_add(struct endpoints *endpoints, const char *yaml,
	bool (*may)(void *who, const struct selector_subject *endpoint), void *who, char *error,
	size_t error_size)
{
	struct config *config;
	int r = config_endpoint_load(&config, yaml, endpoints->config, error, error_size);

	if (r)
		return r;
	r = addition_check(endpoints, &config->endpoints[0], may, who, error, error_size);
	if (r) {
		config_unref(config);
		return r;
	}
	return addition_start(endpoints, config, error, error_size);
}

int endpoints_remove(struct endpoints *endpoints, const char *name)
{
	struct addition *addition = additions_find(&endpoints->additions, name);
	struct endpoint_shell *shell = NULL;

	if (!addition)
		return config_endpoint_find(endpoints->config, name) ? VMSIG_ERR_BAD_REQUEST
								     : VMSIG_ERR_NO_SUCH_ENDPOINT;
	HASH_FIND(hh_name, endpoints->by_name, name, strlen(name), shell);
	additions_drop(&endpoints->additions, addition);
	if (shell)
		(void)stop_outdated(shell);
	return 0;
}

bool endpoints_is_added(const struct endpoints *endpoints, const char *name)
{
	return additions_find(&endpoints->additions, name) != NULL;
}

/* ---- what is discovered ---- */

int endpoints_discover(struct endpoints *endpoints, struct config *config)
{
	const struct config_endpoint *endpoint = config->endpoints;
	struct finding *finding;
	struct config *origin;

	if (endpoints->closing)
		return VMSIG_ERR_NOT_READY;
	if (find_wanted(endpoints, endpoint->name, &origin))
		return VMSIG_ERR_BUSY;
	finding = calloc(1, sizeof(*finding));
	if (!finding)
		return -ENOMEM;
	finding->config = config;
	HASH_ADD_KEYPTR(hh, endpoints->found, endpoint->name, strlen(endpoint->name), finding);
	if (!finding->hh.tbl) {
		free(finding);
		return -ENOMEM;
	}
	config_ref(config);
	/* One that still ends begins again by itself. */
	if (!is_running(endpoints, endpoint->name))
		(void)shell_start(endpoints, config, endpoint);
	return 0;
}

void endpoints_lose(struct endpoints *endpoints, const struct config *config)
{
	const char *name = config->endpoints->name;
	struct finding *finding = finding_of(endpoints, name);
	struct endpoint_shell *shell = NULL;

	if (!finding || finding->config != config)
		return;
	HASH_FIND(hh_name, endpoints->by_name, name, strlen(name), shell);
	HASH_DEL(endpoints->found, finding);
	if (shell)
		(void)stop_outdated(shell);
	config_unref(finding->config);
	free(finding);
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
	endpoints_adopt(endpoints, endpoints->config, NULL);
}

static int tell_desk(struct endpoint_shell *shell)
{
	struct endpoints *endpoints = shell->endpoints;
	struct core_endpoint_info info;
	int r = tell_desk_of(endpoints, shell->id, shell->config);

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
	int r = endpoints ? selftests_new(&endpoints->selftests, env->jobs) : -ENOMEM;

	if (!r)
		r = share_get(env->shares, SHARE_BROKER, "endpoints", &endpoints->share);
	if (r) {
		endpoints_free(endpoints);
		return r;
	}
	endpoints->env = *env;
	share_task_init(&endpoints->walk, endpoints->share, on_walk);
	*ret_endpoints = endpoints;
	return 0;
}

struct endpoints *endpoints_free(struct endpoints *endpoints)
{
	if (!endpoints)
		return NULL;
	assert(endpoints_are_idle(endpoints));
	additions_deinit(&endpoints->additions);
	if (endpoints->share) {
		share_task_cancel(&endpoints->walk);
		share_unref(endpoints->share);
	}
	selftests_free(endpoints->selftests);
	free(endpoints);
	return NULL;
}
