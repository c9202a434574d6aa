/* SPDX-License-Identifier: Apache-2.0 */
/* The text of `info registers -a`. */
#include <stdint.h>
#include <stdlib.h>

#include "broker/adapters/qemu/vcpu.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vcpu_roots roots;

	if (vcpu_parse(&roots, (const char *)data, size))
		return 0;
	if (roots.ncpus == 0 || roots.ncr3 > roots.ncpus)
		abort();
	vcpu_deinit(&roots);
	return 0;
}
