/* SPDX-License-Identifier: Apache-2.0 */
/* The questions, in their order, and what is made of each answer; see inquiry.h. */
#include "broker/adapters/qemu/inquiry.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "vmsig/vmsig_error.h"

#define SAY(inquiry, ...) snprintf((inquiry)->error, sizeof((inquiry)->error), __VA_ARGS__)

struct step {
	unsigned what; /* asked when one of these is wanted; 0: always */
	const char *command;
	json_t *(*arguments)(struct inquiry *inquiry);
	int (*take)(struct inquiry *inquiry, json_t *value);
	/* Steps in a row with the same one are repeated for as long as there is one to ask about.
	 */
	bool (*more)(struct inquiry *inquiry);
	bool optional; /* an error reply counts as no answer: value is NULL */
	bool (*wanted)(const struct inquiry *inquiry); /* NULL: it is */
};

static int nonsense(struct inquiry *inquiry, const char *command)
{
	SAY(inquiry, "%s answered with nonsense", command);
	return VMSIG_ERR_BAD_REQUEST;
}

static json_t *hmp(const char *line)
{
	return json_pack("{s:s}", "command-line", line);
}

static int take_status(struct inquiry *inquiry, json_t *value)
{
	const char *status = json_string_value(json_object_get(value, "status"));

	if (!status)
		return nonsense(inquiry, "query-status");
	snprintf(inquiry->status, sizeof(inquiry->status), "%s", status);
	inquiry->look.running = strcmp(status, "running") == 0;
	return 0;
}

/* States of MigrationStatus (qapi/migration.json) in which nothing moves (any more); an
 * unknown one of a newer QEMU counts as under way. No status: there was no migration. */
static int take_migrate(struct inquiry *inquiry, json_t *value)
{
	static const char *const quiet[] = {"none", "completed", "failed", "cancelled"};
	const char *status = json_string_value(json_object_get(value, "status"));

	inquiry->migrating = status != NULL;
	inquiry->migrated = status && strcmp(status, "completed") == 0;
	/* Only the source knows how long it took. */
	inquiry->outgoing = json_object_get(value, "total-time") != NULL;
	for (size_t i = 0; status && i < sizeof(quiet) / sizeof(quiet[0]); i++) {
		if (strcmp(status, quiet[i]) == 0)
			inquiry->migrating = false;
	}
	return 0;
}

static int take_memdev(struct inquiry *inquiry, json_t *value)
{
	inquiry->memdev = json_incref(value);
	return 0;
}

static json_t *ask_objects(struct inquiry *inquiry)
{
	return json_pack("{s:s}", "path", "/objects");
}

static int take_objects(struct inquiry *inquiry, json_t *value)
{
	return memmap_init(
		&inquiry->map, inquiry->memdev, value, inquiry->error, sizeof(inquiry->error));
}

/* `memory-backend` came with QEMU 5.0; it is empty for a machine whose NUMA nodes have one each,
 * and for one whose RAM is no user's object. */
static json_t *ask_main_memory(struct inquiry *inquiry)
{
	return json_pack("{s:s, s:s}", "path", "/machine", "property", "memory-backend");
}

static int take_main_memory(struct inquiry *inquiry, json_t *value)
{
	memmap_name_main(&inquiry->map, json_string_value(value));
	return 0;
}

static int take_memory_devices(struct inquiry *inquiry, json_t *value)
{
	memmap_name_devices(&inquiry->map, value);
	return 0;
}

static bool needs_regions(const struct inquiry *inquiry)
{
	return !memmap_knows_main(&inquiry->map);
}

static json_t *ask_regions(struct inquiry *inquiry)
{
	return hmp("info mtree");
}

static int take_regions(struct inquiry *inquiry, json_t *value)
{
	memmap_name_nodes(&inquiry->map, json_string_value(value));
	return 0;
}

static json_t *ask_mtree(struct inquiry *inquiry)
{
	return hmp("info mtree -f");
}

static int take_mtree(struct inquiry *inquiry, json_t *value)
{
	struct mtree mtree;
	int r;

	if (!json_is_string(value))
		return nonsense(inquiry, "info mtree");
	r = mtree_parse(&mtree, json_string_value(value), json_string_length(value), inquiry->error,
		sizeof(inquiry->error));
	if (r)
		return r;
	r = memmap_place(&inquiry->map, &mtree, inquiry->error, sizeof(inquiry->error));
	mtree_deinit(&mtree);
	return r;
}

