/* SPDX-License-Identifier: Apache-2.0 */
/* The text of a VMCOREINFO note: what is accepted is bounded, and reading it again, cut to
 * the length that was said, gives the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/guest/vmcoreinfo.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vmcoreinfo info, again;

	if (vmcoreinfo_parse((const char *)data, size, &info))
		return 0;
	if (info.len > size || info.len > VMCOREINFO_MAX || !info.release[0] ||
		!memchr(info.release, '\0', sizeof(info.release)))
		abort();
	if (vmcoreinfo_parse((const char *)data, info.len, &again) || again.len != info.len ||
		strcmp(again.release, info.release) != 0 ||
		again.swapper_pg_dir != info.swapper_pg_dir || again.phys_base != info.phys_base ||
		again.levels != info.levels || again.uts_name != info.uts_name)
		abort();
	return 0;
}
