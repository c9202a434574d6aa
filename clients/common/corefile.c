/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/common/corefile.h"

#include <elf.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients/common/coreinfo.h"
#include "vmsig/vmsig_error.h"

#define FOUR_GIB (1ull << 32)
#define PAGE 4096ull
#define HALF 0x8000000000000000ull /* of the kernel's addresses */
#define IMAGE_FIRST 0xffffffff80000000ull
#define IMAGE_LAST 0xffffffffbfffffffull
#define LOADS_MAX 60000u   /* below PN_XNUM; a kernel maps some hundred ranges */
#define MAPPINGS_MAX 16u   /* of one page; Linux maps one a few times */
#define PRSTATUS_SIZE 336u /* struct elf_prstatus of x86-64 */
#define PRSTATUS_PID 32u
#define LIME_HEADER 32u /* bytes of its struct lime_mem_range_header */
#define LIME_MAGIC 0x4c694d45u

/* What is in the file, before it has offsets. */
struct load {
	uint64_t gva, gpa, len, ram_off;
	uint32_t flags; /* PF_* */
};

struct loads {
	struct load *loads;
	size_t count;
	const struct context *context;
	uint64_t ram_size;
	uint64_t image_gva, image_end, image_phase; /* gva - gpa; of elf */
	bool has_image;
	uint64_t left; /* bytes that may still be mapped: a guest may map its pages without end */
};

void corefile_deinit(struct corefile *file)
{
	free(file->extents);
	free(file->head);
	*file = (struct corefile){0};
}

/* ---- RAM ---- */

/* Segments of a layout, also of one that has a single border. */
static uint32_t segments(const struct context *context, vmsig_memseg ret_segs[static 2],
	const vmsig_memseg **ret_all, uint64_t size)
{
	uint64_t low = context->pod.low;

	*ret_all = context->nseg ? context->segs : ret_segs;
	if (context->nseg)
		return context->nseg;
	ret_segs[0] = (vmsig_memseg){.gpa = 0, .len = low, .file_off = 0};
	ret_segs[1] = (vmsig_memseg){.gpa = FOUR_GIB, .len = size - low, .file_off = low};
	return size > low ? 2 : 1;
}

static uint64_t ram_size(const struct context *context)
{
	uint32_t n;
	const vmsig_memfile *files = vmsig_memctx_files(&context->delivery.event, &n);
	uint64_t size = 0;
	off_t end;

	for (uint32_t i = 0; i < n; i++)
		size += files[i].size;
	if (files)
		return size;
	end = lseek(context->delivery.ram_fd, 0, SEEK_END);
	return end < 0 ? 0 : (uint64_t)end;
}

static int load_add(struct loads *loads, const struct load *load)
{
	struct load *grown = loads->loads;

	if (loads->count == LOADS_MAX)
		return VMSIG_ERR_UNSUPPORTED;
	if (!(loads->count & (loads->count - 1)))
		grown = reallocarray(
			loads->loads, loads->count ? 2 * loads->count : 1, sizeof(*grown));
	if (!grown)
		return VMSIG_ERR_NO_MEMORY;
	loads->loads = grown;
	grown[loads->count++] = *load;
	return 0;
}

/* The parts of [gpa, gpa + len) that are RAM; neighbours that touch everywhere become one. */
static int load_ram(struct loads *loads, uint64_t gva, uint64_t gpa, uint64_t len, uint32_t flags)
{
	vmsig_memseg own[2];
	const vmsig_memseg *segs;
	uint32_t n = segments(loads->context, own, &segs, loads->ram_size);
	int r = 0;

	for (uint32_t i = 0; i < n && !r; i++) {
		uint64_t from = gpa > segs[i].gpa ? gpa : segs[i].gpa;
		uint64_t end = gpa + len < segs[i].gpa + segs[i].len ? gpa + len
								     : segs[i].gpa + segs[i].len;
		struct load *last = loads->count ? &loads->loads[loads->count - 1] : NULL;
		struct load load = {.gva = gva + (from - gpa),
			.gpa = from,
			.len = end - from,
			.ram_off = segs[i].file_off + (from - segs[i].gpa),
			.flags = flags};

		if (from >= end)
			continue;
		if (last && last->gva + last->len == load.gva && last->gpa + last->len == from &&
			last->ram_off + last->len == load.ram_off) {
			last->len += load.len;
			last->flags |= flags;
		} else {
			r = load_add(loads, &load);
		}
	}
	return r;
}

