/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/ctl/undo_record.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "clients/common/folder.h"
#include "clients/ctl/ctl.h"

#define VERSION 1
#define SUFFIX ".json"
#define STAMP_DIGITS 20 /* of a 64-bit number, so that names sort as numbers do */
#define LEN_MAX (16u << 20)
#define ROOM_PER_BYTE 6u /* old, written and mask, in hexadecimal */
#define ROOM_BESIDE 4096u

/* ---- the folder ---- */

int undo_folder_open(int *ret_folder)
{
	char path[PATH_MAX] = "";
	struct stat status;
	int folder, r;

	if (!folder_state("VMSIG_UNDO_DIR", "undo", path))
		return ctl_fail(VMSIG_ERR_IO,
			"there is no folder for undo records; set VMSIG_UNDO_DIR, or write with "
			"--no-undo");
	r = folder_make(path);
	folder = r ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (folder < 0 || fstat(folder, &status) < 0)
		return ctl_fail(VMSIG_ERR_IO, "cannot use the folder %s for undo records: %s", path,
			strerror(r ? -r : errno));
	/* Never changed here: it may be somebody's /tmp. */
	if (status.st_uid != geteuid() || status.st_mode & 077) {
		close(folder);
		return ctl_fail(VMSIG_ERR_IO,
			"%s is open to others, but undo records have bytes of guests; chmod it to "
			"700, set VMSIG_UNDO_DIR to another folder, or write with --no-undo",
			path);
	}
	*ret_folder = folder;
	return EXIT_OK;
}

