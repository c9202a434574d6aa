/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/linux/types.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/btf.h>
#include <bpf/libbpf.h>

#include "vmsig/vmsig_error.h"

#define BTF_MAX (64u << 20) /* bytes; Debian's kernels have 3 to 6 MiB */
#define TYPES_MAX 1000000u
#define STRUCTS_MAX 128u
#define DEPTH_MAX 8u              /* of structs and unions without a name inside of one another */
#define SIZE_MAX_KNOWN (1u << 16) /* bytes of a struct; a task_struct has some ten thousand */
#define BUDGET (1u << 20)         /* members that are looked at for all fields */
#define MODIFIERS_MAX 32u         /* const, volatile, typedef, ... before a type */

/* The structs that fields are in, by name. */
struct catalogue {
	const struct btf *btf;
	struct {
		char name[32];
		uint32_t id; /* 0: the kernel has none */
	} structs[STRUCTS_MAX];
	size_t count;
	uint32_t budget;
};

struct types_place {
	uint32_t bits; /* into the struct */
	uint32_t id;   /* of the member's type */
};

/* ---- finding it ---- */

static bool is_header(const uint8_t *bytes, uint64_t left, struct btf_header *header)
{
	uint64_t len;

	if (left < sizeof(*header))
		return false;
	memcpy(header, bytes, sizeof(*header));
	len = (uint64_t)header->hdr_len + header->str_off + header->str_len;
	return header->magic == BTF_MAGIC && header->version == BTF_VERSION &&
	       header->hdr_len >= sizeof(*header) && header->hdr_len <= 64 &&
	       header->hdr_len % 4 == 0 && !header->type_off &&
	       header->str_off == header->type_len && len <= BTF_MAX && len <= left;
}

/* The longest: kernels hold those of BPF programs of their own, too. */
static const uint8_t *find_by_shape(const struct linux_image *image, uint32_t *ret_len)
{
	static const uint8_t magic[] = {0x9f, 0xeb, 0x01, 0x00};
	const uint8_t *best = NULL;
	struct btf_header header;

	*ret_len = 0;
	for (size_t i = 0; i < image->count; i++) {
		const struct linux_part *part = &image->parts[i];
		const uint8_t *at = part->bytes, *end = part->bytes + part->len;

		while ((at = memmem(at, (size_t)(end - at), magic, sizeof(magic)))) {
			uint32_t len = is_header(at, (uint64_t)(end - at), &header)
					       ? header.hdr_len + header.str_off + header.str_len
					       : 0;

			if (len > *ret_len) {
				*ret_len = len;
				best = at;
			}
			at++;
		}
	}
	return best;
}

/* Where the bytes of a part are in the guest. */
static uint64_t address_of(const struct linux_image *image, const uint8_t *bytes)
{
	for (size_t i = 0; i < image->count; i++) {
		const struct linux_part *part = &image->parts[i];

		if (bytes >= part->bytes && bytes < part->bytes + part->len)
			return part->gva + (uint64_t)(bytes - part->bytes);
	}
	return 0;
}

static const uint8_t *find(
	const struct linux_symbols *symbols, const struct linux_image *image, uint32_t *ret_len)
{
	uint64_t start = linux_symbols_addr(symbols, "__start_BTF"),
		 stop = linux_symbols_addr(symbols, "__stop_BTF");
	struct btf_header header;
	const uint8_t *bytes = NULL;

	if (start && stop > start && stop - start <= BTF_MAX)
		bytes = linux_image_at(image, start, stop - start);
	if (!bytes || !is_header(bytes, stop - start, &header))
		return find_by_shape(image, ret_len);
	*ret_len = (uint32_t)(stop - start);
	return bytes;
}

/* libbpf says what is wrong with types on standard error, which is not a library's to do. */
static int parse(const uint8_t *bytes, uint32_t len, struct btf **ret_btf)
{
	libbpf_print_fn_t print = libbpf_set_print(NULL);
	struct btf *btf = btf__new(bytes, len);
	int r = btf ? 0 : errno;

	libbpf_set_print(print);
	if (!r && btf__type_cnt(btf) > TYPES_MAX) {
		btf__free(btf);
		r = EINVAL;
	}
	*ret_btf = btf;
	return r == ENOMEM ? VMSIG_ERR_NO_MEMORY : r ? VMSIG_ERR_UNSUPPORTED : 0;
}

/* ---- structs ---- */

/* The first word of a path; false: it does not fit. */
static bool first_word(const char *path, char *ret_word, size_t size)
{
	size_t len = strcspn(path, ".");

	if (len >= size)
		return false;
	memcpy(ret_word, path, len);
	ret_word[len] = 0;
	return true;
}

static int order(const void *a, const void *b)
{
	return strcmp(a, b);
}

static void catalogue_add(struct catalogue *catalogue, const char *path)
{
	char name[sizeof(catalogue->structs[0].name)];

	if (!path || catalogue->count == STRUCTS_MAX || !first_word(path, name, sizeof(name)))
		return;
	for (size_t i = 0; i < catalogue->count; i++) {
		if (strcmp(catalogue->structs[i].name, name) == 0)
			return;
	}
	memcpy(catalogue->structs[catalogue->count++].name, name, sizeof(name));
}

static uint32_t *catalogue_find(struct catalogue *catalogue, const char *name)
{
	size_t size = sizeof(catalogue->structs[0]);
	char *found = bsearch(name, catalogue->structs, catalogue->count, size, order);

	return found ? &catalogue->structs[(size_t)(found - (char *)catalogue->structs) / size].id
		     : NULL;
}

