/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_INFER_NET_H
#define CLIENTS_OS_LINUX_INFER_NET_H

/* Sockets that tasks have open. Members are known afterwards, or not: infer.h. */

#include "clients/os/linux/infer_probe.h"

/* Sockets, when tasks have some open. Needs files. */
void infer_sockets(struct infer *infer);

#endif
