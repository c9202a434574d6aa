/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_FLEET_KEYS_H
#define BROKER_FLEET_KEYS_H

/* What the fleet's files of keys for etcd hold, read at the start and at each reload. */

#include <stdbool.h>
#include <stddef.h>

#include "broker/config/config.h"

/* PEM texts; NULL: the configuration names none. Zeroed they are none. */
struct fleet_keys {
	char *ca, *cert, *key;
};

/* Reads files, which may wait: on any thread. VMSIG_ERR_IO: one cannot be read;
 * VMSIG_ERR_BAD_REQUEST: they do not fit together, and `error` says how; -ENOMEM. On failure they
 * are none. */
__attribute__((warn_unused_result)) int fleet_keys_read(struct fleet_keys *ret_keys,
	const struct config_fleet *config, char *error, size_t error_size);
void fleet_keys_deinit(struct fleet_keys *keys);

#endif
