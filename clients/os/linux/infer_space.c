/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/linux/infer_space.h"

#include "clients/os/linux/infer_probe.h"
#include "clients/os/linux/maple.h"

#define PAGE 4096u
#define ENTRIES 512u
#define USER_END (1ull << 56) /* of five levels */
#define ARGS_MAX                                                                                   \
	(1ull << 24) /* bytes of a command line; the kernel lets a quarter of the stack be */
#define FLAGS_MAX (1ull << 44)

static uint64_t word_of(const struct infer *infer, size_t space, uint32_t offset)
{
	return infer_load(infer->spaces[space].bytes, offset);
}

/* ---- spaces ---- */

/* Addresses of a kernel's half are the same in every space. One entry may differ: of the LDT. */
static bool is_root(struct infer *infer, uint64_t table, const uint64_t kernel[ENTRIES])
{
	uint64_t entries[ENTRIES];
	unsigned same = 0, present = 0;

	if (!infer_is_pointer(table) || table % PAGE ||
		!infer_read(infer, table, entries, sizeof(entries)))
		return false;
	for (size_t i = ENTRIES / 2; i < ENTRIES; i++) {
		/* Accessed and dirty are as they are. */
		same += (entries[i] & ~0x60ull) == (kernel[i] & ~0x60ull);
		present += kernel[i] & 1;
	}
	return present && same >= ENTRIES / 2 - 1;
}

/* Where its root is in a space. False: it is none. */
static bool find_pgd(struct infer *infer, const uint8_t *space, uint32_t *ret_pgd)
{
	uint64_t kernel[ENTRIES];
	uint64_t root = infer->kernel->root & ~(uint64_t)(PAGE - 1);

	if (vmsig_phys_read(infer->kernel->mem, root, kernel, sizeof(kernel)))
		return false;
	for (uint32_t at = 0; at < INFER_MM_BYTES; at += 8) {
		if (is_root(infer, infer_load(space, at), kernel)) {
			*ret_pgd = at;
			return true;
		}
	}
	return false;
}

/* Tasks of the kernel have none of their own, others what they run in. */
static bool is_mm(struct infer *infer, uint32_t at)
{
	const struct infer_task *tasks = infer->tasks;
	uint8_t bytes[INFER_MM_BYTES];
	uint32_t pgd;

	if (infer_load(tasks[0].bytes, at) || infer_load(tasks[2].bytes, at))
		return false;
	for (size_t i = 1; i < infer->task_count; i++) {
		uint64_t mm = infer_load(tasks[i].bytes, at);

		if (mm && (!infer_is_pointer(mm) || infer_load(tasks[i].bytes, at + 8) != mm))
			return false;
	}
	return infer_read_some(infer, infer_load(tasks[1].bytes, at), bytes, sizeof(bytes)) &&
	       find_pgd(infer, bytes, &pgd);
}

static void take_space(struct infer *infer, const struct infer_task *task, uint64_t mm)
{
	struct infer_space *space = &infer->spaces[infer->space_count];

	for (size_t i = 0; i < infer->space_count; i++) {
		if (infer->spaces[i].at == mm)
			return;
	}
	if (infer->space_count == INFER_SPACES_MAX)
		return;
	*space = (struct infer_space){.at = mm, .task = task->at};
	if (infer_read_some(infer, mm, space->bytes, sizeof(space->bytes)))
		infer->space_count++;
}

static bool find_spaces(struct infer *infer)
{
	uint32_t at, pgd;

	if (!infer_knows(infer, LINUX_TASK_PID) ||
		!infer_find(infer, infer_offset(infer, LINUX_TASK_TASKS) + 16,
			infer_offset(infer, LINUX_TASK_PID), 8, is_mm, &at))
		return false;
	infer_set(infer, LINUX_TASK_MM, at, 8);
	for (size_t i = 1; i < infer->task_count; i++) {
		uint64_t mm = infer_load(infer->tasks[i].bytes, at);

		if (mm)
			take_space(infer, &infer->tasks[i], mm);
	}
	if (!infer->space_count || !find_pgd(infer, infer->spaces[0].bytes, &pgd))
		return false;
	infer_set(infer, LINUX_MM_PGD, pgd, 8);
	return true;
}

/* ---- what a program was started with ---- */

enum {
	START_CODE,
	END_CODE,
	START_DATA,
	END_DATA,
	START_BRK,
	BRK,
	START_STACK,
	ARG_START,
	ARG_END,
	ENV_START,
	ENV_END,
	MARKS
};