/* ---- what the kernel maps ---- */

static uint32_t flags_of(uint32_t prot)
{
	return PF_R | (prot & VMSIG_PROT_WRITE ? PF_W : 0u) | (prot & VMSIG_PROT_EXEC ? PF_X : 0u);
}

/* A range of a map may be of several pages that lie anywhere: each is asked for. */
static int visit_pages(struct loads *loads, const vmsig_range *range,
	int (*take)(struct loads *loads, uint64_t gva, uint64_t gpa, uint64_t len, uint32_t prot))
{
	int r = 0;

	for (uint64_t at = 0; at < range->len && !r; at += range->page_size) {
		vmsig_range page;

		if (loads->left < range->page_size)
			return VMSIG_ERR_BAD_PAGE_TABLE;
		loads->left -= range->page_size;
		r = -vmsig_gva_translate(
			loads->context->mem, loads->context->pod.kcr3, range->gva + at, &page);
		if (r == VMSIG_ERR_NOT_MAPPED || r == VMSIG_ERR_BAD_PAGE_TABLE)
			r = 0; /* it was a moment ago */
		else if (!r)
			r = take(loads, range->gva + at, page.gpa, range->page_size, page.prot);
	}
	return r;
}

static int take_mapped(struct loads *loads, uint64_t gva, uint64_t gpa, uint64_t len, uint32_t prot)
{
	return load_ram(loads, gva, gpa, len, flags_of(prot));
}

static int visit_mapped(void *ctx, const vmsig_range *range)
{
	return visit_pages(ctx, range, take_mapped);
}

/* The image is in one piece of memory; what else is mapped among it is not it. */
static int take_image(struct loads *loads, uint64_t gva, uint64_t gpa, uint64_t len, uint32_t prot)
{
	if (!loads->has_image) {
		loads->has_image = true;
		loads->image_gva = loads->image_end = gva;
		loads->image_phase = gva - gpa;
	}
	if (gva == loads->image_end && gva - gpa == loads->image_phase)
		loads->image_end = gva + len;
	return 0;
}

static int visit_image(void *ctx, const vmsig_range *range)
{
	return visit_pages(ctx, range, take_image);
}

static int by_gpa(const void *a, const void *b)
{
	const struct load *left = a, *right = b;

	return left->gpa < right->gpa ? -1 : left->gpa > right->gpa;
}

/* Where the kernel maps all memory from physical 0 on; 0: it does not say. */
static uint64_t direct_map(const struct context *context, vmsig_os_handle *os)
{
	vmsig_symbol symbol;
	uint64_t base = 0;

	if (!vmsig_os_symbol_find(os, "page_offset_base", &symbol) ||
		vmsig_gva_read(context->mem, context->pod.kcr3, symbol.addr, &base, sizeof(base)))
		return 0;
	return base;
}

static int gather_elf(struct loads *loads, vmsig_os_handle *os, char *error, size_t error_size)
{
	const struct context *context = loads->context;
	uint64_t base = direct_map(context, os), first, end;
	int r;

	if (base < HALF || base % PAGE) {
		snprintf(error, error_size, "its kernel does not say where it maps all memory");
		return VMSIG_ERR_UNSUPPORTED;
	}
	r = vmsig_pmap(
		context->mem, context->pod.kcr3, IMAGE_FIRST, IMAGE_LAST, visit_image, loads);
	if (r)
		return r < 0 ? -r : r;
	first = loads->image_gva - loads->image_phase;
	end = loads->image_end - loads->image_phase;
	r = load_ram(loads, loads->image_gva, first, end - first, PF_R | PF_W | PF_X);
	if (!r)
		r = load_ram(loads, base, 0, first, PF_R | PF_W | PF_X);
	if (!r)
		r = load_ram(loads, base + end, end, UINT64_MAX / 2 - end, PF_R | PF_W | PF_X);
	if (!r)
		qsort(loads->loads, loads->count, sizeof(*loads->loads), by_gpa);
	return r;
}

static int gather_kcore(struct loads *loads)
{
	const struct context *context = loads->context;
	int r = vmsig_pmap(context->mem, context->pod.kcr3, HALF, UINT64_MAX, visit_mapped, loads);

	return r < 0 ? -r : r;
}

/* ---- ELF ---- */

static size_t padded(size_t len)
{
	return (len + 3) & ~(size_t)3;
}

