/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/common/typeinfo.h"

#include <stdlib.h>

#include <bpf/btf.h>
#include <bpf/libbpf.h>

const struct typeinfo_variable typeinfo_variables[TYPEINFO_VARIABLES] = {
	{"init_files", "files_struct", false},
	{"init_mm", "mm_struct", false},
	{"init_net", "net", false},
	{"init_pid_ns", "pid_namespace", false},
	{"init_task", "task_struct", false},
	{"iomem_resource", "resource", false},
	{"module_kset", "kset", true},
	{"modules", "list_head", false},
	{"net_namespace_list", "list_head", false},
	{"prb", "printk_ringbuffer", true},
	{"prog_idr", "idr", false},
	{"socket_file_ops", "file_operations", false},
	{"sockfs_dentry_operations", "dentry_operations", false},
	{"tcp_hashinfo", "inet_hashinfo", false},
};

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

/* libbpf says what is wrong with types on standard error. */
struct btf *typeinfo_parse(const uint8_t *bytes, uint32_t len)
{
	libbpf_print_fn_t print = libbpf_set_print(NULL);
	struct btf *btf = btf__new(bytes, len);

	libbpf_set_print(print);
	return btf;
}
