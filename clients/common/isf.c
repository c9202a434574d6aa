/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/common/isf.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <bpf/btf.h>
#include <jansson.h>
#include <openssl/evp.h>

#include "clients/common/coreinfo.h"
#include "clients/common/typeinfo.h"
#include "clients/common/value.h"

#define IMAGE_FIRST 0xffffffff80000000ull /* symbols below are offsets into per-CPU memory */
#define DEPTH_MAX 32u                     /* pointers, arrays and qualifiers of one type */
#define NAME_MAX_LEN 511u                 /* bytes; what a kernel takes as a name in BTF */
#define NAME_SIZE 600u                    /* of a type with its number behind it, with its NUL */
#define BANNER_MAX 512u

struct isf {
	FILE *file;
	const struct context *context;
	const vmsig_os_handle *os;
	struct btf *btf;
	uint32_t types;
	bool *first; /* of each type: it is the first one of its kind and name */
	uint64_t slide;
	bool continued; /* a member was written before in the object that is open */
	bool no_memory;
};

/* ---- writing ---- */

static void open_object(struct isf *isf, const char *name)
{
	fprintf(isf->file, "%s\"%s\":{", isf->continued ? ",\n" : "", name);
	isf->continued = false;
}

static void close_object(struct isf *isf)
{
	fputc('}', isf->file);
	isf->continued = true;
}

static void put_name(struct isf *isf, const char *name)
{
	json_t *key = value_text(name);

	isf->no_memory |= !key;
	fputs(isf->continued ? ",\n" : "\n", isf->file);
	if (key)
		json_dumpf(key, isf->file, JSON_ENCODE_ANY | JSON_COMPACT);
	fputc(':', isf->file);
	json_decref(key);
	isf->continued = true;
}

/* Releases the value. */
static void put_value(struct isf *isf, json_t *value)
{
	isf->no_memory |= !value;
	if (value)
		json_dumpf(value, isf->file, JSON_COMPACT | JSON_ENCODE_ANY);
	json_decref(value);
}

static void put(struct isf *isf, const char *name, json_t *value)
{
	put_name(isf, name);
	put_value(isf, value);
}

/* ---- names ---- */

enum kind { KIND_OTHER, KIND_STRUCT, KIND_ENUM };

/* Structs and unions share one object of the table, enumerations have their own. */
static enum kind kind_of(const struct btf_type *type)
{
	if (btf_is_composite(type))
		return KIND_STRUCT;
	return btf_is_enum(type) || btf_is_enum64(type) ? KIND_ENUM : KIND_OTHER;
}

/* "": it has none. So has what is longer than any name: thousands of members that point into one
 * text of megabytes would not fit into memory, nor be compared in time. */
static const char *name_at(const struct isf *isf, uint32_t offset)
{
	const char *name = btf__name_by_offset(isf->btf, offset);

	return name && strnlen(name, NAME_MAX_LEN + 1) <= NAME_MAX_LEN ? name : "";
}

static const char *plain_name(const struct isf *isf, const struct btf_type *type)
{
	return name_at(isf, type->name_off);
}

static int by_name(const void *a, const void *b, void *ctx)
{
	const struct isf *isf = ctx;
	uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
	const struct btf_type *l = btf__type_by_id(isf->btf, left),
			      *r = btf__type_by_id(isf->btf, right);
	int order = (int)kind_of(l) - (int)kind_of(r);

	if (!order)
		order = strcmp(plain_name(isf, l), plain_name(isf, r));
	return order ? order : (left > right) - (left < right);
}

/* Of several types of one name the first keeps it. */
static int find_first(struct isf *isf)
{
	uint32_t *ids = calloc(isf->types, sizeof(*ids)), n = 0;

	isf->first = calloc(isf->types, sizeof(*isf->first));
	if (!ids || !isf->first) {
		free(ids);
		return VMSIG_ERR_NO_MEMORY;
	}
	for (uint32_t id = 1; id < isf->types; id++) {
		if (kind_of(btf__type_by_id(isf->btf, id)) != KIND_OTHER)
			ids[n++] = id;
	}
	qsort_r(ids, n, sizeof(*ids), by_name, isf);
	for (uint32_t i = 0; i < n; i++) {
		const struct btf_type *type = btf__type_by_id(isf->btf, ids[i]), *before;

		before = i ? btf__type_by_id(isf->btf, ids[i - 1]) : NULL;
		isf->first[ids[i]] = !before || kind_of(before) != kind_of(type) ||
				     strcmp(plain_name(isf, before), plain_name(isf, type)) != 0;
	}
	free(ids);
	return 0;
}

