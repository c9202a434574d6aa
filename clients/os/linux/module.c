/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/linux/module.h"

#include <stdlib.h>
#include <string.h>

#include "clients/os/fault.h"
#include "clients/os/grow.h"
#include "clients/os/linux/ring.h"
#include "vmsig/vmsig_error.h"

#define PARTS_MAX 16u

static int append(vmsig_module_list *list, const vmsig_module *module)
{
	vmsig_module *modules = grow_array(list->modules, list->count, sizeof(*modules));

	if (!modules)
		return VMSIG_ERR_NO_MEMORY;
	list->modules = modules;
	modules[list->count++] = *module;
	return 0;
}

/* From 6.4 on a module is in several parts, of which the first is its text. */
static void read_parts(struct linux_kernel *kernel, uint64_t object, vmsig_module *module)
{
	const struct linux_fields *fields = &kernel->fields;
	uint32_t size = fields->size[LINUX_STRUCT_MODULE_MEMORY];
	uint32_t n = size ? fields->field[LINUX_MODULE_MEM].size / size : 0;
	uint64_t part = linux_at(kernel, object, LINUX_MODULE_MEM);

	if (!n || n > PARTS_MAX || !fields->field[LINUX_MODULE_MEM_BASE].known ||
		!fields->field[LINUX_MODULE_MEM_SIZE].known) {
		(void)linux_lacks(kernel, "module_memory.base");
		return;
	}
	module->base = linux_get(kernel, part, LINUX_MODULE_MEM_BASE);
	for (uint32_t i = 0; i < n; i++)
		module->size += linux_get(kernel, part + (uint64_t)i * size, LINUX_MODULE_MEM_SIZE);
}

static void read_module(struct linux_kernel *kernel, uint64_t object, vmsig_module *module)
{
	char name[LINUX_MODULE_NAME_BYTES + 1];

	*module = (vmsig_module){.object = object};
	linux_text(kernel, linux_at(kernel, object, LINUX_MODULE_NAME), name, sizeof(name));
	memcpy(module->name, name, sizeof(name));
	if (kernel->fields.field[LINUX_MODULE_MEM].known) {
		read_parts(kernel, object, module);
		return;
	}
	module->base = linux_get(kernel, object, LINUX_MODULE_BASE);
	module->size = linux_get(kernel, object, LINUX_MODULE_SIZE);
}

static int walk_once(struct linux_kernel *kernel, uint64_t head, vmsig_module_list *list)
{
	struct linux_ring ring = linux_ring(kernel, head, LINUX_MODULE_LIST);
	vmsig_module module;
	uint64_t object;
	int r = 0;

	list->count = 0;
	while (!r && linux_ring_next(&ring, &object)) {
		read_module(kernel, object, &module);
		if (kernel->fault)
			break;
		r = append(list, &module);
	}
	return r ? r : kernel->fault;
}

int linux_module_list(struct linux_kernel *kernel, vmsig_module_list *ret_list)
{
	static const enum linux_field needed[] = {LINUX_MODULE_LIST, LINUX_MODULE_NAME};
	uint64_t head;
	int r = VMSIG_ERR_TORN;

	linux_begin(kernel);
	linux_need(kernel, needed, sizeof(needed) / sizeof(needed[0]));
	head = linux_symbol(kernel, "modules");
	if (kernel->fault)
		return kernel->fault;
	for (unsigned i = 0; linux_attempt(kernel, i, r); i++)
		r = walk_once(kernel, head, ret_list);
	ret_list->partial = fault_again(r);
	return ret_list->partial ? 0 : r;
}
