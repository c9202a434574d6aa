/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guests that a provider offers over the admin plane: served like any other, over a lost
 * connection, and not when the provider lies or has not the right.
 */
#include "tests/integration/vmsigd/scene.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/write_client.h"
#include "tests/unit/guest/image.h"

#define KCR3 0x7000u
#define LONG "{provider_grace: 10min}"

static struct pki_cert maker, other, ops;

static void configure(struct scene *scene, const char *limits, const char *names, unsigned uid)
{
	daemon_configure(scene->daemon,
		"limits: %s\n"
		"endpoints:\n"
		"  - {name: a1, path: a1.ram, adapter: file, low: 1MiB, kcr3: 0x2000}\n"
		"tenants:\n"
		"  - {name: acme, role: sensor, uids: [%u], endpoints: ['*']}\n"
		"  - {name: acme, role: admin, uids: [%u], endpoints: ['*']}\n"
		"  - {name: ops, role: operator, uids: [%u], endpoints: ['*'], write: [{endpoints: "
		"['*']}]}\n"
		"  - {name: other, role: provider, uids: [%u], endpoints: ['m*', a1]}\n"
		"  - {name: maker, role: provider, uids: [%u], endpoints: %s}\n",
		limits, getuid(), getuid(), getuid(), getuid(), uid, names);
}

static int setup(void **state)
{
	struct scene *scene;
	struct pki *pki;
	int r = scene_setup(state);

	scene = *state;
	pki = daemon_pki(scene->daemon);
	pki_issue_uri(pki, "maker", "vmsig://provider/maker", &maker);
	pki_issue_uri(pki, "other", "vmsig://provider/other", &other);
	pki_issue_uri(pki, "ops", "vmsig://operator/ops", &ops);
	configure(scene, LONG, "['m*']", getuid());
	scene_reload(scene);
	return r;
}

