/* SPDX-License-Identifier: Apache-2.0 */
/* QEMU's answers about snapshots and time; see look.h. */
#include "broker/adapters/qemu/look.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define US_PER_S 1000000u
#define NS_PER_US 1000
#define CLOCK_NS 10u /* HPET_CLK_PERIOD of hw/timer/hpet.c */

static uint64_t date_us(const json_t *snapshot)
{
	json_int_t seconds = json_integer_value(json_object_get(snapshot, "date-sec"));
	json_int_t nanos = json_integer_value(json_object_get(snapshot, "date-nsec"));

	if (seconds < 0 || nanos < 0 || nanos >= (json_int_t)US_PER_S * NS_PER_US)
		return 0;
	return (uint64_t)seconds * US_PER_S + (uint64_t)nanos / NS_PER_US;
}

/* Those of disks alone hold no RAM. */
static bool holds_ram(const json_t *snapshot)
{
	return json_number_value(json_object_get(snapshot, "vm-state-size")) > 0;
}

void look_snapshots(struct restore_look *look, const json_t *nodes)
{
	size_t i, j;
	json_t *node, *snapshot;

	look->listed = true;
	look->restorable = !json_is_array(nodes);
	look->newest_us = 0;
	json_array_foreach (nodes, i, node) {
		const json_t *image = json_object_get(node, "image");

		json_array_foreach (json_object_get(image, "snapshots"), j, snapshot) {
			if (!holds_ram(snapshot))
				continue;
			look->restorable = true;
			if (date_us(snapshot) > look->newest_us)
				look->newest_us = date_us(snapshot);
		}
	}
}

/* " 0x0a8c72c5" */
static bool take_word(const char **at, uint64_t *ret_word)
{
	static const char prefix[] = " 0x";
	char *end;

	if (strncmp(*at, prefix, sizeof(prefix) - 1) != 0)
		return false;
	*ret_word = strtoull(*at, &end, 16);
	*at = end;
	return *ret_word <= UINT32_MAX;
}

/* "00000000fed000f0: 0x0a8c72c5 0x00000003" */
void look_clock(struct restore_look *look, const char *text)
{
	const char *at = text ? strchr(text, ':') : NULL;
	uint64_t low, high;

	if (at)
		at++;
	look->clock = at && take_word(&at, &low) && take_word(&at, &high);
	if (look->clock)
		look->value_ns = (high << 32 | low) * CLOCK_NS;
}

void look_jobs(char ret_load[static LOOK_JOB_MAX], const json_t *jobs)
{
	size_t i;
	json_t *job;

	ret_load[0] = '\0';
	json_array_foreach (jobs, i, job) {
		const char *type = json_string_value(json_object_get(job, "type"));
		const char *id = json_string_value(json_object_get(job, "id"));
		const char *status = json_string_value(json_object_get(job, "status"));

		if (type && strcmp(type, "snapshot-load") == 0 && id && status)
			snprintf(ret_load, LOOK_JOB_MAX, "%s %s", status, id);
	}
}
