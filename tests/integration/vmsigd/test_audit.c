/* SPDX-License-Identifier: Apache-2.0 */
/* `vmsigctl audit` and the real broker: what was done is told, and what is done to its log is
 * found. */
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/integration/vmsigd/desk_scene.h"
#include "tests/support/tamper.h"

#define OUT_MAX (256u << 10)
#define BROKEN 15 /* exit status of a log that is not intact */
#define HEAD_MAX 128

struct stage {
	struct desk_scene *scene;
	char out[OUT_MAX]; /* of the last command, errors among it */
};

/* Files as vmsigctl wants them. */
static void identity_make(struct desk_scene *scene, const char *name, const struct pki_cert *cert)
{
	struct pki *pki = daemon_pki(scene->daemon);
	char command[6 * PATH_MAX];

	snprintf(command, sizeof(command),
		"mkdir -p '%s/%s' && cd '%s/%s' && ln -sf '%s' key.pem && ln -sf '%s' cert.pem && "
		"ln -sf '%s' ca.pem",
		daemon_dir(scene->daemon), name, daemon_dir(scene->daemon), name, cert->key,
		cert->cert, pki_ca(pki));
	assert_int_equal(system(command), 0);
}

static int setup(void **state)
{
	struct stage *stage = calloc(1, sizeof(*stage));
	void *scene;

	assert_non_null(stage);
	assert_int_equal(desk_scene_setup(&scene), 0);
	stage->scene = scene;
	identity_make(stage->scene, "root", &stage->scene->admin);
	identity_make(stage->scene, "alice", &stage->scene->alice);
	*state = stage;
	return 0;
}

static int teardown(void **state)
{
	struct stage *stage = *state;
	void *scene = stage->scene;
	int r = desk_scene_teardown(&scene);

	free(stage);
	return r;
}

/* ---- vmsigctl ---- */

/* Runs `vmsigctl audit ...` in the broker's folder, through a shell. */
__attribute__((format(printf, 4, 5))) static void audit_as(
	struct stage *stage, const char *identity, int status, const char *format, ...)
{
	const char *dir = daemon_dir(stage->scene->daemon);
	char arguments[1024], command[4096];
	va_list args;
	size_t len;
	FILE *pipe;
	int got;

	va_start(args, format);
	vsnprintf(arguments, sizeof(arguments), format, args);
	va_end(args);
	snprintf(command, sizeof(command),
		"cd '%s' && exec 2>&1 && export VMSIG_IDENTITY=%s "
		"VMSIG_ADMIN_SOCKET=run/admin.sock "
		"&& '%s' audit %s",
		dir, identity, VMSIGCTL, arguments);
	pipe = popen(command, "r");
	assert_non_null(pipe);
	len = fread(stage->out, 1, sizeof(stage->out) - 1, pipe);
	stage->out[len] = '\0';
	got = pclose(pipe);
	if (!WIFEXITED(got) || WEXITSTATUS(got) != status)
		fail_msg("vmsigctl audit %s ends with 0x%x, expected status %d: %s", arguments, got,
			status, stage->out);
}

#define audit(stage, status, ...) audit_as(stage, "root", status, __VA_ARGS__)

static void assert_said(const struct stage *stage, const char *words)
{
	if (!strstr(stage->out, words))
		fail_msg("'%s' is not in: %s", words, stage->out);
}

static void assert_not_said(const struct stage *stage, const char *words)
{
	if (strstr(stage->out, words))
		fail_msg("'%s' is in: %s", words, stage->out);
}

static unsigned lines(const struct stage *stage)
{
	unsigned n = 0;

	for (const char *c = stage->out; *c; c++)
		n += *c == '\n';
	return n;
}

/* ID:HEX of the newest record. */
static void head_note(struct stage *stage, char ret_head[static HEAD_MAX])
{
	const char *head;

	audit(stage, 0, "verify");
	head = strstr(stage->out, "\nhead ");
	assert_non_null(head);
	assert_int_equal(sscanf(head, "\nhead %127s", ret_head), 1);
}

/* ---- records ---- */

