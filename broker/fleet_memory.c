/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/fleet_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/jobs.h"
#include "broker/log.h"

#define FORMAT                                                                                     \
	"vmsig-fleet 2\ncluster %" PRIu64 "\nrevision %" PRId64 "\ngeneration %" PRIu64            \
	"\nepoch_floor %" PRIu32 "\ntoken_floor %" PRIu64 "\ncontact %" PRIu64 "\nboot %s\nend\n"
#define TEXT_MAX 512

struct fleet_keeper {
	struct job_line *line;
	struct job job;
	bool running, again, orphan;
	struct fleet_memory memory; /* the newest */
	char folder[PATH_MAX - 32], path[PATH_MAX], fresh[PATH_MAX];
	char text[TEXT_MAX]; /* the thread's while it runs */
	int result;
};

/* What does not fit is no number of ours. */
/* NOLINTBEGIN(cert-err34-c) */
static bool parse_newest(const char *text, struct fleet_memory *memory)
{
	int end = 0;

	return sscanf(text,
		       "vmsig-fleet 2 cluster %" SCNu64 " revision %" SCNd64 " generation %" SCNu64
		       " epoch_floor %" SCNu32 " token_floor %" SCNu64 " contact %" SCNu64
		       " boot %63s end%n",
		       &memory->cluster_id, &memory->revision, &memory->generation,
		       &memory->epoch_floor, &memory->token_floor, &memory->contact_ns,
		       memory->boot, &end) == 7 &&
	       end;
}

/* Without floors, which are read from the store then. */
static bool parse_first(const char *text, struct fleet_memory *memory)
{
	int end = 0;

	return sscanf(text,
		       "vmsig-fleet 1 cluster %" SCNu64 " revision %" SCNd64 " generation %" SCNu64
		       " contact %" SCNu64 " boot %63s end%n",
		       &memory->cluster_id, &memory->revision, &memory->generation,
		       &memory->contact_ns, memory->boot, &end) == 5 &&
	       end;
}
/* NOLINTEND(cert-err34-c) */

static void parse(const char *text, struct fleet_memory *ret_memory)
{
	struct fleet_memory newest = {0}, first = {0};

	if (parse_newest(text, &newest))
		*ret_memory = newest;
	else if (parse_first(text, &first))
		*ret_memory = first;
}

static void load(const char *path, struct fleet_memory *ret_memory)
{
	char text[TEXT_MAX] = "";
	FILE *file = fopen(path, "re");

	*ret_memory = (struct fleet_memory){0};
	if (!file)
		return;
	text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
	fclose(file);
	parse(text, ret_memory);
	if (!ret_memory->boot[0])
		log_warning("what the fleet was to remember cannot be read; it waits longer for "
			    "other hosts",
			LOG_STR("file", path));
}

/* ---- on the thread ---- */

static int write_fresh(const struct fleet_keeper *keeper)
{
	size_t len = strlen(keeper->text);
	int fd = open(keeper->fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int r = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, keeper->text, len) != (ssize_t)len)
		r = errno ? -errno : -EIO;
	if (!r && fdatasync(fd) < 0)
		r = -errno;
	close(fd);
	return r;
}

static int sync_folder(const struct fleet_keeper *keeper)
{
	int fd = open(keeper->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (fd < 0)
		return -errno;
	r = fsync(fd) < 0 ? -errno : 0;
	close(fd);
	return r;
}

static enum job_step on_work(struct job *job)
{
	struct fleet_keeper *keeper = job->arg;

	errno = 0;
	keeper->result = write_fresh(keeper);
	if (!keeper->result && rename(keeper->fresh, keeper->path) < 0)
		keeper->result = -errno;
	if (!keeper->result)
		keeper->result = sync_folder(keeper);
	return JOB_DONE;
}

/* ---- on the loop ---- */

static void begin(struct fleet_keeper *keeper);

static void on_done(struct job *job)
{
	struct fleet_keeper *keeper = job->arg;

	keeper->running = false;
	if (keeper->orphan) {
		free(keeper);
		return;
	}
	if (job->finished && keeper->result)
		log_error("what the fleet has to remember could not be stored; after a restart it "
			  "waits longer for other hosts",
			LOG_STR("file", keeper->path), LOG_STR("error", strerror(-keeper->result)));
	if (job->finished && keeper->again)
		begin(keeper);
}

static const struct job_ops ops = {.work = on_work, .done = on_done};

static void begin(struct fleet_keeper *keeper)
{
	const struct fleet_memory *memory = &keeper->memory;

	keeper->again = false;
	keeper->running = true;
	snprintf(keeper->text, sizeof(keeper->text), FORMAT, memory->cluster_id, memory->revision,
		memory->generation, memory->epoch_floor, memory->token_floor, memory->contact_ns,
		memory->boot);
	keeper->job = (struct job){.ops = &ops, .arg = keeper};
	job_start(&keeper->job, keeper->line);
}

void fleet_memory_keep(struct fleet_keeper *keeper, const struct fleet_memory *memory)
{
	keeper->memory = *memory;
	keeper->again = keeper->running;
	if (!keeper->running && !job_line_is_closed(keeper->line))
		begin(keeper);
}

int fleet_memory_open(struct fleet_keeper **ret_keeper, struct jobs *jobs, const char *state_dir,
	struct fleet_memory *ret_memory)
{
	struct fleet_keeper *keeper = calloc(1, sizeof(*keeper));

	if (!keeper || job_line_new(&keeper->line, jobs)) {
		free(keeper);
		return -ENOMEM;
	}
	snprintf(keeper->folder, sizeof(keeper->folder), "%s", state_dir);
	snprintf(keeper->path, sizeof(keeper->path), "%s/fleet", keeper->folder);
	snprintf(keeper->fresh, sizeof(keeper->fresh), "%s/fleet.new", keeper->folder);
	load(keeper->path, ret_memory);
	*ret_keeper = keeper;
	return 0;
}

struct fleet_keeper *fleet_memory_close(struct fleet_keeper *keeper)
{
	if (!keeper)
		return NULL;
	job_line_leave(keeper->line);
	keeper->orphan = true;
	/* Else done() does, unless its thread hangs: then the process is about to end. */
	if (!keeper->running)
		free(keeper);
	return NULL;
}
