/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "proto/guest/ntimage.h"
#include "proto/guest/root.h"
#include "proto/guest/strategy.h"
#include "vmsig/vmsig_error.h"

/*
 * Windows x64. Where to begin is told by the processor start block ("low stub") that brings up
 * further CPUs, stays in low memory and holds a root, and by the roots that vCPUs run on, when
 * these have a self-map entry as Windows's have. Neither is evidence: Xen, the BSDs and hobby
 * kernels have recursive tables too. Only ntoskrnl.exe is: from there the kernel's own pointer
 * to its System process leads to the root that is served, and under that root the same image
 * and the same process must be found again.
 */

#define STUB_FIRST 0x1000ull
#define STUB_LAST 0x9f000ull
/* Byte offsets and masks of PROCESSOR_START_BLOCK: the jump at its start, the kernel entry
 * (LmTarget), and CR3. */
#define STUB_JUMP_MASK 0xffffffffffff00ffull
#define STUB_JUMP 0x00000001000600e9ull
#define STUB_ENTRY 0x70u
#define STUB_ENTRY_MASK 0xfffff80000000003ull
#define STUB_ENTRY_BITS 0xfffff80000000000ull
#define STUB_CR3 0xa0u
#define STUB_CR3_MASK 0xffffff0000000fffull
#define MIN_KERNEL_ENTRIES 6u /* the self-map among them */
#define OWN_ENTRIES_MAX 3u    /* of a process, in the kernel's half, next to the self-map */
#define PRESENT_WRITABLE 0x3ull
#define STARTS_MAX 16u /* roots that are searched, all under one kernel or hostile */
#define PAGES_MAX                                                                                  \
	(256u << 10) /* 1 GiB of mappings looked at in all; a kernel is in the first               \
		      * hundreds of MiB */

static uint64_t word(const unsigned char *page, size_t offset)
{
	uint64_t value;

	memcpy(&value, page + offset, sizeof(value));
	return value;
}

static bool is_stub(const unsigned char *page)
{
	uint64_t cr3 = word(page, STUB_CR3);

	return (word(page, 0) & STUB_JUMP_MASK) == STUB_JUMP &&
	       (word(page, STUB_ENTRY) & STUB_ENTRY_MASK) == STUB_ENTRY_BITS &&
	       (cr3 & STUB_CR3_MASK) == 0 && cr3;
}

/* The one entry of the kernel's half that maps the table itself; 0 when there is none or
 * more than one. */
static unsigned self_map(const struct root_table *table)
{
	unsigned found = 0, n = 0;

	for (unsigned i = ROOT_KERNEL_FIRST; i < PGWALK_ENTRIES; i++) {
		if ((table->entries[i] & PRESENT_WRITABLE) == PRESENT_WRITABLE &&
			(table->entries[i] & PGWALK_ADDR_MASK) == table->root) {
			found = i;
			n++;
		}
	}
	return n == 1 ? found : 0;
}

/* Every process has its own self-map, in the same place, its own hyperspace and, by session,
 * session space; the rest of the kernel's half is shared. The tables of an earlier boot lie
 * elsewhere, all of them. */
static bool same_kernel(const struct root_table *candidate, const struct root_table *vcpu)
{
	unsigned self = self_map(candidate), shared = 0, own = 0;

	if (!self || self_map(vcpu) != self)
		return false;
	for (unsigned i = ROOT_KERNEL_FIRST; i < PGWALK_ENTRIES; i++) {
		if (i == self)
			continue;
		if (!root_entry_same(candidate->entries[i], vcpu->entries[i]))
			own++;
		else
			shared += candidate->entries[i] & ROOT_PRESENT;
	}
	return own <= OWN_ENTRIES_MAX && shared >= MIN_KERNEL_ENTRIES - 1;
}

static struct pgwalk walk_of(const struct kcr3_search *search, uint64_t root)
{
	return (struct pgwalk){
		.read = search->memory.read, .ctx = search->memory.ctx, .root = root, .levels = 4};
}

static bool entry_executable(const struct kcr3_search *search, uint64_t root, uint64_t gva)
{
	const struct pgwalk walk = walk_of(search, root);
	struct pgwalk_leaf leaf;

	return pgwalk_translate(&walk, gva, &leaf) == 0 && (leaf.perm & PGWALK_EXEC) &&
	       !(leaf.perm & PGWALK_USER);
}

/* What every root of a Windows has, and other systems' roots may have as well. */
static bool table_fits(const struct kcr3_search *search, uint64_t root, struct root_table *table)
{
	return root_read(&search->memory, root, table) == 0 &&
	       root_kernel_entries(table) >= MIN_KERNEL_ENTRIES && self_map(table);
}

/* The proof: under this root there is the Windows kernel, whose System process has this root. */
static int prove_root(
	const struct kcr3_search *search, uint64_t root, uint64_t base, struct ntimage *ret_image)
{
	const struct pgwalk walk = walk_of(search, root);
	struct root_table table;
	int r;

	if (!table_fits(search, root, &table) || !root_is_live(&search->memory, &table, same_kernel,
							 search->vcpu_cr3, search->nvcpu))
		return VMSIG_ERR_NOT_READY;
	r = ntimage_read(&walk, base, ret_image);
	return !r && ret_image->root != root ? VMSIG_ERR_NOT_READY : r;
}

static uint64_t image_digest(const struct ntimage *image)
{
	return root_digest(&image->base, sizeof(image->base)) ^
	       root_digest(&image->stamp, sizeof(image->stamp)) ^ image->root;
}

