/* SPDX-License-Identifier: Apache-2.0 */

/* libvmsig and the example sensor against the real broker. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/integration/vmsigd/scene.h"
#include "vmsig/vmsig.h"
#include "vmsig/vmsig_mem.h"

#define SENSORS 3

struct world {
	struct scene *scene;
	char identity[96];
	vmsig *v[SENSORS];
};

static void identity_link(const char *dir, const char *target, const char *name)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	assert_int_equal(symlink(target, path), 0);
}

/* A directory as `vmsigctl pki issue` makes it. */
static void identity_make(
	struct world *world, const struct pki_cert *cert, const char *name, char dir[96])
{
	snprintf(dir, 96, "%s/id-%s", daemon_dir(world->scene->daemon), name);
	assert_int_equal(mkdir(dir, 0700), 0);
	identity_link(dir, pki_ca(daemon_pki(world->scene->daemon)), "ca.pem");
	identity_link(dir, cert->cert, "cert.pem");
	identity_link(dir, cert->key, "key.pem");
}

static int setup(void **state)
{
	struct world *world = calloc(1, sizeof(*world));
	void *scene;

	assert_non_null(world);
	assert_int_equal(scene_setup(&scene), 0);
	world->scene = scene;
	identity_make(world, &world->scene->acme, "acme", world->identity);
	*state = world;
	return 0;
}

static int teardown(void **state)
{
	struct world *world = *state;
	void *scene = world->scene;

	for (size_t i = 0; i < SENSORS; i++)
		vmsig_close(world->v[i]);
	scene_teardown(&scene);
	free(world);
	return 0;
}

static vmsig *open_as(struct world *world, const char *identity, uint32_t flags)
{
	const vmsig_options options = {
		.socket_path = daemon_socket(world->scene->daemon),
		.identity_dir = identity,
		.flags = flags,
		.backoff_min_ms = 5,
		.backoff_max_ms = 50,
	};
	char error[256];
	vmsig *v = NULL;

	if (vmsig_open(&v, &options, error, sizeof(error)))
		fail_msg("%s", error);
	return v;
}

/* The next delivery of this kind; others are skipped. */
static vmsig_delivery await_kind(vmsig *v, uint32_t kind)
{
	vmsig_delivery delivery = VMSIG_DELIVERY_INIT;

	for (;;) {
		if (vmsig_wait(v, &delivery, DAEMON_WAIT_MS))
			fail_msg("waiting for 0x%x: %s", kind, vmsig_last_error(v));
		if (delivery.event.kind == kind)
			return delivery;
		vmsig_delivery_clear(&delivery);
	}
}

static uint32_t memctx_epoch(const vmsig_delivery *delivery)
{
	vmsig_memctx pod;

	memcpy(&pod, delivery->event.inln, sizeof(pod));
	return pod.epoch;
}

/* Opens what a MEMCTX locates; the delivery is cleared, the context outlives it. */
static vmsig_mem *mem_open(vmsig_delivery *delivery)
{
	vmsig_mem *mem = NULL;

	assert_int_equal(vmsig_mem_from_event(
				 &mem, &delivery->event, delivery->ram_fd, delivery->coherence_fd),
		0);
	vmsig_delivery_clear(delivery);
	return mem;
}

static void lists_and_reads(void **state)
{
	struct world *world = *state;
	vmsig *v = world->v[0] = open_as(world, world->identity, VMSIG_OPT_NO_RECONNECT);
	vmsig_endpoint_list *list = NULL;
	vmsig_broker_info info;
	vmsig_delivery delivery;
	vmsig_mem *mem;
	char text[2];

	assert_int_equal(vmsig_list(v, &list, DAEMON_WAIT_MS), 0);
	assert_int_equal(list->count, 2);
	assert_string_equal(list->endpoints[0].name, "a1");
	assert_string_equal(list->endpoints[1].name, "a2");
	assert_int_equal(list->endpoints[0].state, VMSIG_STATE_READY);
	assert_true(list->endpoints[0].ram_bytes == SCENE_RAM);
	vmsig_endpoint_list_free(list);
	assert_int_equal(vmsig_broker(v, &info), 0);
	assert_string_equal(info.host, "host1");
	assert_int_equal(info.pid, daemon_pid(world->scene->daemon));

	assert_int_equal(vmsig_subscribe_wait(v, "a2", DAEMON_WAIT_MS), 0);
	assert_int_equal(vmsig_subscribe_wait(v, "a2", DAEMON_WAIT_MS), 0);
	delivery = await_kind(v, VMSIG_EV_MEMCTX);
	assert_string_equal(delivery.endpoint, "a2");
	assert_true(delivery.coherence_fd >= 0);
	mem = mem_open(&delivery);
	assert_int_equal(vmsig_phys_read(mem, 0, text, 2), 0);
	assert_memory_equal(text, "a2", 2);
	assert_int_equal(vmsig_gva_write(mem, SCENE_KCR3, 0, text, 2), -VMSIG_ERR_READ_ONLY);
	vmsig_mem_close(mem);
}

