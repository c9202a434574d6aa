/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/linux/symbols.h"

#include <stdlib.h>
#include <string.h>

#include "clients/os/linux/tokens.h"
#include "vmsig/vmsig_error.h"

#define COUNT_MIN 2000u /* fewer than any kernel's */
#define NAMES_AHEAD_MAX                                                                            \
	(16u << 20)          /* bytes from their number to the words; 2 MiB in Debian's largest */
#define NAME_WORDS_MAX 1024u /* two bytes of length, of which one has a bit less */
#define NAME_MAX_LEN 512u    /* KSYM_NAME_LEN */
#define PROBE 700u           /* names that are tried before all of them are */
#define MARKED 256u          /* one offset of so many is noted */
#define IMAGE_SPAN (1ull << 30)
#define IMAGE_MIN (1ull << 20)
/* Names that a search looks at: a guest may put what looks like a table of names everywhere. */
#define BUDGET (64u << 20)
#define TABLES_MAX 32u        /* tables of words that are tried, for the same reason */
#define TEXT_MAX (128u << 20) /* bytes of all names; Debian's have 6 MiB */

/* What is known while it is searched. */
struct symbols_search {
	struct linux_symbols *symbols;
	const struct linux_part *part;
	struct linux_tokens tokens;
	uint32_t count;
	size_t number_at; /* of the number of names */
	size_t names_at, names_end;
	uint32_t budget;
};

static uint64_t load(const struct linux_part *part, size_t at, size_t size)
{
	uint64_t value = 0;

	memcpy(&value, part->bytes + at, size);
	return value;
}

static size_t align_up(size_t at, size_t to)
{
	return (at + to - 1) & ~(to - 1);
}

/* ---- names ---- */

/* A name's words: where they are and how many. False: it is none, or reaches beyond `limit`. */
static bool name_words(const struct linux_part *part, size_t at, size_t limit, size_t *ret_words,
	size_t *ret_count)
{
	size_t count;

	if (at + 2 > limit)
		return false;
	count = part->bytes[at++];
	if (count & 0x80)
		count = (count & 0x7f) | (size_t)part->bytes[at++] << 7;
	if (!count || count > NAME_WORDS_MAX || count > limit - at)
		return false;
	*ret_words = at;
	*ret_count = count;
	return true;
}

/* Every name begins with its type's letter. */
static bool begins_with_type(const struct symbols_search *search, size_t word_at)
{
	uint8_t word = search->part->bytes[word_at];

	return search->tokens.len[word] &&
	       strchr("AaBbDdRrTtVvWwUuNnGgSsiIpPCc?-",
		       search->tokens.words[search->tokens.start[word]]);
}

/* Goes over `count` names from `at`; notes each MARKED-th one's offset. */
static bool walk_names(
	struct symbols_search *search, size_t at, uint32_t count, uint32_t *marks, size_t *ret_end)
{
	size_t start = at, words, n;

	for (uint32_t i = 0; i < count; i++) {
		if (!search->budget ||
			!name_words(search->part, at, search->tokens.at, &words, &n) ||
			!begins_with_type(search, words))
			return false;
		search->budget--;
		if (marks && i % MARKED == 0)
			marks[i / MARKED] = (uint32_t)(at - start);
		at = words + n;
	}
	*ret_end = at;
	return true;
}

/* The noted offsets follow the names: of 4 bytes, before 4.20 of 8. */
static bool has_marks(
	const struct symbols_search *search, const uint32_t *marks, size_t n, size_t end)
{
	static const struct {
		size_t align, size;
	} shapes[] = {{8, 4}, {4, 4}, {8, 8}};

	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		size_t at = align_up(end, shapes[i].align), k = 0;

		if (at + n * shapes[i].size > search->tokens.at)
			continue;
		while (k < n &&
			load(search->part, at + k * shapes[i].size, shapes[i].size) == marks[k])
			k++;
		if (k == n)
			return true;
	}
	return false;
}

/* 0, VMSIG_ERR_UNSUPPORTED, VMSIG_ERR_NO_MEMORY. */
static int try_names(
	struct symbols_search *search, size_t number_at, uint32_t count, size_t names_at)
{
	size_t n = (count + MARKED - 1) / MARKED, end;
	int r = VMSIG_ERR_UNSUPPORTED;
	uint32_t *marks;

	if (!walk_names(search, names_at, count < PROBE ? count : PROBE, NULL, &end))
		return r;
	marks = calloc(n, sizeof(*marks));
	if (!marks)
		return VMSIG_ERR_NO_MEMORY;
	if (walk_names(search, names_at, count, marks, &end) && has_marks(search, marks, n, end)) {
		search->count = count;
		search->number_at = number_at;
		search->names_at = names_at;
		search->names_end = end;
		r = 0;
	}
	free(marks);
	return r;
}

