/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_EXPORTER_EXPOSITION_H
#define CLIENTS_EXPORTER_EXPOSITION_H

/*
 * The broker's numbers as Prometheus reads them (text format 0.0.4): families with HELP and TYPE,
 * seconds where the broker counts nanoseconds, buckets that count all below. Pure. What is no
 * metric's or label's name is left out, and values of labels are escaped, so that nothing which
 * somebody named can be taken for another line.
 *
 *   exposition  numbers as text
 *   scrape      one look at the broker
 *   server      who asks, over HTTP
 *   visitors    who is connected, and who goes when there are too many
 *   main        the program
 */

#include <stddef.h>
#include <stdio.h>

#include "proto/wire/vmsig.pb-c.h"

/* What endpoints have, each a family with the label `endpoint`. */
void exposition_endpoints(FILE *to, Vmsig__Hosted *const *endpoints, size_t n);
void exposition_metric(FILE *to, const Vmsig__Metric *metric);
/* One sample without labels. */
void exposition_gauge(FILE *to, const char *name, const char *help, double value);

#endif
