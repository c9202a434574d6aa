/* SPDX-License-Identifier: Apache-2.0 */
/* QEMU's memory backends and where the machine has them as RAM; see memmap.h. */
#include "broker/adapters/qemu/memmap.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmsig/vmsig_error.h"

#define MIB (1ull << 20)
#define GIB4 (1ull << 32)
#define MEMORY_BACKEND_RAM "child<memory-backend-ram>"

static const struct {
	const char *name;
	enum memmap_type type;
} types[] = {
	{"child<memory-backend-file>", MEMMAP_FILE},
	{"child<memory-backend-memfd>", MEMMAP_MEMFD},
	{"child<memory-backend-shm>", MEMMAP_MEMFD},
	{MEMORY_BACKEND_RAM, MEMMAP_MEMFD},
};

static const char *object_type(const json_t *objects, const char *id)
{
	size_t i;
	json_t *object;

	json_array_foreach (objects, i, object) {
		const char *name = json_string_value(json_object_get(object, "name"));
		const char *type = json_string_value(json_object_get(object, "type"));

		if (name && type && strcmp(name, id) == 0)
			return type;
	}
	return NULL;
}

static bool size_value(const json_t *value, uint64_t *ret_size)
{
	double number = json_number_value(value);

	if (!json_is_number(value) || number < 0 || number > (double)INT64_MAX)
		return false;
	*ret_size = json_is_integer(value) ? (uint64_t)json_integer_value(value) : (uint64_t)number;
	return true;
}

static bool backend_init(
	struct memmap_backend *backend, const json_t *memdev, const json_t *objects)
{
	const char *id = json_string_value(json_object_get(memdev, "id"));
	const char *type = id ? object_type(objects, id) : NULL;

	if (!size_value(json_object_get(memdev, "size"), &backend->size))
		return false;
	/* Without an id it is no user's object, and without a type no child of /objects. */
	snprintf(backend->id, sizeof(backend->id), "%s", id ? id : "");
	snprintf(
		backend->type_name, sizeof(backend->type_name), "%s", type ? type : "unknown type");
	backend->share = json_is_true(json_object_get(memdev, "share"));
	for (size_t i = 0; type && i < sizeof(types) / sizeof(types[0]); i++) {
		if (strcmp(types[i].name, type) == 0)
			backend->type = types[i].type;
	}
	/* Private, there is nothing behind it. */
	if (type && strcmp(type, MEMORY_BACKEND_RAM) == 0 && !backend->share)
		backend->type = MEMMAP_OTHER;
	return true;
}

static int no_memory(char *error, size_t error_size)
{
	snprintf(error, error_size,
		"the broker has no memory for the map of the guest's RAM; it is tried again");
	return -ENOMEM;
}

int memmap_init(struct memmap *ret_map, const json_t *memdev, const json_t *objects, char *error,
	size_t error_size)
{
	struct memmap map = {.nbackends = json_array_size(memdev)};

	if (!json_is_array(memdev) || !json_is_array(objects) ||
		map.nbackends > MEMMAP_MAX_BACKENDS) {
		snprintf(error, error_size, "query-memdev or qom-list answered with nonsense");
		return VMSIG_ERR_BAD_REQUEST;
	}
	map.backends = calloc(map.nbackends + 1, sizeof(map.backends[0]));
	if (!map.backends)
		return no_memory(error, error_size);
	for (size_t i = 0; i < map.nbackends; i++) {
		if (!backend_init(&map.backends[i], json_array_get(memdev, i), objects)) {
			snprintf(error, error_size, "query-memdev answered with nonsense");
			memmap_deinit(&map);
			return VMSIG_ERR_BAD_REQUEST;
		}
	}
	*ret_map = map;
	return 0;
}

void memmap_deinit(struct memmap *map)
{
	for (size_t i = 0; i < map->nbackends; i++)
		free(map->backends[i].path);
	free(map->backends);
	free(map->files);
	free(map->segs);
	free(map->owners);
	*map = (struct memmap){0};
}

/* QEMU names a backend's region by its id, or by its path when the canonical name is on. */
static bool backend_named(const struct memmap_backend *backend, const char *name)
{
	static const char prefix[] = "/objects/";

	if (strncmp(name, prefix, sizeof(prefix) - 1) == 0)
		name += sizeof(prefix) - 1;
	return backend->id[0] && strcmp(backend->id, name) == 0;
}