/* Their number is before the names, and padded to 8 bytes in most kernels. */
static int find_names(struct symbols_search *search)
{
	size_t top = search->tokens.at & ~(size_t)3;
	size_t bottom = top > NAMES_AHEAD_MAX ? top - NAMES_AHEAD_MAX : 0;

	for (size_t at = top; at >= bottom + 8; at -= 4) {
		size_t number_at = at - 8;
		uint32_t count = (uint32_t)load(search->part, number_at, 4);
		bool padded = load(search->part, number_at + 4, 4) == 0;
		int r = VMSIG_ERR_UNSUPPORTED;

		if (count < COUNT_MIN || count > LINUX_SYMBOLS_MAX)
			continue;
		if (padded)
			r = try_names(search, number_at, count, number_at + 8);
		if (r == VMSIG_ERR_UNSUPPORTED)
			r = try_names(search, number_at, count, number_at + 4);
		if (r != VMSIG_ERR_UNSUPPORTED)
			return r;
	}
	return VMSIG_ERR_UNSUPPORTED;
}

/* ---- addresses ---- */

/* All addresses of the image ascend, and they are nearly all of them. */
static bool makes_sense(const uint64_t *addrs, uint32_t count)
{
	uint64_t first = 0, last = 0;
	uint32_t n = 0;

	for (uint32_t i = 0; i < count; i++) {
		if (addrs[i] < LINUX_IMAGE_FIRST)
			continue;
		if (n && addrs[i] < last)
			return false;
		first = n++ ? first : addrs[i];
		last = addrs[i];
	}
	return n >= count - count / 10 && last - first < IMAGE_SPAN && last - first > IMAGE_MIN;
}

enum meaning {
	MEANS_PERCPU_ABSOLUTE, /* negative ones are relative to the base; to 6.14 */
	MEANS_RELATIVE,        /* all are; 6.15 to 6.19 */
	MEANS_PC_RELATIVE,     /* to the entry itself; from 7.0 on */
	MEANS_ABSOLUTE,        /* of 8 bytes; kernels without BASE_RELATIVE */
};

static uint64_t address(
	const struct symbols_search *search, enum meaning meaning, size_t at, uint64_t base)
{
	int32_t offset = (int32_t)load(search->part, at, 4);

	switch (meaning) {
	case MEANS_PERCPU_ABSOLUTE:
		return offset < 0 ? base - 1 - (uint64_t)(int64_t)offset : (uint64_t)offset;
	case MEANS_RELATIVE:
		return base + (uint32_t)offset;
	case MEANS_PC_RELATIVE:
		return search->part->gva + at + (uint64_t)(int64_t)offset;
	default:
		return load(search->part, at, 8);
	}
}

static bool try_addresses(
	struct symbols_search *search, enum meaning meaning, size_t at, size_t base_at)
{
	size_t width = meaning == MEANS_ABSOLUTE ? 8 : 4, len = search->part->len;
	bool has_base = meaning == MEANS_PERCPU_ABSOLUTE || meaning == MEANS_RELATIVE;
	uint64_t base = 0;

	if (at > len || search->count * width > len - at)
		return false;
	if (has_base) {
		if (base_at > len - 8)
			return false;
		base = load(search->part, base_at, 8);
		if (base < LINUX_IMAGE_FIRST)
			return false;
	}
	for (uint32_t i = 0; i < search->count; i++)
		search->symbols->addrs[i] = address(search, meaning, at + i * width, base);
	return makes_sense(search->symbols->addrs, search->count);
}

/* Where addresses may be: before the number of names, with their base between (to 6.4), or behind
 * the words' index (from 6.5 on). Offsets that wrap are beyond the part, and refused as such. */
static bool find_addresses(struct symbols_search *search)
{
	static const enum meaning meanings[] = {
		MEANS_PERCPU_ABSOLUTE, MEANS_RELATIVE, MEANS_PC_RELATIVE};
	size_t bytes = (size_t)search->count * 4, base = search->number_at - 8,
	       behind = align_up(search->tokens.end, 8);
	const struct {
		size_t at, base_at;
	} places[] = {
		{align_up(base - bytes, 8), base},
		{(base - bytes) & ~(size_t)7, base},
		{base - bytes, base},
		{behind, align_up(behind + bytes, 8)},
		{align_up(search->tokens.end, 4),
			align_up(align_up(search->tokens.end, 4) + bytes, 8)},
		{search->number_at - bytes, 0},
		{(search->number_at - bytes) & ~(size_t)7, 0},
	};

	for (size_t m = 0; m < sizeof(meanings) / sizeof(meanings[0]); m++) {
		for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
			if (try_addresses(search, meanings[m], places[i].at, places[i].base_at))
				return true;
		}
	}
	return try_addresses(search, MEANS_ABSOLUTE, search->number_at - 2 * bytes, 0);
}

/* ---- decoding ---- */

/* Bytes of a name with its type and NUL; 0: it is too long to be one. */
static size_t name_len(const struct symbols_search *search, size_t words, size_t n)
{
	size_t len = 1;

	for (size_t i = 0; i < n; i++)
		len += search->tokens.len[search->part->bytes[words + i]];
	return len <= NAME_MAX_LEN + 2 ? len : 0;
}

