/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SUPPORT_DAEMON_H
#define TESTS_SUPPORT_DAEMON_H

/*
 * The real vmsigd in a temporary directory of its own, with certificates made for it. Meant
 * for cmocka tests: what goes wrong fails the test.
 *
 *   struct daemon *daemon = daemon_new();
 *   daemon_ram(daemon, "a", 1 << 20);
 *   daemon_configure(daemon, "endpoints: ...\ntenants: ...\n");
 *   daemon_start(daemon);
 *   ...
 *   assert_int_equal(daemon_stop(daemon, SIGTERM), 0);
 *   daemon_free(daemon);
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <limits.h>
#include <sys/types.h>

#include "tests/support/pki.h"

#define DAEMON_WAIT_MS 60000 /* for anything that must happen, on a loaded machine too */

struct daemon;

struct daemon *daemon_new(void);
/* Kills the broker if it runs, removes the directory. Accepts NULL, returns NULL. */
struct daemon *daemon_free(struct daemon *daemon);

struct pki *daemon_pki(struct daemon *daemon);
const char *daemon_dir(const struct daemon *daemon);
const char *daemon_socket(const struct daemon *daemon);
const char *daemon_config(const struct daemon *daemon);
pid_t daemon_pid(const struct daemon *daemon);

/* Makes dir/NAME.ram, mode 0600, with a hole in it; the path is relative to the directory. */
void daemon_ram(struct daemon *daemon, const char *name, size_t size);
/* Writes the configuration: tls, listen and state_dir for the directory, then `rest`. */
__attribute__((format(printf, 2, 3))) void daemon_configure(
	struct daemon *daemon, const char *rest, ...);
/* Has the configuration name a revocation list from the next daemon_configure() on. */
void daemon_use_crl(struct daemon *daemon, const char *crl);

/* Starts it and waits until it is ready. */
void daemon_start(struct daemon *daemon);
/* Starts it with other arguments and waits for its end; its exit status. */
int daemon_run(struct daemon *daemon, const char *const *arguments);
/* Sends the signal and waits for the end: the exit status, or 128 + the signal. */
int daemon_stop(struct daemon *daemon, int signal);
/* Whether it still runs. */
bool daemon_alive(struct daemon *daemon);

/* All that it has written to standard error and output since the start of the test. */
const char *daemon_log(struct daemon *daemon);
/* How often the log has the words. */
unsigned daemon_log_count(struct daemon *daemon, const char *words);
/* Waits until the log has the words `count` times. */
void daemon_await_log(struct daemon *daemon, const char *words, unsigned count);
/* Open descriptors of the broker. */
size_t daemon_fds(const struct daemon *daemon);
/* Waits until it has no more than so many. */
void daemon_await_fds(const struct daemon *daemon, size_t most);

#endif