/* A root to begin at, and the start block that names it; without one a vCPU's. */
struct start {
	uint64_t root, stub;
};

/* No placement: the page of the root comes out the same at many boots, and the self-map has 256
 * places, of which two boots share one too often. The epoch of a Windows guest rises when the
 * broker restarts. */
static void proof_fill(
	const struct start *start, const struct ntimage *image, struct kcr3_proof *proof)
{
	bool by_stub = start->stub && start->root == image->root;

	*proof = (struct kcr3_proof){.kcr3 = image->root,
		.levels = 4,
		.system = {.os = VMSIG_OS_WINDOWS,
			.proof = by_stub ? VMSIG_PROOF_LOW_STUB : VMSIG_PROOF_SELF_MAP},
		.note_gpa = by_stub ? start->stub : 0,
		.banner_gva = image->base,
		.digest = image_digest(image)};
	memcpy(proof->system.release, image->release, sizeof(proof->system.release));
}

struct windows_hunt {
	struct start starts[STARTS_MAX];
	size_t nstarts, at;
	struct ntimage_search images;
	bool seen; /* an image, which says more than that there is none elsewhere */
};

static void add_start(struct windows_hunt *hunt, uint64_t root, uint64_t stub)
{
	for (size_t i = 0; i < hunt->nstarts; i++) {
		if (hunt->starts[i].root == root)
			return;
	}
	if (hunt->nstarts < STARTS_MAX)
		hunt->starts[hunt->nstarts++] = (struct start){.root = root, .stub = stub};
}

static void add_stubs(struct kcr3_search *search, struct windows_hunt *hunt)
{
	const struct kcr3_memory *memory = &search->memory;
	unsigned char page[PGWALK_PAGE];
	struct root_table table;

	for (uint64_t gpa = STUB_FIRST; gpa <= STUB_LAST; gpa += PGWALK_PAGE) {
		if (memory->read(memory->ctx, gpa, page, sizeof(page)) || !is_stub(page))
			continue;
		search_say(
			search, "a Windows start block is there, but its page tables are not up");
		if (table_fits(search, word(page, STUB_CR3), &table) &&
			entry_executable(search, word(page, STUB_CR3), word(page, STUB_ENTRY)))
			add_start(hunt, word(page, STUB_CR3), gpa);
	}
}

static void add_vcpus(struct kcr3_search *search, struct windows_hunt *hunt)
{
	for (size_t i = 0; i < search->nvcpu && hunt->nstarts < STARTS_MAX; i++) {
		uint64_t root = search->vcpu_cr3[i] & PGWALK_ADDR_MASK;
		struct root_table table;

		if (table_fits(search, root, &table))
			add_start(hunt, root, 0);
	}
}

static int windows_start(struct kcr3_search *search, void *state)
{
	struct windows_hunt *hunt = state;

	add_stubs(search, hunt);
	add_vcpus(search, hunt);
	hunt->images = (struct ntimage_search){.next = NTIMAGE_FIRST, .pages = PAGES_MAX};
	return 0;
}

static bool is_spent(void *ctx)
{
	return search_is_spent(ctx);
}

/* What there is when an image was found but no proof came of it. */
static void say_unproven(struct kcr3_search *search, const struct ntimage *image)
{
	if (image->root)
		search_say(search,
			"Windows %s is in RAM, but no vCPU runs on the page tables of its System "
			"process",
			image->release);
	else
		search_say(search, "Windows %s is in RAM, but has no System process yet",
			image->release);
}

static int try_start(
	struct kcr3_search *search, struct windows_hunt *hunt, struct kcr3_proof *ret_proof)
{
	const struct start *start = &hunt->starts[hunt->at];
	const struct pgwalk walk = walk_of(search, start->root);
	struct ntimage image, again;
	int r = ntimage_find(&walk, &hunt->images, is_spent, search, &image);

	if (r == VMSIG_ERR_NOT_READY && !hunt->seen)
		search_say(search,
			"there are page tables that map themselves, as several systems' do, but no "
			"ntoskrnl.exe under them: no kernel that vmsig knows");
	if (r)
		return r;
	hunt->seen = true;
	if (!image.root || prove_root(search, image.root, image.base, &again)) {
		say_unproven(search, &image);
		return VMSIG_ERR_NOT_READY;
	}
	proof_fill(start, &again, ret_proof);
	return 0;
}

static int windows_step(struct kcr3_search *search, void *state, struct kcr3_proof *ret_proof)
{
	struct windows_hunt *hunt = state;

	for (; hunt->at < hunt->nstarts; hunt->at++) {
		int r = try_start(search, hunt, ret_proof);

		if (r != VMSIG_ERR_NOT_READY)
			return r;
		hunt->images.next = NTIMAGE_FIRST;
	}
	return VMSIG_ERR_NOT_READY;
}

static void windows_end(void *state)
{
	(void)state;
}

static int windows_reprove(const struct kcr3_search *search, const struct kcr3_proof *proof)
{
	struct ntimage image;

	if (prove_root(search, proof->kcr3, proof->banner_gva, &image) ||
		image_digest(&image) != proof->digest ||
		strcmp(image.release, proof->system.release) != 0)
		return VMSIG_ERR_NOT_READY;
	return 0;
}

const struct kcr3_strategy kcr3_windows = {
	.state_size = sizeof(struct windows_hunt),
	.start = windows_start,
	.step = windows_step,
	.end = windows_end,
	.reprove = windows_reprove,
};