static const char *name_of(const struct isf *isf, uint32_t id, char buf[static NAME_SIZE])
{
	const char *name = plain_name(isf, btf__type_by_id(isf->btf, id));

	if (!name[0])
		snprintf(buf, NAME_SIZE, "unnamed_%x", id);
	else if (isf->first[id])
		snprintf(buf, NAME_SIZE, "%s", name);
	else
		snprintf(buf, NAME_SIZE, "%s_%x", name, id);
	return buf;
}

/* ---- references to types ---- */

/* What an enumeration or a number of that size is based on, as C names it. */
static const struct {
	uint32_t size;
	const char *name;
} integers[] = {
	{1, "unsigned char"}, {2, "short unsigned int"}, {4, "int"}, {8, "long unsigned int"}};

static json_t *base(const char *name)
{
	return json_pack("{s:s, s:o}", "kind", "base", "name", value_text(name));
}

static json_t *named(const struct isf *isf, const char *kind, uint32_t id)
{
	char buf[NAME_SIZE];

	return json_pack("{s:s, s:o}", "kind", kind, "name", value_text(name_of(isf, id, buf)));
}

static bool is_transparent(const struct btf_type *type)
{
	return btf_is_mod(type) || btf_is_typedef(type) || btf_is_type_tag(type);
}

static json_t *reference(const struct isf *isf, uint32_t id, unsigned depth)
{
	const struct btf_type *type = btf__type_by_id(isf->btf, id);

	while (type && is_transparent(type) && depth++ < DEPTH_MAX) {
		id = type->type;
		type = btf__type_by_id(isf->btf, id);
	}
	if (!type || !id || depth >= DEPTH_MAX)
		return base("void");
	switch (btf_kind(type)) {
	case BTF_KIND_INT:
	case BTF_KIND_FLOAT:
		return base(plain_name(isf, type));
	case BTF_KIND_PTR:
		return json_pack("{s:s, s:o}", "kind", "pointer", "subtype",
			reference(isf, type->type, depth + 1));
	case BTF_KIND_ARRAY:
		return json_pack("{s:s, s:I, s:o}", "kind", "array", "count",
			(json_int_t)btf_array(type)->nelems, "subtype",
			reference(isf, btf_array(type)->type, depth + 1));
	case BTF_KIND_STRUCT:
		return named(isf, "struct", id);
	case BTF_KIND_UNION:
		return named(isf, "union", id);
	case BTF_KIND_ENUM:
	case BTF_KIND_ENUM64:
		return named(isf, "enum", id);
	case BTF_KIND_FWD:
		return json_pack("{s:s, s:o}", "kind", btf_kflag(type) ? "union" : "struct", "name",
			value_text(plain_name(isf, type)));
	case BTF_KIND_FUNC:
	case BTF_KIND_FUNC_PROTO:
		return json_pack("{s:s}", "kind", "function");
	default:
		return base("void");
	}
}

/* ---- base types ---- */

static json_t *number(uint32_t size, bool is_signed, const char *kind)
{
	return json_pack("{s:I, s:b, s:s, s:s}", "size", (json_int_t)size, "signed", is_signed,
		"kind", kind, "endian", "little");
}

static json_t *integer(const struct isf *isf, const struct btf_type *type)
{
	int encoding = btf_int_encoding(type);
	const char *kind = encoding & BTF_INT_BOOL                                    ? "bool"
			   : type->size == 1 && strstr(plain_name(isf, type), "char") ? "char"
										      : "int";

	return number(type->size, (encoding & BTF_INT_SIGNED) != 0, kind);
}

static void put_base_types(struct isf *isf)
{
	json_t *all = json_object();

	json_object_set_new(all, "void", number(0, false, "void"));
	json_object_set_new(all, "pointer", number(8, false, "int"));
	json_object_set_new(all, "char", number(1, true, "char"));
	for (size_t i = 0; i < sizeof(integers) / sizeof(integers[0]); i++)
		json_object_set_new(all, integers[i].name,
			number(integers[i].size, integers[i].size == 4, "int"));
	for (uint32_t id = 1; id < isf->types; id++) {
		const struct btf_type *type = btf__type_by_id(isf->btf, id);

		if (btf_is_int(type))
			json_object_set_new(all, plain_name(isf, type), integer(isf, type));
		else if (btf_is_float(type))
			json_object_set_new(
				all, plain_name(isf, type), number(type->size, true, "float"));
	}
	put(isf, "base_types", all);
}

/* ---- structs, unions, enumerations ---- */

