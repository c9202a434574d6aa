/* SPDX-License-Identifier: Apache-2.0 */
/* What the broker says an endpoint is called, and what runs in it: taken with care. */
#include "clients/lib/client.h"

#include <string.h>

bool system_name_ok(const char *name)
{
	size_t len = strnlen(name, VMSIG_NAME_MAX + 1);

	if (!len || len > VMSIG_NAME_MAX)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (name[i] <= 0x20 || name[i] >= 0x7f)
			return false;
	}
	return true;
}

void system_take(vmsig_system *system, const Vmsig__System *message)
{
	*system = (vmsig_system){0};
	if (!message)
		return;
	system->os = message->os;
	system->proof = message->proof;
	client_clean_text(system->release, sizeof(system->release), message->release);
}
