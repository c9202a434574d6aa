/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_INFER_CACHE_H
#define CLIENTS_OS_LINUX_INFER_CACHE_H

/* Pages of files, and the trees that they and pids are kept in. Members are known afterwards, or
 * not: infer.h. */

#include "clients/os/linux/infer_probe.h"

/* struct xa_node, which has been the same from 4.20 to 7.3; pids rest on it. */
void infer_nodes(struct infer *infer);
/* Pages of files, by those that are mapped. Needs files. */
void infer_pages(struct infer *infer);

#endif