static int is_record(const struct dirent *entry)
{
	return strspn(entry->d_name, "0123456789") == STAMP_DIGITS &&
	       strcmp(entry->d_name + STAMP_DIGITS, SUFFIX) == 0;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

int undo_names_read(int folder, struct undo_names *ret_names)
{
	struct dirent **entries;
	int n = scandirat(folder, ".", &entries, is_record, by_name);

	if (n < 0)
		return ctl_fail(VMSIG_ERR_IO, "cannot list the undo records: %s", strerror(errno));
	*ret_names = (struct undo_names){entries, (size_t)n};
	return EXIT_OK;
}

void undo_names_clear(struct undo_names *names)
{
	for (size_t i = 0; i < names->count; i++)
		free(names->entries[i]);
	free(names->entries);
	*names = (struct undo_names){0};
}

/* ---- storing ---- */

static json_t *record_json(const struct undo_record *record)
{
	json_t *json = json_pack("{s:i, s:s, s:s, s:I, s:s, s:o, s:o, s:b, s:I, s:o, s:o}",
		"version", VERSION, "time", record->time, "endpoint", record->endpoint, "epoch",
		(json_int_t)record->epoch, "space", record->is_virtual ? "virtual" : "physical",
		"addr", value_hex(record->addr), "cr3", value_hex(record->cr3), "quiesce",
		record->quiesce, "len", (json_int_t)record->len, "old",
		value_bytes(record->old, record->len), "written",
		value_bytes(record->written, record->len));

	if (json && record->mask &&
		json_object_set_new(json, "mask", value_bytes(record->mask, record->len))) {
		json_decref(json);
		return NULL;
	}
	return json;
}

/* Above the newest one's, whatever the clock says. */
static uint64_t stamp_new(const struct undo_names *names)
{
	struct timespec now;
	uint64_t stamp, newest = 0;

	clock_gettime(CLOCK_REALTIME, &now);
	stamp = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
	if (names->count)
		newest = strtoull(names->entries[names->count - 1]->d_name, NULL, 10);
	return stamp > newest ? stamp : newest + 1;
}

static int room_open(struct undo_room *room, size_t len)
{
	struct timespec now;
	int r;

	clock_gettime(CLOCK_REALTIME, &now);
	snprintf(room->name, sizeof(room->name), ".new-%d-%09ld", (int)getpid(), now.tv_nsec);
	room->fd = openat(room->folder, room->name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (room->fd < 0)
		return -errno;
	do {
		r = posix_fallocate(room->fd, 0, (off_t)(len * ROOM_PER_BYTE + ROOM_BESIDE));
	} while (r == EINTR);
	return -r;
}

int undo_room_take(struct undo_room *room, size_t len)
{
	int code, r;

	*room = UNDO_ROOM_NONE;
	code = undo_folder_open(&room->folder);
	if (code)
		return code;
	r = room_open(room, len);
	if (!r)
		return EXIT_OK;
	undo_room_give(room);
	return ctl_fail(VMSIG_ERR_IO,
		"there is no room for an undo record: %s; nothing was written; set VMSIG_UNDO_DIR "
		"to another folder, or write with --no-undo",
		strerror(-r));
}

void undo_room_give(struct undo_room *room)
{
	if (room->fd >= 0) {
		close(room->fd);
		unlinkat(room->folder, room->name, 0);
	}
	if (room->folder >= 0)
		close(room->folder);
	*room = UNDO_ROOM_NONE;
}

/* In the place of the room, of which nothing stays behind the record's end. */
static int write_json(const struct undo_room *room, const json_t *json)
{
	int fd = fcntl(room->fd, F_DUPFD_CLOEXEC, 0), r;
	FILE *file = fd < 0 ? NULL : fdopen(fd, "w");

	if (!file) {
		r = -errno;
		if (fd >= 0)
			close(fd);
		return r;
	}
	r = json_dumpf(json, file, JSON_INDENT(1)) < 0 ? -EIO : 0;
	if (fflush(file) == EOF || ftruncate(fd, ftello(file)) < 0)
		r = -errno;
	return fclose(file) == EOF ? -errno : r;
}

/* link(2) does not replace what has that name. */
static int store(const struct undo_room *room, const json_t *json, uint64_t stamp,
	char name[static UNDO_NAME_MAX])
{
	int r = write_json(room, json);

	while (!r) {
		snprintf(name, UNDO_NAME_MAX, "%0*" PRIu64 SUFFIX, STAMP_DIGITS, stamp++);
		if (linkat(room->folder, room->name, room->folder, name, 0) == 0)
			return 0;
		r = errno == EEXIST ? 0 : -errno;
	}
	name[0] = '\0';
	return r;
}

int undo_record_save(
	struct undo_room *room, struct undo_record *record, char ret_name[static UNDO_NAME_MAX])
{
	struct undo_names names = {0};
	json_t *json;
	int code = undo_names_read(room->folder, &names), r;

	if (code)
		return code;
	text_time_now(0, record->time);
	json = record_json(record);
	r = json ? store(room, json, stamp_new(&names), ret_name) : -ENOMEM;
	json_decref(json);
	for (size_t i = 0; !r && i + UNDO_KEPT <= names.count; i++)
		unlinkat(room->folder, names.entries[i]->d_name, 0);
	undo_names_clear(&names);
	return r ? ctl_fail(VMSIG_ERR_IO, "cannot store an undo record: %s", strerror(-r))
		 : EXIT_OK;
}

/* ---- loading ---- */

/* True also without text. */
static bool bytes_parse(const char *text, size_t len, unsigned char **ret_bytes)
{
	size_t got = 0;

	if (!text)
		return true;
	if (strlen(text) != 2 * len)
		return false;
	*ret_bytes = malloc(len);
	return *ret_bytes && text_hex_parse(text, len, *ret_bytes, &got) && got == len;
}

static bool record_parse(json_t *json, struct undo_record *record)
{
	const char *time, *endpoint, *space, *addr, *cr3, *old, *written, *mask = NULL;
	json_int_t epoch, len;
	int version, quiesce;

	if (json_unpack(json, "{s:i, s:s, s:s, s:I, s:s, s:s, s:s, s:b, s:I, s:s, s:s, s?s}",
		    "version", &version, "time", &time, "endpoint", &endpoint, "epoch", &epoch,
		    "space", &space, "addr", &addr, "cr3", &cr3, "quiesce", &quiesce, "len", &len,
		    "old", &old, "written", &written, "mask", &mask))
		return false;
	if (version != VERSION || strlen(time) >= sizeof(record->time) ||
		strlen(endpoint) >= sizeof(record->endpoint) || epoch < 0 || epoch > UINT32_MAX ||
		len < 1 || len > LEN_MAX)
		return false;
	snprintf(record->time, sizeof(record->time), "%s", time);
	snprintf(record->endpoint, sizeof(record->endpoint), "%s", endpoint);
	record->epoch = (uint32_t)epoch;
	record->is_virtual = strcmp(space, "virtual") == 0;
	record->quiesce = quiesce;
	record->len = (size_t)len;
	return text_number(addr, &record->addr) && text_number(cr3, &record->cr3) &&
	       bytes_parse(old, record->len, &record->old) &&
	       bytes_parse(written, record->len, &record->written) &&
	       bytes_parse(mask, record->len, &record->mask);
}

int undo_record_load(int folder, const char *name, struct undo_record *ret_record)
{
	int fd = openat(strchr(name, '/') ? AT_FDCWD : folder, name, O_RDONLY | O_CLOEXEC);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
	struct undo_record record = {0};
	json_error_t error;
	json_t *json;
	bool ok;

	if (!file)
		return ctl_fail(VMSIG_ERR_IO,
			"cannot open the undo record %s: %s; see `vmsigctl undo --list`", name,
			strerror(errno));
	json = json_loadf(file, JSON_REJECT_DUPLICATES, &error);
	fclose(file);
	ok = json && record_parse(json, &record);
	json_decref(json);
	if (!ok) {
		undo_record_clear(&record);
		ctl_fail_with(VMSIG_ERR_IO, "remove it, or undo another of `vmsigctl undo --list`",
			"%s is no undo record of this version", name);
		return EXIT_ERROR;
	}
	*ret_record = record;
	return EXIT_OK;
}

int undo_record_remove(int folder, const char *name)
{
	if (unlinkat(strchr(name, '/') ? AT_FDCWD : folder, name, 0) < 0)
		return ctl_fail(VMSIG_ERR_IO, "cannot remove the undo record %s: %s", name,
			strerror(errno));
	return EXIT_OK;
}

void undo_record_clear(struct undo_record *record)
{
	free(record->old);
	free(record->written);
	free(record->mask);
	*record = (struct undo_record){0};
}
