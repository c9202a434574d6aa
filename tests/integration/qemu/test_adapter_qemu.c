/* SPDX-License-Identifier: Apache-2.0 */
/* The adapter's state machine. */
#include "tests/integration/qemu/scene.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SO_PASSRIGHTS_NUMBER 83 /* not in the headers of older systems */

static void test_qemu_comes_late(void **state)
{
	scene_adapter_start();
	wait_for(scene.state == VMSIG_STATE_GONE);
	assert_non_null(strstr(scene.detail, scene.socket));
	fake_qmp_start(&scene.fake, &scene.loop, scene.socket, scene.ram);
	wait_for(scene.memctx == 1);
	assert_int_equal(scene.epoch, 1);
	assert_int_equal(scene.invalidated, 0);
}

static void test_kernel_comes_late(void **state)
{
	atomic_store(&kernel.not_ready, 3);
	fake_qmp_start(&scene.fake, &scene.loop, scene.socket, scene.ram);
	scene.fake.long_mode = false;
	scene_adapter_start();
	wait_for(strstr(scene.detail, "long mode"));
	assert_int_equal(atomic_load(&kernel.finds), 0);
	scene.fake.long_mode = true;
	wait_for(strstr(scene.detail, "nothing yet"));
	wait_for(scene.memctx == 1);
	assert_int_equal(atomic_load(&kernel.finds), 4);
}

static void test_reset_burst(void **state)
{
	scene_start();
	for (int i = 0; i < 4; i++)
		scene_event("RESET");
	wait_for(scene.memctx == 2);
	assert_int_equal(scene.memctx_epoch, scene.epoch);
	assert_int_equal(scene.invalidated, 1);
}

/* A scan that is under way when the guest resets is dropped, not delivered. */
static void test_reset_during_scan(void **state)
{
	atomic_store(&kernel.scan_for_ever, true);
	fake_qmp_start(&scene.fake, &scene.loop, scene.socket, scene.ram);
	scene_adapter_start();
	wait_for(atomic_load(&kernel.finds) == 1);
	scene_event("RESET");
	wait_for(atomic_load(&kernel.finds) == 2);
	assert_int_equal(scene.memctx, 0);
	atomic_store(&kernel.scan_for_ever, false);
	wait_for(scene.memctx == 1);
}

static void test_session_ends(void **state)
{
	static const char *const ends[] = {"RESET", "SHUTDOWN", "GUEST_CRASHLOADED"};

	scene_start();
	for (unsigned i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		scene_event(ends[i]);
		wait_for(scene.invalidated == i + 1 && scene.memctx == i + 2);
	}
}

/* At once, and not with the first search that finds nothing. */
static void test_end_has_a_reason(void **state)
{
	scene_start();
	atomic_store(&kernel.scan_for_ever, true);
	scene_event("RESET");
	wait_for(scene.invalidated == 1 && scene.state == VMSIG_STATE_BOOTING);
	assert_non_null(strstr(scene.detail, "RESET"));
	atomic_store(&kernel.scan_for_ever, false);
	wait_for(scene.memctx == 2);
}

/* What the panic left is what a sensor wants to see: it is read on, until the guest is reset. */
static void test_panic(void **state)
{
	const char *why = NULL;
	int fd;

	scene.config.writable = true;
	scene_start();
	scene_event("GUEST_PANICKED");
	wait_for(scene.state == VMSIG_STATE_PANICKED);
	assert_non_null(strstr(scene.detail, "panicked"));
	fd = scene.reg.share_fd(scene.reg.ctx);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(scene.writer.may_write(scene.writer.ctx, &why), VMSIG_ERR_NO_WRITE_PATH);
	assert_non_null(strstr(why, "reset the guest"));
	/* Out of contact and back it has panicked still, whatever QEMU has made of it. */
	fake_qmp_hang_up(&scene.fake);
	wait_for(scene.state == VMSIG_STATE_UNREACHABLE);
	wait_for(scene.memctx == 2);
	wait_for(scene.state == VMSIG_STATE_PANICKED);
	assert_int_equal(scene.memctx_epoch, 1);
	assert_int_equal(scene.invalidated, 0);
	scene_event("RESET");
	wait_for(scene.memctx == 3);
	assert_int_equal(scene.memctx_epoch, 2);
	assert_int_equal(scene.state, VMSIG_STATE_READY);
	assert_int_equal(scene.writer.may_write(scene.writer.ctx, &why), 0);
}

/* Paused by it before anybody watched: QEMU's run state says so. */
static void test_panic_before(void **state)
{
	fake_qmp_start(&scene.fake, &scene.loop, scene.socket, scene.ram);
	scene.fake.status = "guest-panicked";
	scene_adapter_start();
	wait_for(scene.memctx == 1);
	wait_for(scene.state == VMSIG_STATE_PANICKED);
	assert_int_equal(scene.invalidated, 0);
}

/* Its event was missed; looks find it. */
static void test_panic_unheard(void **state)
{
	scene_start();
	scene.fake.status = "guest-panicked";
	wait_for(scene.state == VMSIG_STATE_PANICKED);
	assert_int_equal(scene.invalidated, 0);
	assert_int_equal(scene.memctx, 1);
}

