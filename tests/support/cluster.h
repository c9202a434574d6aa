/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SUPPORT_CLUSTER_H
#define TESTS_SUPPORT_CLUSTER_H

/*
 * A real etcd of one or more members on the loopback of a network namespace of the test's own
 * (where it may make one), in a temporary directory. For cmocka tests: what goes wrong fails the
 * test. Where etcd is not installed the test is skipped.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/pki.h"

#define CLUSTER_MAX 3

struct cluster;

/* Before the process has threads. With `pki` clients need a certificate of its. */
struct cluster *cluster_new(unsigned members, struct pki *pki);
/* Ends all members. Accepts NULL, returns NULL. */
struct cluster *cluster_free(struct cluster *cluster);

/* Where clients reach a member. */
const char *cluster_url(const struct cluster *cluster, unsigned member);
/* SIGKILL waits for its end, SIGSTOP and SIGCONT do not. */
void cluster_signal(struct cluster *cluster, unsigned member, int signal);
/* One that was killed, with its data, or without: then it is a new cluster, if it was alone. */
void cluster_restart(struct cluster *cluster, unsigned member, bool forget);
/* What is started from now on is another authority's, and asks its clients for its. */
void cluster_rekey(struct cluster *cluster, struct pki *pki);
/* Waits until a member serves its clients, the last time that it was started. */
void cluster_await(struct cluster *cluster, unsigned member);

#endif