static json_t *ask_property(const char *object, const char *property)
{
	char path[MTREE_NAME_MAX + sizeof("/objects/")];

	snprintf(path, sizeof(path), "/objects/%s", object);
	return json_pack("{s:s, s:s}", "path", path, "property", property);
}

static bool more_files(struct inquiry *inquiry)
{
	return memmap_next_file(&inquiry->map) != NULL;
}

/* Offset before path: a backend with a path is done. */
static json_t *ask_offset(struct inquiry *inquiry)
{
	return ask_property(memmap_next_file(&inquiry->map)->id, "offset");
}

static int take_offset(struct inquiry *inquiry, json_t *value)
{
	/* The property came with QEMU 8.1; before, files are used from their start. */
	if (value && (!json_is_integer(value) || json_integer_value(value) < 0))
		return nonsense(inquiry, "qom-get offset");
	memmap_next_file(&inquiry->map)->offset = (uint64_t)json_integer_value(value);
	return 0;
}

static json_t *ask_path(struct inquiry *inquiry)
{
	return ask_property(memmap_next_file(&inquiry->map)->id, "mem-path");
}

static int take_path(struct inquiry *inquiry, json_t *value)
{
	struct memmap_backend *backend = memmap_next_file(&inquiry->map);

	if (!json_is_string(value) || strlen(json_string_value(value)) == 0 ||
		strlen(json_string_value(value)) != json_string_length(value))
		return nonsense(inquiry, "qom-get mem-path");
	return memmap_set_file(backend, json_string_value(value), backend->offset);
}

static json_t *ask_machine(struct inquiry *inquiry)
{
	return json_pack("{s:s, s:s}", "path", "/machine", "property", "type");
}

static int take_machine(struct inquiry *inquiry, json_t *value)
{
	const char *machine = json_string_value(value);

	inquiry->split = machine ? memmap_split(machine, inquiry->map.base_bytes) : 0;
	return memmap_finish(&inquiry->map, inquiry->error, sizeof(inquiry->error));
}

static bool more_probes(struct inquiry *inquiry)
{
	return memmap_next_probe(&inquiry->map) != NULL;
}

static json_t *ask_hva(struct inquiry *inquiry)
{
	char line[64];

	snprintf(line, sizeof(line), "gpa2hva 0x%" PRIx64,
		memmap_probe(&inquiry->map, memmap_next_probe(&inquiry->map)));
	return hmp(line);
}

/* "Host virtual address for 0x100000 (ram0) is 0x7f...": which of QEMU's mappings is RAM.
 * Without it the mapping is told by its size. */
static int take_hva(struct inquiry *inquiry, json_t *value)
{
	static const char is[] = " is 0x";
	const char *text = json_string_value(value);
	const char *at = text ? strstr(text, is) : NULL;

	memmap_set_hva(&inquiry->map, memmap_next_probe(&inquiry->map),
		at ? strtoull(at + sizeof(is) - 1, NULL, 16) : 0);
	return 0;
}

static json_t *ask_registers(struct inquiry *inquiry)
{
	return hmp("info registers -a");
}

static int take_registers(struct inquiry *inquiry, json_t *value)
{
	int r = VMSIG_ERR_BAD_REQUEST;

	if (json_is_string(value))
		r = vcpu_parse(
			&inquiry->roots, json_string_value(value), json_string_length(value));
	return r > 0 ? nonsense(inquiry, "info registers") : r;
}

static json_t *ask_nodes(struct inquiry *inquiry)
{
	return json_pack("{s:b}", "flat", 1);
}

static int take_nodes(struct inquiry *inquiry, json_t *value)
{
	struct timeval now;

	gettimeofday(&now, NULL); /* what snapshots are dated by */
	inquiry->look.now_us = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_usec;
	look_snapshots(&inquiry->look, value);
	if (inquiry->look.restorable)
		inquiry->what |= INQUIRY_CLOCK;
	return 0;
}

static json_t *ask_clock(struct inquiry *inquiry)
{
	inquiry->look.asked_ns = uv_hrtime();
	return hmp(LOOK_CLOCK_COMMAND);
}

static int take_clock(struct inquiry *inquiry, json_t *value)
{
	inquiry->look.answered_ns = uv_hrtime();
	look_clock(&inquiry->look, json_string_value(value));
	return 0;
}

