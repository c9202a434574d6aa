/* SPDX-License-Identifier: Apache-2.0 */
/* The public calls about what a system has beside processes: files, sockets, mounts, its log, what
 * its modules are made of. Lists are made here, and filled below. */
#include <stdlib.h>

#include "clients/os/linux/cache.h"
#include "clients/os/linux/file.h"
#include "clients/os/linux/images.h"
#include "clients/os/linux/learn.h"
#include "clients/os/linux/log.h"
#include "clients/os/linux/lookup.h"
#include "clients/os/linux/mounts.h"
#include "clients/os/linux/socket.h"
#include "clients/os/linux/task.h"
#include "clients/os/names.h"
#include "clients/os/os.h"
#include "vmsig/vmsig_error.h"

_Static_assert(VMSIG_OS_PAGE == LINUX_PAGE, "pages");

/* Nothing of it: a system that has no such thing. */
#define NONE (-VMSIG_ERR_UNSUPPORTED)

/* ---- files ---- */

int vmsig_os_file_find(
	vmsig_os_handle *os, const vmsig_proc *process, const char *path, vmsig_file *ret_file)
{
	struct linux_kernel *kernel = os_linux_kernel(os);
	int r;

	if (!kernel)
		return NONE;
	do
		r = linux_lookup(kernel, process, path, ret_file);
	while (linux_learn_more(kernel, r));
	return -r;
}

int vmsig_os_file_of(
	vmsig_os_handle *os, const vmsig_proc *process, int32_t fd, vmsig_file *ret_file)
{
	struct linux_kernel *kernel = os_linux_kernel(os);
	vmsig_file_list files = {0};
	uint64_t object = 0;
	int r;

	if (!kernel)
		return NONE;
	r = linux_file_list(kernel, process, &files);
	for (size_t i = 0; i < files.count && !r; i++) {
		if (files.files[i].number == fd)
			object = files.files[i].object;
	}
	if (!r && !object)
		r = files.partial ? VMSIG_ERR_TORN : VMSIG_ERR_NOT_MAPPED;
	linux_file_clear(&files);
	free(files.files);
	if (r)
		return -r;
	linux_begin(kernel);
	linux_cache_file(kernel, linux_get(kernel, object, LINUX_FILE_INODE),
		linux_get(kernel, object, LINUX_FILE_MAPPING), ret_file);
	return -kernel->fault;
}

int vmsig_os_file_page(vmsig_os_handle *os, const vmsig_file *file, uint64_t index, void *ret_page)
{
	struct linux_kernel *kernel = os_linux_kernel(os);

	return kernel ? -linux_cache_page(kernel, file, index, ret_page) : NONE;
}

int vmsig_os_file_pages(vmsig_os_handle *os, const vmsig_file *file, vmsig_page_fn visit, void *ctx)
{
	struct linux_kernel *kernel = os_linux_kernel(os);

	return kernel ? linux_cache_visit(kernel, file, visit, ctx) : NONE;
}

/* ---- sockets ---- */

void vmsig_socket_list_free(vmsig_socket_list *list)
{
	if (list)
		free(list->sockets);
	free(list);
}

/* A hostile guest's processes may share one table of a million descriptors: all of them together
 * get as many reads as one. */
static int sockets_of_all(struct linux_kernel *kernel, vmsig_socket_list *list)
{
	vmsig_proc_list processes = {0};
	uint64_t reads = 0;
	int r = linux_task_list(kernel, &processes);

	list->partial = processes.partial;
	for (size_t i = 0; i < processes.count && !r; i++) {
		if (reads > LINUX_READS_MAX) {
			list->partial = true;
			break;
		}
		kernel->spent = 0;
		r = linux_socket_list(kernel, &processes.processes[i], list);
		reads += kernel->spent;
		if (r == VMSIG_ERR_GONE) /* meanwhile */
			r = 0;
	}
	free(processes.processes);
	return r;
}

int vmsig_os_sockets(vmsig_os_handle *os, const vmsig_proc *process, vmsig_socket_list **ret_list)
{
	vmsig_socket_list *list = calloc(1, sizeof(*list));
	struct linux_kernel *kernel = os_linux_kernel(os);
	int r = !list ? VMSIG_ERR_NO_MEMORY : !kernel ? VMSIG_ERR_UNSUPPORTED : 0;

	if (!r) {
		do {
			list->count = 0;
			r = process ? linux_socket_list(kernel, process, list)
				    : sockets_of_all(kernel, list);
		} while (linux_learn_more(kernel, r));
	}
	if (r) {
		vmsig_socket_list_free(list);
		list = NULL;
	}
	*ret_list = list;
	return -r;
}

/* ---- mounts ---- */

void vmsig_mount_list_free(vmsig_mount_list *list)
{
	if (!list)
		return;
	linux_mounts_clear(list);
	free(list->mounts);
	free(list);
}

int vmsig_os_mounts(vmsig_os_handle *os, const vmsig_proc *process, vmsig_mount_list **ret_list)
{
	vmsig_mount_list *list = calloc(1, sizeof(*list));
	struct linux_kernel *kernel = os_linux_kernel(os);
	int r = !list ? VMSIG_ERR_NO_MEMORY : !kernel ? VMSIG_ERR_UNSUPPORTED : 0;

	if (!r) {
		do
			r = linux_mounts_list(kernel, process, list);
		while (linux_learn_more(kernel, r));
	}
	if (r) {
		vmsig_mount_list_free(list);
		list = NULL;
	}
	*ret_list = list;
	return -r;
}

