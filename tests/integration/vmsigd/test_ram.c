/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may have which file served: QEMUs under uids of their own, honest and not, beside a
 * broker that runs as root. Whatever a QEMU says or plants, its endpoint serves what it maps
 * itself; other files are neither served nor changed.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/integration/qemu/fake_qmp.h"
#include "tests/integration/vmsigd/scene.h"
#include "tests/unit/guest/image.h"

#define VICTIM 3001
#define EVIL 3002
#define RAM_SIZE (512l << 20)

static const struct image_linux kernel = {
	.release = "6.1.0-test", .root = 0x200000, .text = 0x210000, .note = 0x220000, .levels = 5};

/* What a QEMU maps, in a process of its own and under its own uid. */
struct actor {
	const char *name; /* of its folder and its endpoint */
	uid_t uid;
	const char *says; /* its mem-path */
	const char *maps; /* or NULL */
	int prot;
	pid_t pid;
};

static struct world {
	struct daemon *daemon;
	struct pki_cert cert;
	struct ctx_client client;
	struct actor *actors;
	size_t nactors;
	int fuse;             /* 0: not mounted */
	bool apart;           /* the broker sees no process but its own */
	char other[PATH_MAX]; /* a RAM file of root's that everybody may read */
} world;

static const char *in_dir(const char *format, ...) __attribute__((format(printf, 1, 2)));
static const char *in_dir(const char *format, ...)
{
	static char paths[8][PATH_MAX];
	static unsigned next;
	char *path = paths[next++ % 8];
	int n = snprintf(path, PATH_MAX, "%s/", daemon_dir(world.daemon));
	va_list args;

	va_start(args, format);
	vsnprintf(path + n, PATH_MAX - (size_t)n, format, args);
	va_end(args);
	return path;
}

/* A guest's RAM with a kernel in it, so that whoever has it served is ready. */
static void ram_make(const char *path, uid_t owner, mode_t mode)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	struct image image;

	assert_true(fd >= 0);
	image_init(&image);
	image_put_linux(&image, &kernel);
	assert_int_equal(ftruncate(fd, RAM_SIZE), 0);
	assert_int_equal(pwrite(fd, image.ram, IMAGE_SIZE, 0), IMAGE_SIZE);
	image_deinit(&image);
	assert_int_equal(fchown(fd, owner, owner), 0);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static mode_t mode_of(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_mode & 07777;
}

static void folder_make(const char *name, uid_t owner)
{
	const char *path = in_dir("%s", name);

	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		fail_msg("cannot make %s", path);
	assert_int_equal(chown(path, owner, owner), 0);
}

/* ---- a QEMU ---- */

static _Noreturn void actor_run(const struct actor *actor, const char *socket)
{
	struct fake_qmp fake;
	uv_loop_t loop;

	if (setgroups(0, NULL) || setgid(actor->uid) || setuid(actor->uid) ||
		prctl(PR_SET_PDEATHSIG, SIGKILL))
		abort();
	if (actor->maps) {
		int fd = open(actor->maps, actor->prot & PROT_WRITE ? O_RDWR : O_RDONLY);

		if (fd < 0 || mmap(NULL, RAM_SIZE, actor->prot, MAP_SHARED, fd, 0) == MAP_FAILED)
			abort();
		close(fd);
	}
	if (uv_loop_init(&loop))
		abort();
	signal(SIGPIPE, SIG_IGN);
	fake_qmp_start(&fake, &loop, socket, actor->says);
	fake.cr3 = kernel.root;
	uv_run(&loop, UV_RUN_DEFAULT);
	abort();
}

static void actor_start(struct actor *actor)
{
	const char *socket = in_dir("%s/qmp", actor->name);

	folder_make(actor->name, actor->uid);
	actor->pid = fork();
	assert_true(actor->pid >= 0);
	if (actor->pid == 0)
		actor_run(actor, socket);
}

static void actor_end(struct actor *actor)
{
	if (!actor->pid)
		return;
	kill(actor->pid, SIGKILL);
	waitpid(actor->pid, NULL, 0);
	actor->pid = 0;
}

/* Its server never answers, not even the first question: who enters it, hangs. */
static bool mount_dead_fuse(void)
{
	const char *path = in_dir("fuse");
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	char options[128];

	assert_int_equal(mkdir(path, 0755), 0);
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other",
		fd);
	if (fd >= 0 &&
		mount("vmsig-test", path, "fuse.vmsigtest", MS_NOSUID | MS_NODEV, options) == 0) {
		world.fuse = fd;
		return true;
	}
	if (fd >= 0)
		close(fd);
	return false;
}

