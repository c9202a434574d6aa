/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/integration/vmsigd/scene.h"

#include <signal.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void scene_configure_uid(
	struct scene *scene, const char *limits, const char *acme_quota, unsigned uid)
{
	static const char endpoint[] = "adapter: file, low: 1MiB, kcr3: 0x2000, poll: 20ms";

	daemon_configure(scene->daemon,
		"limits: %s\n"
		"endpoints:\n"
		"  - {name: a1, path: a1.ram, %s}\n"
		"  - {name: a2, path: a2.ram, %s}\n"
		"  - {name: g1, path: g1.ram, %s}\n"
		"tenants:\n"
		"  - {name: acme, role: sensor, uids: [%u], endpoints: ['a*'], quota: %s}\n"
		"  - {name: globex, role: sensor, uids: [%u], endpoints: [g1]}\n"
		"  - {name: acme, role: admin, uids: [%u], endpoints: ['*']}\n",
		limits, endpoint, endpoint, endpoint, uid, acme_quota, getuid(), getuid());
}

void scene_configure(struct scene *scene, const char *limits, const char *acme_quota)
{
	scene_configure_uid(scene, limits, acme_quota, getuid());
}

static void start(struct scene *scene)
{
	unsigned before = daemon_log_count(scene->daemon, "endpoint ready");

	daemon_start(scene->daemon);
	daemon_await_log(scene->daemon, "endpoint ready", before + 3);
	scene->fds = daemon_fds(scene->daemon);
}

int scene_setup(void **state)
{
	struct scene *scene = calloc(1, sizeof(*scene));
	struct pki *pki;

	assert_non_null(scene);
	scene->daemon = daemon_new();
	pki = daemon_pki(scene->daemon);
	pki_issue_uri(pki, "acme", "vmsig://sensor/acme", &scene->acme);
	pki_issue_uri(pki, "globex", "vmsig://sensor/globex", &scene->globex);
	pki_issue_uri(pki, "stranger", "vmsig://operator/nobody", &scene->stranger);
	pki_issue_uri(pki, "admin", "vmsig://admin/acme", &scene->admin);
	daemon_ram(scene->daemon, "a1", SCENE_RAM);
	daemon_ram(scene->daemon, "a2", SCENE_RAM);
	daemon_ram(scene->daemon, "g1", SCENE_RAM);
	scene_configure(scene, "{}", "{}");
	start(scene);
	*state = scene;
	return 0;
}

static void check_end(struct scene *scene)
{
	daemon_await_fds(scene->daemon, scene->fds);
	if (daemon_stop(scene->daemon, SIGTERM))
		fail_msg("vmsigd did not end well; its log:\n%s", daemon_log(scene->daemon));
	/* A sanitizer that only prints would still be heard. */
	if (strstr(daemon_log(scene->daemon), "Sanitizer"))
		fail_msg("%s", daemon_log(scene->daemon));
	assert_int_equal(access(daemon_socket(scene->daemon), F_OK), -1);
}

int scene_teardown(void **state)
{
	struct scene *scene = *state;

	check_end(scene);
	daemon_free(scene->daemon);
	free(scene);
	return 0;
}

void scene_restart(struct scene *scene)
{
	check_end(scene);
	start(scene);
}

void scene_reload(struct scene *scene)
{
	unsigned before = daemon_log_count(scene->daemon, "configuration reloaded");

	kill(daemon_pid(scene->daemon), SIGHUP);
	daemon_await_log(scene->daemon, "configuration reloaded", before + 1);
}

void scene_expect_service(struct scene *scene)
{
	struct ctx_client client;
	int fds[2];

	ctx_client_open(&client, scene->daemon, &scene->globex);
	ctx_client_expect_done(&client, ctx_client_subscribe(&client, "g1"));
	ctx_client_free_message(ctx_client_expect_memctx(&client, fds));
	close(fds[0]);
	close(fds[1]);
	ctx_client_close(&client);
}

void scene_replace_ram(struct scene *scene)
{
	char from[128], to[128];

	daemon_ram(scene->daemon, "new", SCENE_RAM);
	snprintf(from, sizeof(from), "%s/new.ram", daemon_dir(scene->daemon));
	snprintf(to, sizeof(to), "%s/a1.ram", daemon_dir(scene->daemon));
	assert_int_equal(rename(from, to), 0);
}
