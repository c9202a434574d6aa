/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_EXPORTER_SCRAPE_H
#define CLIENTS_EXPORTER_SCRAPE_H

/*
 * One look at the broker: its statistics and its endpoints, as text. The connection is kept between
 * looks and made anew after one that failed; a broker that is away is told as vmsig_up 0 at once,
 * one that hangs after SCRAPE_MS.
 */

#include <stddef.h>
#include <stdint.h>

#include "vmsig/vmsig_admin.h"

/* All of a look; Prometheus itself waits 10 s unless somebody says otherwise. */
#define SCRAPE_MS 8000
#define SCRAPE_ENDPOINTS_MAX 65536u /* more are not told of */

struct scrape {
	vmsig_options options;              /* borrowed: identity, socket */
	int64_t until_ms;                   /* CLOCK_MONOTONIC, when this look is over */
	vmsig_admin *admin;                 /* NULL: none now */
	char failure[VMSIG_DETAIL_MAX + 1]; /* of the last look, or "" */
};

/* The text, which the caller frees; NULL without memory. */
__attribute__((warn_unused_result)) char *scrape_take(struct scrape *scrape, size_t *ret_len);
void scrape_end(struct scrape *scrape);

#endif
