/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/windows/area.h"

#include <stdlib.h>

#include "clients/os/windows/process.h"
#include "clients/os/windows/reader.h"
#include "clients/os/windows/text.h"
#include "vmsig/vmsig_error.h"

#define EVIDENCE_MAX 32u /* processes that are asked */

/* Nodes that are looked at to learn: some seconds. An honest guest has less than a million; of a
 * hostile one every word of a process may lead into a large tree. */
#define NODES_MAX (16u << 20)

/* Bytes of a process that its root may be in: around the exit status, else nearly all. */
#define NEAR_BEFORE 0x20u
#define NEAR_BEHIND 0x48u
#define OBJECT_FIRST 0x100u
#define OBJECT_END 0xa00u

/* A pointer to the top, or a node whose right child it is. */
static const uint32_t indirections[] = {0, 0x10};
#define INDIRECTIONS (sizeof(indirections) / sizeof(indirections[0]))

/* Of MMVAD: the word that its flags are in, behind its page numbers. */
static const uint32_t flag_words[] = {0x28, 0x30};
#define FLAG_WORDS (sizeof(flag_words) / sizeof(flag_words[0]))

/* How MMVAD_FLAGS has types and protections; from 7 to 11. */
#define TYPE_MASK 0x7u
#define PROTECTION_MASK 0x1fu
#define PROTECTION_BITS 5u
#define PROTECTION_BASE 0x7u /* without what says how it is cached, and guard pages */
#define READ_WRITE 4u
#define EXECUTE_WRITE_COPY 7u

/* MMVAD, SUBSECTION, CONTROL_AREA, FILE_OBJECT: unchanged from 7 to 11. */
#define VAD_SUBSECTION 0x48u
#define SUBSECTION_CONTROL 0x0u
#define CONTROL_FILE 0x40u
#define FAST_MASK (~0xfull) /* of pointers that have a count in them */
#define FILE_KIND 5u
#define FILE_NAME 0x58u

/* ---- evidence ---- */

/* A process with a program: its object, and addresses that must be in an area each. */
struct area_witness {
	uint64_t object, peb, program;
	uint64_t peb_node, program_node; /* by the shape that is tried */
};

struct area_evidence {
	struct windows_kernel *kernel;
	struct area_witness witnesses[EVIDENCE_MAX];
	size_t count;
	uint32_t left; /* nodes that may still be looked at */
};

static int gather(struct area_evidence *evidence)
{
	struct windows_kernel *kernel = evidence->kernel;
	vmsig_proc_list list = {0};
	int r = windows_process_list(kernel, &list);

	for (size_t i = 0; i < list.count && !r && evidence->count < EVIDENCE_MAX; i++) {
		struct area_witness *witness = &evidence->witnesses[evidence->count];

		if (list.processes[i].flags & (VMSIG_PROC_KERNEL | VMSIG_PROC_ZOMBIE))
			continue;
		windows_begin(kernel);
		witness->object = list.processes[i].object;
		witness->peb = windows_word(kernel, witness->object + kernel->offset.peb);
		witness->program =
			windows_word(kernel, witness->object + kernel->offset.section_base);
		evidence->count += !kernel->fault;
	}
	free(list.processes);
	return r;
}

/* ---- the root ---- */

struct area_score {
	struct area_evidence *evidence;
	struct area_witness *witness;
	size_t nodes;
};

static bool look_at_vad(void *ctx, const struct windows_vad *vad)
{
	struct area_score *score = ctx;
	struct area_witness *witness = score->witness;

	if (!score->evidence->left)
		return false;
	score->evidence->left--;
	score->nodes++;
	if (witness->peb >= vad->start && witness->peb < vad->end)
		witness->peb_node = vad->node;
	if (witness->program >= vad->start && witness->program < vad->end)
		witness->program_node = vad->node;
	return true;
}

/* How many nodes the trees of this shape have, where most processes have one with their PEB; else
 * 0. */
