/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VMSIG_ABI_H
#define VMSIG_ABI_H

/* What C and C++ spell differently in the headers that both include. */
#ifdef __cplusplus
#define VMSIG_STATIC_ASSERT static_assert
#define VMSIG_ALIGNAS alignas
#else
#define VMSIG_STATIC_ASSERT _Static_assert
#define VMSIG_ALIGNAS _Alignas
#endif

#endif