static struct memmap_backend *backend_find(const struct memmap *map, const char *name)
{
	for (size_t i = 0; i < map->nbackends; i++) {
		if (backend_named(&map->backends[i], name))
			return &map->backends[i];
	}
	return NULL;
}

/* ---- which of them are RAM ---- */

void memmap_name_main(struct memmap *map, const char *name)
{
	struct memmap_backend *backend = name ? backend_find(map, name) : NULL;

	if (backend)
		backend->is_main = true;
}

bool memmap_knows_main(const struct memmap *map)
{
	for (size_t i = 0; i < map->nbackends; i++) {
		if (map->backends[i].is_main)
			return true;
	}
	return false;
}

/* qapi/machine.json, MemoryDeviceInfo: what the guest's memory allocator gets. */
static bool is_system_memory(const char *type)
{
	return type && (strcmp(type, "dimm") == 0 || strcmp(type, "virtio-mem") == 0);
}

void memmap_name_devices(struct memmap *map, const json_t *devices)
{
	size_t i;
	json_t *device;

	json_array_foreach (devices, i, device) {
		const char *type = json_string_value(json_object_get(device, "type"));
		const char *memdev = json_string_value(
			json_object_get(json_object_get(device, "data"), "memdev"));
		struct memmap_backend *backend = memdev ? backend_find(map, memdev) : NULL;

		if (backend && is_system_memory(type))
			backend->plugged = true;
		else if (backend)
			backend->foreign = true;
	}
}

/* A line of a region's tree: "    START-END (prio N, ram): NAME". */
static void name_node(struct memmap *map, const char *line, size_t len)
{
	static const char mark[] = ", ram): ";
	const char *at = memmem(line, len, mark, sizeof(mark) - 1);
	char name[MTREE_NAME_MAX];
	size_t n;

	if (!at)
		return;
	at += sizeof(mark) - 1;
	n = (size_t)(line + len - at);
	while (n && (at[n - 1] == '\r' || at[n - 1] == ' '))
		n--;
	if (n >= sizeof(name))
		return;
	memcpy(name, at, n);
	name[n] = '\0';
	memmap_name_main(map, name);
}

static const char *next_line(const char *at)
{
	const char *newline = at ? strchr(at, '\n') : NULL;

	return newline ? newline + 1 : NULL;
}

void memmap_name_nodes(struct memmap *map, const char *text)
{
	/* hw/i386/pc.c, microvm.c: of whatever the machine's RAM is called. */
	static const char alias[] = "alias ram-below-4g @";
	const char *at = text ? strstr(text, alias) : NULL;
	char heading[MTREE_NAME_MAX + sizeof("memory-region: ")];

	if (!at)
		return;
	at += sizeof(alias) - 1;
	snprintf(heading, sizeof(heading), "memory-region: %.*s", (int)strcspn(at, " \r\n"), at);
	at = strstr(text, heading);
	/* Until the empty line behind the region. */
	for (at = next_line(at); at && *at == ' '; at = next_line(at))
		name_node(map, at, strcspn(at, "\n"));
}

/* A machine that does not say what its RAM is has it in whatever no device has. */
static bool is_ram(const struct memmap *map, const struct memmap_backend *backend)
{
	if (backend->foreign)
		return false;
	return backend->is_main || backend->plugged || !memmap_knows_main(map);
}

/* ---- where they are ---- */

static int place_range(struct memmap *map, struct memmap_backend *backend,
	const struct mtree_range *range, char *error, size_t error_size)
{
	size_t owner = (size_t)(backend - map->backends);
	vmsig_memseg *last = map->nseg ? &map->segs[map->nseg - 1] : NULL;

	if (range->off > backend->size || range->len > backend->size - range->off) {
		snprintf(error, error_size, "`info mtree -f` shows more of %s than its size",
			backend->id);
		return VMSIG_ERR_BAD_REQUEST;
	}
	backend->used = true;
	if (last && map->owners[map->nseg - 1] == owner && last->gpa + last->len == range->gpa &&
		last->file_off + last->len == range->off) {
		last->len += range->len;
		return 0;
	}
	map->owners[map->nseg] = owner;
	map->segs[map->nseg++] = (vmsig_memseg){range->gpa, range->len, range->off};
	return 0;
}

