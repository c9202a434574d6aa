/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The adapter for domains of libvirt: QEMU's, spoken to through the monitor that libvirt has of
 * it. It needs no second socket and changes nothing of the domain.
 */
#include "broker/adapters/adapter.h"

#include <stdio.h>

#include "vmsig/vmsig_error.h"

#ifdef VMSIG_HAVE_LIBVIRT

#include "broker/adapters/libvirt/monitor.h"
#include "broker/adapters/libvirt/rescue.h"
#include "broker/adapters/qemu/transport.h"

static const struct transport monitor_transport = {
	.name = "libvirt's monitor",
	.ram_advice = "the domain's RAM cannot be shared; add <memoryBacking><source "
		      "type='memfd'/><access mode='shared'/></memoryBacking> to its XML and start "
		      "it anew",
	.mute = "libvirtd does not answer; see what it is doing, and start it anew if need be "
		"(systemctl status libvirtd)",
	.open = monitor_open,
	.pid = monitor_pid,
	.why = monitor_why,
	.ward = monitor_ward,
	.close = monitor_close,
};

static int libvirt_start(
	struct adapter **ret_adapter, const struct adapter_env *env, char *error, size_t error_size)
{
	return qemu_start_over(
		ret_adapter, env, &adapter_libvirt, &monitor_transport, error, error_size);
}

const struct adapter_ops adapter_libvirt = {
	.name = "libvirt", .start = libvirt_start, .stop = qemu_stop, .rescue = rescue_domain};

#else

/* The configuration refuses such endpoints. */
static int libvirt_start(
	struct adapter **ret_adapter, const struct adapter_env *env, char *error, size_t error_size)
{
	snprintf(error, error_size, "this vmsigd was built without libvirt");
	return VMSIG_ERR_UNSUPPORTED;
}

const struct adapter_ops adapter_libvirt = {.name = "libvirt", .start = libvirt_start};

#endif
