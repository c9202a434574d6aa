/* SPDX-License-Identifier: Apache-2.0 */
/* vmsigd: the command line, what has to be done before there are threads, and the order of start
 * and end. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/adapters/adapter.h"
#include "broker/adapters/qemu/guardian.h"
#include "broker/broker.h"
#include "broker/config/check.h"
#include "broker/config/explain.h"
#include "broker/error_text.h"
#include "broker/log.h"
#include "broker/manager.h"
#include "broker/net/porter.h"
#include "broker/sandbox/sandbox.h"
#include "proto/standard.h"

#define DEFAULT_CONFIG "/etc/vmsig/vmsigd.yaml"

#define DESCRIPTORS_LEAST 64

/* EXIT_NOTHING: what was asked about is not granted. */
enum { EXIT_USAGE = 2, EXIT_NOTHING = 3 };

static void usage(FILE *stream)
{
	fprintf(stream,
		"usage: vmsigd [-c FILE] [--check | --explain TENANT ENDPOINT] [--json]\n"
		"\n"
		"The host's broker for guest memory.\n"
		"\n"
		"  -c, --config FILE  configuration (default " DEFAULT_CONFIG ")\n"
		"      --check        check the configuration, say what is wrong, and exit\n"
		"      --explain TENANT ENDPOINT\n"
		"                     say what the policy gives the tenant (or ROLE/TENANT) on\n"
		"                     the endpoint, and which line says so, and exit; status 3:\n"
		"                     nothing\n"
		"      --json         say so in JSON\n"
		"  -V, --version      print the version and exit\n"
		"  -h, --help         print this and exit\n"
		"\n"
		"SIGHUP reads the configuration, policy and certificates again; SIGTERM ends.\n");
}

