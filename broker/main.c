/* SPDX-License-Identifier: Apache-2.0 */
/* vmsigd: the command line, what has to be done before there are threads, and the order of start
 * and end. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "broker/adapters/qemu/guardian.h"
#include "broker/broker.h"
#include "broker/config/check.h"
#include "broker/log.h"
#include "broker/manager.h"
#include "broker/net/porter.h"
#include "broker/sandbox/sandbox.h"
#include "proto/standard.h"

#define DEFAULT_CONFIG "/etc/vmsig/vmsigd.yaml"

#define DESCRIPTORS_LEAST 64

enum { EXIT_USAGE = 2 };

static void usage(FILE *stream)
{
	fprintf(stream,
		"usage: vmsigd [-c FILE] [--check]\n"
		"\n"
		"The host's broker for guest memory.\n"
		"\n"
		"  -c, --config FILE  configuration (default " DEFAULT_CONFIG ")\n"
		"      --check        check the configuration, say what is wrong, and exit\n"
		"      --version      print the version and exit\n"
		"  -h, --help         print this and exit\n"
		"\n"
		"SIGHUP reads the configuration, policy and certificates again; SIGTERM ends.\n");
}

/* Each client costs a descriptor, and each context in flight two. With fewer than the least
 * libuv cannot start, and aborts. */
static int raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 0;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		log_warning("cannot raise RLIMIT_NOFILE", LOG_STR("error", strerror(errno)));
	if (limit.rlim_max >= DESCRIPTORS_LEAST)
		return 0;
	log_error("RLIMIT_NOFILE is too low to serve anybody; raise its hard limit",
		LOG_INT("limit", limit.rlim_max), LOG_INT("least", DESCRIPTORS_LEAST));
	return -EMFILE;
}

static int check(const struct config *config)
{
	if (check_config(config, stderr))
		return 1;
	check_warn(config, stderr);
	printf("%s: ok, %zu endpoints, %zu tenants\n", config->file, config->nendpoints,
		config->ntenants);
	return 0;
}

/* For guests that are stopped around writes. */
static struct guardian *start_guardian(const struct config *config)
{
	struct guardian *guardian = NULL;
	int r = config->write.given ? guardian_start(&guardian) : 0;

	if (r)
		log_warning(
			"no guest can be stopped around a write", LOG_STR("error", strerror(-r)));
	return guardian;
}

/* For operators who send bulk data. */
static struct porter *start_porter(const struct config *config)
{
	struct porter *porter = NULL;
	int r = config->write.given ? porter_start(&porter) : 0;

	if (r)
		log_warning("no bulk data can be received", LOG_STR("error", strerror(-r)));
	return porter;
}

static int run(struct config *config, struct guardian *guardian, struct porter *porter)
{
	struct broker broker;
	int code = 1;

	log_start();
	if (broker_init(&broker, config, guardian, porter) == 0)
		code = broker_run(&broker);
	broker_deinit(&broker);
	log_stop();
	return code;
}

static int serve(struct config *config)
{
	struct guardian *guardian;
	struct porter *porter;
	int code = 1;

	log_setup((enum log_level)config->log_level, config->log_json);
	umask(077);
	if (raise_descriptor_limit() || sandbox_begin(config)) {
		config_unref(config);
		return code;
	}
	guardian = start_guardian(config);
	porter = start_porter(config);
	/* Another user makes a process dumpable or not as the kernel likes. Not even a process of
	 * our own uid may look into us, or take our descriptors. */
	if (prctl(PR_SET_DUMPABLE, 0) < 0)
		log_warning("cannot become non-dumpable", LOG_STR("error", strerror(errno)));
	/* For handshakes. libuv reads this when the pool is first used. */
	setenv("UV_THREADPOOL_SIZE", "8", 0);
	signal(SIGPIPE, SIG_IGN);
	if (sandbox_shut(SANDBOX_BROKER) == 0)
		code = run(config, guardian, porter);
	else
		config_unref(config);
	manager_end();
	porter_stop(porter);
	guardian_stop(guardian);
	return code;
}

int main(int argc, char **argv)
{
	enum { OPT_CHECK = 256, OPT_VERSION };
	static const struct option options[] = {
		{"config", required_argument, NULL, 'c'},
		{"check", no_argument, NULL, OPT_CHECK},
		{"version", no_argument, NULL, OPT_VERSION},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	const char *file = DEFAULT_CONFIG;
	struct config *config;
	bool only_check = false;
	char error[512];
	int option;

	/* Whatever else was left open to us could be written to by accident, or taken over. */
	if (standard_secure() || manager_begin())
		return 1;
	while ((option = getopt_long(argc, argv, "c:h", options, NULL)) >= 0) {
		switch (option) {
		case 'c':
			file = optarg;
			break;
		case OPT_CHECK:
			only_check = true;
			break;
		case OPT_VERSION:
			puts("vmsigd " VMSIG_VERSION);
			return 0;
		case 'h':
			usage(stdout);
			return 0;
		default:
			usage(stderr);
			return EXIT_USAGE;
		}
	}
	if (optind < argc) {
		usage(stderr);
		return EXIT_USAGE;
	}
	if (config_load(&config, file, error, sizeof(error))) {
		fprintf(stderr, "%s\n", error);
		return 1;
	}
	if (only_check) {
		int code = check(config);

		config_unref(config);
		return code;
	}
	return serve(config);
}