static int check_backend(const struct memmap_backend *backend, char *error, size_t error_size)
{
	if (backend->type == MEMMAP_OTHER) {
		snprintf(error, error_size,
			"guest RAM is in '%s' (%s), which has no file that can be shared; start "
			"QEMU with -object memory-backend-file,id=ram0,size=%lluM,"
			"mem-path=/run/vmsig/ram/VM,share=on -machine memory-backend=ram0",
			backend->id, backend->type_name, (unsigned long long)(backend->size / MIB));
		return VMSIG_ERR_UNSUPPORTED;
	}
	if (!backend->share) {
		snprintf(error, error_size,
			"guest RAM in '%s' is a private copy of its file, readers would see stale "
			"bytes; write share=on in its -object on QEMU's command line",
			backend->id);
		return VMSIG_ERR_UNSUPPORTED;
	}
	return 0;
}

static int check_used(struct memmap *map, char *error, size_t error_size)
{
	for (size_t i = 0; i < map->nbackends; i++) {
		int r = 0;

		if (map->backends[i].used) {
			if (!map->backends[i].plugged)
				map->base_bytes += map->backends[i].size;
			r = check_backend(&map->backends[i], error, error_size);
		}
		map->unshared |= r != 0;
		if (r)
			return r;
	}
	if (map->nseg)
		return 0;
	map->unshared = true;
	snprintf(error, error_size,
		"guest RAM is in no memory backend; start QEMU with -object memory-backend-file,"
		"id=ram0,size=SIZE,mem-path=/run/vmsig/ram/VM,share=on -machine "
		"memory-backend=ram0");
	return VMSIG_ERR_UNSUPPORTED;
}

int memmap_place(struct memmap *map, const struct mtree *mtree, char *error, size_t error_size)
{
	map->segs = calloc(mtree->nranges + 1, sizeof(map->segs[0]));
	map->owners = calloc(mtree->nranges + 1, sizeof(map->owners[0]));
	if (!map->segs || !map->owners)
		return no_memory(error, error_size);
	for (size_t i = 0; i < mtree->nranges; i++) {
		const struct mtree_range *range = &mtree->ranges[i];
		struct memmap_backend *backend = backend_find(map, range->name);
		bool ram = backend && is_ram(map, backend);
		int r = ram ? place_range(map, backend, range, error, error_size) : 0;

		if (r)
			return r;
	}
	return check_used(map, error, error_size);
}

struct memmap_backend *memmap_next_file(struct memmap *map)
{
	for (size_t i = 0; i < map->nbackends; i++) {
		struct memmap_backend *backend = &map->backends[i];

		if (backend->used && backend->type == MEMMAP_FILE && !backend->path)
			return backend;
	}
	return NULL;
}

int memmap_set_file(struct memmap_backend *backend, const char *path, uint64_t offset)
{
	char *copy = strdup(path);

	if (!copy)
		return -ENOMEM;
	free(backend->path);
	backend->path = copy;
	backend->offset = offset;
	return 0;
}

static bool same_file(const struct memmap_backend *a, const struct memmap_backend *b)
{
	return a == b || (a->path && b->path && strcmp(a->path, b->path) == 0);
}

static int refuse_many(char *error, size_t error_size)
{
	snprintf(error, error_size,
		"guest RAM is in more than %u files, and an endpoint serves so many; give several "
		"backends the same mem-path and an offset= each",
		VMSIG_MEMFILES_MAX);
	return VMSIG_ERR_UNSUPPORTED;
}

static bool overlap(const struct memmap_backend *a, const struct memmap_backend *b)
{
	return a->offset < b->offset ? b->offset - a->offset < a->size
				     : a->offset - b->offset < b->size;
}

/* Whether the file is the backend's, and none that is in it is where this one would be. */
static bool has_room(const struct memmap *map, size_t file, const struct memmap_backend *backend)
{
	bool same = false;

	for (size_t i = 0; i < map->nbackends; i++) {
		const struct memmap_backend *other = &map->backends[i];

		if (!other->placed || other->file != file)
			continue;
		if (!same_file(other, backend) || overlap(other, backend))
			return false;
		same = true;
	}
	return same;
}

static int place_in_file(
	struct memmap *map, struct memmap_backend *backend, char *error, size_t error_size)
{
	size_t i = 0;

