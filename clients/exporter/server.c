/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/exporter/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <microhttpd.h>

#include "clients/exporter/visitors.h"

#define BACKLOG 128
#define SILENT_S 10u    /* of a connection */
#define LOOK_MS 500     /* between two looks whether a signal has come */
#define MEMORY 16384u   /* bytes of one connection */
#define HOST_MAX 256    /* bytes of a name with its NUL */
#define ADDRESS_MAX 128 /* of --listen */

struct server {
	struct MHD_Daemon *daemon;
	struct scrape *scrape;
	const struct server_options *options;
	char own[HOST_MAX]; /* this host's name */
	struct MHD_Response *page, *missing, *unable, *refused, *misled;
	bool failing; /* the last look failed, which is said once */
	struct visitors visitors;
};

static volatile sig_atomic_t ended;

static void on_end(int signum)
{
	(void)signum;
	ended = 1;
}

/* ---- whom it is called by ---- */

/* Without the port, and an address without its brackets. */
static bool host_of(char host[static HOST_MAX], const char *header)
{
	size_t len = header[0] == '[' ? strcspn(header, "]") : strcspn(header, ":");

	if (header[0] == '[') {
		header++;
		len -= len > 0;
	}
	if (!len || len >= HOST_MAX)
		return false;
	memcpy(host, header, len);
	host[len] = '\0';
	return true;
}

static bool is_address(const char *host)
{
	struct in6_addr addr;

	return inet_pton(AF_INET, host, &addr) == 1 || inet_pton(AF_INET6, host, &addr) == 1;
}

/* A page of somebody else's that a browser on this host has open can have its own name lead here
 * (DNS rebinding), and would read what we answer; but it cannot have the browser send another name
 * than its own. */
static bool is_ours(const struct server *server, const char *header)
{
	char host[HOST_MAX];

	if (!header)
		return true; /* no browser */
	if (!host_of(host, header))
		return false;
	if (is_address(host) || strcasecmp(host, "localhost") == 0 ||
		strcasecmp(host, server->own) == 0)
		return true;
	for (size_t i = 0; i < server->options->nhosts; i++) {
		if (strcasecmp(host, server->options->hosts[i]) == 0)
			return true;
	}
	return false;
}

/* ---- answers ---- */

static enum MHD_Result answer_metrics(struct server *server, struct MHD_Connection *connection)
{
	struct MHD_Response *response;
	enum MHD_Result result;
	size_t len;
	char *text = scrape_take(server->scrape, &len);

	if (!text)
		return MHD_queue_response(
			connection, MHD_HTTP_INTERNAL_SERVER_ERROR, server->unable);
	if (server->scrape->failure[0] && !server->failing)
		fprintf(stderr, "vmsig-exporter: the broker does not answer: %s\n",
			server->scrape->failure);
	server->failing = server->scrape->failure[0] != '\0';
	response = MHD_create_response_from_buffer(len, text, MHD_RESPMEM_MUST_FREE);
	if (!response) {
		free(text);
		return MHD_NO;
	}
	(void)MHD_add_response_header(
		response, MHD_HTTP_HEADER_CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
	result = MHD_queue_response(connection, MHD_HTTP_OK, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *url,
	const char *method, const char *version, const char *data, size_t *data_size, void **state)
{
	struct server *server = arg;

	(void)version, (void)data;
	/* The first call is for the headers; a body is read and forgotten. */
	if (!*state || *data_size) {
		*state = server;
		*data_size = 0;
		return MHD_YES;
	}
	if (!is_ours(server,
		    MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_HOST)))
		return MHD_queue_response(connection, MHD_HTTP_FORBIDDEN, server->misled);
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
		return MHD_queue_response(connection, MHD_HTTP_METHOD_NOT_ALLOWED, server->refused);
	if (strcmp(url, "/metrics") == 0)
		return answer_metrics(server, connection);
	return strcmp(url, "/") == 0
		       ? MHD_queue_response(connection, MHD_HTTP_OK, server->page)
		       : MHD_queue_response(connection, MHD_HTTP_NOT_FOUND, server->missing);
}

static struct MHD_Response *fixed(const char *text, const char *type)
{
	struct MHD_Response *response = MHD_create_response_from_buffer(
		strlen(text), (void *)(uintptr_t)text, MHD_RESPMEM_PERSISTENT);

