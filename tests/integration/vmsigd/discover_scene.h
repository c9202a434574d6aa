/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_INTEGRATION_VMSIGD_DISCOVER_SCENE_H
#define TESTS_INTEGRATION_VMSIGD_DISCOVER_SCENE_H

/* A broker that looks for QMP sockets, fake QEMUs that come and go, and a sensor and an
 * administrator who see which endpoints there are. One of a process. */

#include <limits.h>

#include "tests/integration/vmsigd/crowd.h"
#include "tests/integration/vmsigd/scene.h"

#define DISCOVER_MANY 300 /* the most endpoints that it can count */

extern struct discover_world {
	struct daemon *daemon;
	struct pki_cert sensor, admin;
	struct ctx_client client;
	struct crowd *crowd;
} discover;

/* Looks for sockets in "q" that end in ".qmp" until it is configured otherwise; not started. */
int discover_setup(void **state);
int discover_teardown(void **state);
/* Endpoints, and an element of `discover` without its braces. */
void discover_configure(const char *endpoints, const char *source);
void discover_start(void);

/* A path in the broker's folder; one of four buffers. */
const char *discover_at(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* "a b c": the endpoints' names in their order. */
void discover_await_names(const char *wanted);
void discover_await_count(size_t wanted);
/* What the administrator's command prints has a line with these words. */
void discover_await_printed(const char *asked, const char *pattern);
/* What `endpoint ls` prints has. */
void discover_await_listed(const char *pattern);

/* As many events as the kernel remembers for one that reads none, and one more. */
void discover_make_events(const char *folder);

#endif
