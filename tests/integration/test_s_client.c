/* SPDX-License-Identifier: Apache-2.0 */
/*
 * openssl s_client is an independent implementation of the client side: whoever debugs a
 * plane by hand will use it, so it must get in, and must be told why when it does not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/wire/chan.h"
#include "tests/support/pki.h"
#include "vmsig/vmsig_error.h"

#define WAIT_MS 20000

struct scene {
	struct pki *pki;
	struct pki_cert broker;
	struct pki_cert sensor;
	struct tls_ctx *tls;
	char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
	char out[PATH_MAX];
	int listener;
};

static int scene_setup(void **state)
{
	struct scene *scene = calloc(1, sizeof(*scene));
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct tls_files files;
	char error[256];

	assert_non_null(scene);
	scene->pki = pki_new();
	pki_issue_uri(scene->pki, "broker", "vmsig://broker/host1", &scene->broker);
	pki_issue_uri(scene->pki, "sensor", "vmsig://sensor/acme", &scene->sensor);
	files = pki_files(scene->pki, &scene->broker, pki_crl(scene->pki));
	assert_int_equal(
		tls_ctx_new(&scene->tls, TLS_SERVER, &files, IDENTITY_SENSOR, error, sizeof(error)),
		0);
	assert_true((size_t)snprintf(scene->path, sizeof(scene->path), "%s/ctx.sock",
			    pki_dir(scene->pki)) < sizeof(scene->path));
	snprintf(scene->out, sizeof(scene->out), "%s/out", pki_dir(scene->pki));
	memcpy(addr.sun_path, scene->path, sizeof(addr.sun_path));
	scene->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(scene->listener >= 0);
	assert_int_equal(bind(scene->listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(scene->listener, 1), 0);
	*state = scene;
	return 0;
}

static int scene_teardown(void **state)
{
	struct scene *scene = *state;

	close(scene->listener);
	tls_ctx_unref(scene->tls);
	pki_free(scene->pki);
	free(scene);
	return 0;
}

/* Starts s_client with output to scene->out; its input is a pipe that *ret_in writes. */
static pid_t s_client_start(struct scene *scene, const char *alpn, int *ret_in)
{
	const char *argv[] = {"openssl", "s_client", "-unix", scene->path, "-tls1_3", "-cert",
		scene->sensor.cert, "-key", scene->sensor.key, "-CAfile", pki_ca(scene->pki),
		"-verify_return_error", alpn ? "-alpn" : NULL, alpn, NULL};
	posix_spawn_file_actions_t actions;
	int in[2];
	pid_t pid;

	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(posix_spawn_file_actions_init(&actions), 0);
	assert_int_equal(posix_spawn_file_actions_adddup2(&actions, in[0], 0), 0);
	assert_int_equal(posix_spawn_file_actions_addopen(
				 &actions, 1, scene->out, O_WRONLY | O_CREAT | O_TRUNC, 0600),
		0);
	assert_int_equal(posix_spawn_file_actions_adddup2(&actions, 1, 2), 0);
	assert_int_equal(posix_spawnp(&pid, "openssl", &actions, NULL,
				 (char *const *)(uintptr_t)argv, environ),
		0);
	posix_spawn_file_actions_destroy(&actions);
	close(in[0]);
	*ret_in = in[1];
	return pid;
}

static void await_readable(int fd)
{
	struct pollfd poller = {.fd = fd, .events = POLLIN};

	assert_int_equal(poll(&poller, 1, WAIT_MS), 1);
}

static struct chan *scene_accept(struct scene *scene)
{
	static const struct chan_limits limits = {
		.frame_max = CHAN_FRAME_MAX, .tx_max = 1u << 20, .rx_fds_max = 0};
	struct chan *chan = NULL;
	int fd;

	await_readable(scene->listener);
	fd = accept4(scene->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(chan_new(&chan, scene->tls, fd, &limits), 0);
	return chan;
}

static int handshake(struct chan *chan)
{
	int r;

	for (;;) {
		int filled;

		await_readable(chan_socket(chan));
		filled = chan_fill(chan);
		assert_true(filled == 0 || filled == VMSIG_ERR_DISCONNECTED);
		r = chan_handshake(chan);
		assert_int_equal(chan_drain(chan), 0);
		if (r != VMSIG_ERR_WOULD_BLOCK)
			return r;
	}
}

static char *output_read(const struct scene *scene)
{
	static char text[65536];
	FILE *file = fopen(scene->out, "r");
	size_t n;

	assert_non_null(file);
	n = fread(text, 1, sizeof(text) - 1, file);
	text[n] = '\0';
	fclose(file);
	return text;
}

static void expect_output(const struct scene *scene, const char *words)
{
	const char *text = output_read(scene);

	if (!strstr(text, words))
		fail_msg("s_client does not say \"%s\" but:\n%s", words, text);
}

static void await_exit(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
}

static void s_client_gets_in_and_is_heard(void **state)
{
	struct scene *scene = *state;
	static const char frame[] = "\0\0\0\5hello";
	struct identity id;
	const uint8_t *data;
	size_t len;
	int in;
	int r;
	pid_t pid = s_client_start(scene, "vmsig/1", &in);
	struct chan *chan = scene_accept(scene);

	assert_int_equal(handshake(chan), 0);
	assert_int_equal(chan_peer_identity(chan, &id), 0);
	assert_int_equal(id.role, IDENTITY_SENSOR);
	assert_string_equal(id.name, "acme");
	assert_int_equal(write(in, frame, sizeof(frame) - 1), sizeof(frame) - 1);
	do {
		await_readable(chan_socket(chan));
		assert_int_equal(chan_fill(chan), 0);
		r = chan_recv(chan, &data, &len);
	} while (r == VMSIG_ERR_WOULD_BLOCK);
	assert_int_equal(r, 0);
	assert_int_equal(len, 5);
	assert_memory_equal(data, "hello", 5);
	chan_shutdown(chan);
	assert_int_equal(chan_drain(chan), 0);
	chan_free(chan);
	close(in);
	await_exit(pid);
	expect_output(scene, "ALPN protocol: vmsig/1");
	expect_output(scene, "Verify return code: 0 (ok)");
	expect_output(scene, "TLSv1.3");
}

static void s_client_without_alpn_is_told_why(void **state)
{
	struct scene *scene = *state;
	int in;
	pid_t pid = s_client_start(scene, NULL, &in);
	struct chan *chan = scene_accept(scene);

	assert_int_equal(handshake(chan), VMSIG_ERR_UNAUTHENTICATED);
	chan_free(chan);
	close(in);
	await_exit(pid);
	expect_output(scene, "no application protocol");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(s_client_gets_in_and_is_heard),
		cmocka_unit_test(s_client_without_alpn_is_told_why),
	};

	return cmocka_run_group_tests(tests, scene_setup, scene_teardown);
}