static size_t note_size(const char *name, size_t len)
{
	return sizeof(Elf64_Nhdr) + padded(strlen(name) + 1) + padded(len);
}

static uint8_t *note_put(
	uint8_t *to, const char *name, uint32_t type, const void *bytes, size_t len)
{
	const Elf64_Nhdr header = {.n_namesz = (Elf64_Word)strlen(name) + 1,
		.n_descsz = (Elf64_Word)len,
		.n_type = type};

	memcpy(to, &header, sizeof(header));
	memcpy(to + sizeof(header), name, header.n_namesz);
	memcpy(to + sizeof(header) + padded(header.n_namesz), bytes, len);
	return to + note_size(name, len);
}

static void put_headers(uint8_t *head, const struct loads *loads, size_t notes_len, uint64_t body)
{
	size_t count = loads->count + 1, notes_at = sizeof(Elf64_Ehdr) + count * sizeof(Elf64_Phdr);
	const Elf64_Ehdr elf = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64,
					ELFDATA2LSB, EV_CURRENT},
		.e_type = ET_CORE,
		.e_machine = EM_X86_64,
		.e_version = EV_CURRENT,
		.e_phoff = sizeof(Elf64_Ehdr),
		.e_ehsize = sizeof(Elf64_Ehdr),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = (Elf64_Half)count};
	Elf64_Phdr program = {.p_type = PT_NOTE,
		.p_offset = notes_at,
		.p_filesz = notes_len,
		.p_memsz = notes_len,
		.p_align = 4};

	memcpy(head, &elf, sizeof(elf));
	memcpy(head + sizeof(elf), &program, sizeof(program));
	for (size_t i = 0; i < loads->count; i++) {
		const struct load *load = &loads->loads[i];

		program = (Elf64_Phdr){.p_type = PT_LOAD,
			.p_flags = load->flags,
			.p_offset = body + load->ram_off,
			.p_vaddr = load->gva,
			.p_paddr = load->gpa,
			.p_filesz = load->len,
			.p_memsz = load->len};
		memcpy(head + sizeof(elf) + (i + 1) * sizeof(program), &program, sizeof(program));
	}
}

/* The header, and RAM behind it as it lies in its files. */
static int make_elf(struct corefile *file, const struct loads *loads, const struct coreinfo *info)
{
	uint8_t status[PRSTATUS_SIZE] = {[PRSTATUS_PID] = 1}, *notes;
	size_t notes_len = note_size("CORE", sizeof(status)) +
			   (info->len ? note_size("VMCOREINFO", info->len) : 0);
	size_t at = sizeof(Elf64_Ehdr) + (loads->count + 1) * sizeof(Elf64_Phdr);
	uint64_t size = loads->ram_size;

	file->head_len = (at + notes_len + PAGE - 1) & ~(PAGE - 1);
	file->head = calloc(1, file->head_len);
	file->extents = calloc(2, sizeof(*file->extents));
	if (!file->head || !file->extents)
		return VMSIG_ERR_NO_MEMORY;
	put_headers(file->head, loads, notes_len, file->head_len);
	notes = note_put(file->head + at, "CORE", NT_PRSTATUS, status, sizeof(status));
	if (info->len)
		note_put(notes, "VMCOREINFO", 0, info->text, info->len);
	file->extents[0] = (struct corefile_extent){.len = file->head_len, .bytes = file->head};
	file->extents[1] = (struct corefile_extent){.at = file->head_len, .len = size};
	file->count = 2;
	file->size = file->head_len + size;
	return 0;
}

static int init_elf(struct corefile *file, struct loads *loads, vmsig_os_handle *os,
	enum corefile_format format, char *error, size_t error_size)
{
	struct coreinfo *info = malloc(sizeof(*info));
	int r = info ? 0 : VMSIG_ERR_NO_MEMORY;

	if (!r)
		r = format == COREFILE_ELF ? gather_elf(loads, os, error, error_size)
					   : gather_kcore(loads);
	if (!r) {
		coreinfo_read(info, loads->context, os);
		r = make_elf(file, loads, info);
	}
	free(info);
	return r;
}

/* ---- raw and LiME ---- */

static void put_lime(uint8_t *to, const vmsig_memseg *seg)
{
	const uint32_t words[] = {LIME_MAGIC, 1};
	const uint64_t range[] = {seg->gpa, seg->gpa + seg->len - 1};

	memcpy(to, words, sizeof(words));
	memcpy(to + sizeof(words), range, sizeof(range));
}