	if (response)
		(void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	return response;
}

static bool make_answers(struct server *server)
{
	server->page = fixed("<!DOCTYPE html><title>vmsig-exporter</title>"
			     "<a href=\"/metrics\">Metrics of vmsigd</a>\n",
		"text/html; charset=utf-8");
	server->missing = fixed("There is only /metrics.\n", "text/plain; charset=utf-8");
	server->unable = fixed("Out of memory.\n", "text/plain; charset=utf-8");
	server->refused = fixed("Only GET and HEAD.\n", "text/plain; charset=utf-8");
	server->misled = fixed("Whoever asks for this host by another name may be misled; use its "
			       "address, or start vmsig-exporter with --host NAME.\n",
		"text/plain; charset=utf-8");
	if (server->refused)
		(void)MHD_add_response_header(server->refused, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	return server->page && server->missing && server->unable && server->refused &&
	       server->misled;
}

/* ---- the socket ---- */

/* "127.0.0.1:9785", "[::1]:9785". */
static bool split(const char *listen, char host[static ADDRESS_MAX], const char **ret_port)
{
	const char *colon = strrchr(listen, ':');
	size_t len = colon ? (size_t)(colon - listen) : 0;

	if (!len || len >= ADDRESS_MAX)
		return false;
	if (listen[0] == '[' && listen[len - 1] == ']') {
		listen++;
		len -= 2;
	}
	memcpy(host, listen, len);
	host[len] = '\0';
	*ret_port = colon + 1;
	return len > 0;
}

/* -1 with a sentence. */
static int socket_open(const char *listen_at, char *error, size_t error_size)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
		.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE};
	const int yes = 1;
	struct addrinfo *found;
	char host[ADDRESS_MAX];
	const char *port;
	int fd, r;

	if (!split(listen_at, host, &port) || getaddrinfo(host, port, &hints, &found)) {
		snprintf(error, error_size,
			"'%s' is no ADDRESS:PORT; write one like 127.0.0.1:9785 or [::1]:9785",
			listen_at);
		return -1;
	}
	fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	r = fd < 0 ? -1 : setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (!r)
		r = bind(fd, found->ai_addr, found->ai_addrlen);
	if (!r)
		r = listen(fd, BACKLOG);
	freeaddrinfo(found);
	if (r) {
		snprintf(error, error_size, "cannot listen at %s: %s", listen_at, strerror(errno));
		if (fd >= 0)
			close(fd);
		return -1;
	}
	return fd;
}

static void on_connection(void *arg, struct MHD_Connection *connection, void **visitor,
	enum MHD_ConnectionNotificationCode code)
{
	struct server *server = arg;
	const union MHD_ConnectionInfo *info;

	if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
		visitors_remove(&server->visitors, *visitor);
		*visitor = NULL;
		return;
	}
	info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	*visitor = info ? visitors_add(&server->visitors, info->connect_fd) : NULL;
}

unsigned server_port(const struct server *server)
{
	const union MHD_DaemonInfo *info =
		MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_BIND_PORT);

	return info ? info->port : 0;
}

/* ---- life ---- */

struct server *server_new(
	const struct server_options *options, struct scrape *scrape, char *error, size_t error_size)
{
	const char *listen_at = options->listen;
	struct server *server = calloc(1, sizeof(*server));
	int fd;

	snprintf(error, error_size, "out of memory");
	if (!server)
		return NULL;
	server->scrape = scrape;
	server->options = options;
	if (gethostname(server->own, sizeof(server->own) - 1))
		server->own[0] = '\0';
	if (!make_answers(server))
		return server_free(server);
	fd = socket_open(listen_at, error, error_size);
	if (fd < 0)
		return server_free(server);
	server->daemon = MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, on_request, server,
		MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
		VISITORS_MAX + VISITORS_LEAVE, MHD_OPTION_NOTIFY_CONNECTION, on_connection, server,
		MHD_OPTION_CONNECTION_TIMEOUT, SILENT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
		(size_t)MEMORY, MHD_OPTION_END);
	if (server->daemon)
		return server;
	snprintf(error, error_size, "cannot serve HTTP at %s: %s", listen_at, strerror(errno));
	close(fd);
	return server_free(server);
}

void server_run(struct server *server)
{
	const struct sigaction end = {.sa_handler = on_end};

	sigaction(SIGTERM, &end, NULL);
	sigaction(SIGINT, &end, NULL);
	while (!ended)
		(void)MHD_run_wait(server->daemon, LOOK_MS);
}

struct server *server_free(struct server *server)
{
	struct MHD_Response *answers[5];

	if (!server)
		return NULL;
	if (server->daemon)
		MHD_stop_daemon(server->daemon); /* and its socket */
	memcpy(answers,
		(struct MHD_Response *[]){server->page, server->missing, server->unable,
			server->refused, server->misled},
		sizeof(answers));
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		if (answers[i])
			MHD_destroy_response(answers[i]);
	}
	free(server);
	return NULL;
}