/* What may not be seen answers as what does not exist. */
static void hides_what_is_not_ours(void **state)
{
	struct world *world = *state;
	vmsig *v = world->v[0] = open_as(world, world->identity, VMSIG_OPT_NO_RECONNECT);
	char error[256];

	assert_int_equal(
		vmsig_subscribe_wait(v, "g1", DAEMON_WAIT_MS), -VMSIG_ERR_NO_SUCH_ENDPOINT);
	snprintf(error, sizeof(error), "%s", vmsig_last_error(v) + strlen("g1"));
	assert_int_equal(
		vmsig_subscribe_wait(v, "zz", DAEMON_WAIT_MS), -VMSIG_ERR_NO_SUCH_ENDPOINT);
	assert_string_equal(vmsig_last_error(v) + strlen("zz"), error);
	assert_int_equal(vmsig_unsubscribe(v, "g1"), -VMSIG_ERR_NO_SUCH_ENDPOINT);
	assert_int_equal(vmsig_wait(v, &(vmsig_delivery){0}, 1), 0);
	assert_int_equal(vmsig_wait(v, &(vmsig_delivery){0}, 20), -VMSIG_ERR_TIMEOUT);
}

static void refused_identities(void **state)
{
	struct world *world = *state;
	char identity[96];
	vmsig *v;

	identity_make(world, &world->scene->admin, "admin", identity);
	v = open_as(world, identity, VMSIG_OPT_NO_RECONNECT);
	assert_int_equal(vmsig_wait_connected(v, DAEMON_WAIT_MS), -VMSIG_ERR_UNAUTHENTICATED);
	vmsig_close(v);
	identity_make(world, &world->scene->stranger, "stranger", identity);
	v = open_as(world, identity, VMSIG_OPT_NO_RECONNECT);
	assert_int_not_equal(vmsig_wait_connected(v, DAEMON_WAIT_MS), 0);
	/* The sentence names what to check. */
	assert_non_null(strstr(vmsig_last_error(v), "the policy"));
	vmsig_close(v);
}

/* An alert says nothing that helps; what is known here does. */
static void expect_face(
	struct world *world, const char *name, const struct pki_request *request, const char *words)
{
	struct pki_cert cert;
	char identity[96];
	vmsig *v;

	pki_issue(daemon_pki(world->scene->daemon), name, request, &cert);
	identity_make(world, &cert, name, identity);
	v = open_as(world, identity, VMSIG_OPT_NO_RECONNECT);
	assert_int_equal(vmsig_wait_connected(v, DAEMON_WAIT_MS), -VMSIG_ERR_UNAUTHENTICATED);
	if (!strstr(vmsig_last_error(v), words))
		fail_msg("no '%s' in: %s", words, vmsig_last_error(v));
	vmsig_close(v);
}

static void refusals_say_what_was_shown(void **state)
{
	static const char *const none[] = {NULL};
	static const char *const two[] = {"vmsig://sensor/acme", "vmsig://sensor/globex", NULL};
	static const char *const admin[] = {"vmsig://admin/acme", NULL};
	static const char *const sensor[] = {"vmsig://sensor/acme", NULL};

	expect_face(*state, "none", &(struct pki_request){.uris = none}, "0 URI names");
	expect_face(*state, "two", &(struct pki_request){.uris = two}, "2 URI names");
	expect_face(*state, "role", &(struct pki_request){.uris = admin}, "the admin 'acme'");
	expect_face(*state, "early",
		&(struct pki_request){.uris = sensor, .not_before = 3600, .not_after = 7200},
		"check the clock");
	expect_face(*state, "late",
		&(struct pki_request){.uris = sensor, .not_before = -7200, .not_after = -3600},
		"has expired on");
}

/* R4 for one endpoint, over everything that one sensor was ever told. */
struct history {
	uint32_t context; /* epoch of the context that the holder has, or 0 */
	uint32_t newest;
	unsigned contexts;
	unsigned connections;
};