static int memfd(off_t size)
{
	int fd = memfd_create("guest", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	return fd;
}

/* The error's code, or 0; -1: the connection has ended. */
static int answer(struct write_client *client, bool *ret_resumed)
{
	Vmsig__AdminMessage *message = write_client_receive_admin(client);
	int code;

	if (!message)
		return -1;
	code = message->body_case == VMSIG__ADMIN_MESSAGE__BODY_ERROR ? (int)message->error->code
								      : 0;
	if (ret_resumed && message->body_case == VMSIG__ADMIN_MESSAGE__BODY_PROVIDED)
		*ret_resumed = message->provided->resumed;
	vmsig__admin_message__free_unpacked(message, NULL);
	return code;
}

struct guest {
	const char *name;
	uint64_t low;
	int fds[2];
	size_t nfds;
	Vmsig__Segment *segments[2];
	size_t nsegments;
	bool writable, find; /* find: its kernel is not known */
};

static int provide(struct write_client *client, const struct guest *guest, bool *ret_resumed)
{
	Vmsig__AdminRequest request = VMSIG__ADMIN_REQUEST__INIT;
	Vmsig__Provide body = VMSIG__PROVIDE__INIT;
	Vmsig__Descriptor files[2], *pointers[2] = {&files[0], &files[1]};

	for (size_t i = 0; i < guest->nfds; i++) {
		write_client_describe(&files[i], guest->fds[i]);
		files[i].purpose = VMSIG__DESCRIPTOR__PURPOSE__GUEST_RAM;
	}
	body.name = (char *)(uintptr_t)guest->name;
	body.files = pointers;
	body.n_files = guest->nfds;
	body.low = guest->low;
	body.segments = (Vmsig__Segment **)(uintptr_t)guest->segments;
	body.n_segments = guest->nsegments;
	body.writable = guest->writable;
	body.kcr3 = guest->find ? 0 : KCR3;
	body.levels = guest->find ? 0 : 4;
	request.body_case = VMSIG__ADMIN_REQUEST__BODY_PROVIDE;
	request.provide = &body;
	write_client_send_admin_with(client, &request, guest->fds, guest->nfds);
	return answer(client, ret_resumed);
}

static int provide_one(struct write_client *client, const char *name, int fd)
{
	const struct guest guest = {.name = name, .low = SCENE_RAM, .fds = {fd}, .nfds = 1};

	return provide(client, &guest, NULL);
}

static int say(struct write_client *client, bool invalidate, const char *name)
{
	Vmsig__AdminRequest request = VMSIG__ADMIN_REQUEST__INIT;
	Vmsig__ProvideInvalidate reset = VMSIG__PROVIDE_INVALIDATE__INIT;
	Vmsig__ProvideEnd end = VMSIG__PROVIDE_END__INIT;

	reset.name = end.name = (char *)(uintptr_t)name;
	reset.kcr3 = KCR3 + 0x1000;
	reset.levels = 4;
	request.body_case = invalidate ? VMSIG__ADMIN_REQUEST__BODY_PROVIDE_INVALIDATE
				       : VMSIG__ADMIN_REQUEST__BODY_PROVIDE_END;
	if (invalidate)
		request.provide_invalidate = &reset;
	else
		request.provide_end = &end;
	write_client_send_admin(client, &request);
	return answer(client, NULL);
}

static void dial(struct scene *scene, struct write_client *client, const struct pki_cert *cert)
{
	write_client_open(client, scene->daemon, "admin.sock", cert);
}

static uint32_t epoch_of(struct scene *scene, const char *name)
{
	return ctx_client_epoch(scene->daemon, &scene->acme, name);
}

/* ---- served ---- */

static void a_guest_is_served_until_it_is_ended(void **state)
{
	struct scene *scene = *state;
	struct write_client client;
	uint32_t epoch;
	int fd = memfd(SCENE_RAM);

	dial(scene, &client, &maker);
	assert_int_equal(provide_one(&client, "m1", fd), 0);
	epoch = epoch_of(scene, "m1");
	assert_int_equal(say(&client, true, "m1"), 0);
	daemon_await_log(scene->daemon, "its provider says that the guest was reset", 1);
	assert_int_equal(epoch_of(scene, "m1"), epoch + 1);
	assert_int_equal(provide_one(&client, "m1", fd), VMSIG_ERR_BUSY);
	assert_int_equal(say(&client, false, "m1"), 0);
	assert_int_equal(say(&client, false, "m1"), VMSIG_ERR_NO_SUCH_ENDPOINT);
	write_client_close(&client);
	close(fd);
}

static void who_comes_back_goes_on_in_the_same_epoch(void **state)
{
	struct scene *scene = *state;
	const struct guest guest = {
		.name = "m2", .low = SCENE_RAM, .fds = {memfd(SCENE_RAM)}, .nfds = 1};
	struct write_client client;
	bool resumed = true;
	uint32_t epoch;

	dial(scene, &client, &maker);
	assert_int_equal(provide(&client, &guest, &resumed), 0);
	assert_false(resumed);
	epoch = epoch_of(scene, "m2");
	write_client_close(&client);
	dial(scene, &client, &other);
	assert_int_equal(provide(&client, &guest, NULL), VMSIG_ERR_BUSY);
	write_client_close(&client);
	dial(scene, &client, &maker);
	assert_int_equal(provide(&client, &guest, &resumed), 0);
	assert_true(resumed);
	assert_int_equal(epoch_of(scene, "m2"), epoch);
	assert_int_equal(say(&client, false, "m2"), 0);
	write_client_close(&client);
	close(guest.fds[0]);
}

static void who_does_not_come_back_loses_it(void **state)
{
	struct scene *scene = *state;
	struct write_client client;
	int fd = memfd(SCENE_RAM);

	configure(scene, "{provider_grace: 50ms}", "['m*']", getuid());
	scene_reload(scene);
	dial(scene, &client, &maker);
	assert_int_equal(provide_one(&client, "m3", fd), 0);
	write_client_close(&client);
	daemon_await_log(scene->daemon, "its provider did not come back", 1);
	close(fd);
}

static void a_killed_provider_is_a_lost_one(void **state)
{
	struct scene *scene = *state;
	struct write_client client;
	pid_t pid;
	int fd = memfd(SCENE_RAM), status;

	configure(scene, "{provider_grace: 50ms}", "['m*']", getuid());
	scene_reload(scene);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		dial(scene, &client, &maker);
		_exit(provide_one(&client, "m4", fd) ? 1 : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	daemon_await_log(scene->daemon, "its provider did not come back", 1);
	close(fd);
}

/* ---- as any other guest ---- */

static void operators_write_to_it(void **state)
{
	struct scene *scene = *state;
	const struct guest guest = {.name = "mw",
		.low = SCENE_RAM,
		.fds = {memfd(SCENE_RAM)},
		.nfds = 1,
		.writable = true};
	const struct guest fixed = {
		.name = "mx", .low = SCENE_RAM, .fds = {memfd(SCENE_RAM)}, .nfds = 1};
	struct write_client provider, operator_;
	struct write_lease lease;
	uint64_t word = 0, id;

	dial(scene, &provider, &maker);
	assert_int_equal(provide(&provider, &guest, NULL), 0);
	assert_int_equal(provide(&provider, &fixed, NULL), 0);
	(void)epoch_of(scene, "mw");
	(void)epoch_of(scene, "mx");
	write_client_open(&operator_, scene->daemon, "write.sock", &ops);
	lease = write_client_lease(&operator_, "mw");
	assert_int_equal(write_client_put(&operator_, &lease, 1, 0x3000, 0x1122334455667788), 0);
	assert_int_equal(pread(guest.fds[0], &word, sizeof(word), 0x3000), sizeof(word));
	assert_int_equal(word, 0x1122334455667788);
	/* Over a lost connection its epoch goes on, and so does the lease. */
	write_client_close(&provider);
	dial(scene, &provider, &maker);
	assert_int_equal(provide(&provider, &guest, NULL), 0);
	assert_int_equal(write_client_put(&operator_, &lease, 2, 0x3000, 1), 0);
	/* A reset ends it; the next lease writes again. */
	assert_int_equal(say(&provider, true, "mw"), 0);
	daemon_await_log(scene->daemon, "its provider says that the guest was reset", 1);
	assert_int_not_equal(write_client_put(&operator_, &lease, 3, 0x3000, 2), 0);
	(void)epoch_of(scene, "mw");
	write_client_close(&operator_);
	write_client_open(&operator_, scene->daemon, "write.sock", &ops);
	lease = write_client_lease(&operator_, "mw");
	assert_int_equal(write_client_put(&operator_, &lease, 1, 0x3000, 3), 0);
	assert_int_equal(pread(guest.fds[0], &word, sizeof(word), 0x3000), sizeof(word));
	assert_int_equal(word, 3);
	id = write_client_ask(&operator_, "mx", 0, 0, 1000, 0, true);
	assert_int_not_equal(write_client_answer(&operator_, id), 0);
	assert_int_equal(say(&provider, false, "mw"), 0);
	write_client_close(&operator_);
	write_client_close(&provider);
	close(guest.fds[0]);
	close(fixed.fds[0]);
}

/* The layout is given, the kernel is not. */
static void a_kernel_that_is_not_named_is_found(void **state)
{
	static const struct image_linux kernel = {.release = "6.1.0-test",
		.root = 0x200000,
		.text = 0x210000,
		.note = 0x220000,
		.levels = 4};
	struct scene *scene = *state;
	struct guest guest = {.name = "mk", .low = IMAGE_SIZE, .nfds = 1, .find = true};
	Vmsig__CtxMessage *message;
	struct write_client provider;
	struct ctx_client sensor;
	struct image image;
	int fds[2];

	image_init(&image);
	image_put_linux(&image, &kernel);
	guest.fds[0] = image.fd;
	dial(scene, &provider, &maker);
	assert_int_equal(provide(&provider, &guest, NULL), 0);
	ctx_client_open(&sensor, scene->daemon, &scene->acme);
	ctx_client_expect_done(&sensor, ctx_client_subscribe(&sensor, "mk"));
	message = ctx_client_expect_memctx(&sensor, fds);
	assert_int_equal(message->memctx->kcr3, kernel.root);
	ctx_client_free_message(message);
	close(fds[0]);
	close(fds[1]);
	ctx_client_close(&sensor);
	assert_int_equal(say(&provider, false, "mk"), 0);
	write_client_close(&provider);
	image_deinit(&image);
}

/* ---- rights ---- */

static void a_right_that_is_taken_away_ends_it_at_once(void **state)
{
	struct scene *scene = *state;
	struct write_client client;
	int fd = memfd(SCENE_RAM);

	dial(scene, &client, &maker);
	assert_int_equal(provide_one(&client, "m5", fd), 0);
	configure(scene, LONG, "[mine]", getuid());
	scene_reload(scene);
	daemon_await_log(scene->daemon, "does not let its provider provide it any more", 1);
	assert_int_equal(say(&client, false, "m5"), VMSIG_ERR_NO_SUCH_ENDPOINT);
	assert_int_equal(provide_one(&client, "m5", fd), VMSIG_ERR_FORBIDDEN);
	assert_int_equal(provide_one(&client, "mine", fd), 0);
	/* Another uid: the connection ends, and nothing waits for it. */
	configure(scene, LONG, "[mine]", getuid() + 1);
	scene_reload(scene);
	daemon_await_log(scene->daemon, "a provided endpoint ends", 2);
	assert_int_equal(answer(&client, NULL), VMSIG_ERR_UNAUTHENTICATED);
	write_client_close(&client);
	close(fd);
}

/* Nobody is connected when the right is taken away. */
static void a_right_ends_in_the_grace_too(void **state)
{
	struct scene *scene = *state;
	struct write_client client;
	int fd = memfd(SCENE_RAM);

	dial(scene, &client, &maker);
	assert_int_equal(provide_one(&client, "mg", fd), 0);
	(void)epoch_of(scene, "mg");
	write_client_close(&client);
	configure(scene, LONG, "[mine]", getuid());
	scene_reload(scene);
	daemon_await_log(scene->daemon, "does not let its provider provide it any more", 1);
	close(fd);
}

static void a_revoked_certificate_ends_it(void **state)
{
	struct scene *scene = *state;
	struct pki *pki = daemon_pki(scene->daemon);
	struct write_client client;
	int fd = memfd(SCENE_RAM);

	daemon_use_crl(scene->daemon, pki_crl(pki));
	configure(scene, "{provider_grace: 50ms}", "['m*']", getuid());
	scene_reload(scene);
	dial(scene, &client, &maker);
	assert_int_equal(provide_one(&client, "mr", fd), 0);
	pki_revoke(pki, &maker);
	(void)pki_crl(pki);
	scene_reload(scene);
	assert_int_not_equal(answer(&client, NULL), 0);
	daemon_await_log(scene->daemon, "a provided endpoint ends", 1);
	write_client_close(&client);
	close(fd);
}

static void names_of_others_are_refused(void **state)
{
	struct scene *scene = *state;
	struct write_client client;
	int fd = memfd(SCENE_RAM);

	dial(scene, &client, &other);
	assert_int_equal(provide_one(&client, "x1", fd), VMSIG_ERR_FORBIDDEN);
	assert_int_equal(provide_one(&client, "../a", fd), VMSIG_ERR_BAD_REQUEST);
	assert_int_equal(provide_one(&client, "a1", fd), VMSIG_ERR_BUSY);
	write_client_close(&client);
	close(fd);
}

/* Nor may it send a descriptor: what comes with the request is refused before it is one. */
static void an_administrator_is_no_provider(void **state)
{
	struct scene *scene = *state;
	const struct guest guest = {.name = "m6", .low = SCENE_RAM};
	struct write_client client;

	dial(scene, &client, &scene->admin);
	assert_int_equal(provide(&client, &guest, NULL), VMSIG_ERR_FORBIDDEN);
	write_client_close(&client);
	dial(scene, &client, &maker);
	assert_int_equal(provide(&client, &guest, NULL), VMSIG_ERR_BAD_REQUEST);
	write_client_close(&client);
}

static void a_flood_meets_its_bound(void **state)
{
	struct scene *scene = *state;
	struct write_client client;
	int fds[3];
	char name[8];

	configure(scene, "{provided: 2}", "['m*']", getuid());
	scene_reload(scene);
	dial(scene, &client, &maker);
	for (int i = 0; i < 3; i++) {
		fds[i] = memfd(SCENE_RAM);
		snprintf(name, sizeof(name), "mf%d", i);
		assert_int_equal(provide_one(&client, name, fds[i]), i < 2 ? 0 : VMSIG_ERR_QUOTA);
		close(fds[i]);
	}
	assert_int_equal(say(&client, false, "mf0"), 0);
	assert_int_equal(say(&client, false, "mf1"), 0);
	write_client_close(&client);
}

/* The names a1, a2 and g1 are known from before. */
static void the_names_that_are_remembered_have_a_bound(void **state)
{
	struct scene *scene = *state;
	struct write_client client;
	int fd = memfd(SCENE_RAM), r;

	configure(scene, "{names: 4}", "['m*']", getuid());
	scene_reload(scene);
	dial(scene, &client, &maker);
	assert_int_equal(provide_one(&client, "mn1", fd), 0);
	assert_int_equal(say(&client, false, "mn1"), 0);
	assert_int_equal(provide_one(&client, "mn2", fd), VMSIG_ERR_QUOTA);
	/* The one before may still end. */
	while ((r = provide_one(&client, "mn1", fd)) == VMSIG_ERR_BUSY)
		continue;
	assert_int_equal(r, 0);
	write_client_close(&client);
	close(fd);
}

/* ---- lies ---- */

static void lies_about_ram_are_refused(void **state)
{
	struct scene *scene = *state;
	Vmsig__Segment a = VMSIG__SEGMENT__INIT, b = VMSIG__SEGMENT__INIT;
	int good = memfd(SCENE_RAM), small = memfd(SCENE_RAM / 2), empty = memfd(0);
	const struct guest lies[] = {
		{.name = "m7", .low = SCENE_RAM, .fds = {small}, .nfds = 1},
		{.name = "m7", .low = SCENE_RAM, .fds = {empty}, .nfds = 1},
		{.name = "m7", .low = SCENE_RAM, .fds = {good, good}, .nfds = 2},
		{.name = "m7", .low = 0, .fds = {good}, .nfds = 1},
		{.name = "m7", .low = 1ull << 40, .fds = {good}, .nfds = 1},
		{.name = "m7", .fds = {good}, .nfds = 1, .segments = {&a, &b}, .nsegments = 2},
	};
	struct write_client client;
	int r;

	a.len = b.len = SCENE_RAM;
	b.gpa = SCENE_RAM / 2;
	dial(scene, &client, &maker);
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		/* The one before may still end. */
		while ((r = provide(&client, &lies[i], NULL)) == VMSIG_ERR_BUSY)
			continue;
		assert_true(r > 0);
	}
	while ((r = provide_one(&client, "m7", good)) == VMSIG_ERR_BUSY)
		continue;
	assert_int_equal(r, 0);
	assert_int_equal(say(&client, false, "m7"), 0);
	write_client_close(&client);
	close(good);
	close(small);
	close(empty);
}

static void what_is_no_file_in_memory_ends_the_connection(void **state)
{
	struct scene *scene = *state;
	struct write_client client;
	int pipes[2];

	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	dial(scene, &client, &maker);
	assert_true(provide_one(&client, "m8", pipes[0]) != 0);
	write_client_close(&client);
	close(pipes[0]);
	close(pipes[1]);
}

/* It is mapped as it was looked at: what is read or written beyond its new end must end nobody. */
static void a_file_that_shrinks_ends_its_epoch(void **state)
{
	struct scene *scene = *state;
	const struct guest guest = {.name = "ms",
		.low = SCENE_RAM,
		.fds = {memfd(SCENE_RAM)},
		.nfds = 1,
		.writable = true};
	struct write_client client, operator_;
	struct write_lease lease;

	dial(scene, &client, &maker);
	assert_int_equal(provide(&client, &guest, NULL), 0);
	(void)epoch_of(scene, "ms");
	write_client_open(&operator_, scene->daemon, "write.sock", &ops);
	lease = write_client_lease(&operator_, "ms");
	assert_int_equal(ftruncate(guest.fds[0], SCENE_RAM / 2), 0);
	assert_int_not_equal(
		write_client_put(&operator_, &lease, 1, SCENE_RAM - 0x1000, 0x1122334455667788), 0);
	daemon_await_log(scene->daemon, "endpoint=\"ms\"", 2);
	(void)epoch_of(scene, "a1");
	write_client_close(&operator_);
	write_client_close(&client);
	close(guest.fds[0]);
}

/* ---- vmsigctl ---- */

static void vmsigctl(struct scene *scene, const char *words)
{
	static const char script[] =
		"cd '%s' && mkdir -p boss && ln -sf '%s' boss/key.pem && ln -sf '%s' boss/cert.pem "
		"&& ln -sf '%s' boss/ca.pem && '%s' --identity boss --socket run/admin.sock %s";
	char command[8 * PATH_MAX];

	snprintf(command, sizeof(command), script, daemon_dir(scene->daemon), scene->admin.key,
		scene->admin.cert, pki_ca(daemon_pki(scene->daemon)), VMSIGCTL, words);
	assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c) */
}

