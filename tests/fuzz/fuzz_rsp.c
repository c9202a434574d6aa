/* SPDX-License-Identifier: Apache-2.0 */
/* Frames of gdb's protocol: what comes out is within bounds, and a frame of it is read again. */
#include <stdlib.h>
#include <string.h>

#include "clients/common/rsp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct rsp rsp;
	uint64_t first, second;

	memset(&rsp, 0, sizeof(rsp));
	for (size_t i = 0; i < size; i++) {
		if (rsp_take(&rsp, data[i]) != RSP_PACKET)
			continue;
		if (rsp.len > RSP_PACKET_MAX || rsp.data[rsp.len])
			abort();
		(void)rsp_pair(rsp.data, &first, &second);
	}
	return 0;
}
