/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_OS_H
#define CLIENTS_OS_OS_H

/*
 * What is in a guest (vmsig_os.h): the public calls, over what each system's folder knows. Stands
 * on the public holder's calls (vmsig_mem.h) alone; the broker never links it.
 *
 *   os       the public calls
 *   content  those about what a system has beside processes
 *   check    those that compare what it says with what else there is
 *   finding  what they find
 *   names    lists of named addresses
 *   maps     lists of what a process has mapped
 *   fault    what may go wrong with reading
 *   grow     arrays
 *   linux    Linux, as those calls see it
 *   windows  Windows, as those calls see it
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "clients/os/linux/kernel.h"
#include "clients/os/windows/kernel.h"
#include "vmsig/vmsig_os.h"

/* What modules, programs and libraries are made of. */
enum os_part { OS_SECTIONS, OS_EXPORTS, OS_IMPORTS, OS_NEEDED, OS_SYMBOLS, OS_PARTS };

/* What a system's folder knows to tell. Functions return 0, a positive enum vmsig_error or a
 * negative errno, and fill lists that are empty; NULL: the system has no such thing. */
struct os_system {
	uint32_t kind;      /* enum vmsig_os */
	const char *caveat; /* what has to be said of it; NULL: nothing */

	/* VMSIG_ERR_UNSUPPORTED: it is another system, or one that is not understood, and why. */
	int (*init)(
		vmsig_os_handle *os, vmsig_mem *mem, uint64_t kcr3, char *error, size_t error_size);
	void (*deinit)(vmsig_os_handle *os);
	int (*types)(const vmsig_os_handle *os, uint64_t *ret_addr, uint32_t *ret_len);

	size_t (*symbol_count)(const vmsig_os_handle *os);
	vmsig_symbol (*symbol)(const vmsig_os_handle *os, size_t index);
	bool (*symbol_find)(const vmsig_os_handle *os, const char *name, size_t *ret_index);
	bool (*symbol_before)(const vmsig_os_handle *os, uint64_t addr, size_t *ret_index);

	int (*processes)(vmsig_os_handle *os, vmsig_proc_list *list);
	int (*threads)(vmsig_os_handle *os, const vmsig_proc *process, vmsig_proc_list *list);
	int (*command_line)(vmsig_os_handle *os, const vmsig_proc *process, char *buf, size_t size,
		size_t *ret_len);
	int (*environment)(vmsig_os_handle *os, const vmsig_proc *process, char *buf, size_t size,
		size_t *ret_len);
	int (*maps)(vmsig_os_handle *os, const vmsig_proc *process, vmsig_map_list *list);
	int (*files)(vmsig_os_handle *os, const vmsig_proc *process, vmsig_file_list *list);
	int (*modules)(vmsig_os_handle *os, vmsig_module_list *list);
	/* VMSIG_ERR_UNSUPPORTED, too, when it does not tell that part. Without a module: of the
	 * kernel itself. */
	int (*module_part)(vmsig_os_handle *os, const vmsig_module *module, enum os_part part,
		vmsig_name_list *list);

	int (*images)(vmsig_os_handle *os, const vmsig_proc *process, vmsig_image_list *list);
	/* Of `count` images, the list of each. */
	int (*images_part)(vmsig_os_handle *os, const vmsig_proc *process,
		const vmsig_image *images, size_t count, enum os_part part,
		vmsig_name_list *const *lists);

	/* One comparison; what it finds is added. */
	int (*check)(vmsig_os_handle *os, size_t index, vmsig_finding_list *list);
	size_t check_count;
	/* As vmsig_os_text() returns. */
	int (*text)(vmsig_os_handle *os, vmsig_text_fn visit, void *ctx);
};

extern const struct os_system os_linux, os_windows;

struct vmsig_os_handle {
	const struct os_system *system;
	vmsig_mem *own; /* opened for it; NULL: `mem` is the caller's */
	union {
		struct linux_kernel linux_kernel;
		struct windows_kernel windows_kernel;
	};
};

/* Of what only Linux has: NULL in a guest that runs another system. */
static inline struct linux_kernel *os_linux_kernel(vmsig_os_handle *os)
{
	return os->system == &os_linux ? &os->linux_kernel : NULL;
}

#endif