static json_t *member(const struct isf *isf, const struct btf_type *type, uint32_t index)
{
	const struct btf_member *m = btf_members(type) + index;
	uint32_t at = btf_member_bit_offset(type, index),
		 bits = btf_member_bitfield_size(type, index);
	json_t *of = reference(isf, m->type, 0);
	int64_t size = bits ? btf__resolve_size(isf->btf, m->type) * 8 : 0;

	if (size <= 0)
		return json_pack("{s:I, s:o}", "offset", (json_int_t)(at / 8), "type", of);
	/* Counted from the number that has the bits. */
	return json_pack("{s:I, s:{s:s, s:I, s:I, s:o}}", "offset",
		(json_int_t)(at / size * size / 8), "type", "kind", "bitfield", "bit_position",
		(json_int_t)(at % size), "bit_length", (json_int_t)bits, "type", of);
}

static json_t *composite(const struct isf *isf, const struct btf_type *type)
{
	json_t *fields = json_object();

	for (uint32_t i = 0; i < btf_vlen(type); i++) {
		const char *name = name_at(isf, (btf_members(type) + i)->name_off);
		json_t *entry = member(isf, type, i);
		char unnamed[32];

		if (!name[0]) {
			snprintf(unnamed, sizeof(unnamed), "unnamed_field_%x", i);
			name = unnamed;
			json_object_set_new(entry, "anonymous", json_true());
		}
		json_object_set_new(fields, name, entry);
	}
	return json_pack("{s:I, s:o, s:s}", "size", (json_int_t)type->size, "fields", fields,
		"kind", btf_is_struct(type) ? "struct" : "union");
}

static const char *integer_of(uint32_t size)
{
	for (size_t i = 0; i < sizeof(integers) / sizeof(integers[0]); i++) {
		if (integers[i].size == size)
			return integers[i].name;
	}
	return "int";
}

static json_t *enumeration(const struct isf *isf, const struct btf_type *type)
{
	json_t *constants = json_object();

	for (uint32_t i = 0; i < btf_vlen(type); i++) {
		uint32_t name_off = btf_is_enum(type) ? (btf_enum(type) + i)->name_off
						      : (btf_enum64(type) + i)->name_off;
		json_int_t value = btf_is_enum(type)
					   ? (json_int_t)(btf_enum(type) + i)->val
					   : (json_int_t)btf_enum64_value(btf_enum64(type) + i);
		const char *name = name_at(isf, name_off);

		if (name[0])
			json_object_set_new(constants, name, json_integer(value));
	}
	return json_pack("{s:I, s:s, s:o}", "size", (json_int_t)type->size, "base",
		integer_of(type->size), "constants", constants);
}

static void put_types(struct isf *isf, const char *object, enum kind kind,
	json_t *(*make)(const struct isf *isf, const struct btf_type *type))
{
	char name[NAME_SIZE];

	open_object(isf, object);
	for (uint32_t id = 1; id < isf->types; id++) {
		const struct btf_type *type = btf__type_by_id(isf->btf, id);

		if (kind_of(type) == kind)
			put(isf, name_of(isf, id, name), make(isf, type));
	}
	close_object(isf);
}

/* ---- symbols ---- */

static json_t *type_of_symbol(const char *name)
{
	for (size_t i = 0; i < TYPEINFO_VARIABLES; i++) {
		const struct typeinfo_variable *variable = &typeinfo_variables[i];
		json_t *of;

		if (strcmp(variable->symbol, name) != 0)
			continue;
		of = json_pack("{s:s, s:s}", "kind", "struct", "name", variable->type);
		return variable->pointer ? json_pack("{s:s, s:o}", "kind", "pointer", "subtype", of)
					 : of;
	}
	return NULL;
}

/* The text by which Volatility knows whose table it is. */
static void put_banner(struct isf *isf, uint64_t addr)
{
	char text[BANNER_MAX + 1] = "";
	unsigned char encoded[4 * ((BANNER_MAX + 1 + 2) / 3) + 1];
	size_t len;

	if (vmsig_gva_read(isf->context->mem, isf->context->pod.kcr3, addr, text, BANNER_MAX))
		return;
	len = strlen(text) + 1;
	EVP_EncodeBlock(encoded, (const unsigned char *)text, (int)len);
	fprintf(isf->file, ",\"constant_data\":\"%s\",\"type\":", encoded);
	put_value(isf, json_pack("{s:s, s:I, s:o}", "kind", "array", "count", (json_int_t)len,
			       "subtype", base("char")));
}

static int by_symbol(const void *a, const void *b)
{
	const vmsig_symbol *left = a, *right = b;
	int order = strcmp(left->name, right->name);

	/* The names lie in the order of the kernel's table. */
	return order ? order : (left->name > right->name) - (left->name < right->name);
}