static size_t score_of(struct area_evidence *evidence, const struct windows_area_shape *shape)
{
	struct windows_kernel *kernel = evidence->kernel;
	struct area_score score = {.evidence = evidence};
	size_t proofs = 0, refuted = 0;

	for (size_t i = 0; i < evidence->count; i++) {
		score.witness = &evidence->witnesses[i];
		score.witness->peb_node = score.witness->program_node = 0;
		windows_begin(kernel);
		windows_vad_visit(kernel, shape, score.witness->object, look_at_vad, &score);
		if (!kernel->fault && score.witness->peb_node)
			proofs++;
		else if (++refuted > evidence->count / 2)
			return 0;
	}
	return evidence->left && proofs > evidence->count / 2 ? score.nodes : 0;
}

static void find_root(struct area_evidence *evidence, uint32_t first, uint32_t end)
{
	struct windows_area_shape *best = &evidence->kernel->area;
	size_t most = 0;

	for (uint32_t at = first; at < end; at += 8) {
		for (size_t i = 0; i < WINDOWS_SHAPES * INDIRECTIONS; i++) {
			struct windows_area_shape shape = windows_vad_shapes[i / INDIRECTIONS];
			size_t nodes;

			shape.root = at;
			shape.indirect = indirections[i % INDIRECTIONS];
			nodes = score_of(evidence, &shape);
			/* A hint that leads into the same tree lies behind its root. */
			if (nodes > most) {
				most = nodes;
				*best = shape;
			}
		}
	}
}

/* ---- flags ---- */

/* Of the words of flags that the evidence has: those of programs, and those of PEBs. */
struct area_words {
	uint64_t programs[EVIDENCE_MAX], pebs[EVIDENCE_MAX];
	size_t nprograms, npebs;
};

static void take_words(struct area_evidence *evidence, uint32_t at, struct area_words *ret_words)
{
	struct windows_kernel *kernel = evidence->kernel;

	*ret_words = (struct area_words){0};
	for (size_t i = 0; i < evidence->count; i++) {
		const struct area_witness *witness = &evidence->witnesses[i];

		windows_begin(kernel);
		if (witness->program_node)
			ret_words->programs[ret_words->nprograms++] =
				windows_word(kernel, witness->program_node + at);
		if (witness->peb_node)
			ret_words->pebs[ret_words->npebs++] =
				windows_word(kernel, witness->peb_node + at);
	}
}

static size_t count(const uint64_t *words, size_t n, unsigned type_bit, unsigned protection_bit,
	uint32_t type, uint32_t protection)
{
	size_t found = 0;

	for (size_t i = 0; i < n; i++)
		found += (words[i] >> type_bit & TYPE_MASK) == type &&
			 (words[i] >> protection_bit & PROTECTION_MASK) == protection;
	return found;
}

static size_t count_bit(const uint64_t *words, size_t n, unsigned bit)
{
	size_t found = 0;

	for (size_t i = 0; i < n; i++)
		found += words[i] >> bit & 1;
	return found;
}

/* Set of nearly all PEBs, and of nearly no program. */
static bool is_private_bit(const struct area_words *words, unsigned bit)
{
	return count_bit(words->pebs, words->npebs, bit) > words->npebs * 3 / 4 &&
	       count_bit(words->programs, words->nprograms, bit) < (words->nprograms + 3) / 4;
}

/* Programs are mapped as images, executable and written by copies; PEBs are memory to read and
 * write. How well that is so. */
static size_t score_flags(
	const struct area_words *words, unsigned type_bit, unsigned protection_bit)
{
	size_t programs = count(words->programs, words->nprograms, type_bit, protection_bit,
		WINDOWS_AREA_IMAGE, EXECUTE_WRITE_COPY);
	size_t pebs = count(words->pebs, words->npebs, type_bit, protection_bit, 0, READ_WRITE);

	return programs > words->nprograms / 2 && pebs > words->npebs / 2 ? programs + pebs : 0;
}

