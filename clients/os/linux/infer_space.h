/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_INFER_SPACE_H
#define CLIENTS_OS_LINUX_INFER_SPACE_H

#include "clients/os/linux/infer.h"

/* Address spaces of the tasks that are looked at, what they have, and their areas. */
void infer_spaces(struct infer *infer);

#endif
