/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/windows/compare.h"

#include <string.h>

#include "clients/os/windows/process.h"
#include "clients/os/windows/reader.h"
#include "clients/os/windows/ring.h"

#define OBJECT_MAX 0xc00u /* bytes of a process that are looked at; all there are have less */
#define OTHERS_MAX 16u
#define PID_FIRST 0x80u /* behind the smallest KPROCESS' beginning */
#define SYSTEM_PID 4u

/* PEB, unchanged from 7 to 11. */
#define PEB_IMAGE 0x10u

/* Times between 1998 and 2060, in their highest 16 bits. */
#define TIME_FIRST 0x01bdu
#define TIME_LAST 0x0232u

/* The first process, and those behind it. */
struct compare_objects {
	struct windows_kernel *kernel;
	struct compare_object {
		uint64_t at;
		uint8_t bytes[OBJECT_MAX];
	} system, others[OTHERS_MAX];
	size_t count;
};

static uint64_t word(const struct compare_object *object, uint32_t offset)
{
	uint64_t value;

	memcpy(&value, object->bytes + offset, sizeof(value));
	return value;
}

static void read_object(
	struct windows_kernel *kernel, uint64_t at, struct compare_object *ret_object)
{
	bool missing;

	ret_object->at = at;
	windows_read_some(
		kernel, kernel->root, at, ret_object->bytes, sizeof(ret_object->bytes), &missing);
}

static bool is_pid(uint64_t pid)
{
	return pid && pid % 4 == 0 && pid <= WINDOWS_PID_MAX;
}

/* ---- numbers, and the ring behind them ---- */

/* Takes the ring's processes; false: it is none of processes. */
static bool take_ring(struct compare_objects *objects, uint32_t pid)
{
	struct windows_kernel *kernel = objects->kernel;
	struct windows_ring ring = windows_ring(kernel, objects->system.at + pid + 8, pid + 8);
	uint64_t at;

	windows_begin(kernel);
	objects->count = 0;
	while (objects->count < OTHERS_MAX && windows_ring_next(&ring, &at)) {
		/* Its head is the kernel's. */
		if (ring.at - kernel->image.base < kernel->image.size)
			continue;
		read_object(kernel, at, &objects->others[objects->count]);
		if (!is_pid(word(&objects->others[objects->count++], pid)))
			return false;
	}
	return objects->count && !kernel->fault;
}

static uint32_t find_pid(struct compare_objects *objects)
{
	for (uint32_t at = PID_FIRST; at + 24 <= OBJECT_MAX; at += 8) {
		if (word(&objects->system, at) == SYSTEM_PID &&
			windows_is_object(word(&objects->system, at + 8)) && take_ring(objects, at))
			return at;
	}
	return 0;
}

/* ---- what fits them ---- */

typedef bool (*fits_fn)(const struct compare_objects *objects, uint32_t at);

static uint32_t find(const struct compare_objects *objects, uint32_t from, uint32_t to,
	uint32_t step, fits_fn fits)
{
	for (uint32_t at = from; at + 16 <= OBJECT_MAX && at < to; at += step) {
		if (fits(objects, at))
			return at;
	}
	return 0;
}

static bool is_printable(const uint8_t *text)
{
	size_t len = strnlen((const char *)text, WINDOWS_PROCESS_NAME);

	for (size_t i = 0; i < len; i++) {
		if (text[i] < 0x20 || text[i] == 0x7f)
			return false;
	}
	return len > 0;
}

static bool fits_name(const struct compare_objects *objects, uint32_t at)
{
	bool fits = memcmp(objects->system.bytes + at, "System", 7) == 0;

	for (size_t i = 0; i < objects->count && fits; i++)
		fits = is_printable(objects->others[i].bytes + at);
	return fits;
}

static bool fits_parent(const struct compare_objects *objects, uint32_t at)
{
	bool fits = word(&objects->system, at) == 0 && word(&objects->others[0], at) == SYSTEM_PID;

	for (size_t i = 0; i < objects->count && fits; i++)
		fits = is_pid(word(&objects->others[i], at));
	return fits;
}

static bool fits_created(const struct compare_objects *objects, uint32_t at)
{
	uint64_t high = word(&objects->system, at) >> 48;
	bool fits = high >= TIME_FIRST && high <= TIME_LAST;

	for (size_t i = 0; i < objects->count && fits; i++) {
		high = word(&objects->others[i], at) >> 48;
		fits = high >= TIME_FIRST && high <= TIME_LAST;
	}
	return fits;
}

/* What the PEB at `peb` says that its program is; 0: there is none. */
static uint64_t program(const struct compare_objects *objects, size_t i, uint64_t peb)
{
	struct windows_kernel *kernel = objects->kernel;
	uint64_t root = word(&objects->others[i], WINDOWS_PROCESS_ROOT) & WINDOWS_ROOT_MASK;
	uint64_t image;

	windows_begin(kernel);
	image = windows_word_user(kernel, root, peb + PEB_IMAGE);
	return !kernel->fault && image && image < WINDOWS_USER_END && image % WINDOWS_PAGE == 0
		       ? image
		       : 0;
}

static bool fits_peb(const struct compare_objects *objects, uint32_t at)
{
	size_t found = 0;

	if (word(&objects->system, at))
		return false;
	for (size_t i = 0; i < objects->count; i++) {
		uint64_t peb = word(&objects->others[i], at);

		if (!peb)
			continue;
		if (peb % WINDOWS_PAGE || !program(objects, i, peb))
			return false;
		found++;
	}
	return found > 0;
}

static bool fits_section_base(const struct compare_objects *objects, uint32_t at)
{
	uint32_t peb_at = objects->kernel->offset.peb;
	size_t found = 0;

	if (!peb_at || word(&objects->system, at))
		return false;
	for (size_t i = 0; i < objects->count; i++) {
		uint64_t peb = word(&objects->others[i], peb_at);

		if (!peb)
			continue;
		if (program(objects, i, peb) != word(&objects->others[i], at))
			return false;
		found++;
	}
	return found > 0;
}

/* ---- all ---- */

static void set(uint32_t *offset, uint32_t found, bool trusted)
{
	if (found && (!trusted || !*offset))
		*offset = found;
}

static void compare(struct compare_objects *objects, bool trusted)
{
	struct windows_offsets *offset = &objects->kernel->offset;
	uint32_t links;

	if (!trusted)
		set(&offset->pid, find_pid(objects), trusted);
	if (!offset->pid || (trusted && !take_ring(objects, offset->pid)))
		return;
	links = offset->links = offset->pid + 8;
	set(&offset->name, find(objects, links, OBJECT_MAX, 1, fits_name), trusted);
	set(&offset->parent, find(objects, links + 16, offset->name, 8, fits_parent), trusted);
	set(&offset->created, find(objects, PID_FIRST, links + 0x100, 8, fits_created), trusted);
	set(&offset->peb, find(objects, links, OBJECT_MAX, 8, fits_peb), trusted);
	set(&offset->section_base, find(objects, links, OBJECT_MAX, 8, fits_section_base), trusted);
}

void windows_compare(struct windows_kernel *kernel, bool trusted)
{
	static const struct compare_objects none;
	const struct windows_offsets *offset = &kernel->offset;
	struct compare_objects objects = none;

	if (trusted && offset->parent && offset->created && offset->peb && offset->section_base)
		return;
	objects.kernel = kernel;
	windows_begin(kernel);
	read_object(kernel, kernel->system, &objects.system);
	compare(&objects, trusted);
	windows_begin(kernel);
}
