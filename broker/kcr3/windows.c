/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "broker/kcr3/root.h"
#include "broker/kcr3/strategy.h"
#include "vmsig/vmsig_error.h"

/*
 * Windows x64. The processor start block ("low stub") that brings up further CPUs stays in
 * low memory and holds the System process's root. Where it is missing, roots are recognised
 * by their self-map entry, and one that a vCPU runs on decides.
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
#define CANDIDATES_MAX 4096

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

static bool entry_executable(const struct kcr3_memory *memory, uint64_t root, uint64_t gva)
{
	const struct pgwalk walk = {
		.read = memory->read, .ctx = memory->ctx, .root = root, .levels = 4};
	struct pgwalk_leaf leaf;

	return pgwalk_translate(&walk, gva, &leaf) == 0 && (leaf.perm & PGWALK_EXEC) &&
	       !(leaf.perm & PGWALK_USER);
}

/* The table proof; `entry_gva` of 0 is not looked at. */
static bool table_valid(const struct kcr3_search *search, uint64_t root, uint64_t entry_gva)
{
	struct root_table table;

	return root_read(search->memory, root, &table) == 0 &&
	       root_kernel_entries(&table) >= MIN_KERNEL_ENTRIES && self_map(&table) &&
	       (!entry_gva || entry_executable(search->memory, root, entry_gva)) &&
	       root_is_live(search->memory, &table, same_kernel, search->vcpu_cr3, search->nvcpu);
}

/* No placement: the page of the root comes out the same at many boots, and the self-map has 256
 * places, of which two boots share one too often. The epoch of a Windows guest rises when the
 * broker restarts. */
static void proof_fill(struct kcr3_proof *proof, uint64_t root, uint64_t stub, uint64_t entry)
{
	*proof = (struct kcr3_proof){.os = KCR3_OS_WINDOWS,
		.kcr3 = root,
		.levels = 4,
		.note_gpa = stub,
		.banner_gva = entry,
		.digest = root_digest(&entry, sizeof(entry)) ^ root};
}

static int find_by_stub(const struct kcr3_search *search, struct kcr3_proof *ret_proof)
{
	unsigned char page[PGWALK_PAGE];

	for (uint64_t gpa = STUB_FIRST; gpa <= STUB_LAST; gpa += PGWALK_PAGE) {
		uint64_t root, entry;

		if (search->memory->read(search->memory->ctx, gpa, page, sizeof(page)) ||
			!is_stub(page))
			continue;
		root = word(page, STUB_CR3);
		entry = word(page, STUB_ENTRY);
		if (table_valid(search, root, entry)) {
			proof_fill(ret_proof, root, gpa, entry);
			return 0;
		}
		snprintf(search->why, search->why_size,
			"a Windows start block is there, but its page tables are not those of a "
			"vCPU");
	}
	return VMSIG_ERR_NOT_READY;
}

struct hunt {
	const struct kcr3_search *search;
	uint64_t best;
	unsigned best_user; /* present entries of the user's half; the System process has least */
	bool tie;
	unsigned examined;
};

static unsigned user_entries(const struct root_table *table)
{
	unsigned n = 0;

	for (unsigned i = 0; i < ROOT_KERNEL_FIRST; i++)
		n += table->entries[i] & ROOT_PRESENT;
	return n;
}

static int table_page(void *ctx, uint64_t gpa, const unsigned char *page)
{
	struct hunt *hunt = ctx;
	struct root_table table = {.root = gpa};
	unsigned user;

	memcpy(table.entries, page, sizeof(table.entries));
	if (!self_map(&table) || root_kernel_entries(&table) < MIN_KERNEL_ENTRIES ||
		hunt->examined++ >= CANDIDATES_MAX ||
		!root_is_live(hunt->search->memory, &table, same_kernel, hunt->search->vcpu_cr3,
			hunt->search->nvcpu))
		return 0;
	user = user_entries(&table);
	if (!hunt->best || user < hunt->best_user) {
		hunt->best = gpa;
		hunt->best_user = user;
		hunt->tie = false;
	} else if (user == hunt->best_user) {
		hunt->tie = true;
	}
	return 0;
}

/* Spares every guest that is not Windows a second scan. */
static bool vcpu_has_self_map(const struct kcr3_search *search)
{
	struct root_table table;

	for (size_t i = 0; i < search->nvcpu; i++) {
		if (root_read(search->memory, search->vcpu_cr3[i], &table) == 0 && self_map(&table))
			return true;
	}
	return false;
}

static int find_by_self_map(const struct kcr3_search *search, struct kcr3_proof *ret_proof)
{
	struct hunt hunt = {.search = search};
	int r;

	if (!vcpu_has_self_map(search))
		return VMSIG_ERR_NOT_READY;
	r = root_scan(search->memory, search->cancel, table_page, &hunt);
	if (r)
		return r;
	if (!hunt.best || hunt.tie) {
		snprintf(search->why, search->why_size,
			"page tables of Windows are there, but none is plainly the System "
			"process's");
		return VMSIG_ERR_NOT_READY;
	}
	proof_fill(ret_proof, hunt.best, 0, 0);
	return 0;
}

static int windows_find(const struct kcr3_search *search, struct kcr3_proof *ret_proof)
{
	int r = find_by_stub(search, ret_proof);

	return r == VMSIG_ERR_NOT_READY ? find_by_self_map(search, ret_proof) : r;
}

static int windows_reprove(const struct kcr3_search *search, const struct kcr3_proof *proof)
{
	return table_valid(search, proof->kcr3, proof->banner_gva) ? 0 : VMSIG_ERR_NOT_READY;
}

const struct kcr3_strategy kcr3_windows = {.find = windows_find, .reprove = windows_reprove};