static void history_add(struct history *history, const vmsig_delivery *delivery)
{
	vmsig_memctx_inv inv;
	uint32_t epoch;

	switch (delivery->event.kind) {
	case VMSIG_EV_CONNECTED:
		history->connections++;
		break;
	case VMSIG_EV_MEMCTX:
		epoch = memctx_epoch(delivery);
		assert_true(epoch >= history->newest);
		assert_true(!history->context || history->context == epoch);
		history->context = history->newest = epoch;
		history->contexts++;
		break;
	case VMSIG_EV_MEMCTX_INVALIDATED:
		memcpy(&inv, delivery->event.inln, sizeof(inv));
		assert_true(inv.epoch > history->newest);
		history->newest = inv.epoch;
		history->context = 0;
		break;
	default:
		break;
	}
}

/* Every sensor on one poll(2), as an event loop drives them, until all have had `contexts`
 * contexts. */
static void drive(struct world *world, struct history *histories, unsigned contexts)
{
	for (size_t turn = 0; turn < 20000; turn++) {
		struct pollfd pfds[SENSORS];
		bool done = true;

		for (size_t i = 0; i < SENSORS; i++) {
			vmsig_delivery delivery;

			assert_int_equal(vmsig_process(world->v[i]), 0);
			while (vmsig_next(world->v[i], &delivery) == 0) {
				history_add(&histories[i], &delivery);
				vmsig_delivery_clear(&delivery);
			}
			pfds[i] = (struct pollfd){.fd = vmsig_fd(world->v[i]), .events = POLLIN};
			done &= histories[i].contexts >= contexts;
		}
		if (done)
			return;
		assert_true(poll(pfds, SENSORS, 5) >= 0);
	}
	fail_msg("the contexts did not come: %s", vmsig_last_error(world->v[0]));
}

static void follows_a_broker_that_is_killed(void **state)
{
	struct world *world = *state;
	struct history histories[SENSORS] = {0};

	for (size_t i = 0; i < SENSORS; i++) {
		world->v[i] = open_as(world, world->identity, 0);
		assert_int_equal(vmsig_subscribe(world->v[i], i ? "a1" : "?1"), 0);
	}
	drive(world, histories, 1);
	for (unsigned round = 2; round < 5; round++) {
		daemon_stop(world->scene->daemon, SIGKILL);
		daemon_start(world->scene->daemon);
		drive(world, histories, round);
	}
	for (size_t i = 0; i < SENSORS; i++)
		assert_int_equal(histories[i].connections, 4);
	for (size_t i = 0; i < SENSORS; i++)
		world->v[i] = vmsig_close(world->v[i]);
	world->scene->fds = daemon_fds(world->scene->daemon);
}

/* A context that is open and has been read. */
static vmsig_mem *open_a1(struct world *world, uint32_t flags)
{
	vmsig *v = world->v[0] = open_as(world, world->identity, flags);
	vmsig_delivery delivery;
	vmsig_mem *mem;
	char byte;

	assert_int_equal(vmsig_subscribe(v, "a1"), 0);
	delivery = await_kind(v, VMSIG_EV_MEMCTX);
	mem = mem_open(&delivery);
	assert_int_equal(vmsig_phys_read(mem, 0x1000, &byte, 1), 0);
	return mem;
}

static void await_read(vmsig_mem *mem, int result)
{
	const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};
	int64_t left_ms = DAEMON_WAIT_MS;
	char byte;

	while (vmsig_phys_read(mem, 0x1000, &byte, 1) != result) {
		if ((left_ms -= 10) < 0)
			fail_msg("no read answered %s", vmsig_error_name(result));
		nanosleep(&pause, NULL);
	}
}

/* Nobody would say that the guest was reset. */
static void reads_nothing_without_a_broker(void **state)
{
	static const int ends[] = {SIGKILL, SIGTERM};
	struct world *world = *state;
	char byte;

	for (size_t i = 0; i < 2; i++) {
		vmsig_mem *mem = open_a1(world, VMSIG_OPT_NO_RECONNECT);

		daemon_stop(world->scene->daemon, ends[i]);
		assert_int_equal(vmsig_phys_read(mem, 0x1000, &byte, 1), -VMSIG_ERR_NO_BROKER);
		/* Another broker has pages of its own. */
		daemon_start(world->scene->daemon);
		assert_int_equal(vmsig_phys_read(mem, 0x1000, &byte, 1), -VMSIG_ERR_NO_BROKER);
		vmsig_mem_close(mem);
		world->v[0] = vmsig_close(world->v[0]);
		vmsig_mem_close(open_a1(world, VMSIG_OPT_NO_RECONNECT));
		world->v[0] = vmsig_close(world->v[0]);
	}
	world->scene->fds = daemon_fds(world->scene->daemon);
}

/* Who reads the page by himself finds it there too: a broker that ends says so, for one that is
 * killed the kernel does; and the next one has another page, which is right in the same epoch. */
