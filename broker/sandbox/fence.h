/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_SANDBOX_FENCE_H
#define BROKER_SANDBOX_FENCE_H

/*
 * Landlock: where this process may make and remove files. It may do so nowhere but beneath the
 * folders that it is given, executes nothing, makes no devices and no links, and uses no TCP but
 * to ports that it is given.
 * Reading and writing of files is not fenced: guest RAM may lie in any folder, the configuration
 * names new ones at a reload, and a read-only mount clone has no place in the tree. Nor may it look
 * into processes outside of the fence any more.
 */

#include <stddef.h>

/* `folders` that are not there are passed over. 0; -EOPNOTSUPP: the kernel has no Landlock or
 * has it off; -errno. For good, needs no_new_privs. */
__attribute__((warn_unused_result)) int fence_raise(
	const char *const *folders, size_t n, const unsigned *ports, size_t nports);

#endif