static char *name_copy(const struct symbols_search *search, size_t words, size_t n, char *to)
{
	for (size_t i = 0; i < n; i++) {
		uint8_t word = search->part->bytes[words + i];

		memcpy(to, search->tokens.words + search->tokens.start[word],
			search->tokens.len[word]);
		to += search->tokens.len[word];
	}
	*to = 0;
	return to + 1;
}

/* Notes where each name will be; the bytes of all. VMSIG_ERR_UNSUPPORTED: one is no name. */
static int measure(const struct symbols_search *search, size_t *ret_size)
{
	size_t at = search->names_at, size = 0, words, n;

	for (uint32_t i = 0; i < search->count; i++) {
		size_t len = name_words(search->part, at, search->names_end, &words, &n)
				     ? name_len(search, words, n)
				     : 0;

		if (!len || size + len > TEXT_MAX)
			return VMSIG_ERR_UNSUPPORTED;
		search->symbols->names[i] = (uint32_t)size;
		size += len;
		at = words + n;
	}
	*ret_size = size;
	return size ? 0 : VMSIG_ERR_UNSUPPORTED;
}

static int decode(const struct symbols_search *search)
{
	size_t at = search->names_at, size, words, n;
	char *to;
	int r = measure(search, &size);

	if (r)
		return r;
	to = search->symbols->text = malloc(size);
	if (!to)
		return VMSIG_ERR_NO_MEMORY;
	for (uint32_t i = 0; i < search->count; i++) {
		if (!name_words(search->part, at, search->names_end, &words, &n))
			return VMSIG_ERR_UNSUPPORTED;
		to = name_copy(search, words, n, to);
		at = words + n;
	}
	return 0;
}

/* ---- all of it ---- */

/* From the first place where addresses may be to the last. */
static void note_place(const struct symbols_search *search)
{
	size_t bytes = (size_t)search->count * 8, first = search->number_at;
	size_t end = align_up(search->tokens.end, 8) + bytes;

	first = first > bytes ? first - bytes : 0;
	end = end < search->part->len ? end : search->part->len;
	search->symbols->at = search->part->gva + first;
	search->symbols->len = end - first;
}

static int find_in_part(struct symbols_search *search)
{
	struct linux_symbols *symbols = search->symbols;
	int r = find_names(search);

	if (r)
		return r;
	symbols->count = search->count;
	note_place(search);
	symbols->addrs = calloc(search->count, sizeof(*symbols->addrs));
	symbols->names = calloc(search->count, sizeof(*symbols->names));
	if (!symbols->addrs || !symbols->names)
		r = VMSIG_ERR_NO_MEMORY;
	else
		r = find_addresses(search) ? decode(search) : VMSIG_ERR_UNSUPPORTED;
	if (r)
		linux_symbols_deinit(symbols);
	return r;
}

int linux_symbols_find(struct linux_symbols *symbols, const struct linux_image *image)
{
	struct symbols_search search = {.symbols = symbols, .budget = BUDGET};
	int r = VMSIG_ERR_UNSUPPORTED;
	unsigned left = TABLES_MAX;

	*symbols = (struct linux_symbols){0};
	for (size_t i = 0; i < image->count && r == VMSIG_ERR_UNSUPPORTED; i++) {
		size_t from = 0;

		search.part = &image->parts[i];
		while (r == VMSIG_ERR_UNSUPPORTED && left &&
			linux_tokens_find(
				&search.tokens, search.part->bytes, search.part->len, from)) {
			from = search.tokens.end;
			left--;
			r = find_in_part(&search);
		}
	}
	return r;
}

void linux_symbols_deinit(struct linux_symbols *symbols)
{
	free(symbols->addrs);
	free(symbols->names);
	free(symbols->text);
	*symbols = (struct linux_symbols){0};
}

bool linux_symbols_index(const struct linux_symbols *symbols, const char *name, size_t *ret_index)
{
	for (size_t i = 0; i < symbols->count; i++) {
		if (strcmp(linux_symbols_name(symbols, i), name) == 0) {
			*ret_index = i;
			return true;
		}
	}
	return false;
}

uint64_t linux_symbols_addr(const struct linux_symbols *symbols, const char *name)
{
	size_t index;

	return linux_symbols_index(symbols, name, &index) ? symbols->addrs[index] : 0;
}

/* Those below the image come first, and are not in order. */
bool linux_symbols_before(const struct linux_symbols *symbols, uint64_t addr, size_t *ret_index)
{
	size_t low = 0, high = symbols->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (symbols->addrs[middle] <= addr)
			low = middle + 1;
		else
			high = middle;
	}
	if (!low || symbols->addrs[low - 1] < LINUX_IMAGE_FIRST ||
		addr - symbols->addrs[low - 1] > IMAGE_SPAN)
		return false;
	*ret_index = low - 1;
	return true;
}
