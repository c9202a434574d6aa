/* SPDX-License-Identifier: Apache-2.0 */
/* The adapter's write path, and what lets a session outlive the broker. */
#include "tests/integration/qemu/scene.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "broker/adapters/qemu/guardian.h"
#include "vmsig/vmsig_error.h"

static bool is_refused_for(const char *reason)
{
	const char *why = NULL;
	int r = scene.writer.may_write(scene.writer.ctx, &why);

	assert_true(r == 0 || r == VMSIG_ERR_BUSY);
	if (r && !strstr(why, reason))
		fail_msg("refused because: %s", why);
	return r;
}

static bool is_refused(void)
{
	return is_refused_for("migration");
}

static void test_no_write_path_unless_asked(void **state)
{
	scene_start();
	assert_false(scene.writable);
}

static void test_writable(void **state)
{
	const char *why = NULL;
	int fd;

	scene.config.writable = true;
	scene_start();
	assert_true(scene.writable);
	/* Without a guardian nobody may stop it. */
	assert_null(scene.writer.quiesce);
	assert_false(is_refused());
	fd = scene.writer.share_writable(scene.writer.ctx);
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDWR);
	close(fd);
	/* Nobody knows what QEMU does meanwhile. */
	fake_qmp_stop_listening(&scene.fake);
	fake_qmp_hang_up(&scene.fake);
	wait_for(scene.state == VMSIG_STATE_UNREACHABLE);
	assert_int_equal(scene.writer.may_write(scene.writer.ctx, &why), VMSIG_ERR_BUSY);
	assert_non_null(strstr(why, "does not answer"));
	scene_process_end();
	wait_for(scene.state == VMSIG_STATE_GONE);
	assert_int_equal(scene.writer.share_writable(scene.writer.ctx), -ENODEV);
	assert_true(is_refused_for("not ready"));
}

static void test_no_writes_during_migration(void **state)
{
	scene.config.writable = true;
	scene.config.reprove_ms = PATIENCE_MS * 10; /* events alone */
	scene_start();
	wait_for(scene.fake.events_asked);
	for (int i = 0; i < 3; i++) {
		assert_false(is_refused());
		scene.fake.migration = "active";
		scene_event("MIGRATION");
		wait_for(is_refused());
		scene.fake.migration = "cancelled";
		scene_event("MIGRATION");
		wait_for(!is_refused());
	}
	assert_int_equal(scene.invalidated, 0);
}

/* Every state but those in which nothing moves, and those of a QEMU to come; also of a QEMU
 * that sends no events. */
static void test_states_of_migration(void **state)
{
	static const char *const busy[] = {"setup", "active", "postcopy-active", "device",
		"pre-switchover", "wait-unplug", "cancelling", "a-new-one"};
	static const char *const quiet[] = {"none", "completed", "failed", "cancelled"};

	scene.config.writable = true;
	scene_start();
	for (size_t i = 0; i < sizeof(busy) / sizeof(busy[0]); i++) {
		scene.fake.migration = busy[i];
		wait_for(is_refused());
		scene.fake.migration = quiet[i % (sizeof(quiet) / sizeof(quiet[0]))];
		wait_for(!is_refused());
	}
	assert_int_equal(scene.invalidated, 0);
}

static void test_migration_before_us(void **state)
{
	scene.config.writable = true;
	fake_qmp_start(&scene.fake, &scene.loop, scene.socket, scene.ram);
	scene.fake.migration = "active";
	scene_adapter_start();
	assert_true(is_refused_for("not ready"));
	wait_for(scene.memctx == 1);
	assert_true(is_refused());
	scene.fake.migration = "failed";
	/* No event of it was seen: the next look kernel.finds it. */
	wait_for(!is_refused());
}

static void on_done(void *arg, int error)
{
	scene.done++;
	scene.error = error;
}

static void stop_vcpus(void)
{
	scene.config.writable = true;
	scene.config.reprove_ms = PATIENCE_MS * 10;
	assert_int_equal(guardian_start(&scene.guardian, NULL), 0);
	scene_start();
	scene.writer.quiesce(scene.writer.ctx, PATIENCE_MS * 10, on_done, NULL);
	wait_for(scene.done);
	assert_int_equal(scene.error, 0);
	assert_true(scene.writer.is_quiesced(scene.writer.ctx));
}

