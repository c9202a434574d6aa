/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/endpoints.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/coherence.h"
#include "broker/endpoint_shell.h"
#include "broker/error_text.h"
#include "broker/fleet_shell.h"
#include "broker/log.h"
#include "broker/policy/share.h"
#include "broker/read/core.h"
#include "broker/sandbox/sandbox.h"
#include "broker/selftests.h"
#include "broker/store/store.h"
#include "broker/wanted.h"
#include "vmsig/vmsig_error.h"

#define WALK_STEP 64u /* endpoints that are compared in a piece of work; some 10 us */

struct endpoints {
	struct endpoints_env env;
	struct endpoint_shell_env shell_env;
	struct wanted wanted; /* what shall run */
	bool closing;
	bool leaving; /* what stops leaves to the next broker what it can */
	struct endpoint_shell *by_id, *by_name; /* what runs */

	/* Of endpoints_adopt(): what comes next. */
	struct share *share;
	struct share_task walk;
	struct endpoint_shell *next; /* to be compared; NULL: all are */
	size_t missing;              /* place in the configuration, to be looked for */
	void (*settled)(void *ctx);
};

static struct endpoint_shell *shell_find(const struct endpoints *endpoints, uint32_t id)
{
	struct endpoint_shell *shell = NULL;

	HASH_FIND(hh, endpoints->by_id, &id, sizeof(id), shell);
	return shell;
}

static struct endpoint_shell *shell_named(const struct endpoints *endpoints, const char *name)
{
	struct endpoint_shell *shell = NULL;

	HASH_FIND(hh_name, endpoints->by_name, name, strlen(name), shell);
	return shell;
}

/* ---- one of them ---- */