static void catalogue_init(struct catalogue *catalogue, const struct btf *btf)
{
	uint32_t types = btf__type_cnt(btf);

	*catalogue = (struct catalogue){.btf = btf, .budget = BUDGET};
	for (enum linux_field field = 0; field < LINUX_FIELDS; field++) {
		catalogue_add(catalogue, linux_field_path(field));
		catalogue_add(catalogue, linux_field_other(field));
	}
	qsort(catalogue->structs, catalogue->count, sizeof(catalogue->structs[0]), order);
	for (uint32_t id = 1; id < types; id++) {
		const struct btf_type *type = btf__type_by_id(btf, id);
		const char *name;
		uint32_t *found;

		if (!type || !btf_is_struct(type))
			continue;
		name = btf__name_by_offset(btf, type->name_off);
		found = name ? catalogue_find(catalogue, name) : NULL;
		if (found && !*found)
			*found = id;
	}
}

/* ---- members ---- */

static const struct btf_type *strip(const struct btf *btf, uint32_t *id)
{
	const struct btf_type *type = btf__type_by_id(btf, *id);

	for (unsigned i = 0; type && i < MODIFIERS_MAX; i++) {
		if (!btf_is_mod(type) && !btf_is_typedef(type) && !btf_is_type_tag(type))
			return type;
		*id = type->type;
		type = btf__type_by_id(btf, *id);
	}
	return NULL;
}

static bool find_member(struct catalogue *catalogue, uint32_t id, const char *name, size_t len,
	unsigned depth, struct types_place *ret_place)
{
	const struct btf *btf = catalogue->btf;
	const struct btf_type *type = strip(btf, &id);

	if (!type || !btf_is_composite(type) || depth > DEPTH_MAX)
		return false;
	for (uint32_t i = 0; i < btf_vlen(type) && catalogue->budget; i++) {
		const struct btf_member *member = btf_members(type) + i;
		const char *own = btf__name_by_offset(btf, member->name_off);
		uint32_t bits = btf_member_bit_offset(type, i);

		catalogue->budget--;
		if (own && strncmp(own, name, len) == 0 && !own[len]) {
			*ret_place = (struct types_place){bits, member->type};
			return true;
		}
		if (own && !own[0] &&
			find_member(catalogue, member->type, name, len, depth + 1, ret_place)) {
			ret_place->bits += bits;
			return true;
		}
	}
	return false;
}

static bool find_path(struct catalogue *catalogue, const char *path, struct linux_fields *fields,
	enum linux_field field)
{
	char word[sizeof(catalogue->structs[0].name)];
	struct types_place place = {0}, step;
	uint32_t *id =
		first_word(path, word, sizeof(word)) ? catalogue_find(catalogue, word) : NULL;
	int64_t size;

	if (!id || !*id)
		return false;
	place.id = *id;
	path += strcspn(path, ".");
	while (*path == '.') {
		size_t len = strcspn(++path, ".");

		if (!find_member(catalogue, place.id, path, len, 0, &step))
			return false;
		place = (struct types_place){place.bits + step.bits, step.id};
		path += len;
	}
	size = btf__resolve_size(catalogue->btf, place.id);
	if (size < 0 || size > UINT32_MAX)
		return false;
	fields->field[field].known = true;
	fields->field[field].offset = place.bits / 8;
	fields->field[field].size = (uint32_t)size;
	return true;
}

static void learn_sizes(struct catalogue *catalogue, struct linux_fields *fields)
{
	for (enum linux_struct which = 0; which < LINUX_STRUCTS; which++) {
		uint32_t *id = catalogue_find(catalogue, linux_struct_name(which));
		int64_t size = id && *id ? btf__resolve_size(catalogue->btf, *id) : 0;

		fields->size[which] = size > 0 && size < SIZE_MAX_KNOWN ? (uint32_t)size : 0;
	}
}

static int learn(
	struct catalogue *catalogue, struct linux_fields *fields, char *error, size_t error_size)
{
	learn_sizes(catalogue, fields);
	for (enum linux_field field = 0; field < LINUX_FIELDS; field++) {
		const char *other = linux_field_other(field);

		if (find_path(catalogue, linux_field_path(field), fields, field) ||
			(other && find_path(catalogue, other, fields, field)) ||
			linux_field_is_optional(field))
			continue;
		snprintf(error, error_size, "its kernel's types (BTF) have no %s",
			linux_field_path(field));
		return VMSIG_ERR_UNSUPPORTED;
	}
	return 0;
}

int linux_types_find(struct linux_fields *fields, const struct linux_symbols *symbols,
	const struct linux_image *image, char *error, size_t error_size)
{
	struct catalogue catalogue;
	uint32_t len;
	const uint8_t *bytes = find(symbols, image, &len);
	struct btf *btf;
	int r;

	*fields = (struct linux_fields){0};
	if (!bytes) {
		snprintf(error, error_size, "its kernel carries no types (BTF)");
		return VMSIG_ERR_UNSUPPORTED;
	}
	r = parse(bytes, len, &btf);
	if (r) {
		snprintf(error, error_size, "its kernel's types (BTF) cannot be understood");
		return r;
	}
	fields->types = address_of(image, bytes);
	fields->types_len = len;
	catalogue_init(&catalogue, btf);
	r = learn(&catalogue, fields, error, error_size);
	btf__free(btf);
	return r;
}
