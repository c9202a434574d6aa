/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_WINDOWS_HIDDEN_H
#define CLIENTS_OS_WINDOWS_HIDDEN_H

/*
 * What lists leave out: processes, threads and modules that are found by what they are, wherever
 * they lie. What has ended does not count, also while something still refers to it. What is found
 * is looked at twice, as lists change while memory is looked through.
 */

#include "clients/os/windows/kernel.h"

/* Processes, and threads. */
__attribute__((warn_unused_result)) int windows_hidden_objects(
	struct windows_kernel *kernel, vmsig_finding_list *list);
__attribute__((warn_unused_result)) int windows_hidden_modules(
	struct windows_kernel *kernel, vmsig_finding_list *list);

#endif