static bool are_marks(struct infer *infer, uint32_t at)
{
	uint64_t mark[MARKS];

	for (size_t i = 0; i < infer->space_count; i++) {
		memcpy(mark, infer->spaces[i].bytes + at, sizeof(mark));
		if (mark[START_CODE] < PAGE || mark[START_CODE] >= mark[END_CODE] ||
			mark[START_DATA] > mark[END_DATA] || mark[START_BRK] > mark[BRK] ||
			mark[START_BRK] < PAGE || mark[START_STACK] > mark[ARG_START] ||
			mark[BRK] >= mark[START_STACK] || mark[ARG_START] > mark[ARG_END] ||
			mark[ARG_END] - mark[ARG_START] > ARGS_MAX ||
			mark[ARG_END] != mark[ENV_START] || mark[ENV_START] > mark[ENV_END] ||
			mark[ENV_END] - mark[ENV_START] > ARGS_MAX || mark[ENV_END] >= USER_END)
			return false;
	}
	return true;
}

static void find_marks(struct infer *infer)
{
	static const struct {
		enum linux_field field;
		unsigned mark;
	} fields[] = {{LINUX_MM_START_BRK, START_BRK}, {LINUX_MM_BRK, BRK},
		{LINUX_MM_START_STACK, START_STACK}, {LINUX_MM_ARG_START, ARG_START},
		{LINUX_MM_ARG_END, ARG_END}, {LINUX_MM_ENV_START, ENV_START},
		{LINUX_MM_ENV_END, ENV_END}};
	uint32_t at;

	if (!infer_find(infer, 0x40, INFER_MM_BYTES - MARKS * 8, 8, are_marks, &at))
		return;
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		infer_set(infer, fields[i].field, at + 8 * fields[i].mark, 8);
}

/* ---- areas ---- */

struct area_walk {
	struct infer *infer;
	struct infer_space *space;
	bool keep, wrong;
};

/* An area begins with its start and its end. */
static void take_area(struct area_walk *walk, uint64_t at, uint64_t start, uint64_t end)
{
	struct infer *infer = walk->infer;
	struct infer_area *area = &infer->areas[infer->area_count];

	walk->space->areas++;
	if (!walk->keep || infer->area_count == INFER_AREAS_MAX)
		return;
	*area = (struct infer_area){.at = at, .mm = walk->space->at, .start = start, .end = end};
	if (infer_read_some(infer, at, area->bytes, sizeof(area->bytes)))
		infer->area_count++;
}

static bool take_entry(void *ctx, uint64_t first, uint64_t last, uint64_t entry)
{
	struct area_walk *walk = ctx;
	uint64_t range[2];

	walk->wrong = !infer_is_pointer(entry) ||
		      !infer_read(walk->infer, entry, range, sizeof(range)) || range[0] != first ||
		      range[1] - 1 != last;
	if (!walk->wrong)
		take_area(walk, entry, range[0], range[1]);
	return !walk->wrong;
}

/* A node of a maple tree, as the word that a tree has says it. */
static bool is_tree(uint64_t root)
{
	return root >= INFER_HALF && (root & 3) == 2 && (root >> 3 & 15) >= 1 &&
	       (root >> 3 & 15) <= 3 && !(root & 0x80);
}

static bool walk_tree(struct infer *infer, struct infer_space *space, uint32_t at, bool keep)
{
	struct area_walk walk = {.infer = infer, .space = space, .keep = keep};
	uint64_t root = infer_load(space->bytes, at);

	space->areas = 0;
	if (!is_tree(root))
		return false;
	linux_begin(infer->kernel);
	linux_maple_visit(infer->kernel, root, take_entry, &walk);
	return !walk.wrong && !infer->kernel->fault && space->areas;
}

/* Before 6.1: each leads to the next one and to the one before. */
static bool walk_list(struct infer *infer, struct infer_space *space, uint32_t at, bool keep)
{
	struct area_walk walk = {.infer = infer, .space = space, .keep = keep};
	uint64_t area = infer_load(space->bytes, at), before = 0, last = 0;

	space->areas = 0;
	while (area) {
		uint64_t links[4]; /* start, end, next, previous */

		if (!infer_is_pointer(area) || !infer_read(infer, area, links, sizeof(links)) ||
			links[3] != before || links[0] < last || links[1] <= links[0])
			return false;
		take_area(&walk, area, links[0], links[1]);
		before = area;
		last = links[1];
		area = links[2];
	}
	return space->areas;
}

typedef bool (*walk_fn)(struct infer *infer, struct infer_space *space, uint32_t at, bool keep);

static bool walk_all(struct infer *infer, uint32_t at, walk_fn walk, bool keep)
{
	for (size_t i = 0; i < infer->space_count; i++) {
		if (!walk(infer, &infer->spaces[i], at, keep))
			return false;
	}
	return true;
}