/* A grant, a write, a write with a stale token, a release. */
static void work(struct desk_scene *scene, const char *endpoint)
{
	const uint64_t word = 0x1234;
	Vmsig__WriteRequest request = VMSIG__WRITE_REQUEST__INIT;
	Vmsig__LeaseRelease release = VMSIG__LEASE_RELEASE__INIT;
	struct write_client client;
	struct write_lease lease;
	bool done = false;

	write_client_open(&client, scene->daemon, "write.sock", &scene->alice);
	lease = write_client_acquire(&client, endpoint);
	write_client_write(&client, &lease, 1, 0x3000, &word, sizeof(word), NULL);
	assert_int_equal(write_client_outcome(&client), 0);
	release.lease = lease.id;
	release.token = lease.token;
	lease.token++;
	write_client_expect_error(&client,
		write_client_write(&client, &lease, 2, 0x3000, &word, sizeof(word), NULL),
		VMSIG_ERR_NO_LEASE);
	request.body_case = VMSIG__WRITE_REQUEST__BODY_LEASE_RELEASE;
	request.lease_release = &release;
	write_client_send(&client, &request, NULL, 0);
	/* The event of the end may come before. */
	while (!done) {
		Vmsig__WriteMessage *message = write_client_receive(&client);

		assert_non_null(message);
		done = message->body_case == VMSIG__WRITE_MESSAGE__BODY_DONE;
		write_client_free_message(message);
	}
	write_client_close(&client);
}

static sqlite3_int64 ask(struct stage *stage, const char *file, const char *question)
{
	char path[PATH_MAX];
	sqlite3_int64 answer;
	sqlite3_stmt *stmt;
	sqlite3 *db;

	snprintf(path, sizeof(path), "%s/%s", daemon_dir(stage->scene->daemon), file);
	assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
	if (sqlite3_prepare_v2(db, question, -1, &stmt, NULL) != SQLITE_OK)
		fail_msg("%s: %s", question, sqlite3_errmsg(db));
	assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
	answer = sqlite3_column_int64(stmt, 0);
	sqlite3_finalize(stmt);
	sqlite3_close(db);
	return answer;
}

static void records_are_asked_with_sql(void **state)
{
	struct stage *stage = *state;
	unsigned records;

	work(stage->scene, "w1");
	work(stage->scene, "w2");
	audit(stage, 0, "export");
	records = lines(stage);
	audit(stage, 0, "export --sqlite log.db");
	assert_said(stage, " records, the newest is ");
	assert_int_equal(ask(stage, "log.db", "SELECT count(*) FROM records"), records);
	assert_int_equal(ask(stage, "log.db",
				 "SELECT count(*) FROM records WHERE kind = 'write-intent' AND "
				 "endpoint = 'w1' AND tenant = 'alice' AND bytes = 8"),
		1);
	assert_int_equal(
		ask(stage, "log.db", "SELECT count(*) FROM records WHERE outcome = 'NO_LEASE'"), 2);
	assert_int_equal(ask(stage, "log.db",
				 "SELECT count(*) FROM records JOIN ranges ON record = id WHERE "
				 "start = '0x0000000000003000' AND last = '0x0000000000003007' AND "
				 "kind = 'write-intent'"),
		2);
	/* Each is proven by the one before. */
	assert_int_equal(ask(stage, "log.db",
				 "SELECT count(*) FROM records a JOIN records b ON a.id + 1 = b.id "
				 "AND a.hash = b.previous AND a.time <= b.time"),
		records - 1);
	audit(stage, 0, "export --after 3 --sqlite rest.db --json");
	assert_said(stage, "\"file\":\"rest.db\"");
	assert_int_equal(ask(stage, "rest.db", "SELECT min(id) FROM records"), 4);
	/* Nothing is overwritten, and nothing half is left behind. */
	audit(stage, 1, "export --sqlite log.db");
	assert_said(stage, "already");
	audit(stage, 1, "export --sqlite nowhere/log.db");
	audit_as(stage, "alice", 5, "export --sqlite other.db");
	audit(stage, 2, "ls --sqlite log.db");
}