/* By hand: JSON's library has no integer that an address of the kernel fits into. */
static void put_symbol(struct isf *isf, const vmsig_symbol *symbol)
{
	json_t *type = type_of_symbol(symbol->name);

	put_name(isf, symbol->name);
	fprintf(isf->file, "{\"address\":%" PRIu64, symbol->addr - isf->slide);
	if (type) {
		fputs(",\"type\":", isf->file);
		put_value(isf, type);
	} else if (strcmp(symbol->name, "linux_banner") == 0) {
		put_banner(isf, symbol->addr);
	}
	fputc('}', isf->file);
}

/* Where the kernel would be loaded had nothing been randomised: its linker says so, and its own
 * table does not, and LibVMI finds page tables by it. */
static void put_physical_start(struct isf *isf)
{
	vmsig_symbol start;

	if (!vmsig_os_symbol_find(isf->os, "startup_64", &start) || start.addr < IMAGE_FIRST)
		return;
	put_name(isf, "phys_startup_64");
	fprintf(isf->file, "{\"address\":%" PRIu64 "}",
		(uint64_t)(start.addr - isf->slide - IMAGE_FIRST));
}

static int put_symbols(struct isf *isf)
{
	size_t n = vmsig_os_symbol_count(isf->os);
	vmsig_symbol *all = calloc(n ? n : 1, sizeof(*all));

	if (!all)
		return VMSIG_ERR_NO_MEMORY;
	for (size_t i = 0; i < n; i++)
		all[i] = vmsig_os_symbol(isf->os, i);
	qsort(all, n, sizeof(*all), by_symbol);
	open_object(isf, "symbols");
	for (size_t i = 0; i < n; i++) {
		if (all[i].addr >= IMAGE_FIRST && (!i || strcmp(all[i - 1].name, all[i].name) != 0))
			put_symbol(isf, &all[i]);
	}
	put_physical_start(isf);
	close_object(isf);
	free(all);
	return 0;
}

/* ---- all of it ---- */

static void put_metadata(struct isf *isf)
{
	time_t now = time(NULL);
	char moment[32] = "";
	struct tm tm;

	if (gmtime_r(&now, &tm))
		strftime(moment, sizeof(moment), "%Y-%m-%dT%H:%M:%S", &tm);
	put(isf, "metadata",
		json_pack("{s:s, s:{s:s, s:s, s:s}, s:{s:[], s:[]}}", "format", "6.2.0", "producer",
			"name", "vmsig", "version", vmsig_version(), "datetime", moment, "linux",
			"symbols", "types"));
}

static int write_all(struct isf *isf)
{
	int r = find_first(isf);

	if (r)
		return r;
	fputc('{', isf->file);
	put_metadata(isf);
	put_base_types(isf);
	put_types(isf, "user_types", KIND_STRUCT, composite);
	put_types(isf, "enums", KIND_ENUM, enumeration);
	r = put_symbols(isf);
	fputs("}\n", isf->file);
	return r ? r : isf->no_memory ? VMSIG_ERR_NO_MEMORY : 0;
}

static int open_types(struct isf *isf, char *error, size_t error_size)
{
	uint32_t len;
	uint8_t *bytes;
	int r = typeinfo_read(isf->context, isf->os, &bytes, &len);

	if (r == VMSIG_ERR_UNSUPPORTED)
		snprintf(error, error_size, "its kernel carries no types (BTF)");
	if (r)
		return r;
	isf->btf = typeinfo_parse(bytes, len);
	free(bytes);
	if (!isf->btf) {
		snprintf(error, error_size, "its kernel's types (BTF) cannot be understood");
		return errno == ENOMEM ? VMSIG_ERR_NO_MEMORY : VMSIG_ERR_UNSUPPORTED;
	}
	isf->types = btf__type_cnt(isf->btf);
	return 0;
}

/* How far the kernel is from where it was linked. */
static int find_slide(struct isf *isf, char *error, size_t error_size)
{
	struct coreinfo *info = malloc(sizeof(*info));
	bool known;

	if (!info)
		return VMSIG_ERR_NO_MEMORY;
	coreinfo_read(info, isf->context, isf->os);
	known = coreinfo_hex(info, "KERNELOFFSET", &isf->slide);
	free(info);
	if (!known)
		snprintf(error, error_size, "its kernel does not say where it was linked");
	return known ? 0 : VMSIG_ERR_UNSUPPORTED;
}

int isf_write(FILE *file, const struct context *context, const vmsig_os_handle *os, char *error,
	size_t error_size)
{
	struct isf isf = {.file = file, .context = context, .os = os};
	int r;

	if (error_size)
		error[0] = '\0';
	r = find_slide(&isf, error, error_size);
	if (!r)
		r = open_types(&isf, error, error_size);
	if (!r)
		r = write_all(&isf);
	btf__free(isf.btf);
	free(isf.first);
	return r;
}