static void pages_say_how_the_broker_ended(void **state)
{
	static const struct {
		int signum;
		uint32_t state, owner;
	} ends[] = {{SIGTERM, VMSIG_STATE_UNATTENDED, 0},
		{SIGKILL, VMSIG_STATE_READY, VMSIG_COHERENCE_OWNER_DIED}};
	struct world *world = *state;

	for (size_t i = 0; i < 2; i++) {
		vmsig *v = world->v[0] = open_as(world, world->identity, 0);
		vmsig_delivery delivery;
		vmsig_coherence before, after;
		int fd;

		assert_int_equal(vmsig_subscribe(v, "a1"), 0);
		delivery = await_kind(v, VMSIG_EV_MEMCTX);
		fd = vmsig_delivery_take_fd(&delivery.coherence_fd);
		vmsig_delivery_clear(&delivery);
		assert_int_equal(pread(fd, &before, sizeof(before), 0), sizeof(before));
		assert_int_equal(before.state, VMSIG_STATE_READY);
		daemon_stop(world->scene->daemon, ends[i].signum);
		assert_int_equal(pread(fd, &after, sizeof(after), 0), sizeof(after));
		assert_int_equal(after.state, ends[i].state);
		assert_int_equal(after.owner & VMSIG_COHERENCE_OWNER_DIED, ends[i].owner);
		assert_int_equal(after.epoch, before.epoch);
		close(fd);
		daemon_start(world->scene->daemon);
		delivery = await_kind(v, VMSIG_EV_MEMCTX);
		assert_int_equal(
			pread(delivery.coherence_fd, &after, sizeof(after), 0), sizeof(after));
		assert_int_equal(after.state, VMSIG_STATE_READY);
		assert_true(after.owner);
		vmsig_mem_close(mem_open(&delivery));
		world->v[0] = vmsig_close(v);
	}
	world->scene->fds = daemon_fds(world->scene->daemon);
}

static void reads_nothing_while_the_broker_stands_still(void **state)
{
	struct world *world = *state;
	vmsig_mem *mem;

	scene_configure(world->scene, "{vouch: 500ms}", "{}");
	daemon_stop(world->scene->daemon, SIGTERM);
	daemon_start(world->scene->daemon);
	mem = open_a1(world, 0);
	assert_int_equal(kill(daemon_pid(world->scene->daemon), SIGSTOP), 0);
	await_read(mem, -VMSIG_ERR_NO_BROKER);
	assert_int_equal(kill(daemon_pid(world->scene->daemon), SIGCONT), 0);
	await_read(mem, 0);
	vmsig_mem_close(mem);
	world->v[0] = vmsig_close(world->v[0]);
	world->scene->fds = daemon_fds(world->scene->daemon);
}

static void replace_ram(struct world *world, const char *name)
{
	char path[128], old[160];

	snprintf(path, sizeof(path), "%s/%s.ram", daemon_dir(world->scene->daemon), name);
	snprintf(old, sizeof(old), "%s.old", path);
	assert_int_equal(rename(path, old), 0);
	daemon_ram(world->scene->daemon, name, SCENE_RAM);
}

static void follows_a_reset(void **state)
{
	struct world *world = *state;
	vmsig *v = world->v[0] = open_as(world, world->identity, 0);
	vmsig_delivery delivery;
	vmsig_memctx_inv inv;
	uint32_t epoch;
	vmsig_mem *mem;
	char byte;

	assert_int_equal(vmsig_subscribe(v, "a1"), 0);
	delivery = await_kind(v, VMSIG_EV_MEMCTX);
	epoch = memctx_epoch(&delivery);
	mem = mem_open(&delivery);
	replace_ram(world, "a1");
	delivery = await_kind(v, VMSIG_EV_MEMCTX_INVALIDATED);
	memcpy(&inv, delivery.event.inln, sizeof(inv));
	assert_true(inv.epoch > epoch);
	vmsig_delivery_clear(&delivery);
	assert_int_equal(vmsig_phys_read(mem, 0, &byte, 1), -VMSIG_ERR_STALE_EPOCH);
	vmsig_mem_close(mem);
	delivery = await_kind(v, VMSIG_EV_MEMCTX);
	assert_true(memctx_epoch(&delivery) >= inv.epoch);
	mem = mem_open(&delivery);
	assert_int_equal(vmsig_phys_read(mem, 0, &byte, 1), 0);
	vmsig_mem_close(mem);
}

/* ---- the example sensor ---- */

static void put(struct world *world, const char *name, off_t at, const void *data, size_t len)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s.ram", daemon_dir(world->scene->daemon), name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, data, len, at), len);
	close(fd);
}