static void records_are_listed(void **state)
{
	struct stage *stage = *state;

	work(stage->scene, "w1");
	work(stage->scene, "w2");
	audit(stage, 0, "ls");
	assert_said(stage, "  write-intent ");
	assert_said(stage, "  write-refused ");
	assert_said(stage, "vmsigd ");
	audit(stage, 0, "ls --kind write-intent --endpoint 'w*' --json");
	assert_int_equal(lines(stage), 2);
	assert_said(stage, "\"endpoint\":\"w1\"");
	assert_said(stage, "\"new_hash\":\"");
	audit(stage, 0, "ls --kind 'write-*' --endpoint w2 --tenant alice --json");
	assert_int_equal(lines(stage), 3);
	assert_said(stage, "\"outcome\":\"NO_LEASE\"");
	assert_not_said(stage, "w1");
	audit(stage, 0, "ls --tenant bob --json");
	assert_int_equal(lines(stage), 0);
	audit(stage, 0, "ls --after 2 --limit 1 --json");
	assert_int_equal(lines(stage), 1);
	assert_said(stage, "{\"id\":3,");
	audit(stage, 0, "ls --since 2020-01-01 --kind write-intent --json");
	assert_int_equal(lines(stage), 2);
	audit(stage, 0, "ls --since 2020-01-01T08:00 --until 2020-01-01T09:00:00Z --json");
	assert_int_equal(lines(stage), 0);
	audit(stage, 0, "tail -n 1 --until 2999-12-31 --endpoint w1 --kind write-intent --json");
	assert_int_equal(lines(stage), 1);
	audit(stage, 2, "ls --since yesterday");
	audit(stage, 2, "ls --kind nonsense");
	audit(stage, 2, "ls --head 1");
	audit(stage, 2, "ls 3");
}

static void the_newest_are_shown(void **state)
{
	struct stage *stage = *state;

	work(stage->scene, "w1");
	audit(stage, 0, "tail -n 2 --json");
	assert_int_equal(lines(stage), 2);
	audit(stage, 0, "tail -n 1 --kind start --json");
	assert_int_equal(lines(stage), 1);
	assert_said(stage, "{\"id\":1,\"kind\":\"start\"");
	audit(stage, 0, "tail -n 0");
	assert_int_equal(lines(stage), 0);
	audit(stage, 0, "show 2");
	assert_said(stage, "kind        grant\n");
	assert_said(stage, "tenant      alice\n");
	audit(stage, 0, "show 2 --json");
	assert_said(stage, "\"ttl_ms\":");
	audit(stage, 3, "show 999");
	audit(stage, 2, "show x");
	audit(stage, 2, "show");
}

static void nobody_else_may_look(void **state)
{
	struct stage *stage = *state;

	audit_as(stage, "alice", 5, "ls");
	audit_as(stage, "nobody", 5, "ls");
}

/* ---- following ---- */

struct follower {
	pid_t pid;
	FILE *out;
};

static struct follower follow(struct stage *stage)
{
	char script[] = "cd \"$1\" && exec \"$2\" --identity root --socket run/admin.sock audit "
			"tail -n 1 --follow --json 2>&1";
	char shell[] = "/bin/sh", option[] = "-c", name[] = "sh", program[] = VMSIGCTL;
	char *dir = strdup(daemon_dir(stage->scene->daemon));
	char *argv[] = {shell, option, script, name, dir, program, NULL};
	posix_spawn_file_actions_t actions;
	struct follower follower;
	int out[2];

	assert_non_null(dir);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	assert_int_equal(posix_spawn_file_actions_init(&actions), 0);
	assert_int_equal(posix_spawn_file_actions_adddup2(&actions, out[1], 1), 0);
	assert_int_equal(posix_spawn(&follower.pid, shell, &actions, NULL, argv, environ), 0);
	posix_spawn_file_actions_destroy(&actions);
	close(out[1]);
	free(dir);
	follower.out = fdopen(out[0], "r");
	assert_non_null(follower.out);
	return follower;
}

/* Reads lines until one has the words: the time limit is that of the whole test. */
static void follower_await(struct follower *follower, const char *words)
{
	char line[4096];

	do {
		if (!fgets(line, sizeof(line), follower->out))
			fail_msg("the follower ended before it said '%s'", words);
	} while (!strstr(line, words));
}

