/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_STEWARDSHIP_H
#define BROKER_STEWARDSHIP_H

/*
 * Does what administrators ask of the shell: binds the admin plane's table of calls to the broker's
 * parts. The calls' context is the struct broker.
 */

#include "broker/planes/steward.h"

extern const struct steward_ops stewardship;

#endif
