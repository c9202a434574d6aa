/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/integration/qemu/fake_qmp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include <jansson.h>

#define must(condition)                                                                            \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: %s failed\n", __FILE__, __LINE__, #condition);     \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static void on_closed(uv_handle_t *handle)
{
	struct fake_qmp *fake = handle->data;

	fake->connected = false;
}

static void on_written(uv_write_t *write, int status)
{
	free(write->data);
	free(write);
}

void fake_qmp_say(struct fake_qmp *fake, const char *line)
{
	uv_write_t *write = calloc(1, sizeof(*write));
	char *copy;
	uv_buf_t buf;

	must(write && asprintf(&copy, "%s\r\n", line) > 0);
	write->data = copy;
	buf = uv_buf_init(copy, (unsigned)strlen(copy));
	must(uv_write(write, (uv_stream_t *)&fake->client, &buf, 1, on_written) == 0);
}

static json_t *registers(const struct fake_qmp *fake)
{
	if (!fake->long_mode)
		return json_string("CPU#0\nCR0=00000010 CR3=00000000\nEFER=0000\n");
	return json_sprintf(
		"CPU#0\nCR0=80050033 CR3=%016llx\nEFER=0d01\n", (unsigned long long)fake->cr3 | 2);
}

/* A capture of a real one. */
static void load_map(struct fake_qmp *fake, const char *path)
{
	FILE *file = fopen(path, "r");

	memset(fake->mtree, 0, sizeof(fake->mtree));
	must(file && fread(fake->mtree, 1, sizeof(fake->mtree) - 1, file) > 0);
	fclose(file);
}

void fake_qmp_plug(struct fake_qmp *fake, const char *path, uint64_t hva)
{
	fake->dimm = path;
	fake->dimm_hva = hva;
	load_map(
		fake, path ? TEST_DATA "/mtree/q35-dimm.mtree" : TEST_DATA "/mtree/q35-512m.mtree");
	fake_qmp_say(fake, path ? "{\"event\": \"ACPI_DEVICE_OST\", \"data\": {}}"
				: "{\"event\": \"DEVICE_DELETED\", \"data\": {}}");
}

static json_t *memdevs(const struct fake_qmp *fake)
{
	json_t *list = json_pack(
		"[{s:s, s:b, s:I}]", "id", "ram0", "share", 1, "size", (json_int_t)512 << 20);

	if (fake->dimm)
		json_array_append_new(list, json_pack("{s:s, s:b, s:I}", "id", "dimmem", "share", 1,
						    "size", (json_int_t)FAKE_DIMM_SIZE));
	return list;
}

static json_t *objects(const struct fake_qmp *fake)
{
	json_t *list =
		json_pack("[{s:s, s:s}]", "name", "ram0", "type", "child<memory-backend-file>");

	if (fake->dimm)
		json_array_append_new(list, json_pack("{s:s, s:s}", "name", "dimmem", "type",
						    "child<memory-backend-file>"));
	return list;
}

static json_t *memory_devices(const struct fake_qmp *fake)
{
	return fake->dimm ? json_pack("[{s:s, s:{s:s}}]", "type", "dimm", "data", "memdev",
				    "/objects/dimmem")
			  : json_array();
}

static json_t *property(const struct fake_qmp *fake, const char *path, const char *name)
{
	if (strcmp(name, "mem-path") == 0)
		return json_string(strstr(path, "dimmem") ? fake->dimm : fake->ram);
	if (strcmp(name, "type") == 0)
		return json_string("pc-q35-7.2-machine");
	return NULL;
}

/* ---- time ---- */

static bool is_running(const struct fake_qmp *fake)
{
	return strcmp(fake->status, "running") == 0;
}

static uint64_t clock_now(const struct fake_qmp *fake)
{
	return fake->clock_ns + (is_running(fake) ? uv_hrtime() - fake->running_ns : 0);
}

static void set_status(struct fake_qmp *fake, const char *status)
{
	fake->clock_ns = clock_now(fake);
	fake->running_ns = uv_hrtime();
	fake->status = status;
}

static void say_event(struct fake_qmp *fake, const char *name)
{
	struct timeval now;
	char line[160];

	gettimeofday(&now, NULL);
	snprintf(line, sizeof(line),
		"{\"event\": \"%s\", \"timestamp\": {\"seconds\": %lld, \"microseconds\": %lld}}",
		name, (long long)now.tv_sec, (long long)now.tv_usec);
	fake_qmp_say(fake, line);
}

void fake_qmp_pause(struct fake_qmp *fake)
{
	set_status(fake, "paused");
	say_event(fake, "STOP");
}

void fake_qmp_resume(struct fake_qmp *fake)
{
	say_event(fake, "RESUME");
	set_status(fake, "running");
}