/* What waits there gets an error. */
static void unmount_fuse(void)
{
	if (!world.fuse)
		return;
	close(world.fuse);
	world.fuse = 0;
	umount2(in_dir("fuse"), MNT_DETACH);
}

/* ---- the broker ---- */

static int setup(void **state)
{
	memset(&world, 0, sizeof(world));
	if (geteuid() != 0)
		return 0;
	world.daemon = daemon_new();
	assert_int_equal(chmod(daemon_dir(world.daemon), 0755), 0);
	snprintf(world.other, sizeof(world.other), "%s", in_dir("other"));
	ram_make(world.other, 0, 0644);
	pki_issue_uri(daemon_pki(world.daemon), "acme", "vmsig://sensor/acme", &world.cert);
	return 0;
}

static int teardown(void **state)
{
	int code;

	if (!world.daemon)
		return 0;
	ctx_client_close(&world.client);
	code = daemon_stop(world.daemon, SIGTERM);
	unmount_fuse();
	if (code)
		fail_msg("%s", daemon_log(world.daemon));
	for (size_t i = 0; i < world.nactors; i++)
		actor_end(&world.actors[i]);
	daemon_free(world.daemon);
	return 0;
}

static void needs_root(void)
{
	if (!world.daemon)
		skip();
}

/* A broker in a PID namespace of its own, in which the QEMUs are not. */
static void start_apart(void)
{
	int own = open("/proc/self/ns/pid_for_children", O_RDONLY | O_CLOEXEC);

	assert_true(own >= 0);
	assert_int_equal(unshare(CLONE_NEWPID), 0);
	daemon_start(world.daemon);
	assert_int_equal(setns(own, CLONE_NEWPID), 0);
	close(own);
}

/* Starts the QEMUs, one after the other, and a broker with an endpoint for each. */
static void begin(struct actor *actors, size_t n, const char *more)
{
	char endpoints[4096] = "";

	world.actors = actors;
	world.nactors = n;
	for (size_t i = 0; i < n; i++) {
		actor_start(&actors[i]);
		snprintf(endpoints + strlen(endpoints), sizeof(endpoints) - strlen(endpoints),
			"  - {name: %s, adapter: qemu, qmp: %s/qmp, reprove: 100ms, retry: 50ms, "
			"retry_max: 100ms}\n",
			actors[i].name, actors[i].name);
	}
	daemon_configure(world.daemon,
		"endpoints:\n%s%s"
		"tenants:\n"
		"  - {name: acme, role: sensor, uids: [%u], endpoints: [\"*\"]}\n",
		endpoints, more, (unsigned)getuid());
	if (world.apart)
		start_apart();
	else
		daemon_start(world.daemon);
	ctx_client_open(&world.client, world.daemon, &world.cert);
}

/* Its state; `detail` gets the sentence. */
static uint32_t state_of(const char *name, char detail[static 1024])
{
	Vmsig__CtxMessage *message;
	uint32_t state = VMSIG_STATE_UNKNOWN;

	ctx_client_list(&world.client);
	message = ctx_client_expect(&world.client, VMSIG__CTX_MESSAGE__BODY_ENDPOINT_LIST);
	for (size_t i = 0; i < message->endpoint_list->n_endpoints; i++) {
		const Vmsig__EndpointInfo *info = message->endpoint_list->endpoints[i];

		if (strcmp(info->name, name) != 0)
			continue;
		state = info->state;
		snprintf(detail, 1024, "%s", info->detail);
	}
	ctx_client_free_message(message);
	return state;
}

static void await(const char *name, uint32_t state, const char *words)
{
	const struct timespec pause = {.tv_nsec = 20 * 1000 * 1000};
	char detail[1024] = "";
	uint32_t got = VMSIG_STATE_UNKNOWN;

	for (unsigned waited = 0; waited < DAEMON_WAIT_MS; waited += 20) {
		got = state_of(name, detail);
		if (got == state && strstr(detail, words))
			return;
		nanosleep(&pause, NULL);
	}
	fail_msg("%s is in state %u, '%s'\n%s", name, got, detail, daemon_log(world.daemon));
}

static void is_ready(const char *name)
{
	await(name, VMSIG_STATE_READY, "");
}

static void is_refused(const char *name, const char *words)
{
	await(name, VMSIG_STATE_BOOTING, words);
	assert_int_equal(daemon_log_count(world.daemon, "\"kernel proven\""), 0);
}

