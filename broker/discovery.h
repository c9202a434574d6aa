/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_DISCOVERY_H
#define BROKER_DISCOVERY_H

/*
 * Endpoints that come and go by themselves, as the configuration's `discover` says: what runs at
 * each source is compared with what was there before, and the endpoints are told the difference.
 * A source that cannot be asked loses nothing.
 *
 * An endpoint has its domain's name, or, if that cannot be one, the domain's UUID. A name that is
 * taken is refused, with a line in the log; a configured endpoint always has its own.
 */

#include <uv.h>

#include "broker/config/config.h"

struct discovery;
struct endpoints;

/* Nothing is looked for yet. -ENOMEM. */
__attribute__((warn_unused_result)) int discovery_new(
	struct discovery **ret_discovery, uv_loop_t *loop, struct endpoints *endpoints);
/* Looks as the configuration says, from now on; what is as it was goes on. What fails is logged. */
void discovery_adopt(struct discovery *discovery, struct config *config);
/* Looks no more, and has lost all. Accepts NULL. */
void discovery_close(struct discovery *discovery);
/* After discovery_close(). Accepts NULL, returns NULL. */
struct discovery *discovery_free(struct discovery *discovery);

#endif