static void try_flags(struct windows_kernel *kernel, const struct area_words *words, uint32_t at,
	unsigned type_bit, unsigned protection_bit, size_t *best)
{
	size_t score = score_flags(words, type_bit, protection_bit);

	if (score <= *best)
		return;
	for (unsigned bit = protection_bit + PROTECTION_BITS; bit < 64; bit++) {
		if (is_private_bit(words, bit)) {
			kernel->area.flags = at;
			kernel->area.type_bit = (uint8_t)type_bit;
			kernel->area.protection_bit = (uint8_t)protection_bit;
			kernel->area.private_bit = (uint8_t)bit;
			*best = score;
			return;
		}
	}
}

/* Of types and protections there may be a bit between (that memory is committed). */
static void find_flags(struct area_evidence *evidence)
{
	struct area_words words;
	size_t best = 0;

	for (size_t i = 0; i < FLAG_WORDS; i++) {
		take_words(evidence, flag_words[i], &words);
		for (unsigned bit = 0; bit + 3 + 1 + PROTECTION_BITS < 64; bit++) {
			try_flags(evidence->kernel, &words, flag_words[i], bit, bit + 3, &best);
			try_flags(evidence->kernel, &words, flag_words[i], bit, bit + 4, &best);
		}
	}
}

int windows_area_learn(struct windows_kernel *kernel)
{
	struct area_evidence evidence = {.kernel = kernel, .left = NODES_MAX};
	uint32_t near = kernel->offset.exit_status & ~7u;
	int r;

	if (kernel->area.root)
		return 0;
	if (!kernel->offset.peb || !kernel->offset.section_base)
		return VMSIG_ERR_UNSUPPORTED;
	r = gather(&evidence);
	if (r)
		return r;
	if (near > NEAR_BEFORE)
		find_root(&evidence, near - NEAR_BEFORE, near + NEAR_BEHIND);
	if (!kernel->area.root)
		find_root(&evidence, OBJECT_FIRST, OBJECT_END);
	if (!kernel->area.root)
		return VMSIG_ERR_UNSUPPORTED;
	/* The nodes of the evidence are the best shape's again. */
	evidence.left = NODES_MAX;
	(void)score_of(&evidence, &kernel->area);
	find_flags(&evidence);
	windows_begin(kernel);
	return 0;
}

/* ---- one ---- */

static uint32_t prot_of(uint64_t protection)
{
	static const uint32_t prots[PROTECTION_BASE + 1] = {0, VMSIG_PROT_READ, VMSIG_PROT_EXEC,
		VMSIG_PROT_READ | VMSIG_PROT_EXEC, VMSIG_PROT_READ | VMSIG_PROT_WRITE,
		VMSIG_PROT_READ | VMSIG_PROT_WRITE,
		VMSIG_PROT_READ | VMSIG_PROT_WRITE | VMSIG_PROT_EXEC,
		VMSIG_PROT_READ | VMSIG_PROT_WRITE | VMSIG_PROT_EXEC};

	return prots[protection & PROTECTION_BASE];
}

void windows_area_read(struct windows_kernel *kernel, uint64_t node, struct windows_area *ret_area)
{
	const struct windows_area_shape *shape = &kernel->area;
	uint64_t word;

	*ret_area = (struct windows_area){0};
	if (!shape->flags)
		return;
	word = windows_word(kernel, node + shape->flags);
	ret_area->type = word >> shape->type_bit & TYPE_MASK;
	ret_area->protection = prot_of(word >> shape->protection_bit & PROTECTION_MASK);
	ret_area->is_private = word >> shape->private_bit & 1;
}

void windows_area_path(struct windows_kernel *kernel, uint64_t node, char *ret_path, size_t size)
{
	uint64_t at = windows_word(kernel, node + VAD_SUBSECTION);
	uint16_t kind;
	size_t len;

	ret_path[0] = 0;
	at = windows_word(kernel, at + SUBSECTION_CONTROL);
	at = windows_word(kernel, at + CONTROL_FILE) & FAST_MASK;
	windows_read(kernel, at, &kind, sizeof(kind));
	if (!kernel->fault && kind == FILE_KIND)
		windows_text(kernel, kernel->root, at + FILE_NAME, ret_path, size, &len);
	windows_forgive(kernel);
}
