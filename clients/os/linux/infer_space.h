/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_INFER_SPACE_H
#define CLIENTS_OS_LINUX_INFER_SPACE_H

/* mm_struct and vm_area_struct: address spaces of the tasks that are looked at. Members are known
 * afterwards, or not: infer.h. */

#include "clients/os/linux/infer_probe.h"

/* Address spaces of the tasks that are looked at, what they have, and their areas. */
void infer_spaces(struct infer *infer);

#endif