/* What to exit with after words that were asked for. */
static int said(void)
{
	if (fflush(stdout) == 0)
		return 0;
	fprintf(stderr, "vmsigd: cannot write the output: %s\n", strerror(errno));
	return EXIT_FAILURE;
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

/* What the command line says. */
struct arguments {
	const char *file;
	bool check, explain, as_json;
	char *const *names; /* of --explain */
};

/* Lines of the text as an array; frees it. */
static json_t *lines_json(char *text)
{
	json_t *lines = json_array();
	char *rest = text, *line;

	while ((line = strsep(&rest, "\n"))) {
		if (line[0])
			json_array_append_new(lines, json_string(line));
	}
	free(text);
	return lines;
}

static json_t *said_json(
	void (*say)(const struct config *config, FILE *out), const struct config *config)
{
	char *text = NULL;
	size_t size;
	FILE *stream = open_memstream(&text, &size);

	if (!stream)
		return NULL;
	say(config, stream);
	fclose(stream);
	return lines_json(text);
}

static void say_problems(const struct config *config, FILE *out)
{
	(void)check_config(config, out);
}

static int print_json(json_t *json)
{
	int r = json ? json_dumpf(json, stdout, JSON_COMPACT) : -1;

	json_decref(json);
	return r < 0 || putchar('\n') == EOF ? 1 : 0;
}

/* As vmsigctl, which becomes this for `policy`, says what fails. The exit status. */
static int fail_as_json(int error, const char *text, const char *hint)
{
	int number = error < 0 ? VMSIG_ERR_IO : error;
	json_t *json = json_pack("{s:s, s:i, s:s, s:s?}", "error", vmsig_error_name(number),
		"number", number, "text", text, "hint", hint);

	if (json && json_dumpf(json, stderr, JSON_COMPACT) == 0)
		fputc('\n', stderr);
	json_decref(json);
	return 1;
}

/* Behind the word that there is no configuration where nobody has named one. */
static const char *missing_hint(const char *file)
{
	if (strcmp(file, DEFAULT_CONFIG) != 0 || access(file, F_OK) == 0 || errno != ENOENT)
		return "";
	return "; write it, see vmsigd.yaml(5), or name another one with -c FILE";
}

static int load_failed(const struct arguments *arguments, int error, const char *why)
{
	if (arguments->as_json)
		return fail_as_json(error, why, NULL);
	fprintf(stderr, "%s%s\n", why, missing_hint(arguments->file));
	return 1;
}

/* All problems, whatever kind they are; the file could be read, or *error says why not. */
static int check_as_json(const struct config *config, const char *file, const char *error)
{
	json_t *problems = config ? said_json(say_problems, config) : json_array();
	char count[64];
	bool ok;

	if (!config)
		json_array_append_new(problems, json_string(error));
	ok = json_array_size(problems) == 0;
	snprintf(count, sizeof(count), "the configuration has problems: %zu",
		json_array_size(problems));
	if (print_json(
		    json_pack("{s:s, s:b, s:o, s:o, s:i, s:i}", "file", file, "ok", ok, "problems",
			    problems, "warnings", ok ? said_json(check_warn, config) : json_array(),
			    "endpoints", config ? (int)config->nendpoints : 0, "tenants",
			    config ? (int)config->ntenants : 0)))
		return 1;
	return ok ? 0 : fail_as_json(VMSIG_ERR_BAD_REQUEST, count, "standard output has them");
}

static int check(const struct config *config)
{
	if (check_config(config, stderr))
		return 1;
	check_warn(config, stderr);
	printf("%s: ok, %zu endpoint%s, %zu tenant%s\n", config->file, config->nendpoints,
		config->nendpoints == 1 ? "" : "s", config->ntenants,
		config->ntenants == 1 ? "" : "s");
	return 0;
}

static int explain(const struct config *config, const struct decode_lines *lines,
	char *const *names, bool as_json)
{
	bool granted;
	json_t *explained = explain_json(config, lines, names[0], names[1], &granted);

	if (!explained)
		return 1;
	if (as_json)
		return print_json(explained) ? 1 : granted ? 0 : EXIT_NOTHING;
	explain_print(explained, stdout);
	json_decref(explained);
	return granted ? 0 : EXIT_NOTHING;
}

/* For guests that are stopped around writes. */
static struct guardian *start_guardian(const struct config *config)
{
	struct guardian *guardian = NULL;
	int r = config->write.given ? guardian_start(&guardian, adapter_libvirt.rescue) : 0;

	if (r)
		log_warning(
			"no guest can be stopped around a write", LOG_STR("error", strerror(-r)));
	return guardian;
}

/* For operators who send bulk data, and for providers. */
static struct porter *start_porter(const struct config *config)
{
	struct porter *porter = NULL;
	int r = config->write.given || config->admin.given ? porter_start(&porter) : 0;

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
	/* libvirt's library starts daemons that do not run yet, which the sandbox would end us
	 * for. */
	setenv("LIBVIRT_AUTOSTART", "0", 1);
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

/* Why the number of arguments does not fit the options. */
static const char *misuse(const struct arguments *arguments)
{
	if (arguments->check && arguments->explain)
		return "say --check or --explain, not both";
	if (arguments->explain)
		return "--explain takes a TENANT and an ENDPOINT";
	return "it takes no arguments; name the configuration with -c";
}

/* Negative: go on; else what to exit with. */
static int parse(int argc, char **argv, struct arguments *arguments)
{
	enum { OPT_CHECK = 256, OPT_EXPLAIN, OPT_JSON };
	static const struct option options[] = {
		{"config", required_argument, NULL, 'c'},
		{"check", no_argument, NULL, OPT_CHECK},
		{"explain", no_argument, NULL, OPT_EXPLAIN},
		{"json", no_argument, NULL, OPT_JSON},
		{"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	int option;

	while ((option = getopt_long(argc, argv, "c:hV", options, NULL)) >= 0) {
		switch (option) {
		case 'c':
			arguments->file = optarg;
			break;
		case OPT_CHECK:
			arguments->check = true;
			break;
		case OPT_EXPLAIN:
			arguments->explain = true;
			break;
		case OPT_JSON:
			arguments->as_json = true;
			break;
		case 'V':
			puts("vmsigd " VMSIG_VERSION);
			return said();
		case 'h':
			usage(stdout);
			return said();
		default:
			usage(stderr);
			return EXIT_USAGE;
		}
	}
	arguments->names = argv + optind;
	if (argc - optind == (arguments->explain ? 2 : 0) &&
		!(arguments->check && arguments->explain))
		return -1;
	fprintf(stderr, "vmsigd: %s\n", misuse(arguments));
	usage(stderr);
	return EXIT_USAGE;
}

/* Looks at the configuration, and does nothing with it. */
static int look(const struct arguments *arguments)
{
	struct decode_lines *lines;
	struct config *config;
	char error[512];
	int code, r = config_load_lines(&config, &lines, arguments->file, error, sizeof(error));

	if (r)
		return arguments->as_json && arguments->check
			       ? check_as_json(NULL, arguments->file, error)
			       : load_failed(arguments, r, error);
	if (arguments->explain)
		code = explain(config, lines, arguments->names, arguments->as_json);
	else
		code = arguments->as_json ? check_as_json(config, arguments->file, NULL)
					  : check(config);
	decode_lines_free(lines);
	config_unref(config);
	return code;
}

/* By its whole path, as administrators are told it in whatever folder they are. */
static int load_to_serve(struct config **ret_config, const struct arguments *arguments)
{
	char path[PATH_MAX], folder[PATH_MAX], error[512];
	const char *file = arguments->file;
	int r;

	if (file[0] != '/' && getcwd(folder, sizeof(folder)) &&
		snprintf(path, sizeof(path), "%s/%s", folder, file) < (int)sizeof(path))
		file = path;
	r = config_load(ret_config, file, error, sizeof(error));
	return r ? load_failed(arguments, r, error) : 0;
}

/* Whatever else was left open to us could be written to by accident, or taken over. */
static int begin(void)
{
	int r = standard_secure();

	if (!r)
		r = manager_begin();
	if (r)
		fprintf(stderr, "vmsigd: the descriptors that it was started with: %s\n",
			error_text(r));
	return r;
}

int main(int argc, char **argv)
{
	struct arguments arguments = {.file = DEFAULT_CONFIG};
	struct config *config;
	int code;

	if (begin())
		return 1;
	code = parse(argc, argv, &arguments);
	if (code >= 0)
		return code;
	if (arguments.check || arguments.explain)
		return look(&arguments);
	code = load_to_serve(&config, &arguments);
	return code ? code : serve(config);
}
