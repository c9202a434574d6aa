/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMUs that lie: a broker serves a sound endpoint beside sockets that answer garbage, too
 * much, too little or never. Nobody but the lying endpoint notices, and it says why.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "tests/integration/vmsigd/scene.h"

#define GREETING                                                                                   \
	"{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 0, \"minor\": 2, \"major\": 7}}, "         \
	"\"capabilities\": []}}\r\n"
#define FLOOD (100u << 20) /* bytes of an answer that does not end */
#define RSS_MAX_KIB (200u << 10)

struct liar {
	const char *name;
	void (*serve)(int fd);
	int listener;
	pthread_t thread;
	atomic_uint visits;
};

static atomic_bool over;

static bool say(int fd, const void *data, size_t len)
{
	const char *at = data;

	while (len && !atomic_load(&over)) {
		ssize_t n = send(fd, at, len, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		at += n;
		len -= (size_t)n;
	}
	return !len;
}

static void hear_out(int fd)
{
	char buf[4096];

	while (recv(fd, buf, sizeof(buf), 0) > 0)
		;
}

static void serve_silence(int fd)
{
	hear_out(fd);
}

static void serve_garbage(int fd)
{
	static const char garbage[] = "\x16\x03\x01 this is {no] JSON\r\n";

	say(fd, garbage, sizeof(garbage) - 1);
	hear_out(fd);
}

static void serve_no_answers(int fd)
{
	say(fd, GREETING, strlen(GREETING));
	hear_out(fd);
}

static void serve_flood(int fd)
{
	static char block[65536];

	memset(block, '[', sizeof(block));
	say(fd, GREETING, strlen(GREETING));
	say(fd, "{\"return\": \"", 12);
	for (size_t sent = 0; sent < FLOOD && say(fd, block, sizeof(block)); sent += sizeof(block))
		;
}

static void serve_half(int fd)
{
	say(fd, GREETING, strlen(GREETING) / 2);
}

/* Answers every command with an object that has nothing of what was asked for. */
static void serve_nonsense(int fd)
{
	char buf[4096], answer[128];
	ssize_t n;

	say(fd, GREETING, strlen(GREETING));
	while ((n = recv(fd, buf, sizeof(buf) - 1, 0)) > 0) {
		const char *id;

		buf[n] = '\0';
		id = strstr(buf, "\"id\": ");
		if (!id)
			id = strstr(buf, "\"id\":");
		snprintf(answer, sizeof(answer), "{\"return\": {\"a\": [1]}, \"id\": %llu}\r\n",
			id ? strtoull(strchr(id, ':') + 1, NULL, 10) : 0);
		if (!say(fd, answer, strlen(answer)))
			return;
	}
}

/* Events nobody asked for, in bursts. */
static void serve_events(int fd)
{
	static const char reset[] = "{\"event\": \"RESET\", \"data\": {\"guest\": true}, "
				    "\"timestamp\": {\"seconds\": 1, \"microseconds\": 1}}\r\n";

	say(fd, GREETING, strlen(GREETING));
	for (unsigned i = 0; i < 2000 && say(fd, reset, sizeof(reset) - 1); i++)
		;
	hear_out(fd);
}

static struct liar liars[] = {
	{.name = "silence", .serve = serve_silence},
	{.name = "garbage", .serve = serve_garbage},
	{.name = "noanswers", .serve = serve_no_answers},
	{.name = "flood", .serve = serve_flood},
	{.name = "half", .serve = serve_half},
	{.name = "nonsense", .serve = serve_nonsense},
	{.name = "events", .serve = serve_events},
};
#define LIARS (sizeof(liars) / sizeof(liars[0]))

static void *run_liar(void *arg)
{
	struct liar *liar = arg;
	int fd;

	while ((fd = accept(liar->listener, NULL, NULL)) >= 0) {
		const struct timeval patience = {.tv_sec = 2};

		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
		atomic_fetch_add(&liar->visits, 1);
		liar->serve(fd);
		close(fd);
	}
	return NULL;
}

static void liar_start(struct liar *liar, const char *dir)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/%s.qmp", dir, liar->name);
	liar->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(liar->listener >= 0);
	assert_int_equal(bind(liar->listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(liar->listener, 8), 0);
	assert_int_equal(pthread_create(&liar->thread, NULL, run_liar, liar), 0);
}

static void liar_stop(struct liar *liar)
{
	shutdown(liar->listener, SHUT_RDWR);
	pthread_join(liar->thread, NULL);
	close(liar->listener);
}

static void configure(struct daemon *daemon)
{
	char endpoints[4096] = "";

	for (size_t i = 0; i < LIARS; i++)
		snprintf(endpoints + strlen(endpoints), sizeof(endpoints) - strlen(endpoints),
			"  - {name: %s, adapter: qemu, qmp: %s.qmp, qmp_timeout: 300ms, "
			"retry: 50ms, retry_max: 100ms}\n",
			liars[i].name, liars[i].name);
	daemon_ram(daemon, "sound", 1 << 20);
	daemon_configure(daemon,
		"endpoints:\n"
		"  - {name: sound, adapter: file, path: sound.ram, low: 1MiB, kcr3: 0x1000}\n"
		"  - {name: nobody, adapter: qemu, qmp: nobody.qmp}\n"
		"%s"
		"tenants:\n"
		"  - {name: acme, role: sensor, uids: [%u], endpoints: [\"*\"]}\n",
		endpoints, (unsigned)getuid());
}

/* Every endpoint but the sound one is not ready, and says why; that one is. */
static bool all_explained(struct ctx_client *client)
{
	Vmsig__CtxMessage *message;
	bool explained = true;

	ctx_client_list(client);
	message = ctx_client_expect(client, VMSIG__CTX_MESSAGE__BODY_ENDPOINT_LIST);
	assert_int_equal(message->endpoint_list->n_endpoints, LIARS + 2);
	for (size_t i = 0; i < message->endpoint_list->n_endpoints; i++) {
		const Vmsig__EndpointInfo *info = message->endpoint_list->endpoints[i];

		if (strcmp(info->name, "sound") == 0) {
			explained = explained && info->state == VMSIG_STATE_READY;
			assert_in_range(info->epoch, explained, 1);
		} else {
			assert_int_not_equal(info->state, VMSIG_STATE_READY);
			explained = explained && info->detail[0];
		}
	}
	ctx_client_free_message(message);
	return explained;
}

static unsigned long resident_kib(pid_t pid)
{
	char path[64], line[256];
	unsigned long kib = 0;
	FILE *status;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	status = fopen(path, "re");
	assert_non_null(status);
	while (fgets(line, sizeof(line), status))
		(void)sscanf(line, "VmHWM: %lu", &kib);
	fclose(status);
	return kib;
}

static void liars_harm_nobody(void **state)
{
	const struct timespec pause = {.tv_nsec = 100 * 1000 * 1000};
	struct daemon *daemon = daemon_new();
	struct ctx_client client;
	struct pki_cert cert;
	bool explained = false;

	pki_issue_uri(daemon_pki(daemon), "acme", "vmsig://sensor/acme", &cert);
	configure(daemon);
	for (size_t i = 0; i < LIARS; i++)
		liar_start(&liars[i], daemon_dir(daemon));
	daemon_start(daemon);
	ctx_client_open(&client, daemon, &cert);
	/* Each one has had its say. */
	for (unsigned tries = 0; tries < 200; tries++) {
		unsigned visited = 0;

		explained = all_explained(&client);
		for (size_t i = 0; i < LIARS; i++)
			visited += atomic_load(&liars[i].visits) > 0;
		if (explained && visited == LIARS)
			break;
		nanosleep(&pause, NULL);
	}
	for (size_t i = 0; i < LIARS; i++) {
		if (!atomic_load(&liars[i].visits))
			fail_msg("%s was never asked\n%s", liars[i].name, daemon_log(daemon));
	}
	assert_true(explained);
	/* A flood is refused, not stored. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	assert_true(resident_kib(daemon_pid(daemon)) < RSS_MAX_KIB);
#else
	assert_true(resident_kib(daemon_pid(daemon)) > 0);
#endif
	ctx_client_close(&client);
	if (daemon_stop(daemon, SIGTERM))
		fail_msg("%s", daemon_log(daemon));
	atomic_store(&over, true);
	for (size_t i = 0; i < LIARS; i++)
		liar_stop(&liars[i]);
	daemon_free(daemon);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(liars_harm_nobody),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
