/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/mem/tcache.h"

#include <string.h>

void tcache_flush(struct tcache *cache)
{
	memset(cache, 0, sizeof(*cache));
}
