/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_PATH_H
#define CLIENTS_OS_LINUX_PATH_H

/* Names of files, as /proc/PID/maps and /proc/PID/fd have them. */

#include "clients/os/linux/kernel.h"

#define LINUX_PATH_MAX 4096u /* PATH_MAX, its NUL included */

/* Of an open file; what it makes no sense of is the kernel's fault, and "" then. */
void linux_path(struct linux_kernel *kernel, uint64_t file, char ret_path[static LINUX_PATH_MAX]);
/* Of what is called `dentry` in a mount. */
void linux_path_of(struct linux_kernel *kernel, uint64_t dentry, uint64_t vfsmount,
	char ret_path[static LINUX_PATH_MAX]);

#endif
