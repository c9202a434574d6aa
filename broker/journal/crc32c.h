/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_JOURNAL_CRC32C_H
#define BROKER_JOURNAL_CRC32C_H

/*
 * CRC-32C (Castagnoli, reflected, as in iSCSI and ext4): against what a crash, a power cut or a
 * disk leaves, not against who can write to the file; the chain of hashes is there for that.
 */

#include <stddef.h>
#include <stdint.h>

/* Of `data` behind what has the sum `crc`; 0 to begin with. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);

#endif
