/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_LOG_H
#define CLIENTS_OS_LINUX_LOG_H

/* What the kernel has said: its ring of records (kernel/printk/printk_ringbuffer.h, from 5.10 on).
 */

#include "clients/os/linux/kernel.h"
#include "vmsig/vmsig_os.h"

#define LINUX_LOG_RECORDS_MAX (1u << 20) /* log_buf_len=32M has that many */

/* Texts are allocated. VMSIG_ERR_UNSUPPORTED: an older kernel. */
__attribute__((warn_unused_result)) int linux_log_list(
	struct linux_kernel *kernel, vmsig_log_list *ret_list);
/* Forgets all. */
void linux_log_clear(vmsig_log_list *list);

#endif
