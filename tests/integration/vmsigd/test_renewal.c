/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets, limits and labels change at a reload: what is new is there before anything is given up,
 * and whoever lost a right loses what he had by it. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/integration/vmsigd/scene.h"
#include "tests/support/write_client.h"

#define ADMIN "admin: {path: run/admin.sock}"

/* Replaces words of the configuration, which are there. */
static void rewrite(struct scene *scene, const char *old, const char *new)
{
	char text[8192], *at;
	FILE *file = fopen(daemon_config(scene->daemon), "re");
	size_t len = fread(text, 1, sizeof(text) - 1, file);

	assert_int_equal(fclose(file), 0);
	text[len] = '\0';
	at = strstr(text, old);
	assert_non_null(at);
	file = fopen(daemon_config(scene->daemon), "we");
	assert_true(fprintf(file, "%.*s%s%s", (int)(at - text), text, new, at + strlen(old)) > 0);
	assert_int_equal(fclose(file), 0);
}

static const char *in_run(struct scene *scene, const char *name, char buf[static PATH_MAX])
{
	snprintf(buf, PATH_MAX, "%s/run/%s", daemon_dir(scene->daemon), name);
	return buf;
}

static void served(struct write_client *client)
{
	Vmsig__AdminRequest request = VMSIG__ADMIN_REQUEST__INIT;
	Vmsig__LeaseList body = VMSIG__LEASE_LIST__INIT;
	Vmsig__AdminMessage *message;

	request.body_case = VMSIG__ADMIN_REQUEST__BODY_LEASE_LIST;
	request.lease_list = &body;
	write_client_send_admin(client, &request);
	message = write_client_receive_admin(client);
	assert_non_null(message);
	assert_int_equal(message->body_case, VMSIG__ADMIN_MESSAGE__BODY_LEASE_INFOS);
	vmsig__admin_message__free_unpacked(message, NULL);
}

static void a_socket_moves(void **state)
{
	struct scene *scene = *state;
	struct write_client before, after;
	char path[PATH_MAX];

	write_client_open(&before, scene->daemon, "admin.sock", &scene->admin);
	rewrite(scene, ADMIN, "admin: {path: run/other.sock}");
	scene_reload(scene);
	write_client_open(&after, scene->daemon, "other.sock", &scene->admin);
	served(&after);
	served(&before);
	assert_int_equal(access(in_run(scene, "admin.sock", path), F_OK), -1);
	write_client_close(&after);
	write_client_close(&before);
	rewrite(scene, "admin: {path: run/other.sock}", ADMIN);
	scene_reload(scene);
	assert_int_equal(access(in_run(scene, "other.sock", path), F_OK), -1);
}

static void a_plane_that_is_not_served_any_more_ends(void **state)
{
	struct scene *scene = *state;
	struct write_client client;
	Vmsig__AdminMessage *message;
	char path[PATH_MAX];

	write_client_open(&client, scene->daemon, "admin.sock", &scene->admin);
	rewrite(scene, ", " ADMIN, "");
	scene_reload(scene);
	assert_int_equal(access(in_run(scene, "admin.sock", path), F_OK), -1);
	while ((message = write_client_receive_admin(&client)))
		vmsig__admin_message__free_unpacked(message, NULL);
	write_client_close(&client);
	scene_expect_service(scene);
	/* And comes back. */
	rewrite(scene, "listen: {", "listen: {" ADMIN ", ");
	scene_reload(scene);
	write_client_open(&client, scene->daemon, "admin.sock", &scene->admin);
	served(&client);
	write_client_close(&client);
}