void fake_qmp_load(struct fake_qmp *fake, uint64_t age_ns)
{
	bool was_running = is_running(fake);

	if (was_running)
		fake_qmp_pause(fake);
	fake->clock_ns -= age_ns;
	if (was_running)
		fake_qmp_resume(fake);
}

static json_t *nodes(const struct fake_qmp *fake)
{
	json_t *snapshots;

	if (fake->refuses_nodes)
		return NULL;
	snapshots = json_array();
	for (unsigned i = 0; i < fake->snapshots; i++)
		json_array_append_new(snapshots,
			json_pack("{s:s, s:i, s:I, s:i}", "id", "1", "vm-state-size", 4096,
				"date-sec", (json_int_t)fake->snapshot_s, "date-nsec", 0));
	return json_pack("[{s:s, s:{s:s, s:o}}]", "node-name", "disk", "image", "filename", "d",
		"snapshots", snapshots);
}

static json_t *clock_words(const struct fake_qmp *fake)
{
	uint64_t ticks = clock_now(fake) / 10;
	char text[80];

	if (!fake->has_clock)
		return json_string("00000000fed000f0: Cannot access memory\r\n");
	snprintf(text, sizeof(text), "00000000fed000f0: 0x%08x 0x%08x\r\n", (unsigned)ticks,
		(unsigned)(ticks >> 32));
	return json_string(text);
}

static json_t *jobs(const struct fake_qmp *fake)
{
	if (!fake->job)
		return json_array();
	return json_pack(
		"[{s:s, s:s, s:s}]", "id", "job0", "type", fake->job, "status", fake->job_status);
}

/* As QEMU does it: the event comes before the reply, and only when something changed. */
static json_t *run_state(struct fake_qmp *fake, const char *command)
{
	bool stops = strcmp(command, "stop") == 0;
	const char *status = stops ? "paused" : "running";

	must(strlen(fake->log) + strlen(command) + 2 < sizeof(fake->log));
	strcat(strcat(fake->log, command), " ");
	if (!stops && fake->refuses_cont)
		return NULL;
	if (strcmp(fake->status, status) != 0)
		say_event(fake, stops ? "STOP" : "RESUME");
	set_status(fake, !stops && fake->stopped_by_other ? fake->stopped_by_other : status);
	return json_object();
}

static json_t *capabilities(struct fake_qmp *fake, json_t *list)
{
	const json_t *first = json_array_get(list, 0);

	must(strcmp(json_string_value(json_object_get(first, "capability")), "events") == 0);
	must(json_array_size(list) == 1 && json_is_true(json_object_get(first, "state")));
	fake->events_asked = true;
	return json_object();
}

/* Of RAM that is mapped at fake->hva from 0 on. */
static json_t *where_is(const struct fake_qmp *fake, const char *line)
{
	uint64_t gpa = strtoull(strchr(line, ' ') + 1, NULL, 16);

	if (gpa >= 1ull << 32 && fake->dimm_hva)
		return json_sprintf("Host virtual address for 0x%llx (dimmem) is 0x%llx\r\n",
			(unsigned long long)gpa,
			(unsigned long long)(fake->dimm_hva + gpa - (1ull << 32)));
	if (!fake->hva || gpa >= 1ull << 32)
		return json_string("No memory is mapped at that address\r\n");
	return json_sprintf("Host virtual address for 0x%llx (ram0) is 0x%llx\r\n",
		(unsigned long long)gpa, (unsigned long long)(fake->hva + gpa));
}

static json_t *migration(const struct fake_qmp *fake)
{
	json_t *told = json_object();

	if (fake->migration)
		json_object_set_new(told, "status", json_string(fake->migration));
	if (fake->is_source)
		json_object_set_new(told, "total-time", json_integer(1000));
	return told;
}

