/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The names of systems and of proofs, as people and scripts read them. Static, and "unknown" for a
 * number that this version does not know.
 */
#include "vmsig/vmsig_event.h"

static const char *const os_names[] = {
	[VMSIG_OS_UNKNOWN] = "unknown",
	[VMSIG_OS_LINUX] = "linux",
	[VMSIG_OS_WINDOWS] = "windows",
};
static const char *const proof_names[] = {
	[VMSIG_PROOF_NONE] = "none",
	[VMSIG_PROOF_CONFIGURED] = "configured",
	[VMSIG_PROOF_VMCOREINFO] = "vmcoreinfo",
	[VMSIG_PROOF_LOW_STUB] = "low-stub+ntoskrnl",
	[VMSIG_PROOF_SELF_MAP] = "self-map+ntoskrnl",
};

const char *vmsig_os_name(uint32_t os)
{
	return os < sizeof(os_names) / sizeof(os_names[0]) ? os_names[os] : "unknown";
}

const char *vmsig_proof_name(uint32_t proof)
{
	return proof < sizeof(proof_names) / sizeof(proof_names[0]) ? proof_names[proof]
								    : "unknown";
}