static bool is_tree_of_areas(struct infer *infer, uint32_t at)
{
	return walk_all(infer, at, walk_tree, false);
}

static bool is_list_of_areas(struct infer *infer, uint32_t at)
{
	return walk_all(infer, at, walk_list, false);
}

/* include/linux/maple_tree.h, unchanged from 6.1 to 7.3. */
static void set_tree(struct infer *infer, bool known)
{
	static const struct {
		enum linux_field field;
		uint32_t offset, size;
	} fields[] = {{LINUX_MAPLE_RANGE_PIVOT, 8, 120}, {LINUX_MAPLE_RANGE_SLOT, 128, 128},
		{LINUX_MAPLE_ARANGE_PIVOT, 8, 72}, {LINUX_MAPLE_ARANGE_SLOT, 80, 80}};

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		infer_set(infer, fields[i].field, fields[i].offset, fields[i].size);
		infer->kernel->fields.field[fields[i].field].known = known;
	}
}

static bool find_areas(struct infer *infer)
{
	uint32_t at;

	set_tree(infer, true);
	if (infer_find(infer, 0, 0x200, 8, is_tree_of_areas, &at)) {
		infer_set(infer, LINUX_MM_TREE, at, 8);
		return walk_all(infer, at, walk_tree, true);
	}
	set_tree(infer, false);
	if (!infer_find(infer, 0, 0x40, 8, is_list_of_areas, &at))
		return false;
	infer_set(infer, LINUX_MM_LIST, at, 8);
	infer_set(infer, LINUX_VMA_NEXT, 16, 8);
	return walk_all(infer, at, walk_list, true);
}

static bool is_map_count(struct infer *infer, uint32_t at)
{
	for (size_t i = 0; i < infer->space_count; i++) {
		if (infer_load32(infer->spaces[i].bytes, at) != infer->spaces[i].areas)
			return false;
	}
	return true;
}

static void find_map_count(struct infer *infer)
{
	uint32_t first = infer_offset(infer, LINUX_MM_PGD) + 8, end = first + 0x200, at;

	end = end < INFER_MM_BYTES ? end : INFER_MM_BYTES;
	if (infer_find(infer, first, end, 4, is_map_count, &at))
		infer_set(infer, LINUX_MM_MAP_COUNT, at, 4);
}

static bool is_mm_of_area(struct infer *infer, uint32_t at)
{
	for (size_t i = 0; i < infer->area_count; i++) {
		if (infer_load(infer->areas[i].bytes, at) != infer->areas[i].mm)
			return false;
	}
	return true;
}

/* Behind the space that it is of, and its rights as page tables have them. */
static bool are_flags(const struct infer *infer, uint32_t at)
{
	uint64_t all = 0;

	for (size_t i = 0; i < infer->area_count; i++)
		all |= infer_load(infer->areas[i].bytes, at);
	return (all & 7) == 7 && all < FLAGS_MAX;
}

/* ---- code that the kernel gives every program ---- */

static bool has_area_at(const struct infer *infer, size_t space, uint64_t start)
{
	for (size_t i = 0; i < infer->area_count; i++) {
		if (infer->areas[i].mm == infer->spaces[space].at && infer->areas[i].start == start)
			return true;
	}
	return false;
}

/* The address of an area, behind which its description is, the kernel's own and the same for all.
 */
static bool is_vdso(struct infer *infer, uint32_t at)
{
	uint64_t image = word_of(infer, 0, at + 8);
	size_t n = 0;

	if (image < LINUX_IMAGE_FIRST || image > LINUX_IMAGE_LAST)
		return false;
	for (size_t i = 0; i < infer->space_count; i++) {
		uint64_t vdso = word_of(infer, i, at);

		if (!vdso || word_of(infer, i, at + 8) != image)
			continue;
		if (vdso % PAGE || vdso >= USER_END)
			return false;
		n += has_area_at(infer, i, vdso);
	}
	return n > 0;
}

void infer_spaces(struct infer *infer)
{
	uint32_t at;

	if (!find_spaces(infer))
		return;
	find_marks(infer);
	if (!find_areas(infer) || !infer->area_count)
		return;
	infer_set(infer, LINUX_VMA_START, 0, 8);
	infer_set(infer, LINUX_VMA_END, 8, 8);
	find_map_count(infer);
	if (infer_find(infer, 16, 0xa0, 8, is_mm_of_area, &at) && are_flags(infer, at + 16))
		infer_set(infer, LINUX_VMA_FLAGS, at + 16, 8);
	if (infer_find(infer, 0x100, INFER_MM_BYTES - 16, 8, is_vdso, &at))
		infer_set(infer, LINUX_MM_VDSO, at, 8);
}
