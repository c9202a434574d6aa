/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_EXPORTER_SERVER_H
#define CLIENTS_EXPORTER_SERVER_H

/*
 * HTTP, for whoever scrapes: GET /metrics, and a page at / that says so. One request at a time; the
 * number of connections and how long one may be silent are bounded. Who can reach the address can
 * read: it is the loopback's unless somebody says otherwise. A request whose Host is neither an
 * address nor a name of this host is refused: it may be a browser that was misled.
 */

#include <stddef.h>

#include "clients/exporter/scrape.h"

#define SERVER_LISTEN "127.0.0.1:9785"

struct server;

struct server_options {
	const char *listen; /* ADDRESS:PORT, the address numeric, of IPv6 in brackets */
	/* Names that it may be asked for by, beside addresses, localhost and this host's name. */
	const char *const *hosts;
	size_t nhosts;
};

/* The options are borrowed until server_free(). NULL with a sentence. */
struct server *server_new(const struct server_options *options, struct scrape *scrape, char *error,
	size_t error_size);
/* Serves until a signal says not to: SIGTERM or SIGINT. */
void server_run(struct server *server);
/* Accepts NULL, returns NULL. */
struct server *server_free(struct server *server);
/* Where it listens, with the port that port 0 became. */
unsigned server_port(const struct server *server);

#endif
