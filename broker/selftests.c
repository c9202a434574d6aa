/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/selftests.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An entry that could not be added has hh.tbl == NULL; the default would exit. */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "broker/config/config.h"
#include "broker/jobs.h"
#include "broker/log.h"
#include "broker/ram/ram.h"

/* One that was tested, or is just being. */
struct folder {
	UT_hash_handle hh;
	char path[];
};

struct selftests {
	struct jobs *jobs;
	struct folder *folders;
};

struct selftest {
	struct job job; /* first */
	char *name;     /* the endpoint's */
	char folder[PATH_MAX];
	enum vmsig_guard guard;
	int result;
	char report[512];
};

static enum job_step on_selftest(struct job *job)
{
	struct selftest *test = (struct selftest *)job;

	test->result = ram_selftest(test->folder, &test->guard, test->report, sizeof(test->report));
	return JOB_DONE;
}

static void on_selftested(struct job *job)
{
	struct selftest *test = (struct selftest *)job;

	if (job->finished)
		log_at(test->result || test->guard < VMSIG_GUARD_RO_MOUNT ? LOG_LEVEL_WARNING
									  : LOG_LEVEL_INFO,
			"read-only guarantee self-test", LOG_STR("endpoint", test->name),
			LOG_STR("result", test->report));
	free(test->name);
	free(test);
}

static void start(struct selftests *selftests, const char *name, const char *folder)
{
	static const struct job_ops ops = {.work = on_selftest, .done = on_selftested};
	struct selftest *test = calloc(1, sizeof(*test));
	struct job_line *line;

	if (!test || !(test->name = strdup(name)) || job_line_new(&line, selftests->jobs)) {
		log_warning("out of memory for the self-test", LOG_STR("endpoint", name));
		if (test)
			free(test->name);
		free(test);
		return;
	}
	snprintf(test->folder, sizeof(test->folder), "%s", folder);
	test->job.ops = &ops;
	job_start(&test->job, line);
	job_line_leave(line);
}

/* Whether it is new. Without memory it is tested again. */
static bool note(struct selftests *selftests, const char *path)
{
	size_t len = strlen(path);
	struct folder *folder = NULL;

	HASH_FIND(hh, selftests->folders, path, len, folder);
	if (folder)
		return false;
	folder = malloc(sizeof(*folder) + len + 1);
	if (!folder)
		return true;
	memcpy(folder->path, path, len + 1);
	HASH_ADD_KEYPTR(hh, selftests->folders, folder->path, len, folder);
	if (!folder->hh.tbl)
		free(folder);
	return true;
}

void selftests_start(struct selftests *selftests, const struct config_endpoint *config)
{
	char *const *files;
	size_t n =
		config->adapter == CONFIG_ADAPTER_FILE ? config_endpoint_files(config, &files) : 0;

	for (size_t i = 0; i < n; i++) {
		char path[PATH_MAX], *folder;

		snprintf(path, sizeof(path), "%s", files[i]);
		folder = dirname(path);
		if (note(selftests, folder))
			start(selftests, config->name, folder);
	}
}

int selftests_new(struct selftests **ret_selftests, struct jobs *jobs)
{
	struct selftests *selftests = calloc(1, sizeof(*selftests));

	if (!selftests)
		return -ENOMEM;
	selftests->jobs = jobs;
	*ret_selftests = selftests;
	return 0;
}

struct selftests *selftests_free(struct selftests *selftests)
{
	struct folder *folder, *next;

	if (!selftests)
		return NULL;
	/* HASH_ITER takes the next one before, which the analyser does not see through. */
	/* NOLINTBEGIN(clang-analyzer-unix.Malloc) */
	HASH_ITER (hh, selftests->folders, folder, next) {
		HASH_DEL(selftests->folders, folder);
		free(folder);
	}
	/* NOLINTEND(clang-analyzer-unix.Malloc) */
	free(selftests);
	return NULL;
}
