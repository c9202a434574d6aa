/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/common/value.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "clients/common/text.h"

json_t *value_hex(uint64_t number)
{
	return json_sprintf("0x%" PRIx64, number);
}

json_t *value_text(const char *text)
{
	json_t *json = json_string(text);
	char *copy = json ? NULL : strdup(text);

	if (!copy)
		return json;
	for (char *c = copy; *c; c++) {
		if ((unsigned char)*c >= 0x80)
			*c = '?';
	}
	json = json_string(copy);
	free(copy);
	return json;
}

json_t *value_bytes(const unsigned char *bytes, size_t len)
{
	char *text = text_hex(bytes, len);
	json_t *json = text ? json_string(text) : NULL;

	free(text);
	return json;
}

json_t *value_ranges(const vmsig_lease_range *ranges, size_t nranges)
{
	json_t *array = json_array();

	for (size_t i = 0; i < nranges; i++)
		json_array_append_new(
			array, json_pack("{s:o, s:o}", "start", value_hex(ranges[i].start), "last",
				       value_hex(ranges[i].last)));
	return array;
}