/* Where an endpoint comes from, as `endpoint ls` has it. */
static void expect_origin(struct scene *scene, const char *name, const char *origin)
{
	char words[128];

	snprintf(words, sizeof(words), "endpoint ls | grep -q '^%s .* %s '", name, origin);
	vmsigctl(scene, words);
}

/* An administrator ends the connection and not the right: who comes back begins anew. */
static void a_disconnected_provider_loses_it_at_once(void **state)
{
	struct scene *scene = *state;
	struct write_client client;
	uint32_t epoch;
	int fd = memfd(SCENE_RAM);

	dial(scene, &client, &maker);
	assert_int_equal(provide_one(&client, "md", fd), 0);
	epoch = epoch_of(scene, "md");
	expect_origin(scene, "md", "provider");
	vmsigctl(scene, "disconnect --tenant maker");
	daemon_await_log(scene->daemon, "its provider's connection ended", 1);
	assert_int_not_equal(answer(&client, NULL), 0);
	write_client_close(&client);
	/* The one before may still end. */
	dial(scene, &client, &maker);
	while (provide_one(&client, "md", fd) == VMSIG_ERR_BUSY)
		continue;
	assert_true(epoch_of(scene, "md") > epoch);
	/* And in the grace, in which nobody is connected. */
	write_client_close(&client);
	vmsigctl(scene, "disconnect --tenant other");
	vmsigctl(scene, "disconnect --role sensor --tenant maker");
	assert_int_equal(daemon_log_count(scene->daemon, "an administrator ended it"), 0);
	vmsigctl(scene, "disconnect --role provider --tenant maker");
	daemon_await_log(scene->daemon, "an administrator ended it", 1);
	close(fd);
}