static int index_add(struct endpoints *endpoints, struct endpoint_shell *shell)
{
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

static void drop(struct endpoints *endpoints, struct endpoint_shell *shell)
{
	/* Its last epoch is stored, its leases revoked, sleepers on its page woken. */
	endpoints->env.perform(endpoints->env.ctx);
	if (endpoints->next == shell)
		endpoints->next = shell->hh.next;
	HASH_DEL(endpoints->by_id, shell);
	HASH_DELETE(hh_name, endpoints->by_name, shell);
	endpoint_shell_free(shell);
}

/* What fails is logged. */
static int start(
	struct endpoints *endpoints, struct config *origin, const struct config_endpoint *config)
{
	uint64_t vouched_ns = uv_hrtime() + endpoints->wanted.config->vouch_ns;
	struct endpoint_shell *shell;
	int r = endpoint_shell_new(&shell, &endpoints->shell_env, origin, config, vouched_ns);

	if (r)
		return r;
	shell->owner = endpoints;
	r = index_add(endpoints, shell);
	if (r) {
		log_error("out of memory; the endpoint does not start",
			LOG_STR("endpoint", config->name));
		endpoint_shell_free(shell);
		return r;
	}
	r = endpoint_shell_start(shell);
	if (r)
		drop(endpoints, shell);
	return r;
}

static bool is_current(const struct endpoints *endpoints, const struct endpoint_shell *shell)
{
	struct config *origin;
	const struct config_endpoint *wanted =
		wanted_find(&endpoints->wanted, shell->config->name, &origin);

	return !endpoints->closing && !shell->misplaced && wanted &&
	       config_endpoint_equal(wanted, shell->config);
}

static void on_stopped(void *arg)
{
	struct endpoint_shell *shell = arg;
	struct endpoints *endpoints = shell->owner;
	struct config *origin;
	const struct config_endpoint *wanted =
		wanted_find(&endpoints->wanted, shell->config->name, &origin);

	drop(endpoints, shell);
	if (!endpoints->closing && wanted)
		(void)start(endpoints, origin, wanted);
	else if (endpoints->closing && endpoints_are_idle(endpoints))
		endpoints->env.idle(endpoints->env.ctx);
}

/* Whether it had to be stopped. */
static bool stop_outdated(struct endpoints *endpoints, struct endpoint_shell *shell)
{
	if (shell->stopping || is_current(endpoints, shell))
		return false;
	endpoint_shell_stop(shell, endpoints->leaving, on_stopped);
	return true;
}

static void stop_named(struct endpoints *endpoints, const char *name)
{
	struct endpoint_shell *shell = shell_named(endpoints, name);

	if (shell)
		(void)stop_outdated(endpoints, shell);
}

static void stop_all_outdated(struct endpoints *endpoints)
{
	struct endpoint_shell *shell, *next;

	HASH_ITER (hh, endpoints->by_id, shell, next)
		(void)stop_outdated(endpoints, shell);
}

/* Whether it had to be started. */
static bool start_missing(struct endpoints *endpoints, const struct config_endpoint *config)
{
	if (shell_named(endpoints, config->name))
		return false;
	(void)start(endpoints, endpoints->wanted.config, config);
	return true;
}

void endpoints_reconcile(struct endpoints *endpoints, struct config *config)
{
	wanted_configure(&endpoints->wanted, config);
	stop_all_outdated(endpoints);
	for (size_t i = 0; !endpoints->closing && i < config->nendpoints; i++)
		(void)start_missing(endpoints, &config->endpoints[i]);
}

/* ---- a configuration that others wait beside ---- */

/* What runs comes first, so that a file that goes to another endpoint is free. A started one was
 * put behind `next`, and is current. */
static bool walk_some(struct endpoints *endpoints)
{
	const struct config *config = endpoints->wanted.config;

	for (unsigned n = 0; n < WALK_STEP; n++) {
		struct endpoint_shell *shell = endpoints->next;

		if (shell) {
			endpoints->next = shell->hh.next;
			if (stop_outdated(endpoints, shell))
				return true;
		} else if (endpoints->missing < config->nendpoints) {
			if (start_missing(endpoints, &config->endpoints[endpoints->missing++]))
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
	wanted_configure(&endpoints->wanted, config);
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
	if (wanted_find(&endpoints->wanted, config->name, &origin) ||
		shell_named(endpoints, config->name))
		return refuse(VMSIG_ERR_BAD_REQUEST, error, error_size,
			"the name '%s' is taken; choose another", config->name);
	return 0;
}

static int addition_start(
	struct endpoints *endpoints, struct config *config, char *error, size_t error_size)
{
	int r = wanted_add(&endpoints->wanted, config);

	if (r)
		return r;
	r = start(endpoints, config, config->endpoints);
	if (r) {
		(void)refuse(r, error, error_size, "it does not start: %s; the log says more",
			error_text(r));
		wanted_drop(&endpoints->wanted, config->endpoints->name);
	}
	return r;
}

int endpoints_add(struct endpoints *endpoints, const char *yaml,
	bool (*may)(void *who, const struct selector_subject *endpoint), void *who, char *error,
	size_t error_size)
{
	struct config *config;
	int r = config_endpoint_load(&config, yaml, endpoints->wanted.config, error, error_size);

	if (r)
		return r;
	r = addition_check(endpoints, config->endpoints, may, who, error, error_size);
	if (!r && !sandbox_serves(config))
		r = refuse(VMSIG_ERR_BAD_REQUEST, error, error_size,
			"the sandbox that was shut at the start keeps vmsigd from looking into "
			"QEMU; name the RAM file in 'ram', or put '%s' into the configuration and "
			"restart vmsigd",
			config->endpoints->name);
	if (!r)
		r = addition_start(endpoints, config, error, error_size);
	config_unref(config);
	return r;
}

int endpoints_remove(struct endpoints *endpoints, const char *name)
{
	if (!wanted_is_added(&endpoints->wanted, name))
		return wanted_origin(&endpoints->wanted, name) ? VMSIG_ERR_BAD_REQUEST
							       : VMSIG_ERR_NO_SUCH_ENDPOINT;
	wanted_drop(&endpoints->wanted, name);
	stop_named(endpoints, name);
	return 0;
}

bool endpoints_is_gone(const struct endpoints *endpoints, const char *name)
{
	struct core_endpoint_info info;

	return core_endpoint_find(endpoints->env.core, NULL, name, &info) == 0 &&
	       info.state == VMSIG_STATE_GONE;
}

const char *endpoints_origin(const struct endpoints *endpoints, const char *name)
{
	return wanted_origin(&endpoints->wanted, name);
}

const char *endpoints_uuid(const struct endpoints *endpoints, const char *name)
{
	struct config *origin;
	const struct config_endpoint *wanted = wanted_find(&endpoints->wanted, name, &origin);

	return wanted ? wanted->uuid : NULL;
}

/* ---- what is discovered ---- */

/* Those who offer them choose their names, and each stays in the state for good: an epoch of it
 * must never come again. */
static bool may_name(const struct endpoints *endpoints, const char *name)
{
	const struct store *store = endpoints->env.store;

	return store_knows(store, name) || store_names(store) < endpoints->wanted.config->names;
}

int endpoints_discover(struct endpoints *endpoints, struct config *config)
{
	const struct config_endpoint *endpoint = config->endpoints;
	struct config *origin;
	int r;

	if (endpoints->closing)
		return VMSIG_ERR_NOT_READY;
	if (wanted_find(&endpoints->wanted, endpoint->name, &origin))
		return VMSIG_ERR_BUSY;
	if (!may_name(endpoints, endpoint->name))
		return VMSIG_ERR_QUOTA;
	r = wanted_discover(&endpoints->wanted, config);
	/* One that still ends begins again by itself. */
	if (!r && !shell_named(endpoints, endpoint->name))
		(void)start(endpoints, config, endpoint);
	return r;
}

int endpoints_provide(struct endpoints *endpoints, struct config *config)
{
	const struct config_endpoint *endpoint = config->endpoints;
	struct config *origin;
	int r;

	if (endpoints->closing)
		return VMSIG_ERR_SHUTTING_DOWN;
	if (wanted_find(&endpoints->wanted, endpoint->name, &origin) ||
		shell_named(endpoints, endpoint->name))
		return VMSIG_ERR_BUSY;
	if (!may_name(endpoints, endpoint->name))
		return VMSIG_ERR_QUOTA;
	r = wanted_discover(&endpoints->wanted, config);
	if (r)
		return r;
	r = start(endpoints, config, endpoint);
	if (r)
		(void)wanted_lose(&endpoints->wanted, config);
	return r;
}

void endpoints_lose(struct endpoints *endpoints, const struct config *config)
{
	if (wanted_lose(&endpoints->wanted, config))
		stop_named(endpoints, config->endpoints->name);
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
	endpoints_adopt(endpoints, endpoints->wanted.config, NULL);
}

void endpoints_leave(struct endpoints *endpoints)
{
	endpoints->shell_env.fleet = NULL;
	endpoints->leaving = true;
	endpoints->shell_env.passage = (struct passage){0};
}

void endpoints_set_desk(struct endpoints *endpoints, struct desk *desk)
{
	struct endpoint_shell *shell, *next;

	endpoints->shell_env.desk = desk;
	if (!desk)
		return;
	HASH_ITER (hh, endpoints->by_id, shell, next) {
		if (endpoint_shell_tell_desk(shell))
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
	int r = endpoints ? selftests_new(&endpoints->shell_env.selftests, env->jobs) : -ENOMEM;

	if (!r)
		r = share_get(env->shares, SHARE_BROKER, "endpoints", &endpoints->share);
	if (r) {
		endpoints_free(endpoints);
		return r;
	}
	endpoints->env = *env;
	endpoints->shell_env.loop = env->loop;
	endpoints->shell_env.shares = env->shares;
	endpoints->shell_env.jobs = env->jobs;
	endpoints->shell_env.guardian = env->guardian;
	endpoints->shell_env.fleet = env->fleet;
	if (env->fleet)
		fleet_shell_passage(env->fleet, &endpoints->shell_env.passage);
	endpoints->shell_env.core = env->core;
	endpoints->shell_env.store = env->store;
	endpoints->shell_env.offer_of = env->offer_of;
	endpoints->shell_env.ctx = env->ctx;
	share_task_init(&endpoints->walk, endpoints->share, on_walk);
	*ret_endpoints = endpoints;
	return 0;
}

struct endpoints *endpoints_free(struct endpoints *endpoints)
{
	if (!endpoints)
		return NULL;
	assert(endpoints_are_idle(endpoints));
	wanted_deinit(&endpoints->wanted);
	if (endpoints->share) {
		share_task_cancel(&endpoints->walk);
		share_unref(endpoints->share);
	}
	selftests_free(endpoints->shell_env.selftests);
	free(endpoints);
	return NULL;
}