/* The events of our own stop are no reason to prove the kernel again. */
static void test_quiesce_ends_nothing(void **state)
{
	unsigned asked;

	stop_vcpus();
	asked = scene.fake.asked;
	scene.writer.resume(scene.writer.ctx);
	wait_for(strcmp(scene.fake.log, "stop cont ") == 0);
	scene.done = 0;
	scene.writer.quiesce(scene.writer.ctx, PATIENCE_MS * 10, on_done, NULL);
	wait_for(scene.done);
	scene.writer.resume(scene.writer.ctx);
	wait_for(strcmp(scene.fake.log, "stop cont stop cont ") == 0);
	/* cont, query-status, stop, cont. */
	assert_int_equal(scene.fake.asked, asked + 4);
	assert_int_equal(scene.invalidated, 0);
}

static void test_stop_while_quiesced(void **state)
{
	stop_vcpus();
	scene_adapter_stop();
	assert_string_equal(scene.fake.log, "stop cont ");
	assert_int_equal(scene.fake.accepted, 1);
	scene_adapter_start();
	wait_for(scene.memctx == 2);
}

static void test_reset_while_quiesced(void **state)
{
	stop_vcpus();
	scene_event("RESET");
	wait_for(scene.invalidated == 1);
	scene.writer.resume(scene.writer.ctx);
	wait_for(scene.memctx == 2);
	assert_string_equal(scene.fake.log, "stop cont ");
}

/* The guest that was stopped has gone with its QEMU, and the next one's may have been stopped by
 * somebody who means it. */
static void test_the_next_guest_is_not_continued(void **state)
{
	stop_vcpus();
	scene.fake.log[0] = '\0';
	scene_process_end();
	scene.process.start = 2;
	fake_qmp_hang_up(&scene.fake);
	wait_for(scene.memctx == 2);
	assert_string_equal(scene.fake.log, "");
}

/* ---- what tells one session from another ---- */

static void restart(char session[static VMSIG_SESSION_MAX])
{
	unsigned memctx = scene.memctx;

	scene_adapter_stop();
	scene.asked = false;
	scene_adapter_start();
	wait_for(scene.memctx == memctx + 1);
	memcpy(session, scene.session, VMSIG_SESSION_MAX);
}

static void test_session_outlives_the_broker(void **state)
{
	char session[VMSIG_SESSION_MAX], other[VMSIG_SESSION_MAX];

	kernel.proof.placement = 0xabcdef;
	kernel.proof.digest = 1;
	scene_start();
	memcpy(session, scene.session, sizeof(session));
	assert_int_not_equal(session[0], '\0');
	restart(other);
	assert_string_equal(other, session);
	kernel.proof.placement++;
	restart(other);
	assert_string_not_equal(other, session);
	kernel.proof.placement--;
	kernel.proof.digest++;
	restart(other);
	assert_string_not_equal(other, session);
	kernel.proof.digest--;
	kernel.proof.kcr3 += 0x1000;
	restart(other);
	assert_string_not_equal(other, session);
	kernel.proof.kcr3 -= 0x1000;
	restart(other);
	assert_string_equal(other, session);
}

/* Each boot looks like the one before: nothing can be said. */
static void test_no_session_without_kaslr(void **state)
{
	kernel.proof.digest = 1;
	scene_start();
	assert_string_equal(scene.session, "");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scene_setup, scene_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_no_write_path_unless_asked),
		TEST(test_writable),
		TEST(test_no_writes_during_migration),
		TEST(test_states_of_migration),
		TEST(test_migration_before_us),
		TEST(test_quiesce_ends_nothing),
		TEST(test_stop_while_quiesced),
		TEST(test_reset_while_quiesced),
		TEST(test_the_next_guest_is_not_continued),
		TEST(test_session_outlives_the_broker),
		TEST(test_no_session_without_kaslr),
	};

	/* As in vmsigd: a QEMU that goes while it is written to is an error, not the end. */
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