static int take_jobs(struct inquiry *inquiry, json_t *value)
{
	look_jobs(inquiry->load_job, value);
	return 0;
}

static const struct step steps[] = {
	{0, "query-status", NULL, take_status},
	{0, "query-migrate", NULL, take_migrate, .optional = true},
	{INQUIRY_JOBS, "query-jobs", NULL, take_jobs, .optional = true},
	{INQUIRY_SNAPSHOTS, "query-named-block-nodes", ask_nodes, take_nodes, .optional = true},
	{INQUIRY_CLOCK, "human-monitor-command", ask_clock, take_clock, .optional = true},
	{INQUIRY_MAP, "query-memdev", NULL, take_memdev},
	{INQUIRY_MAP, "qom-list", ask_objects, take_objects},
	{INQUIRY_MAP, "qom-get", ask_main_memory, take_main_memory, .optional = true},
	{INQUIRY_MAP, "query-memory-devices", NULL, take_memory_devices, .optional = true},
	{INQUIRY_MAP, "human-monitor-command", ask_regions, take_regions, .optional = true,
		.wanted = needs_regions},
	{INQUIRY_MAP, "human-monitor-command", ask_mtree, take_mtree},
	{INQUIRY_MAP, "qom-get", ask_offset, take_offset, .more = more_files, .optional = true},
	{INQUIRY_MAP, "qom-get", ask_path, take_path, .more = more_files},
	{INQUIRY_MAP, "qom-get", ask_machine, take_machine, .optional = true},
	{INQUIRY_MAP, "human-monitor-command", ask_hva, take_hva, .more = more_probes,
		.optional = true},
	{0, "human-monitor-command", ask_registers, take_registers},
};

#define NSTEPS (sizeof(steps) / sizeof(steps[0]))

static bool step_wanted(struct inquiry *inquiry, const struct step *step)
{
	if (step->what && !(step->what & inquiry->what))
		return false;
	if (step->wanted && !step->wanted(inquiry))
		return false;
	return !step->more || step->more(inquiry);
}

static int finish(struct inquiry *inquiry, int r)
{
	inquiry->active = false;
	if (r && !inquiry->error[0])
		SAY(inquiry, "%s", r < 0 ? strerror(-r) : "the QMP connection cannot be used");
	return r;
}

static int ask(struct inquiry *inquiry, struct link *link)
{
	const struct step *step;
	json_t *arguments;
	int r;

	while (inquiry->step < NSTEPS && !step_wanted(inquiry, &steps[inquiry->step]))
		inquiry->step++;
	if (inquiry->step == NSTEPS)
		return finish(inquiry, 0);
	step = &steps[inquiry->step];
	arguments = step->arguments ? step->arguments(inquiry) : NULL;
	if (step->arguments && !arguments)
		return finish(inquiry, -ENOMEM);
	r = link_command(link, step->command, arguments, &inquiry->id);
	return r ? finish(inquiry, r) : VMSIG_ERR_WOULD_BLOCK;
}

/* After the last question about a file comes the first one about the next file. */
static void advance(struct inquiry *inquiry)
{
	bool (*more)(struct inquiry * inquiry) = steps[inquiry->step].more;

	inquiry->step++;
	if (!more || steps[inquiry->step].more == more || !more(inquiry))
		return;
	while (steps[inquiry->step - 1].more == more)
		inquiry->step--;
}

int inquiry_start(struct inquiry *inquiry, struct link *link, unsigned what)
{
	inquiry_reset(inquiry);
	inquiry->active = true;
	inquiry->what = what;
	return ask(inquiry, link);
}

int inquiry_reply(struct inquiry *inquiry, struct link *link, const struct qmp_message *message)
{
	const struct step *step = &steps[inquiry->step];
	int r;

	if (!inquiry->active || message->id != inquiry->id)
		return VMSIG_ERR_WOULD_BLOCK;
	if (message->name && !step->optional) {
		SAY(inquiry, "QEMU refused %s: %s", step->command, message->detail);
		return finish(inquiry, VMSIG_ERR_UNSUPPORTED);
	}
	r = step->take(inquiry, message->value);
	if (r)
		return finish(inquiry, r);
	advance(inquiry);
	return ask(inquiry, link);
}

void inquiry_reset(struct inquiry *inquiry)
{
	json_decref(inquiry->memdev);
	memmap_deinit(&inquiry->map);
	vcpu_deinit(&inquiry->roots);
	*inquiry = (struct inquiry){0};
}