static void vmsigctl_provides(void **state)
{
	static const char script[] =
		"cd '%s' && mkdir -p maker && ln -sf '%s' maker/key.pem && ln -sf '%s' "
		"maker/cert.pem && ln -sf '%s' maker/ca.pem && exec '%s' --identity maker --socket "
		"run/admin.sock provide m9 --ram /proc/self/fd/%d --kcr3 0x7000";
	struct scene *scene = *state;
	char command[8 * PATH_MAX];
	uint32_t epoch;
	int ram = memfd(SCENE_RAM), status;
	pid_t pid;

	snprintf(command, sizeof(command), script, daemon_dir(scene->daemon), maker.key, maker.cert,
		pki_ca(daemon_pki(scene->daemon)), VMSIGCTL, ram);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		fcntl(ram, F_SETFD, 0);
		execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(127);
	}
	daemon_await_log(scene->daemon, "endpoint=\"m9\"", 1);
	epoch = epoch_of(scene, "m9");
	expect_origin(scene, "m9", "provider");
	expect_origin(scene, "a1", "config");
	kill(pid, SIGUSR1);
	daemon_await_log(scene->daemon, "its provider says that the guest was reset", 1);
	assert_int_equal(epoch_of(scene, "m9"), epoch + 1);
	kill(pid, SIGTERM);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	daemon_await_log(scene->daemon, "its provider ended it", 1);
	close(ram);
}