static void what_is_appended_is_followed(void **state)
{
	struct stage *stage = *state;
	struct follower follower = follow(stage);

	follower_await(&follower, "\"kind\":\"start\"");
	work(stage->scene, "w1");
	follower_await(&follower, "\"endpoint\":\"w1\"");
	desk_scene_restart(stage->scene, SIGTERM);
	follower_await(&follower, "\"kind\":\"start\"");
	work(stage->scene, "w2");
	follower_await(&follower, "\"endpoint\":\"w2\"");
	desk_scene_restart(stage->scene, SIGKILL);
	follower_await(&follower, "\"kind\":\"start\"");
	assert_int_equal(kill(follower.pid, SIGTERM), 0);
	assert_int_equal(waitpid(follower.pid, NULL, 0), follower.pid);
	fclose(follower.out);
}

/* ---- attacks ---- */

/* On the file, with the broker running or not. */
static void attack(struct stage *stage, enum tamper tamper, uint64_t id)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/state", daemon_dir(stage->scene->daemon));
	tamper_with(path, tamper, id);
}

/* What the file says while the broker runs is what it says to who verifies it. */
static void attacks_on_a_running_broker_are_found(void **state)
{
	struct stage *stage = *state;

	work(stage->scene, "w1");
	audit(stage, 0, "verify");
	attack(stage, TAMPER_BODY, 3);
	audit(stage, BROKEN, "verify");
	assert_said(stage, "record 3 ");
	work(stage->scene, "w1");
	audit(stage, BROKEN, "verify --json");
	assert_said(stage, "{\"intact\":false,");
}

static void attacks_between_two_runs_are_found(void **state)
{
	static const struct {
		enum tamper tamper;
		const char *said;
	} attacks[] = {
		{TAMPER_BODY, "record 3 "},
		{TAMPER_HASH, "record 3 "},
		{TAMPER_REMOVE, "record 3 "},
	};
	struct stage *stage = *state;

	for (size_t i = 0; i < sizeof(attacks) / sizeof(attacks[0]); i++) {
		void *fresh;

		if (i) {
			teardown(state);
			setup(&fresh);
			*state = stage = fresh;
		}
		work(stage->scene, "w1");
		assert_int_equal(daemon_stop(stage->scene->daemon, SIGTERM), 0);
		attack(stage, attacks[i].tamper, 3);
		desk_scene_start(stage->scene);
		audit(stage, BROKEN, "verify");
		assert_said(stage, attacks[i].said);
		/* It is shown as far as it can be. */
		audit(stage, 0, "ls");
	}
}

static void a_cut_between_two_runs_is_found_by_a_head(void **state)
{
	struct stage *stage = *state;
	char head[HEAD_MAX];

	work(stage->scene, "w1");
	head_note(stage, head);
	audit(stage, 0, "verify --head %s", head);
	assert_int_equal(daemon_stop(stage->scene->daemon, SIGTERM), 0);
	attack(stage, TAMPER_CUT, 2);
	desk_scene_start(stage->scene);
	audit(stage, 0, "verify");
	audit(stage, BROKEN, "verify --head %s", head);
	work(stage->scene, "w1");
	audit(stage, BROKEN, "verify --head %s", head);
	audit(stage, 2, "verify --head 3:00");
}

/* ---- exports ---- */

static void an_export_is_verified_without_a_broker(void **state)
{
	struct stage *stage = *state;
	char head[HEAD_MAX];

	work(stage->scene, "w1");
	audit(stage, 0, "export > exported");
	head_note(stage, head);
	work(stage->scene, "w2");
	audit(stage, 0, "export --after %.*s > rest", (int)strcspn(head, ":"), head);
	audit(stage, 0, "export | '%s' audit verify --file - --head %s", VMSIGCTL, head);
	assert_int_equal(daemon_stop(stage->scene->daemon, SIGTERM), 0);
	audit(stage, 0, "verify --file exported --head %s", head);
	assert_said(stage, head);
	/* What came behind the head goes on from it, and proves nothing alone. */
	audit(stage, 0, "verify --file rest --head %s", head);
	audit(stage, BROKEN, "verify --file rest");
	audit(stage, 0, "verify --file - <<END\n$(cat exported rest)\nEND");
	desk_scene_start(stage->scene);
}

