/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "proto/guest/memo.h"
#include "proto/guest/root.h"
#include "proto/guest/space.h"
#include "proto/guest/strategy.h"
#include "proto/guest/sweep.h"
#include "proto/guest/vmcoreinfo.h"
#include "vmsig/vmsig_error.h"

/*
 * Linux: the VMCOREINFO note says where the kernel's root and names are. A note survives a
 * warm reset together with the tables it speaks of, so every note is examined, and the root
 * it names must be the one that a vCPU runs on.
 *
 * Any process of the guest can fill pages with what looks like notes. So what was judged is not
 * judged again, and one search judges a bounded number; the next one goes on behind it, or the
 * true note would hide there.
 */

#define KERNEL_MAP_START 0xffffffff80000000ull /* __START_KERNEL_map */
#define UTS_RELEASE_OFFSET 130u /* struct new_utsname: sysname[65], nodename[65], release */
#define NOTE_HEADER 24u         /* ELF note header and name in front of the text */
#define ROOTS_MAX 64            /* told apart; whoever can make more can as well remove the note */
#define NOTES_MAX                                                                                  \
	65536 /* judged in one search; a guest has a handful, a hostile one a GiB of them */
#define LDT_ENTRY (PGWALK_ENTRIES - 240u) /* LDT_PGD_ENTRY of pgtable_64_types.h */
#define MIN_KERNEL_ENTRIES 2u             /* five levels need only a few */

/* The text may end in the next page, and that may be no RAM. */
static int note_read(const struct kcr3_memory *memory, uint64_t gpa, struct vmcoreinfo *ret_info,
	uint64_t *ret_digest)
{
	char text[VMCOREINFO_MAX];
	size_t size = PGWALK_PAGE - (gpa & (PGWALK_PAGE - 1));
	int r = memory->read(memory->ctx, gpa, text, size);

	if (r)
		return r;
	if (memory->read(memory->ctx, gpa + size, text + size, PGWALK_PAGE) == 0)
		size += PGWALK_PAGE;
	r = vmcoreinfo_parse(text, size, ret_info);
	if (!r)
		*ret_digest = root_digest(text, ret_info->len);
	return r;
}

/* Through the root, the kernel's own idea of its release equals the note's, and the symbol
 * leads to the root itself: a process may write a note that names its own root or a page of
 * its own, but not put it into the kernel's image. */
static int prove_note(
	const struct kcr3_memory *memory, const struct kcr3_proof *proof, uint64_t swapper_pg_dir)
{
	const struct pgwalk walk = {.read = memory->read,
		.ctx = memory->ctx,
		.root = proof->kcr3,
		.levels = proof->levels};
	char release[VMSIG_RELEASE_MAX];
	struct pgwalk_leaf leaf;
	int r = pgwalk_translate(&walk, swapper_pg_dir, &leaf);

	if (!r && leaf.gpa + (swapper_pg_dir - leaf.gva) != proof->kcr3)
		r = VMSIG_ERR_NOT_READY;
	if (!r)
		r = space_read(&walk, proof->banner_gva, release, sizeof(release));
	if (r)
		return r;
	if (!memchr(release, '\0', sizeof(release)) || strcmp(release, proof->system.release) != 0)
		return VMSIG_ERR_NOT_READY;
	return 0;
}

/* Linux shares the kernel's half but for one entry: with page-table isolation a process that
 * called modify_ldt(2) has a table of its own there. */
static bool same_kernel(const struct root_table *candidate, const struct root_table *vcpu)
{
	for (unsigned i = ROOT_KERNEL_FIRST; i < PGWALK_ENTRIES; i++) {
		if (i != LDT_ENTRY && !root_entry_same(candidate->entries[i], vcpu->entries[i]))
			return false;
	}
	return true;
}

static int prove_root(
	const struct kcr3_search *search, const struct kcr3_proof *proof, struct root_table *table)
{
	int r = root_read(&search->memory, proof->kcr3, table);

	if (r)
		return r;
	if (root_kernel_entries(table) < MIN_KERNEL_ENTRIES ||
		!root_is_live(&search->memory, table, same_kernel, search->vcpu_cr3, search->nvcpu))
		return VMSIG_ERR_NOT_READY;
	return 0;
}

static void proof_fill(
	const struct vmcoreinfo *info, uint64_t note, uint64_t digest, struct kcr3_proof *proof)
{
	*proof = (struct kcr3_proof){
		.system = {.os = VMSIG_OS_LINUX, .proof = VMSIG_PROOF_VMCOREINFO}};
	proof->kcr3 = (info->swapper_pg_dir - KERNEL_MAP_START + (uint64_t)info->phys_base) &
		      ~info->sme_mask;
	proof->levels = info->levels;
	proof->note_gpa = note;
	proof->banner_gva = info->init_uts_ns + info->uts_name + UTS_RELEASE_OFFSET;
	proof->digest = digest;
	memcpy(proof->system.release, info->release, sizeof(proof->system.release));
}

struct linux_hunt {
	struct kcr3_search *search;
	struct sweep sweep;
	struct memo judged;
	uint64_t notes;            /* seen, well-formed or not */
	int error;                 /* of the memo */
	uint64_t roots[ROOTS_MAX]; /* that lead to their note's release: judged already */
	size_t nroots;
	struct kcr3_proof proof; /* of the last kernel found */
	size_t found;
};

/* The kernel keeps copies of its note: the same root is no second kernel, and comparing one
 * with every vCPU's costs too much to do it as often as the guest likes. */
static bool root_judged(struct linux_hunt *hunt, uint64_t root)
{
	for (size_t i = 0; i < hunt->nroots; i++) {
		if (hunt->roots[i] == root)
			return true;
	}
	if (hunt->nroots == ROOTS_MAX)
		return true;
	hunt->roots[hunt->nroots++] = root;
	return false;
}