#define PROVIDE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, scene_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PROVIDE_TEST(a_guest_is_served_until_it_is_ended),
		PROVIDE_TEST(who_comes_back_goes_on_in_the_same_epoch),
		PROVIDE_TEST(who_does_not_come_back_loses_it),
		PROVIDE_TEST(a_killed_provider_is_a_lost_one),
		PROVIDE_TEST(a_right_that_is_taken_away_ends_it_at_once),
		PROVIDE_TEST(operators_write_to_it),
		PROVIDE_TEST(a_kernel_that_is_not_named_is_found),
		PROVIDE_TEST(a_right_ends_in_the_grace_too),
		PROVIDE_TEST(a_revoked_certificate_ends_it),
		PROVIDE_TEST(a_file_that_shrinks_ends_its_epoch),
		PROVIDE_TEST(a_disconnected_provider_loses_it_at_once),
		PROVIDE_TEST(names_of_others_are_refused),
		PROVIDE_TEST(an_administrator_is_no_provider),
		PROVIDE_TEST(a_flood_meets_its_bound),
		PROVIDE_TEST(the_names_that_are_remembered_have_a_bound),
		PROVIDE_TEST(lies_about_ram_are_refused),
		PROVIDE_TEST(what_is_no_file_in_memory_ends_the_connection),
		PROVIDE_TEST(vmsigctl_provides),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
