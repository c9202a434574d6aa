/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The name in a certificate. What is accepted must print back as the very same URI.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/wire/identity.h"
#include "vmsig/vmsig_error.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct identity id;
	char uri[128];
	int n;
	int r = identity_parse((const char *)data, size, &id);

	if (r == VMSIG_ERR_BAD_REQUEST)
		return 0;
	if (r)
		abort();
	n = snprintf(uri, sizeof(uri), "vmsig://%s/%s", identity_role_name(id.role), id.name);
	if ((size_t)n != size || memcmp(uri, data, size) != 0 || id.serial[0])
		abort();
	return 0;
}
