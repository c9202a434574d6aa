/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_CONFIG_KEYS_H
#define BROKER_CONFIG_KEYS_H

/*
 * The keys of the configuration file: what each is called, where in the structs of settings.h its
 * value goes, its bounds and its default. Data and nothing else, so that decoding, comparing and
 * explaining a configuration all go by one table; deploy/vmsigd.example.yaml shows every key.
 */

#include "broker/config/decode.h"

/* A whole file: struct config. */
extern const struct decode_field keys_config[];
/* An element of its list `endpoints`: struct config_endpoint. */
extern const struct decode_field keys_endpoint[];
/* An element of its list `discover`: struct config_discover. */
extern const struct decode_field keys_discover[];

#endif
