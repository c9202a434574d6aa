/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/kcr3/kcr3.h"

#include <stdio.h>
#include <string.h>

#include "broker/kcr3/strategy.h"
#include "vmsig/vmsig_error.h"

static const struct kcr3_strategy *const strategies[] = {
	[KCR3_OS_LINUX] = &kcr3_linux,
	[KCR3_OS_WINDOWS] = &kcr3_windows,
};

int kcr3_find(const struct kcr3_memory *memory, const uint64_t *vcpu_cr3, size_t nvcpu,
	const atomic_bool *cancel, struct kcr3_proof *ret_proof, char *why, size_t why_size)
{
	const struct kcr3_search search = {.memory = memory,
		.vcpu_cr3 = vcpu_cr3,
		.nvcpu = nvcpu,
		.cancel = cancel,
		.why = why,
		.why_size = why_size};

	snprintf(why, why_size, "no kernel found in guest RAM yet");
	for (size_t i = KCR3_OS_LINUX; i < sizeof(strategies) / sizeof(strategies[0]); i++) {
		struct kcr3_proof proof = {.os = (enum kcr3_os)i};
		int r = strategies[i]->find(&search, &proof);

		if (r == 0)
			*ret_proof = proof;
		else if (r != VMSIG_ERR_NOT_READY)
			snprintf(why, why_size, "the search for a kernel ended early: %s",
				r < 0 ? strerror(-r) : vmsig_error_text(r));
		if (r != VMSIG_ERR_NOT_READY)
			return r;
	}
	return VMSIG_ERR_NOT_READY;
}

int kcr3_reprove(const struct kcr3_memory *memory, const struct kcr3_proof *proof,
	const uint64_t *vcpu_cr3, size_t nvcpu)
{
	char why[1];
	const struct kcr3_search search = {.memory = memory,
		.vcpu_cr3 = vcpu_cr3,
		.nvcpu = nvcpu,
		.why = why,
		.why_size = sizeof(why)};

	if (proof->os != KCR3_OS_LINUX && proof->os != KCR3_OS_WINDOWS)
		return VMSIG_ERR_NOT_READY;
	return strategies[proof->os]->reprove(&search, proof) ? VMSIG_ERR_NOT_READY : 0;
}
