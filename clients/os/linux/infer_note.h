/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_INFER_NOTE_H
#define CLIENTS_OS_LINUX_INFER_NOTE_H

/* What the kernel says of itself for crash dumps (VMCOREINFO). Members are known afterwards, or
 * not: infer.h. */

#include "clients/os/linux/infer_probe.h"

/* What the kernel tells those that look at its crash dumps (VMCOREINFO): all of its log. */
void infer_note(struct infer *infer);

#endif
