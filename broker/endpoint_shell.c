/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/endpoint_shell.h"

#include <errno.h>
#include <stdlib.h>

#include "broker/adapters/adapter.h"
#include "broker/adapters/provider/offer.h"
#include "broker/boot_clock.h"
#include "broker/coherence.h"
#include "broker/error_text.h"
#include "broker/fleet_shell.h"
#include "broker/log.h"
#include "broker/read/core.h"
#include "broker/selftests.h"
#include "broker/store/store.h"
#include "broker/write/desk.h"
#include "vmsig/vmsig_error.h"

static const struct adapter_ops *const adapters[] = {
	[CONFIG_ADAPTER_FILE] = &adapter_file,
	[CONFIG_ADAPTER_QEMU] = &adapter_qemu,
	[CONFIG_ADAPTER_PROVIDER] = &adapter_provider,
	[CONFIG_ADAPTER_LIBVIRT] = &adapter_libvirt,
};

/* ---- made known ---- */

static int share_page(void *ctx)
{
	return coherence_share(ctx);
}

static int add_to_core(const struct endpoint_shell *shell, const struct store_endpoint *row)
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

	return core_endpoint_add(shell->env->core, &core);
}

static int tell_desk_of(
	const struct endpoint_shell_env *env, uint32_t id, const struct config_endpoint *config)
{
	const struct selector_subject subject = config_endpoint_subject(config);

	return desk_endpoint_add(env->desk, id, &subject);
}

int endpoint_shell_tell_desk(const struct endpoint_shell *shell)
{
	const struct endpoint_shell_env *env = shell->env;
	struct core_endpoint_info info;
	int r = tell_desk_of(env, shell->id, shell->config);

	if (r || core_endpoint_find(env->core, NULL, shell->config->name, &info))
		return r;
	if (core_state_is_readable(info.state))
		desk_endpoint_ready(env->desk, boot_clock_ns(), shell->id, info.epoch,
			coherence_page(shell->coherence));
	return 0;
}

/* Of which at most the desk knows. Accepts NULL. */
static void abandon(struct endpoint_shell *shell)
{
	if (!shell)
		return;
	if (shell->env->desk && shell->id)
		desk_endpoint_remove(shell->env->desk, shell->id);
	coherence_free(shell->coherence);
	free(shell);
}

static int make_known(struct endpoint_shell *shell)
{
	struct endpoint_shell_env *env = shell->env;
	struct store_endpoint row;
	int r = store_endpoint(env->store, shell->config->name, &row);

	if (r)
		return r;
	shell->id = row.id;
	if (env->desk)
		r = tell_desk_of(env, row.id, shell->config);
	if (!r)
		r = coherence_new(&shell->coherence, row.id);
	if (!r)
		r = add_to_core(shell, &row);
	if (!r && env->fleet)
		fleet_shell_add(env->fleet, row.id, shell->config->name,
			shell->config->writable ? shell->config->uuid : NULL, row.epoch);
	return r;
}

int endpoint_shell_new(struct endpoint_shell **ret_shell, struct endpoint_shell_env *env,
	struct config *origin, const struct config_endpoint *config, uint64_t vouched_ns)
{
	struct endpoint_shell *shell = calloc(1, sizeof(*shell));
	int r = -ENOMEM;

	if (shell) {
		shell->env = env;
		shell->config = config;
		r = make_known(shell);
	}
	if (r) {
		log_error("cannot set the endpoint up", LOG_STR("endpoint", config->name),
			LOG_STR("error", error_text(r)), LOG_STR("store", store_error(env->store)));
		abandon(shell);
		return r;
	}
	shell->origin = config_ref(origin);
	coherence_vouch(shell->coherence, vouched_ns);
	*ret_shell = shell;
	return 0;
}

void endpoint_shell_free(struct endpoint_shell *shell)
{
	struct endpoint_shell_env *env = shell->env;

	if (env->desk)
		desk_endpoint_remove(env->desk, shell->id);
	core_endpoint_remove(env->core, shell->id);
	if (env->fleet)
		fleet_shell_remove(env->fleet, shell->id);
	coherence_free(shell->coherence);
	config_unref(shell->origin);
	free(shell);
}

/* ---- its adapter ---- */

int endpoint_shell_start(struct endpoint_shell *shell)
{
	struct endpoint_shell_env *env = shell->env;
	const char *name = shell->config->name;
	bool is_provided = shell->config->adapter == CONFIG_ADAPTER_PROVIDER;
	struct offer *offer = is_provided ? env->offer_of(env->ctx, name) : NULL;
	const struct adapter_env adapter = {
		.loop = env->loop,
		.shares = env->shares,
		.emit = core_emit(env->core),
		.endpoint = shell->id,
		.config = offer ? &offer->config : shell->config,
		.offer = offer,
		.jobs = env->jobs,
		.claims = &env->claims,
		.guardian = env->guardian,
		.passage = env->fleet ? &env->passage : NULL,
	};
	char error[256] = "";
	int r;

	if (is_provided && !offer)
		return VMSIG_ERR_NO_SUCH_ENDPOINT;
	selftests_start(env->selftests, shell->config);
	r = adapters[shell->config->adapter]->start(
		&shell->adapter, &adapter, error, sizeof(error));

	if (r)
		log_error("adapter did not start", LOG_STR("endpoint", shell->config->name),
			LOG_STR("error", error_text(r)), LOG_STR("why", error));
	return r;
}

void endpoint_shell_stop(struct endpoint_shell *shell, bool leaves, void (*stopped)(void *shell))
{
	shell->stopping = true;
	/* From here on nobody would notice a reset. */
	coherence_vouch(shell->coherence, 0);
	if (leaves && shell->adapter->ops->leave)
		shell->adapter->ops->leave(shell->adapter);
	shell->adapter->ops->stop(shell->adapter, stopped, shell);
}