/* The inode that a sensor of the endpoint gets. */
static ino_t served(const char *name)
{
	struct stat st;
	int fds[2];

	ctx_client_expect_done(&world.client, ctx_client_subscribe(&world.client, name));
	ctx_client_free_message(ctx_client_expect_memctx(&world.client, fds));
	assert_int_equal(fstat(fds[0], &st), 0);
	close(fds[0]);
	close(fds[1]);
	ctx_client_expect_done(&world.client, ctx_client_unsubscribe(&world.client, name));
	return st.st_ino;
}

static ino_t inode_of(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_ino;
}

/* ---- tests ---- */

static void an_honest_qemu_is_served(void **state)
{
	struct actor actors[] = {
		{.name = "honest", .uid = VICTIM, .says = "ram", .prot = PROT_READ | PROT_WRITE}};

	needs_root();
	folder_make("honest", VICTIM);
	actors[0].maps = in_dir("honest/ram");
	ram_make(actors[0].maps, VICTIM, 0644);
	begin(actors, 1, "");
	is_ready("honest");
	assert_int_equal(served("honest"), inode_of(actors[0].maps));
	assert_int_equal(mode_of(actors[0].maps), 0600);
}

/* Its number is 0 to who cannot see it: nothing is looked for under that. */
static void a_qemu_in_another_pid_namespace_is_not_guessed_at(void **state)
{
	struct actor actors[] = {
		{.name = "unseen", .uid = VICTIM, .says = "ram", .prot = PROT_READ | PROT_WRITE}};

	needs_root();
	folder_make("unseen", VICTIM);
	actors[0].maps = in_dir("unseen/ram");
	ram_make(actors[0].maps, VICTIM, 0600);
	world.apart = true;
	begin(actors, 1, "");
	is_refused("unseen", "PID namespace");
	is_refused("unseen", "'ram: FILE'");
}

/* The same that the honest one says, of a file that it does not map. */
static void a_file_of_roots_is_not_served_by_name(void **state)
{
	struct actor actors[] = {{.name = "liar", .uid = EVIL, .says = world.other}};

	needs_root();
	begin(actors, 1, "");
	is_refused("liar", "does not map guest RAM shared and writable");
	is_refused("liar", "'ram: FILE'");
	assert_int_equal(mode_of(world.other), 0644);
}

static void a_file_that_is_mapped_for_reading_is_not_served(void **state)
{
	struct actor actors[] = {{.name = "reader",
		.uid = EVIL,
		.says = world.other,
		.maps = world.other,
		.prot = PROT_READ}};

	needs_root();
	begin(actors, 1, "");
	is_refused("reader", "does not map guest RAM shared and writable");
	assert_int_equal(mode_of(world.other), 0644);
}

/* Root's, but everybody may write to it: served, as they could read it anyway, and yet its
 * mode is not theirs to have changed. */
static void a_mode_is_not_narrowed_for_somebody_else(void **state)
{
	struct actor actors[] = {{.name = "guest",
		.uid = EVIL,
		.says = "x",
		.maps = world.other,
		.prot = PROT_READ | PROT_WRITE}};

	needs_root();
	assert_int_equal(chmod(world.other, 0666), 0);
	begin(actors, 1, "");
	is_ready("guest");
	assert_int_equal(mode_of(world.other), 0666);
}

static void another_guests_ram_is_not_served(void **state)
{
	struct actor actors[] = {
		{.name = "victim", .uid = VICTIM, .says = "ram", .prot = PROT_READ | PROT_WRITE},
		{.name = "evil", .uid = EVIL},
	};

	needs_root();
	folder_make("victim", VICTIM);
	actors[0].maps = actors[1].says = in_dir("victim/ram");
	ram_make(actors[0].maps, VICTIM, 0600);
	begin(actors, 2, "");
	is_ready("victim");
	await("evil", VMSIG_STATE_BOOTING, "does not map guest RAM");
	daemon_await_log(world.daemon, "kernel proven", 1);
	assert_int_equal(daemon_log_count(world.daemon, "kernel proven"), 1);
}