/* ---- log ---- */

void vmsig_log_list_free(vmsig_log_list *list)
{
	if (!list)
		return;
	linux_log_clear(list);
	free(list->records);
	free(list);
}

int vmsig_os_log(vmsig_os_handle *os, vmsig_log_list **ret_list)
{
	vmsig_log_list *list = calloc(1, sizeof(*list));
	struct linux_kernel *kernel = os_linux_kernel(os);
	int r = !list     ? VMSIG_ERR_NO_MEMORY
		: !kernel ? VMSIG_ERR_UNSUPPORTED
			  : linux_log_list(kernel, list);

	if (r) {
		vmsig_log_list_free(list);
		list = NULL;
	}
	*ret_list = list;
	return -r;
}

/* ---- named addresses ---- */

void vmsig_name_list_free(vmsig_name_list *list)
{
	if (!list)
		return;
	names_clear(list);
	free(list->names);
	free(list);
}

/* The list, or what was wrong with making it. */
static int give_names(int r, vmsig_name_list *list, vmsig_name_list **ret_list)
{
	if (r) {
		vmsig_name_list_free(list);
		list = NULL;
	}
	*ret_list = list;
	return -r;
}

static int take_module(vmsig_os_handle *os, const vmsig_module *module, enum os_part part,
	vmsig_name_list **ret_list)
{
	vmsig_name_list *list = calloc(1, sizeof(*list));

	return give_names(
		list ? os->system->module_part(os, module, part, list) : VMSIG_ERR_NO_MEMORY, list,
		ret_list);
}

int vmsig_os_sections(vmsig_os_handle *os, const vmsig_module *module, vmsig_name_list **ret_list)
{
	return take_module(os, module, OS_SECTIONS, ret_list);
}

int vmsig_os_module_symbols(
	vmsig_os_handle *os, const vmsig_module *module, vmsig_name_list **ret_list)
{
	return take_module(os, module, OS_SYMBOLS, ret_list);
}

int vmsig_os_exports(vmsig_os_handle *os, const vmsig_module *module, vmsig_name_list **ret_list)
{
	return take_module(os, module, OS_EXPORTS, ret_list);
}

int vmsig_os_imports(vmsig_os_handle *os, const vmsig_module *module, vmsig_name_list **ret_list)
{
	return take_module(os, module, OS_IMPORTS, ret_list);
}

/* ---- programs and libraries ---- */

void vmsig_image_list_free(vmsig_image_list *list)
{
	if (!list)
		return;
	linux_images_clear(list);
	free(list->images);
	free(list);
}

int vmsig_os_images(vmsig_os_handle *os, const vmsig_proc *process, vmsig_image_list **ret_list)
{
	vmsig_image_list *list = calloc(1, sizeof(*list));
	int r = !list                ? VMSIG_ERR_NO_MEMORY
		: os->system->images ? os->system->images(os, process, list)
				     : VMSIG_ERR_UNSUPPORTED;

	if (r) {
		vmsig_image_list_free(list);
		list = NULL;
	}
	*ret_list = list;
	return -r;
}

int vmsig_os_program(vmsig_os_handle *os, const vmsig_proc *process, vmsig_file *ret_file)
{
	struct linux_kernel *kernel = os_linux_kernel(os);

	return kernel ? -linux_images_program(kernel, process, ret_file) : NONE;
}

static int take_image(vmsig_os_handle *os, const vmsig_proc *process, const vmsig_image *image,
	enum os_part part, vmsig_name_list **ret_list)
{
	vmsig_name_list *list = calloc(1, sizeof(*list));

	return give_names(list ? os->system->images_part(os, process, image, 1, part, &list)
			       : VMSIG_ERR_NO_MEMORY,
		list, ret_list);
}

int vmsig_os_image_sections(vmsig_os_handle *os, const vmsig_proc *process,
	const vmsig_image *image, vmsig_name_list **ret_list)
{
	return take_image(os, process, image, OS_SECTIONS, ret_list);
}

int vmsig_os_image_exports(vmsig_os_handle *os, const vmsig_proc *process, const vmsig_image *image,
	vmsig_name_list **ret_list)
{
	return take_image(os, process, image, OS_EXPORTS, ret_list);
}

int vmsig_os_image_imports(vmsig_os_handle *os, const vmsig_proc *process, const vmsig_image *image,
	vmsig_name_list **ret_list)
{
	return take_image(os, process, image, OS_IMPORTS, ret_list);
}

int vmsig_os_image_needed(vmsig_os_handle *os, const vmsig_proc *process, const vmsig_image *image,
	vmsig_name_list **ret_list)
{
	return take_image(os, process, image, OS_NEEDED, ret_list);
}

static int make_lists(vmsig_name_list **lists, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		lists[i] = calloc(1, sizeof(*lists[i]));
		if (!lists[i])
			return VMSIG_ERR_NO_MEMORY;
	}
	return 0;
}

int vmsig_os_images_needed(vmsig_os_handle *os, const vmsig_proc *process,
	const vmsig_image_list *images, vmsig_name_list **ret_lists)
{
	int r;

	for (size_t i = 0; i < images->count; i++)
		ret_lists[i] = NULL;
	r = make_lists(ret_lists, images->count);
	if (!r && images->count)
		r = os->system->images_part(
			os, process, images->images, images->count, OS_NEEDED, ret_lists);
	for (size_t i = 0; i < images->count && r; i++) {
		vmsig_name_list_free(ret_lists[i]);
		ret_lists[i] = NULL;
	}
	return -r;
}
