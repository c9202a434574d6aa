/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/linux/infer_module.h"

#include <stdlib.h>

#include "clients/os/linux/infer_probe.h"
#include "clients/os/linux/module.h"

#define PAGE 4096u
#define MODULE_BYTES 0xa00u
#define MODULES_SEEN 16u
#define PARTS 7u /* MOD_MEM_NUM_TYPES, from 6.4 on */
#define PART_MIN 16u
#define PART_MAX 128u
#define SIZE_MAX_SEEN (256u << 20)

struct module_sample {
	uint64_t at;
	uint8_t bytes[MODULE_BYTES];
};

struct module_samples {
	struct module_sample modules[MODULES_SEEN];
	size_t count;
	uint32_t size; /* where in a part its size is */
};

/* A part is a page's address and a size behind it; of what is gone, both are 0. */
static bool is_part(const struct module_samples *samples, size_t i, uint32_t at, bool *ret_empty)
{
	const struct module_sample *module = &samples->modules[i];
	uint64_t base = infer_load(module->bytes, at);
	uint32_t size = infer_load32(module->bytes, at + samples->size);

	*ret_empty = !base;
	if (!base)
		return !size;
	return base >= LINUX_MODULES_FIRST && base <= LINUX_MODULES_LAST && base % PAGE == 0 &&
	       size && size <= SIZE_MAX_SEEN;
}

static bool is_full_part(const struct module_samples *samples, uint32_t at)
{
	bool empty;

	for (size_t i = 0; i < samples->count; i++) {
		if (!is_part(samples, i, at, &empty) || empty)
			return false;
	}
	return true;
}

/* The part that has the module's own description in it. */
static bool has_description(const struct module_samples *samples, uint32_t at)
{
	for (size_t i = 0; i < samples->count; i++) {
		const struct module_sample *module = &samples->modules[i];
		uint64_t base = infer_load(module->bytes, at);

		if (module->at < base ||
			module->at - base >= infer_load32(module->bytes, at + samples->size))
			return false;
	}
	return true;
}

/* Text, data, and what is read only, in steps of the same size; after it has begun, no parts that
 * it began with. */
static bool are_parts(const struct module_samples *samples, uint32_t at, uint32_t step)
{
	bool empty;

	if (!is_full_part(samples, at + step) || !has_description(samples, at + step))
		return false;
	for (size_t i = 0; i < samples->count; i++) {
		for (uint32_t part = 2; part < PARTS; part++) {
			if (!is_part(samples, i, at + part * step, &empty))
				return false;
		}
	}
	return true;
}

/* From 6.4 on seven parts; before, one for all. */
static bool find_parts(struct infer *infer, const struct module_samples *samples)
{
	for (uint32_t at = LINUX_MODULE_NAME_AT + LINUX_MODULE_NAME_BYTES;
		at + PARTS * PART_MAX + 16 < MODULE_BYTES; at += 8) {
		if (!is_full_part(samples, at))
			continue;
		if (has_description(samples, at)) {
			infer_set(infer, LINUX_MODULE_BASE, at, 8);
			infer_set(infer, LINUX_MODULE_SIZE, at + samples->size, 4);
			return true;
		}
		for (uint32_t step = PART_MIN; step <= PART_MAX; step += 8) {
			if (!are_parts(samples, at, step))
				continue;
			infer_set(infer, LINUX_MODULE_MEM, at, PARTS * step);
			infer_set(infer, LINUX_MODULE_MEM_BASE, 0, 8);
			infer_set(infer, LINUX_MODULE_MEM_SIZE, samples->size, 4);
			infer->kernel->fields.size[LINUX_STRUCT_MODULE_MEMORY] = step;
			return true;
		}
	}
	return false;
}

static void find_self(struct infer *infer, const struct module_samples *samples)
{
	for (uint32_t at = LINUX_MODULE_NAME_AT + LINUX_MODULE_NAME_BYTES; at < 0x200; at += 8) {
		size_t i = 0;

		while (i < samples->count &&
			infer_load(samples->modules[i].bytes, at) == samples->modules[i].at)
			i++;
		if (i == samples->count) {
			infer_set(infer, LINUX_MODULE_SELF, at, 8);
			return;
		}
	}
}

/* Those of the list that have begun. */
static void take_modules(struct infer *infer, uint64_t head, struct module_samples *samples)
{
	uint64_t at = head, links[2];

	if (!infer_read(infer, head, links, sizeof(links)))
		return;
	while (links[0] != head && samples->count < MODULES_SEEN) {
		struct module_sample *module = &samples->modules[samples->count];
		uint64_t next = links[0];

		if (!infer_is_pointer(next) || !infer_read(infer, next, links, sizeof(links)) ||
			links[1] != at)
			return;
		at = next;
		module->at = next - 8;
		if (infer_read_some(infer, module->at, module->bytes, sizeof(module->bytes)) &&
			!infer_load32(module->bytes, 0) &&
			infer_is_text(
				module->bytes + LINUX_MODULE_NAME_AT, LINUX_MODULE_NAME_BYTES))
			samples->count++;
	}
}

void infer_modules(struct infer *infer)
{
	struct module_samples *samples = calloc(1, sizeof(*samples));
	uint64_t head = infer_symbol(infer, "modules");

	if (samples && head)
		take_modules(infer, head, samples);
	infer_set(infer, LINUX_MODULE_LIST, 8, 16);
	infer_set(infer, LINUX_MODULE_NAME, LINUX_MODULE_NAME_AT, LINUX_MODULE_NAME_BYTES);
	if (samples && samples->count) {
		/* From 6.13 on there is a flag between them. */
		samples->size = 8;
		if (!find_parts(infer, samples)) {
			samples->size = 12;
			(void)find_parts(infer, samples);
		}
		find_self(infer, samples);
	}
	free(samples);
}