static void edits_of_an_export_are_found(void **state)
{
	static const char *const edits[] = {
		"3d",                                             /* a line less */
		"2{h;d};3{G}",                                    /* two in another order */
		"3p",                                             /* one twice */
		"s/\"tenant\":\"alice\"/\"tenant\":\"mallory\"/", /* for readers only */
		"s/\"outcome\":\"NO_LEASE\"/\"outcome\":\"OK\"/",
		"4s/}$/,\"note\":\"nothing\"}/", /* what no record says */
		"3s/\"body\":\"../\"body\":\"ff/",
		"3s/\"hash\":\"../\"hash\":\"zz/",
		"3s/$/}/",
		"3s/.*//",
	};
	struct stage *stage = *state;
	char head[HEAD_MAX];

	work(stage->scene, "w1");
	audit(stage, 0, "export > exported");
	head_note(stage, head);
	for (size_t i = 0; i < sizeof(edits) / sizeof(edits[0]); i++) {
		audit(stage, BROKEN, "verify --file - <<END\n$(sed '%s' exported)\nEND", edits[i]);
		assert_said(stage, "vmsigctl: the audit log is not intact: ");
	}
	audit(stage, 0, "verify --file - <<END\n$(sed '$d' exported)\nEND");
	audit(stage, BROKEN, "verify --head %s --file - <<END\n$(sed '$d' exported)\nEND", head);
	audit(stage, 1, "verify --file nothing");
	audit(stage, 1, "verify --file /dev/null");
}

/* Who asks for a reload and goes is known for it, whether it succeeds or not. */
static void a_reload_is_recorded_when_its_administrator_has_gone(void **state)
{
	struct stage *stage = *state;
	struct daemon *daemon = stage->scene->daemon;
	Vmsig__AdminRequest request = VMSIG__ADMIN_REQUEST__INIT;
	Vmsig__Reload body = VMSIG__RELOAD__INIT;
	struct write_client admin;
	unsigned before = daemon_log_count(daemon, "configuration reloaded");
	int fd = open(daemon_config(daemon), O_WRONLY | O_APPEND | O_CLOEXEC);

	assert_true(fd >= 0);
	write_client_open(&admin, daemon, "admin.sock", &stage->scene->admin);
	request.body_case = VMSIG__ADMIN_REQUEST__BODY_RELOAD;
	request.reload = &body;
	write_client_send_admin(&admin, &request);
	/* It has been heard before the answer to what came after it. */
	request = (Vmsig__AdminRequest)VMSIG__ADMIN_REQUEST__INIT;
	request.body_case = VMSIG__ADMIN_REQUEST__BODY_HOSTED_LIST;
	request.hosted_list = &(Vmsig__HostedList)VMSIG__HOSTED_LIST__INIT;
	write_client_send_admin(&admin, &request);
	vmsig__admin_message__free_unpacked(write_client_receive_admin(&admin), NULL);
	write_client_close(&admin);
	audit(stage, 0, "tail");
	assert_not_said(stage, "reloaded");
	close(fd); /* whoever writes it is waited for */
	daemon_await_log(daemon, "configuration reloaded", before + 1);
	do
		audit(stage, 0, "tail");
	while (!strstr(stage->out, "reloaded"));
	assert_said(stage, "the configuration is the same");
	/* One that is asked for when the broker ends is nobody's. */
	fd = open(daemon_config(daemon), O_WRONLY | O_APPEND | O_CLOEXEC);
	write_client_open(&admin, daemon, "admin.sock", &stage->scene->admin);
	request = (Vmsig__AdminRequest)VMSIG__ADMIN_REQUEST__INIT;
	request.body_case = VMSIG__ADMIN_REQUEST__BODY_RELOAD;
	request.reload = &body;
	write_client_send_admin(&admin, &request);
	write_client_close(&admin);
	assert_int_equal(daemon_stop(daemon, SIGTERM), 0);
	close(fd);
	daemon_start(daemon);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		TEST(records_are_listed),
		TEST(records_are_asked_with_sql),
		TEST(the_newest_are_shown),
		TEST(nobody_else_may_look),
		TEST(what_is_appended_is_followed),
		TEST(attacks_on_a_running_broker_are_found),
		TEST(attacks_between_two_runs_are_found),
		TEST(a_cut_between_two_runs_is_found_by_a_head),
		TEST(an_export_is_verified_without_a_broker),
		TEST(edits_of_an_export_are_found),
		TEST(a_reload_is_recorded_when_its_administrator_has_gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