	if (backend->placed)
		return 0;
	while (i < map->nfiles && !has_room(map, i, backend))
		i++;
	if (i == VMSIG_MEMFILES_MAX)
		return refuse_many(error, error_size);
	if (i == map->nfiles)
		map->files[map->nfiles++] = (struct memmap_file){.backend = backend};
	backend->file = i;
	backend->placed = true;
	return 0;
}

int memmap_finish(struct memmap *map, char *error, size_t error_size)
{
	map->files = calloc(VMSIG_MEMFILES_MAX, sizeof(map->files[0]));
	if (!map->files)
		return no_memory(error, error_size);
	for (size_t i = 0; i < map->nseg; i++) {
		struct memmap_backend *owner = &map->backends[map->owners[i]];
		vmsig_memseg *seg = &map->segs[i];
		int r = place_in_file(map, owner, error, error_size);

		if (r)
			return r;
		if (seg->file_off > UINT64_MAX - owner->offset) {
			snprintf(error, error_size, "the offset of backend %s makes no sense",
				owner->id);
			return VMSIG_ERR_BAD_REQUEST;
		}
		seg->file_off += owner->offset;
		if (seg->gpa < GIB4)
			map->low = seg->gpa + seg->len;
	}
	return 0;
}

size_t memmap_seg_file(const struct memmap *map, size_t seg)
{
	return map->backends[map->owners[seg]].file;
}

struct memmap_file *memmap_next_probe(struct memmap *map)
{
	for (size_t i = 0; i < map->nfiles; i++) {
		if (!map->files[i].probed)
			return &map->files[i];
	}
	return NULL;
}

/* The largest one is the least likely to be hidden by something smaller just now. */
static const vmsig_memseg *probe_seg(const struct memmap *map, const struct memmap_file *file)
{
	const vmsig_memseg *best = NULL;

	for (size_t i = 0; i < map->nseg; i++) {
		if (&map->backends[map->owners[i]] == file->backend &&
			(!best || map->segs[i].len > best->len))
			best = &map->segs[i];
	}
	return best;
}

uint64_t memmap_probe(const struct memmap *map, const struct memmap_file *file)
{
	return probe_seg(map, file)->gpa;
}

void memmap_set_hva(struct memmap *map, struct memmap_file *file, uint64_t hva)
{
	file->probed = true;
	file->hva = hva;
	file->hva_offset = probe_seg(map, file)->file_off;
}

static size_t first_above(const struct memmap *map, uint64_t gpa)
{
	size_t i = 0;

	while (i < map->nseg && map->segs[i].gpa + map->segs[i].len <= gpa)
		i++;
	return i;
}

static bool segs_equal(const vmsig_memseg *a, const vmsig_memseg *b)
{
	/* A segment that starts below 1 MiB counts from there on. */
	uint64_t cut_a = a->gpa < MIB ? MIB - a->gpa : 0;
	uint64_t cut_b = b->gpa < MIB ? MIB - b->gpa : 0;

	return a->gpa + cut_a == b->gpa + cut_b && a->len - cut_a == b->len - cut_b &&
	       a->file_off + cut_a == b->file_off + cut_b;
}

static bool backends_equal(const struct memmap_backend *a, const struct memmap_backend *b)
{
	return strcmp(a->id, b->id) == 0 && a->type == b->type && a->size == b->size &&
	       (a->type == MEMMAP_MEMFD || same_file(a, b));
}

bool memmap_equal(const struct memmap *a, const struct memmap *b)
{
	size_t i = first_above(a, MIB);
	size_t j = first_above(b, MIB);

	if (a->nseg - i != b->nseg - j || a->low != b->low)
		return false;
	for (; i < a->nseg; i++, j++) {
		if (!segs_equal(&a->segs[i], &b->segs[j]) ||
			!backends_equal(&a->backends[a->owners[i]], &b->backends[b->owners[j]]))
			return false;
	}
	return true;
}

uint64_t memmap_split(const char *machine, uint64_t bytes)
{
	if (strstr(machine, "q35"))
		return bytes >= 0xb0000000 ? 0x80000000 : bytes;
	if (strstr(machine, "i440fx"))
		return bytes >= 0xe0000000 ? 0xc0000000 : bytes;
	return 0;
}
