/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmsig-exporter: the broker's numbers for Prometheus, over HTTP. It needs no privileges, and an
 * identity of the role `monitor`, which may look at numbers and nothing else.
 */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/common/exits.h"
#include "clients/exporter/server.h"
#include "proto/standard.h"

static const char usage[] =
	"Usage: vmsig-exporter [--identity DIR] [--socket PATH] [--listen ADDRESS:PORT]\n"
	"Serves the broker's numbers at http://ADDRESS:PORT/metrics, for Prometheus.\n"
	"\n"
	"  --identity DIR         key.pem, cert.pem, ca.pem of the role monitor (or admin);\n"
	"                         $VMSIG_IDENTITY\n"
	"  --socket PATH          the broker's admin plane; $VMSIG_ADMIN_SOCKET or\n"
	"                         " VMSIG_ADMIN_SOCKET "\n"
	"  --listen ADDRESS:PORT  where to serve; default " SERVER_LISTEN ". Whoever reaches\n"
	"                         the address may read\n"
	"  --host NAME            another name that it may be asked for by, beside addresses,\n"
	"                         localhost and this host's name; as often as there are names\n"
	"  -h, --help             this text\n"
	"  -V, --version          the version\n";

#define HOSTS_MAX 16u

struct wishes {
	struct server_options server;
	const char *hosts[HOSTS_MAX];
	vmsig_options options;
};

enum { OPT_IDENTITY = 256, OPT_SOCKET, OPT_LISTEN, OPT_HOST };

static bool add_host(struct wishes *wishes, const char *name)
{
	if (wishes->server.nhosts == HOSTS_MAX) {
		fprintf(stderr, "vmsig-exporter: more than %u names\n", HOSTS_MAX);
		return false;
	}
	wishes->hosts[wishes->server.nhosts++] = name;
	return true;
}

static int say(const char *text)
{
	if (fputs(text, stdout) >= 0 && fflush(stdout) == 0)
		return EXIT_OK;
	fprintf(stderr, "vmsig-exporter: cannot write the output: %s\n", strerror(errno));
	return EXIT_ERROR;
}

/* -1: go on; else what to exit with. */
static int parse(struct wishes *wishes, int argc, char **argv)
{
	static const struct option options[] = {{"identity", required_argument, NULL, OPT_IDENTITY},
		{"socket", required_argument, NULL, OPT_SOCKET},
		{"listen", required_argument, NULL, OPT_LISTEN},
		{"host", required_argument, NULL, OPT_HOST}, {"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'}, {NULL, 0, NULL, 0}};
	char version[64];
	int code;

	while ((code = getopt_long(argc, argv, "hV", options, NULL)) != -1) {
		switch (code) {
		case OPT_IDENTITY:
			wishes->options.identity_dir = optarg;
			break;
		case OPT_SOCKET:
			wishes->options.socket_path = optarg;
			break;
		case OPT_LISTEN:
			wishes->server.listen = optarg;
			break;
		case OPT_HOST:
			if (!add_host(wishes, optarg))
				return EXIT_USAGE;
			break;
		case 'h':
			return say(usage);
		case 'V':
			snprintf(version, sizeof(version), "vmsig-exporter %s\n", vmsig_version());
			return say(version);
		default:
			fputs("See vmsig-exporter --help.\n", stderr);
			return EXIT_USAGE;
		}
	}
	if (optind == argc)
		return -1;
	fprintf(stderr, "vmsig-exporter: it takes no arguments; see vmsig-exporter --help\n");
	return EXIT_USAGE;
}

/* An identity that cannot be used is said at once; a broker that is away may come. */
static int check_identity(const vmsig_options *options)
{
	char error[VMSIG_DETAIL_MAX + 1];
	vmsig *unused;

	if (vmsig_open(&unused, options, error, sizeof(error))) {
		fprintf(stderr, "vmsig-exporter: %s\n", error);
		return EXIT_CONNECT;
	}
	vmsig_close(unused);
	return EXIT_OK;
}

int main(int argc, char **argv)
{
	struct wishes wishes = {.server.listen = SERVER_LISTEN,
		.options = {.identity_dir = getenv("VMSIG_IDENTITY"),
			.socket_path = getenv("VMSIG_ADMIN_SOCKET")}};
	struct scrape scrape = {0};
	struct server *server;
	char error[256];
	int code;

	if (standard_secure())
		return EXIT_ERROR;
	code = parse(&wishes, argc, argv);
	if (code >= 0)
		return code;
	code = check_identity(&wishes.options);
	if (code)
		return code;
	scrape.options = wishes.options;
	wishes.server.hosts = wishes.hosts;
	server = server_new(&wishes.server, &scrape, error, sizeof(error));
	if (!server) {
		fprintf(stderr, "vmsig-exporter: %s\n", error);
		return EXIT_ERROR;
	}
	fprintf(stderr, "vmsig-exporter: listening, port %u\n", server_port(server));
	server_run(server);
	server_free(server);
	scrape_end(&scrape);
	return EXIT_OK;
}