static void put_entry(struct world *world, const char *name, off_t table, size_t index, uint64_t at)
{
	uint64_t entry = at | 3; /* present, writable */

	put(world, name, table + (off_t)index * 8, &entry, sizeof(entry));
}

/* 0xffffffff81000000 is the page at 0x6000. */
static void put_kernel(struct world *world, const char *name, const char *banner)
{
	put_entry(world, name, SCENE_KCR3, 511, 0x3000);
	put_entry(world, name, 0x3000, 510, 0x4000);
	put_entry(world, name, 0x4000, 8, 0x5000);
	put_entry(world, name, 0x5000, 0, 0x6000);
	/* As in a real kernel, the words alone come first. */
	put(world, name, 0x6010, "Linux version %s\n", 17);
	put(world, name, 0x6100, banner, strlen(banner) + 1);
}

static void sensor_prints_the_banner(void **state)
{
	struct world *world = *state;
	char identity[128], socket[128], line[256] = "";
	char program[] = VMSIG_BANNER, once[] = "--once", name[] = "a1";
	char *argv[] = {program, once, name, NULL};
	char *envp[] = {identity, socket, NULL};
	posix_spawn_file_actions_t actions;
	int out[2], status;
	pid_t pid;

	put_kernel(world, "a1", "Linux version 6.1.0-test (me) #1\nmore");
	snprintf(identity, sizeof(identity), "VMSIG_IDENTITY=%s", world->identity);
	snprintf(socket, sizeof(socket), "VMSIG_SOCKET=%s", daemon_socket(world->scene->daemon));
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	assert_int_equal(posix_spawn_file_actions_init(&actions), 0);
	assert_int_equal(posix_spawn_file_actions_adddup2(&actions, out[1], 1), 0);
	assert_int_equal(posix_spawn(&pid, program, &actions, NULL, argv, envp), 0);
	posix_spawn_file_actions_destroy(&actions);
	close(out[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(read(out[0], line, sizeof(line) - 1) > 0);
	close(out[0]);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_non_null(strstr(line, "a1 epoch "));
	assert_non_null(strstr(line, ": Linux version 6.1.0-test (me) #1\n"));
}

/* What would never print anything ends. */
static void sensor_ends_where_there_is_nothing_for_it(void **state)
{
	struct world *world = *state;
	char identity[128], socket[128];
	char program[] = VMSIG_BANNER, name[] = "nobodys";
	char *argv[] = {program, name, NULL};
	char *envp[] = {identity, socket, NULL};
	int status;
	pid_t pid;

	snprintf(identity, sizeof(identity), "VMSIG_IDENTITY=%s", world->identity);
	snprintf(socket, sizeof(socket), "VMSIG_SOCKET=%s", daemon_socket(world->scene->daemon));
	assert_int_equal(posix_spawn(&pid, program, NULL, NULL, argv, envp), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 1);
}

/* Its output is lost: that is no success. */
static void sensor_says_that_its_output_is_lost(void **state)
{
	struct world *world = *state;
	char identity[128], socket[128];
	char program[] = VMSIG_BANNER, once[] = "--once", name[] = "a1";
	char *argv[] = {program, once, name, NULL};
	char *envp[] = {identity, socket, NULL};
	posix_spawn_file_actions_t actions;
	int status;
	pid_t pid;

	put_kernel(world, "a1", "Linux version 6.1.0-test (me) #1\nmore");
	snprintf(identity, sizeof(identity), "VMSIG_IDENTITY=%s", world->identity);
	snprintf(socket, sizeof(socket), "VMSIG_SOCKET=%s", daemon_socket(world->scene->daemon));
	assert_int_equal(posix_spawn_file_actions_init(&actions), 0);
	assert_int_equal(
		posix_spawn_file_actions_addopen(&actions, 1, "/dev/full", O_WRONLY, 0), 0);
	assert_int_equal(posix_spawn(&pid, program, &actions, NULL, argv, envp), 0);
	posix_spawn_file_actions_destroy(&actions);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		TEST(lists_and_reads),
		TEST(hides_what_is_not_ours),
		TEST(refused_identities),
		TEST(refusals_say_what_was_shown),
		TEST(follows_a_broker_that_is_killed),
		TEST(reads_nothing_without_a_broker),
		TEST(pages_say_how_the_broker_ended),
		TEST(reads_nothing_while_the_broker_stands_still),
		TEST(follows_a_reset),
		TEST(sensor_prints_the_banner),
		TEST(sensor_ends_where_there_is_nothing_for_it),
		TEST(sensor_says_that_its_output_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
