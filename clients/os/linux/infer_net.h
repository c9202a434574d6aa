/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_INFER_NET_H
#define CLIENTS_OS_LINUX_INFER_NET_H

#include "clients/os/linux/infer.h"

/* Sockets, when tasks have some open. Needs files. */
void infer_sockets(struct infer *infer);

#endif