/* The name of the QMP socket is the attacker's to plant as well, and vmsigd may connect to any. */
static void a_planted_qmp_socket_is_not_another_guests(void **state)
{
	struct actor actors[] = {
		{.name = "victim", .uid = VICTIM, .says = "ram", .prot = PROT_READ | PROT_WRITE},
	};

	needs_root();
	folder_make("victim", VICTIM);
	folder_make("evil", EVIL);
	actors[0].maps = in_dir("victim/ram");
	ram_make(actors[0].maps, VICTIM, 0600);
	assert_int_equal(symlink(in_dir("victim/qmp"), in_dir("evil/qmp")), 0);
	begin(actors, 1, "  - {name: evil, adapter: qemu, qmp: evil/qmp, retry: 50ms}\n");
	await("evil", VMSIG_STATE_GONE, "symbolic link");
	is_ready("victim");
}

/* QEMUs of one uid may map each other's files, by intent or by mistake. */
static void one_file_is_one_endpoints(void **state)
{
	struct actor actors[] = {
		{.name = "first", .uid = VICTIM, .says = "ram", .prot = PROT_READ | PROT_WRITE},
		{.name = "second", .uid = VICTIM, .says = "ram", .prot = PROT_READ | PROT_WRITE},
	};
	char detail[1024];
	const char *keeper, *loser;

	needs_root();
	folder_make("first", VICTIM);
	actors[0].maps = actors[1].maps = in_dir("first/ram");
	ram_make(actors[0].maps, VICTIM, 0600);
	begin(actors, 2, "");
	daemon_await_log(world.daemon, "two endpoints have one RAM file", 1);
	daemon_await_log(world.daemon, "kernel proven", 1);
	keeper = strstr(daemon_log(world.daemon), "first=\"first\"") ? "first" : "second";
	loser = strcmp(keeper, "first") == 0 ? "second" : "first";
	is_ready(keeper);
	await(loser, VMSIG_STATE_BOOTING, "served as another endpoint already");
	state_of(loser, detail);
	assert_null(strstr(detail, keeper));
	assert_int_equal(daemon_log_count(world.daemon, "kernel proven"), 1);
	/* Once the one has gone, the other may have it. */
	actor_end(&actors[strcmp(keeper, "first") == 0 ? 0 : 1]);
	is_ready(loser);
}

static void a_planted_link_is_not_served(void **state)
{
	needs_root();
	folder_make("evil", EVIL);
	assert_int_equal(symlink(world.other, in_dir("evil/ram")), 0);
	begin(NULL, 0,
		"  - {name: web1, adapter: file, path: evil/ram, low: 512MiB, kcr3: 0x200000, "
		"poll: 20ms}\n");
	await("web1", VMSIG_STATE_GONE, "symbolic link");
	assert_int_equal(mode_of(world.other), 0644);
	/* And with a file of its own there, it is. */
	assert_int_equal(unlink(in_dir("evil/ram")), 0);
	ram_make(in_dir("evil/ram"), EVIL, 0644);
	is_ready("web1");
	assert_int_equal(mode_of(in_dir("evil/ram")), 0600);
	/* Nor later, in its place. */
	assert_int_equal(unlink(in_dir("evil/ram")), 0);
	assert_int_equal(symlink(world.other, in_dir("evil/ram")), 0);
	await("web1", VMSIG_STATE_GONE, "symbolic link");
	assert_int_equal(mode_of(world.other), 0644);
}

static void a_file_system_that_hangs_harms_nobody(void **state)
{
	bool hangs;

	needs_root();
	hangs = mount_dead_fuse();
	if (!hangs)
		print_message("no FUSE here: nothing hangs\n");
	daemon_ram(world.daemon, "sound", 1 << 20);
	begin(NULL, 0,
		"  - {name: dead, adapter: file, path: fuse/ram, low: 1MiB, kcr3: 0x1000, "
		"poll: 20ms}\n"
		"  - {name: sound, adapter: file, path: sound.ram, low: 1MiB, kcr3: 0x1000, "
		"poll: 20ms}\n");
	is_ready("sound");
	await("dead", VMSIG_STATE_GONE, hangs ? "(fuse.vmsigtest)" : "");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(an_honest_qemu_is_served),
		TEST(a_qemu_in_another_pid_namespace_is_not_guessed_at),
		TEST(a_file_of_roots_is_not_served_by_name),
		TEST(a_file_that_is_mapped_for_reading_is_not_served),
		TEST(a_mode_is_not_narrowed_for_somebody_else),
		TEST(another_guests_ram_is_not_served),
		TEST(a_planted_qmp_socket_is_not_another_guests),
		TEST(one_file_is_one_endpoints),
		TEST(a_planted_link_is_not_served),
		TEST(a_file_system_that_hangs_harms_nobody),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