static int by_seg_gpa(const void *a, const void *b)
{
	const vmsig_memseg *left = a, *right = b;

	return left->gpa < right->gpa ? -1 : left->gpa > right->gpa;
}

static void make_flat(struct corefile *file, const vmsig_memseg *segs, uint32_t n, bool lime)
{
	for (uint32_t i = 0; i < n; i++) {
		uint8_t *header = file->head + (size_t)i * LIME_HEADER;

		if (lime) {
			put_lime(header, &segs[i]);
			file->extents[file->count++] = (struct corefile_extent){
				.at = file->size, .len = LIME_HEADER, .bytes = header};
			file->size += LIME_HEADER;
		} else {
			file->size = segs[i].gpa;
		}
		file->extents[file->count++] = (struct corefile_extent){
			.at = file->size, .len = segs[i].len, .ram_off = segs[i].file_off};
		file->size += segs[i].len;
	}
}

static int init_flat(struct corefile *file, const struct context *context, bool lime)
{
	vmsig_memseg own[2], *sorted;
	const vmsig_memseg *segs;
	uint32_t n = segments(context, own, &segs, ram_size(context));

	file->head_len = lime ? (size_t)n * LIME_HEADER : 1;
	file->head = calloc(1, file->head_len);
	file->extents = calloc((size_t)n * 2, sizeof(*file->extents));
	sorted = calloc(n, sizeof(*sorted));
	if (!file->head || !file->extents || !sorted) {
		free(sorted);
		return VMSIG_ERR_NO_MEMORY;
	}
	memcpy(sorted, segs, n * sizeof(*sorted));
	qsort(sorted, n, sizeof(*sorted), by_seg_gpa);
	make_flat(file, sorted, n, lime);
	free(sorted);
	return 0;
}

int corefile_init(struct corefile *file, const struct context *context, vmsig_os_handle *os,
	enum corefile_format format, char *error, size_t error_size)
{
	const uint64_t size = ram_size(context);
	struct loads loads = {
		.context = context, .ram_size = size, .left = MAPPINGS_MAX * size + (1ull << 30)};
	int r;

	*file = (struct corefile){0};
	if (error_size)
		error[0] = 0;
	if (format == COREFILE_LIME || format == COREFILE_RAW)
		r = init_flat(file, context, format == COREFILE_LIME);
	else
		r = init_elf(file, &loads, os, format, error, error_size);
	free(loads.loads);
	if (r)
		corefile_deinit(file);
	return r;
}

/* ---- reading ---- */

int corefile_ram(
	const struct context *context, uint64_t ram_off, uint64_t *ret_off, uint64_t *ret_len)
{
	uint32_t n;
	const vmsig_memfile *files = vmsig_memctx_files(&context->delivery.event, &n);

	*ret_off = ram_off;
	*ret_len = UINT64_MAX;
	for (uint32_t i = 0; i < n; i++) {
		if (*ret_off < files[i].size) {
			*ret_len = files[i].size - *ret_off;
			return files[i].fd;
		}
		*ret_off -= files[i].size;
	}
	return context->delivery.ram_fd;
}

static int read_ram(const struct context *context, uint8_t *buf, size_t len, uint64_t ram_off)
{
	while (len) {
		uint64_t off, there;
		int fd = corefile_ram(context, ram_off, &off, &there);
		ssize_t n = pread(fd, buf, len < there ? len : (size_t)there, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO; /* the guest's file has shrunk */
		buf += n;
		len -= (size_t)n;
		ram_off += (uint64_t)n;
	}
	return 0;
}

ssize_t corefile_read(const struct corefile *file, const struct context *context, uint8_t *buf,
	size_t len, uint64_t at)
{
	if (at >= file->size)
		return 0;
	len = len < file->size - at ? len : (size_t)(file->size - at);
	memset(buf, 0, len);
	for (size_t i = 0; i < file->count; i++) {
		const struct corefile_extent *extent = &file->extents[i];
		uint64_t from = at > extent->at ? at : extent->at;
		uint64_t end =
			at + len < extent->at + extent->len ? at + len : extent->at + extent->len;
		uint8_t *to = buf + (from - at);
		int r = 0;

		if (from >= end)
			continue;
		if (extent->bytes)
			memcpy(to, extent->bytes + (from - extent->at), end - from);
		else
			r = read_ram(
				context, to, end - from, extent->ram_off + (from - extent->at));
		if (r)
			return r;
	}
	return (ssize_t)len;
}
