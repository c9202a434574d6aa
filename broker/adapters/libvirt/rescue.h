/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ADAPTERS_LIBVIRT_RESCUE_H
#define BROKER_ADAPTERS_LIBVIRT_RESCUE_H

/*
 * A domain that a broker has stopped for a write, and then died. The guardian (qemu/guardian.h) has
 * it go on: by libvirt again, from a process of its own.
 */

#include <stdbool.h>
#include <stddef.h>

/* Which domain, for rescue_domain(). -ENAMETOOLONG. */
__attribute__((warn_unused_result)) int rescue_ward(
	const char *uri, const char *uuid, char *ward, size_t size);
/* As adapter_ops.rescue. A domain that somebody else has paused since, or that is being migrated,
 * stays as it is as far as libvirt can tell. */
bool rescue_domain(const char *ward, int process);

#endif
