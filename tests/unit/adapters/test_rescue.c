/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A domain that its broker has left stopped, with a libvirt that is the test's: when a suspend that
 * is under way comes into effect after the broker has died, it is resumed; nothing else is.
 */
#include "broker/adapters/libvirt/rescue.h"

#include <stdarg.h>
#include <setjmp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>
#include <libvirt/libvirt.h>

#define BUSY_LOOKS 7 /* more than a guest that nothing happens to is looked at */

static struct {
	unsigned looks, busy; /* looks so far; until when something is under way */
	int stops_at;         /* look; -1: it does not */
	int reason;           /* of the pause */
	unsigned resumed;
} libvirt;

/* ---- libvirt, instead of the library ---- */

virConnectPtr virConnectOpen(const char *uri)
{
	assert_string_equal(uri, "test:///");
	return (virConnectPtr)&libvirt;
}

int virConnectClose(virConnectPtr conn)
{
	return 0;
}

virDomainPtr virDomainLookupByUUIDString(virConnectPtr conn, const char *uuid)
{
	return (virDomainPtr)&libvirt;
}

int virDomainFree(virDomainPtr domain)
{
	return 0;
}

int virDomainGetState(virDomainPtr domain, int *state, int *reason, unsigned flags)
{
	bool stopped = libvirt.stops_at >= 0 && libvirt.looks >= (unsigned)libvirt.stops_at;

	libvirt.looks++;
	*state = stopped ? VIR_DOMAIN_PAUSED : VIR_DOMAIN_RUNNING;
	*reason = libvirt.reason;
	return 0;
}

int virDomainGetControlInfo(virDomainPtr domain, virDomainControlInfoPtr info, unsigned flags)
{
	*info = (virDomainControlInfo){.state = libvirt.looks < libvirt.busy
							? VIR_DOMAIN_CONTROL_OCCUPIED
							: VIR_DOMAIN_CONTROL_OK};
	return 0;
}

int virDomainResume(virDomainPtr domain)
{
	libvirt.resumed++;
	return 0;
}

/* ---- */

/* Whether it was resumed; of a process that lives. */
static unsigned rescue(unsigned busy, int stops_at, int reason)
{
	int process = (int)syscall(SYS_pidfd_open, getpid(), 0);
	char ward[256];

	assert_true(process >= 0);
	libvirt.looks = libvirt.resumed = 0;
	libvirt.busy = busy;
	libvirt.stops_at = stops_at;
	libvirt.reason = reason;
	assert_int_equal(rescue_ward("test:///", "uuid", ward, sizeof(ward)), 0);
	assert_true(rescue_domain(ward, process));
	close(process);
	return libvirt.resumed;
}

static void one_that_stands_goes_on(void **state)
{
	assert_int_equal(rescue(0, 0, VIR_DOMAIN_PAUSED_USER), 1);
}

static void one_that_stops_a_moment_later_goes_on(void **state)
{
	assert_int_equal(rescue(0, 2, VIR_DOMAIN_PAUSED_USER), 1);
}

static void one_that_stops_when_its_suspend_is_answered_goes_on(void **state)
{
	assert_int_equal(rescue(BUSY_LOOKS, BUSY_LOOKS, VIR_DOMAIN_PAUSED_USER), 1);
}

static void one_that_others_stop_stays(void **state)
{
	assert_int_equal(rescue(0, 0, VIR_DOMAIN_PAUSED_IOERROR), 0);
}

/* Later it is another broker's, or somebody's. */
static void one_that_runs_is_left_soon(void **state)
{
	assert_int_equal(rescue(0, -1, 0), 0);
	assert_true(libvirt.looks < BUSY_LOOKS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_that_stands_goes_on),
		cmocka_unit_test(one_that_stops_a_moment_later_goes_on),
		cmocka_unit_test(one_that_stops_when_its_suspend_is_answered_goes_on),
		cmocka_unit_test(one_that_others_stop_stays),
		cmocka_unit_test(one_that_runs_is_left_soon),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
