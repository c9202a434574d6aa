/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/common/coreinfo.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static bool read_word(const struct context *context, const vmsig_os_handle *os, const char *name,
	uint64_t *ret_word)
{
	vmsig_symbol symbol;

	return vmsig_os_symbol_find(os, name, &symbol) &&
	       !vmsig_gva_read(
		       context->mem, context->pod.kcr3, symbol.addr, ret_word, sizeof(*ret_word));
}

void coreinfo_read(struct coreinfo *info, const struct context *context, const vmsig_os_handle *os)
{
	uint64_t at, len;

	info->len = 0;
	if (read_word(context, os, "vmcoreinfo_data", &at) &&
		read_word(context, os, "vmcoreinfo_size", &len) && len <= COREINFO_MAX &&
		!vmsig_gva_read(context->mem, context->pod.kcr3, at, info->text, len))
		info->len = (uint32_t)len;
	info->text[info->len] = '\0';
}

bool coreinfo_hex(const struct coreinfo *info, const char *name, uint64_t *ret_value)
{
	size_t len = strlen(name);
	const char *line = info->text;

	while (line) {
		if (strncmp(line, name, len) == 0 && line[len] == '=' &&
			isxdigit((unsigned char)line[len + 1])) {
			*ret_value = strtoull(line + len + 1, NULL, 16);
			return true;
		}
		line = strchr(line, '\n');
		line = line ? line + 1 : NULL;
	}
	return false;
}