/* The other changes of the file wait for the one that fails. */
static void a_socket_that_cannot_be_bound_changes_nothing(void **state)
{
	struct scene *scene = *state;
	struct ctx_client client;
	char path[PATH_MAX];
	int fd = open(in_run(scene, "taken", path), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	close(fd);
	ctx_client_open(&client, scene->daemon, &scene->globex);
	rewrite(scene, "listen: {", "listen: {");
	rewrite(scene, ADMIN, "admin: {path: run/taken}");
	rewrite(scene, "write: {path: run/write.sock}", "write: {path: run/new.sock}");
	rewrite(scene, "name: globex", "name: other");
	assert_int_equal(kill(daemon_pid(scene->daemon), SIGHUP), 0);
	daemon_await_log(scene->daemon, "the old configuration stays", 1);
	assert_non_null(strstr(daemon_log(scene->daemon), "run/taken: Address already in use"));
	ctx_client_list(&client);
	ctx_client_free_message(ctx_client_expect(&client, VMSIG__CTX_MESSAGE__BODY_ENDPOINT_LIST));
	ctx_client_close(&client);
	assert_int_equal(access(in_run(scene, "new.sock", path), F_OK), -1);
	assert_int_equal(access(in_run(scene, "write.sock", path), F_OK), 0);
	assert_int_equal(access(in_run(scene, "admin.sock", path), F_OK), 0);
	assert_int_equal(unlink(in_run(scene, "taken", path)), 0);
}

static void the_mode_of_a_socket_changes(void **state)
{
	struct scene *scene = *state;
	struct stat st;

	rewrite(scene, "ctx: {path: run/ctx.sock}", "ctx: {path: run/ctx.sock, mode: 0600}");
	scene_reload(scene);
	assert_int_equal(stat(daemon_socket(scene->daemon), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	scene_expect_service(scene);
}

static void limits_hold_from_the_reload_on(void **state)
{
	struct scene *scene = *state;
	struct ctx_client one, two;

	ctx_client_open(&one, scene->daemon, &scene->acme);
	scene_configure(scene, "{connections: 1}", "{}");
	scene_reload(scene);
	assert_false(ctx_client_connect(&two, scene->daemon, &scene->acme));
	ctx_client_close(&two);
	/* Who was there stays. */
	ctx_client_list(&one);
	ctx_client_free_message(ctx_client_expect(&one, VMSIG__CTX_MESSAGE__BODY_ENDPOINT_LIST));
	scene_configure(scene, "{}", "{}");
	scene_reload(scene);
	ctx_client_open(&two, scene->daemon, &scene->acme);
	ctx_client_close(&two);
	ctx_client_close(&one);
}

/* An endpoint's label lets a tenant see it, and takes that away with itself. */
static void a_label_gives_and_takes(void **state)
{
	struct scene *scene = *state;
	struct ctx_client client;
	int fds[2];

	ctx_client_open(&client, scene->daemon, &scene->globex);
	ctx_client_expect_error(
		&client, ctx_client_subscribe(&client, "a1"), VMSIG_ERR_NO_SUCH_ENDPOINT);
	rewrite(scene, "endpoints: [g1]", "endpoints: [g1, 'label:team=blue*']");
	rewrite(scene, "{name: a1,", "{name: a1, labels: {team: blue-1},");
	scene_reload(scene);
	daemon_await_log(scene->daemon, "endpoint ready", 4);
	ctx_client_expect_done(&client, ctx_client_subscribe(&client, "a1"));
	ctx_client_free_message(ctx_client_expect_memctx(&client, fds));
	close(fds[0]);
	close(fds[1]);
	rewrite(scene, "team: blue-1", "team: red");
	scene_reload(scene);
	for (;;) {
		Vmsig__CtxMessage *message = ctx_client_receive(&client);
		bool gone = message &&
			    message->body_case == VMSIG__CTX_MESSAGE__BODY_ENDPOINT_STATE &&
			    message->endpoint_state->state == VMSIG_STATE_GONE;

		assert_non_null(message);
		ctx_client_free_message(message);
		if (gone)
			break;
	}
	daemon_await_log(scene->daemon, "endpoint ready", 5);
	ctx_client_expect_error(
		&client, ctx_client_subscribe(&client, "a1"), VMSIG_ERR_BAD_REQUEST);
	ctx_client_close(&client);
}

#define T(f) cmocka_unit_test_setup_teardown(f, scene_setup, scene_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_socket_moves),
		T(a_plane_that_is_not_served_any_more_ends),
		T(a_socket_that_cannot_be_bound_changes_nothing),
		T(the_mode_of_a_socket_changes),
		T(limits_hold_from_the_reload_on),
		T(a_label_gives_and_takes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