static json_t *answer(struct fake_qmp *fake, const char *command, const json_t *arguments)
{
	const char *line = json_string_value(json_object_get(arguments, "command-line"));

	if (strcmp(command, "qmp_capabilities") == 0)
		return json_object();
	if (strcmp(command, "query-status") == 0)
		return json_pack("{s:s}", "status", fake->status);
	if (strcmp(command, "query-migrate") == 0)
		return migration(fake);
	if (strcmp(command, "migrate-set-capabilities") == 0)
		return capabilities(fake, json_object_get(arguments, "capabilities"));
	if (strcmp(command, "stop") == 0 || strcmp(command, "cont") == 0)
		return run_state(fake, command);
	if (strcmp(command, "query-memdev") == 0)
		return memdevs(fake);
	if (strcmp(command, "query-memory-devices") == 0)
		return memory_devices(fake);
	if (strcmp(command, "qom-list") == 0)
		return objects(fake);
	if (strcmp(command, "qom-get") == 0)
		return property(fake, json_string_value(json_object_get(arguments, "path")),
			json_string_value(json_object_get(arguments, "property")));
	if (strcmp(command, "query-named-block-nodes") == 0)
		return nodes(fake);
	if (strcmp(command, "query-jobs") == 0)
		return jobs(fake);
	if (line && strncmp(line, "xp ", 3) == 0)
		return clock_words(fake);
	if (line && strcmp(line, "info mtree") == 0)
		return json_string("");
	if (line && strncmp(line, "info mtree", 10) == 0) {
		fake->maps++;
		return json_string(fake->mtree);
	}
	if (line && strncmp(line, "gpa2hva", 7) == 0)
		return where_is(fake, line);
	return line ? registers(fake) : NULL;
}

static void on_command(struct fake_qmp *fake, const char *text)
{
	json_t *command = json_loads(text, 0, NULL);
	json_t *value, *reply;
	char *line;

	must(command);
	fake->asked++;
	value = answer(fake, json_string_value(json_object_get(command, "execute")),
		json_object_get(command, "arguments"));
	if (value)
		reply = json_pack(
			"{s:o, s:O*}", "return", value, "id", json_object_get(command, "id"));
	else
		reply = json_pack("{s:{s:s, s:s}, s:O*}", "error", "class", "GenericError", "desc",
			"no such thing", "id", json_object_get(command, "id"));
	line = json_dumps(reply, JSON_COMPACT);
	must(line);
	if (!fake->mute)
		fake_qmp_say(fake, line);
	free(line);
	json_decref(reply);
	json_decref(command);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
	struct fake_qmp *fake = handle->data;

	must(fake->len < sizeof(fake->line));
	*buf = uv_buf_init(fake->line + fake->len, (unsigned)(sizeof(fake->line) - fake->len - 1));
}

void fake_qmp_go_on(struct fake_qmp *fake)
{
	char *newline;

	while ((newline = memchr(fake->line, '\n', fake->len))) {
		*newline = 0;
		on_command(fake, fake->line);
		fake->len -= (size_t)(newline + 1 - fake->line);
		memmove(fake->line, newline + 1, fake->len);
	}
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct fake_qmp *fake = stream->data;

	if (n < 0) {
		fake->len = 0;
		fake_qmp_hang_up(fake);
		return;
	}
	fake->len += (size_t)n;
	fake->line[fake->len] = 0;
	if (!fake->slow)
		fake_qmp_go_on(fake);
}

static void on_connection(uv_stream_t *listener, int status)
{
	struct fake_qmp *fake = listener->data;

	must(status == 0 && !fake->connected);
	must(uv_pipe_init(listener->loop, &fake->client, 0) == 0);
	fake->client.data = fake;
	must(uv_accept(listener, (uv_stream_t *)&fake->client) == 0);
	fake->connected = true;
	fake->accepted++;
	fake->len = 0;
	must(uv_read_start((uv_stream_t *)&fake->client, on_alloc, on_read) == 0);
	fake_qmp_say(fake, "{\"QMP\": {\"version\": {}, \"capabilities\": [\"oob\"]}}");
	for (int i = 0; fake->late && i < 3; i++)
		fake_qmp_say(fake, "{\"return\": {}, \"id\": 57}");
}

void fake_qmp_start(struct fake_qmp *fake, uv_loop_t *loop, const char *path, const char *ram)
{
	*fake = (struct fake_qmp){.ram = ram,
		.status = "running",
		.long_mode = true,
		.cr3 = 0x262e000,
		.clock_ns = 1000000000000,
		.running_ns = uv_hrtime()};
	load_map(fake, TEST_DATA "/mtree/q35-512m.mtree");
	must(uv_pipe_init(loop, &fake->listener, 0) == 0);
	fake->listener.data = fake;
	must(uv_pipe_bind(&fake->listener, path) == 0);
	must(uv_listen((uv_stream_t *)&fake->listener, 4, on_connection) == 0);
}

void fake_qmp_hang_up(struct fake_qmp *fake)
{
	if (fake->connected && !uv_is_closing((uv_handle_t *)&fake->client))
		uv_close((uv_handle_t *)&fake->client, on_closed);
}

void fake_qmp_stop_listening(struct fake_qmp *fake)
{
	if (!uv_is_closing((uv_handle_t *)&fake->listener))
		uv_close((uv_handle_t *)&fake->listener, NULL);
}

void fake_qmp_stop(struct fake_qmp *fake)
{
	fake_qmp_hang_up(fake);
	fake_qmp_stop_listening(fake);
}