static void test_qemu_restarts(void **state)
{
	scene_start();
	scene_process_end();
	assert_int_equal(scene.invalidated, 0); /* the end of the connection comes, and says why */
	scene.process.start = 2;
	fake_qmp_hang_up(&scene.fake);
	wait_for(scene.state == VMSIG_STATE_GONE);
	assert_int_equal(scene.invalidated, 1);
	wait_for(scene.memctx == 2);
	assert_int_equal(scene.fake.accepted, 2);
	assert_int_equal(scene.memctx_epoch, 2);
}

/* A connection that ends ends nothing: the same process has the same guest. */
static void test_contact_is_lost(void **state)
{
	for (unsigned i = 1; i < 4; i++) {
		if (i == 1)
			scene_start();
		fake_qmp_hang_up(&scene.fake);
		wait_for(scene.state == VMSIG_STATE_UNREACHABLE);
		assert_non_null(strstr(scene.detail, "closed its QMP socket"));
		wait_for(scene.memctx == i + 1);
		assert_int_equal(scene.fake.accepted, i + 1);
	}
	assert_int_equal(scene.memctx_epoch, 1);
	assert_int_equal(scene.invalidated, 0);
	/* But the kernel has to be there still. */
	fake_qmp_hang_up(&scene.fake);
	wait_for(scene.state == VMSIG_STATE_UNREACHABLE);
	atomic_store(&kernel.memory_lost, true);
	wait_for(scene.invalidated == 1);
}

static void test_another_answers(void **state)
{
	scene_start();
	fake_qmp_hang_up(&scene.fake);
	wait_for(scene.state == VMSIG_STATE_UNREACHABLE);
	scene.process.start = 2;
	wait_for(scene.invalidated == 1);
	wait_for(scene.memctx == 2);
	assert_int_equal(scene.memctx_epoch, 2);
}

/* Out of contact first, and then nothing is left to wait for. */
static void test_process_ends_alone(void **state)
{
	scene_start();
	fake_qmp_stop_listening(&scene.fake);
	fake_qmp_hang_up(&scene.fake);
	wait_for(scene.state == VMSIG_STATE_UNREACHABLE);
	scene_process_end();
	wait_for(scene.state == VMSIG_STATE_GONE);
	assert_int_equal(scene.invalidated, 1);
}

/* The connection stays, and with it the order of what QEMU says. */
static void test_qemu_falls_silent(void **state)
{
	scene_start();
	scene.fake.slow = true;
	wait_for(scene.state == VMSIG_STATE_UNREACHABLE);
	assert_non_null(strstr(scene.detail, "did not answer"));
	assert_int_equal(scene.invalidated, 0);
	scene.fake.slow = false;
	fake_qmp_go_on(&scene.fake);
	wait_for(scene.memctx == 2);
	assert_int_equal(scene.memctx_epoch, 1);
	assert_int_equal(scene.invalidated, 0);
	assert_int_equal(scene.fake.accepted, 1);
	/* A reset meanwhile is one. */
	scene.fake.slow = true;
	wait_for(scene.state == VMSIG_STATE_UNREACHABLE);
	scene_event("RESET");
	scene.fake.slow = false;
	fake_qmp_go_on(&scene.fake);
	wait_for(scene.memctx == 3);
	assert_int_equal(scene.memctx_epoch, 2);
}

/* No event announces a kexec. What the last kernel leaves in memory may go on proving it. */
static void test_kexec(void **state)
{
	scene_start();
	atomic_store(&kernel.memory_lost, true);
	wait_for(scene.invalidated == 1);
	assert_int_equal(scene.memctx, 1);
	atomic_store(&kernel.memory_lost, false);
	wait_for(scene.memctx == 2);
	kernel.proof.kcr3 += 0x1000;
	atomic_store(&kernel.vcpu_lost, true);
	wait_for(scene.invalidated == 2);
	atomic_store(&kernel.vcpu_lost, false);
	wait_for(scene.memctx == 3);
}

/* vCPUs that are elsewhere for as long as they like, and no other kernel: nothing ends. */
static void test_nested_guest(void **state)
{
	unsigned finds;

	scene_start();
	finds = atomic_load(&kernel.finds);
	atomic_store(&kernel.not_ready, 1000000);
	atomic_store(&kernel.vcpu_lost, true);
	wait_for(atomic_load(&kernel.finds) >= finds + 3);
	assert_int_equal(scene.invalidated, 0);
	assert_int_equal(scene.state, VMSIG_STATE_READY);
	scene.fake.long_mode = false;
	finds = scene.fake.asked;
	wait_for(scene.fake.asked >= finds + 30);
	assert_int_equal(scene.invalidated, 0);
}

static void test_name_of_ram_is_removed(void **state)
{
	unsigned asked;

	scene_start();
	assert_int_equal(unlink(scene.ram), 0);
	asked = scene.fake.asked;
	wait_for(scene.fake.asked >= asked + 12);
	assert_int_equal(scene.invalidated, 0);
	assert_int_equal(scene.state, VMSIG_STATE_READY);
}