/* A note that does not say how many levels there are leaves it to the tables. */
static int prove_levels(
	const struct kcr3_memory *memory, struct kcr3_proof *proof, uint64_t swapper_pg_dir)
{
	int r;

	if (proof->levels)
		return prove_note(memory, proof, swapper_pg_dir);
	proof->levels = 4;
	r = prove_note(memory, proof, swapper_pg_dir);
	if (!r)
		return 0;
	proof->levels = 5;
	return prove_note(memory, proof, swapper_pg_dir);
}

static void judge(struct linux_hunt *hunt, const struct vmcoreinfo *info, struct kcr3_proof *proof)
{
	struct kcr3_search *search = hunt->search;
	struct root_table table;

	if (info->swapper_pg_dir < KERNEL_MAP_START || (proof->kcr3 & ~PGWALK_ADDR_MASK))
		return;
	if (prove_levels(&search->memory, proof, info->swapper_pg_dir)) {
		search_say(search, "a note of Linux %s is there, but its page tables are not up",
			info->release);
		return;
	}
	if (root_judged(hunt, proof->kcr3))
		return;
	if (prove_root(search, proof, &table)) {
		search_say(search,
			"Linux %s is in RAM, but no vCPU runs on it: a kernel of an earlier boot",
			info->release);
		return;
	}
	/* Without KASLR every boot of this kernel looks like this one. */
	if (info->kernel_offset)
		proof->placement = root_placement(&search->memory, &table);
	hunt->proof = *proof;
	hunt->found++;
}

/* What the verdict rests on is judged once, however many copies there are of it. */
static bool is_known(struct linux_hunt *hunt, const struct vmcoreinfo *info)
{
	struct vmcoreinfo facts;
	int r;

	/* Padding too: it is hashed. */
	memset(&facts, 0, sizeof(facts));
	memcpy(facts.release, info->release, strlen(info->release));
	facts.swapper_pg_dir = info->swapper_pg_dir;
	facts.init_uts_ns = info->init_uts_ns + info->uts_name;
	facts.phys_base = info->phys_base;
	facts.sme_mask = info->sme_mask;
	facts.levels = info->levels;
	facts.kernel_offset = info->kernel_offset;
	r = memo_add(&hunt->judged, &facts, sizeof(facts));
	if (r < 0)
		hunt->error = r;
	return r != 0;
}

static void examine(struct linux_hunt *hunt, uint64_t note)
{
	struct kcr3_search *search = hunt->search;
	struct kcr3_proof proof;
	struct vmcoreinfo info;
	uint64_t digest;

	if (hunt->notes++ < search->notes_from || search->notes_next)
		return;
	if (note_read(&search->memory, note, &info, &digest) || is_known(hunt, &info))
		return;
	proof_fill(&info, note, digest, &proof);
	judge(hunt, &info, &proof);
	if (hunt->judged.count == NOTES_MAX)
		search->notes_next = hunt->notes;
}

/* sweep_page_fn */
static void note_page(void *ctx, uint64_t gpa, const unsigned char *page)
{
	static const char key[] = "OSRELEASE=";
	static const unsigned offsets[] = {0, NOTE_HEADER};

	for (size_t i = 0; i < 2; i++) {
		if (memcmp(page + offsets[i], key, sizeof(key) - 1) == 0)
			examine(ctx, gpa + offsets[i]);
	}
}

static int linux_start(struct kcr3_search *search, void *state)
{
	struct linux_hunt *hunt = state;

	hunt->search = search;
	return memo_init(&hunt->judged);
}

/* With vCPUs to go by a kernel that was found is the one; without, others may be among the
 * notes that were not judged. */
static int verdict(struct kcr3_search *search, const struct linux_hunt *hunt)
{
	bool all = !search->notes_from && !search->notes_next;

	if (hunt->found == 1 && (all || search->nvcpu))
		return 0;
	if (hunt->found > 1)
		search_say(search,
			"%zu kernels are in RAM and nothing says which one runs; give kcr3 in the "
			"configuration",
			hunt->found);
	else if (!all)
		search_say(search,
			"more than %d different notes of Linux kernels are in RAM: something in "
			"the "
			"guest hides which one is true; the search goes on behind them, or give "
			"kcr3 in the configuration",
			NOTES_MAX);
	return VMSIG_ERR_NOT_READY;
}

static int linux_step(struct kcr3_search *search, void *state, struct kcr3_proof *ret_proof)
{
	struct linux_hunt *hunt = state;
	int r = sweep_step(&hunt->sweep, search, note_page, hunt);

	if (hunt->error)
		return hunt->error;
	if (!r)
		r = verdict(search, hunt);
	if (!r)
		*ret_proof = hunt->proof;
	return r;
}

static void linux_end(void *state)
{
	struct linux_hunt *hunt = state;

	memo_deinit(&hunt->judged);
}

static int linux_reprove(const struct kcr3_search *search, const struct kcr3_proof *proof)
{
	struct root_table table;
	struct vmcoreinfo info;
	uint64_t digest;
	int r = note_read(&search->memory, proof->note_gpa, &info, &digest);

	if (!r && digest != proof->digest)
		r = VMSIG_ERR_NOT_READY;
	if (!r)
		r = prove_note(&search->memory, proof, info.swapper_pg_dir);
	if (!r)
		r = prove_root(search, proof, &table);
	return r;
}

const struct kcr3_strategy kcr3_linux = {
	.state_size = sizeof(struct linux_hunt),
	.start = linux_start,
	.step = linux_step,
	.end = linux_end,
	.reprove = linux_reprove,
};
