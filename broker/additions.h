/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ADDITIONS_H
#define BROKER_ADDITIONS_H

/*
 * Endpoints that shall run and are not in the configuration: what an administrator has added. They
 * last until they are removed, the configuration names them, or the broker ends.
 */

#include "broker/config/config.h"

struct addition {
	struct config *config; /* of that endpoint alone; a reference */
	struct addition *prev, *next;
};

struct additions {
	struct addition *list;
};

/* By the endpoint's name, or NULL. */
struct addition *additions_find(const struct additions *additions, const char *name);
/* Takes over the reference in any case. -ENOMEM. */
__attribute__((warn_unused_result)) int additions_take(
	struct additions *additions, struct config *config, struct addition **ret_addition);
void additions_drop(struct additions *additions, struct addition *addition);
/* Drops what the configuration names: that is its own from now on. */
void additions_sift(struct additions *additions, const struct config *config);
void additions_deinit(struct additions *additions);

#endif
