/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ADAPTERS_QEMU_GLOBPATH_H
#define BROKER_ADAPTERS_QEMU_GLOBPATH_H

/*
 * "/run/qemu/vm?/qmp.sock", which sockets are meant: a folder that is named, and for each level
 * below it what names have to match there, the last level's being those of the sockets. A path
 * without a glob names a folder, and means all that lies in it. What is found is named by its path
 * below the folder, its file: "web1/qmp.sock". Immutable.
 */

#include <stddef.h>

#include "broker/config/config.h"

struct globpath {
	char *folder; /* without a slash at its end; "": the root */
	char *levels[CONFIG_GLOBS_MAX];
	unsigned n; /* levels; at least one */
};

/* An absolute path, of no more than CONFIG_GLOBS_MAX levels. -ENOMEM. */
__attribute__((warn_unused_result)) int globpath_init(struct globpath *glob, const char *path);
void globpath_deinit(struct globpath *glob);

/* What a file can be called: the parts of it that a glob stood for, '-' between them, and of the
 * last one not what follows its last dot. Files in different folders have different names: of
 * several parts, a '-' in one is doubled. "" when it does not fit, or one of several parts begins
 * or ends with '-'. */
void globpath_name(const struct globpath *glob, const char *file, char *name, size_t size);

#endif
