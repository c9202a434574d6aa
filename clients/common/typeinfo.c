/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/common/typeinfo.h"

#include <stdlib.h>

int typeinfo_read(const struct context *context, const vmsig_os_handle *os, uint8_t **ret_bytes,
	uint32_t *ret_len)
{
	uint64_t addr;
	int r = vmsig_os_types(os, &addr, ret_len);

	*ret_bytes = NULL;
	if (r)
		return -r;
	*ret_bytes = malloc(*ret_len);
	if (!*ret_bytes)
		return VMSIG_ERR_NO_MEMORY;
	r = vmsig_gva_read(context->mem, context->pod.kcr3, addr, *ret_bytes, *ret_len);
	if (r) {
		free(*ret_bytes);
		*ret_bytes = NULL;
	}
	return -r;
}