/* All vCPUs in firmware for a moment: not the end of a session. */
static void test_no_false_alarm(void **state)
{
	unsigned asked;

	scene_start();
	for (int i = 0; i < 3; i++) {
		atomic_store(&kernel.vcpu_lost, true);
		asked = scene.fake.asked;
		wait_for(scene.fake.asked >= asked + 4);
		atomic_store(&kernel.vcpu_lost, false);
		asked = scene.fake.asked;
		wait_for(scene.fake.asked >= asked + 6);
	}
	assert_int_equal(scene.invalidated, 0);
}

static void test_resume_proves_at_once(void **state)
{
	scene.config.reprove_ms = PATIENCE_MS * 10;
	scene_start();
	fake_qmp_pause(&scene.fake);
	fake_qmp_resume(&scene.fake);
	wait_for(scene.fake.asked > 0);
	atomic_store(&kernel.memory_lost, true);
	scene_event("RESUME");
	wait_for(scene.invalidated == 1);
	atomic_store(&kernel.memory_lost, false);
	wait_for(scene.memctx == 2);
}

static void test_hotplug(void **state)
{
	unsigned maps;
	char *line;

	scene_start();
	maps = scene.fake.maps;
	scene_event("ACPI_DEVICE_OST");
	wait_for(scene.fake.maps == maps + 2);
	assert_int_equal(scene.invalidated, 0);
	line = strstr(scene.fake.mtree, "AS \"memory\"");
	line = strstr(line, "0000000000100000-000000001fffffff");
	memcpy(line, "0000000000100000-000000001effffff", 33);
	scene_event("DEVICE_DELETED");
	wait_for(scene.invalidated == 1);
	memcpy(line, "0000000000100000-000000001fffffff", 33);
}

static void test_ram_replaced(void **state)
{
	scene_start();
	assert_int_equal(unlink(scene.ram), 0);
	scene_ram_create();
	wait_for(scene.invalidated == 1);
	wait_for(scene.memctx == 2);
}

static void test_waits_for_migration(void **state)
{
	fake_qmp_start(&scene.fake, &scene.loop, scene.socket, scene.ram);
	scene.fake.status = "inmigrate";
	scene_adapter_start();
	wait_for(strstr(scene.detail, "migration"));
	assert_int_equal(atomic_load(&kernel.finds), 0);
	scene.fake.status = "running";
	scene_event("RESUME");
	wait_for(scene.memctx == 1);
	scene.fake.status = "postmigrate";
	wait_for(scene.invalidated == 1);
	wait_for(strstr(scene.detail, "migrated away"));
}

/* What a QEMU sends is no message, and its close may wait. */
static void test_descriptors_are_refused(void **state)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {{0}};
	struct iovec iov = {.iov_base = (char[]){"\n"}, .iov_len = 1};
	struct msghdr msg = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control.bytes)};
	struct cmsghdr *header = CMSG_FIRSTHDR(&msg);
	socklen_t len = sizeof(int);
	uv_os_fd_t sock;
	int value, fd = STDIN_FILENO;

	fake_qmp_start(&scene.fake, &scene.loop, scene.socket, scene.ram);
	scene_adapter_start();
	wait_for(scene.fake.connected);
	assert_int_equal(uv_fileno((uv_handle_t *)&scene.fake.client, &sock), 0);
	/* Before Linux 6.16 nobody can refuse them. */
	if (getsockopt(sock, SOL_SOCKET, SO_PASSRIGHTS_NUMBER, &value, &len) < 0)
		return;
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	assert_int_equal(sendmsg(sock, &msg, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EPERM);
}

static void test_stop_during_scan(void **state)
{
	atomic_store(&kernel.scan_for_ever, true);
	fake_qmp_start(&scene.fake, &scene.loop, scene.socket, scene.ram);
	scene_adapter_start();
	wait_for(atomic_load(&kernel.finds) == 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scene_setup, scene_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_qemu_comes_late),
		TEST(test_kernel_comes_late),
		TEST(test_reset_burst),
		TEST(test_reset_during_scan),
		TEST(test_session_ends),
		TEST(test_end_has_a_reason),
		TEST(test_panic),
		TEST(test_panic_before),
		TEST(test_panic_unheard),
		TEST(test_qemu_restarts),
		TEST(test_contact_is_lost),
		TEST(test_another_answers),
		TEST(test_process_ends_alone),
		TEST(test_qemu_falls_silent),
		TEST(test_kexec),
		TEST(test_nested_guest),
		TEST(test_name_of_ram_is_removed),
		TEST(test_no_false_alarm),
		TEST(test_resume_proves_at_once),
		TEST(test_hotplug),
		TEST(test_ram_replaced),
		TEST(test_waits_for_migration),
		TEST(test_descriptors_are_refused),
		TEST(test_stop_during_scan),
	};

	/* As in vmsigd: a QEMU that goes while it is written to is an error, not the end. */
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
