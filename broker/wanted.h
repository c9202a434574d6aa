/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_WANTED_H
#define BROKER_WANTED_H

/*
 * The endpoints that shall run, by name: what the configuration names, what an administrator has
 * added, and what was discovered. Where a name stands in several, the configuration comes first.
 * What was added lasts until it is dropped or the configuration names it; what was discovered,
 * until it is lost. A look-up costs the same however many there are.
 */

#include <stdbool.h>

#include "broker/config/config.h"

struct wanted_one;

struct wanted {
	struct config *config;            /* borrowed */
	struct wanted_one *added, *found; /* by name */
};

/* The configuration is borrowed until the next one. What was added and is named by it is its own
 * from now on. */
void wanted_configure(struct wanted *wanted, struct config *config);
void wanted_deinit(struct wanted *wanted);

/* By its name; *ret_origin is the configuration that it is in. NULL: it shall not run. */
const struct config_endpoint *wanted_find(
	const struct wanted *wanted, const char *name, struct config **ret_origin);

/* The configuration of one endpoint, whose name is wanted by nobody; counts a reference. -ENOMEM.
 */
__attribute__((warn_unused_result)) int wanted_add(struct wanted *wanted, struct config *config);
bool wanted_is_added(const struct wanted *wanted, const char *name);
/* Where the one that wanted_find() finds comes from, a word: config, added, or how it was
 * discovered: qmp, libvirt, provider. NULL: it shall not run. */
const char *wanted_origin(const struct wanted *wanted, const char *name);
/* Does nothing when it was not added. */
void wanted_drop(struct wanted *wanted, const char *name);

/* The same for one that was discovered. */
__attribute__((warn_unused_result)) int wanted_discover(
	struct wanted *wanted, struct config *config);
/* Whether it was this one that was discovered by its name. */
bool wanted_lose(struct wanted *wanted, const struct config *config);

#endif
