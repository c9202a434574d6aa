/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/adapters/qemu/vcpu.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/guest/kcr3.h"
#include "vmsig/vmsig_error.h"

#define CR0_PG (1ull << 31)   /* Intel SDM vol. 3A, 2.5 */
#define EFER_LMA (1ull << 10) /* ibid., 2.2.1 */
#define HEX_MAX 16

struct registers {
	uint64_t cr0, cr3, efer;
};

static bool hex_at(const char *text, size_t len, uint64_t *ret_value)
{
	uint64_t value = 0;
	size_t i;

	for (i = 0; i < len && i < HEX_MAX; i++) {
		const char *digits = "0123456789abcdef";
		const char *digit = text[i] ? strchr(digits, text[i]) : NULL;

		if (!digit)
			break;
		value = value << 4 | (uint64_t)(digit - digits);
	}
	if (i == 0)
		return false;
	*ret_value = value;
	return true;
}

static bool field(const char *text, size_t len, const char *name, uint64_t *ret_value)
{
	const char *at = memmem(text, len, name, strlen(name));

	if (!at)
		return false;
	at += strlen(name);
	return hex_at(at, (size_t)(text + len - at), ret_value);
}

static bool paging(const struct registers *regs)
{
	return regs->cr0 & CR0_PG;
}

static bool long_mode(const struct registers *regs)
{
	return paging(regs) && (regs->efer & EFER_LMA);
}

/* The dump of one vCPU, from behind its heading to the next heading. */
static bool registers_parse(const char *text, size_t len, struct registers *regs)
{
	return field(text, len, "CR0=", &regs->cr0) && field(text, len, "CR3=", &regs->cr3) &&
	       field(text, len, "EFER=", &regs->efer);
}

static const char *next_heading(const char *at, const char *end)
{
	const char *heading = memmem(at, (size_t)(end - at), "CPU#", 4);

	return heading ? heading : end;
}

int vcpu_parse(struct vcpu_roots *ret_roots, const char *text, size_t len)
{
	const char *end = text + len;
	const char *at = next_heading(text, end);
	struct vcpu_roots roots = {.cr3 = calloc(KCR3_VCPUS_MAX, sizeof(uint64_t))};

	if (!roots.cr3)
		return -ENOMEM;
	while (at < end) {
		const char *next = next_heading(at + 1, end);
		struct registers regs;

		if (!registers_parse(at, (size_t)(next - at), &regs)) {
			vcpu_deinit(&roots);
			return VMSIG_ERR_BAD_REQUEST;
		}
		roots.ncpus++;
		roots.nlegacy += paging(&regs) && !long_mode(&regs);
		if (long_mode(&regs) && roots.ncr3 < KCR3_VCPUS_MAX)
			roots.cr3[roots.ncr3++] = regs.cr3;
		at = next;
	}
	if (roots.ncpus == 0) {
		vcpu_deinit(&roots);
		return VMSIG_ERR_BAD_REQUEST;
	}
	*ret_roots = roots;
	return 0;
}

void vcpu_deinit(struct vcpu_roots *roots)
{
	free(roots->cr3);
	*roots = (struct vcpu_roots){0};
}

void vcpu_say_none(const struct vcpu_roots *roots, char *why, size_t why_size)
{
	if (roots->nlegacy)
		snprintf(why, why_size,
			"%zu of %zu vCPUs run with 32-bit page tables: a 32-bit kernel; vmsig "
			"serves "
			"x86-64 kernels only",
			roots->nlegacy, roots->ncpus);
	else
		snprintf(why, why_size,
			"no vCPU of %zu runs in long mode yet: firmware or boot loader",
			roots->ncpus);
}
