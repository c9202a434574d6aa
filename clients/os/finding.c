/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/finding.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "clients/os/grow.h"
#include "vmsig/vmsig_error.h"

int finding_add(vmsig_finding_list *list, enum vmsig_finding_kind kind, uint32_t pid, uint64_t addr,
	const char *basis, const char *format, ...)
{
	vmsig_finding *findings;
	va_list arguments;
	char *text;
	int n;

	if (list->count == FINDINGS_MAX) {
		list->partial = true;
		return 0;
	}
	va_start(arguments, format);
	n = vasprintf(&text, format, arguments);
	va_end(arguments);
	findings = n < 0 ? NULL : grow_array(list->findings, list->count, sizeof(*findings));
	if (!findings) {
		if (n >= 0)
			free(text);
		return VMSIG_ERR_NO_MEMORY;
	}
	list->findings = findings;
	findings[list->count++] = (vmsig_finding){
		.kind = kind, .pid = pid, .addr = addr, .text = text, .basis = basis};
	return 0;
}

void finding_clear(vmsig_finding_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free((char *)(uintptr_t)list->findings[i].text);
	list->count = 0;
}
