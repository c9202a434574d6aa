/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/common/dwarf.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/btf.h>

#include "clients/common/typeinfo.h"
#include "vmsig/vmsig_error.h"

#define DEPTH_MAX 32u /* pointers, arrays and qualifiers of one type */
#define POINTER_BYTES 8u
#define VERSION 4u

/* DWARF 4, section 7.5. */
enum {
	TAG_ARRAY = 0x01,
	TAG_ENUMERATION = 0x04,
	TAG_PARAMETER = 0x05,
	TAG_MEMBER = 0x0d,
	TAG_POINTER = 0x0f,
	TAG_UNIT = 0x11,
	TAG_STRUCTURE = 0x13,
	TAG_SUBROUTINE = 0x15,
	TAG_TYPEDEF = 0x16,
	TAG_UNION = 0x17,
	TAG_SUBRANGE = 0x21,
	TAG_BASE = 0x24,
	TAG_CONST = 0x26,
	TAG_ENUMERATOR = 0x28,
	TAG_VARIABLE = 0x34,
	TAG_VOLATILE = 0x35,
	TAG_RESTRICT = 0x37,

	AT_LOCATION = 0x02,
	AT_NAME = 0x03,
	AT_BYTE_SIZE = 0x0b,
	AT_BIT_SIZE = 0x0d,
	AT_LANGUAGE = 0x13,
	AT_CONST_VALUE = 0x1c,
	AT_PROTOTYPED = 0x27,
	AT_COUNT = 0x37,
	AT_MEMBER_LOCATION = 0x38,
	AT_DECLARATION = 0x3c,
	AT_ENCODING = 0x3e,
	AT_EXTERNAL = 0x3f,
	AT_TYPE = 0x49,
	AT_DATA_BIT_OFFSET = 0x6b,

	FORM_DATA4 = 0x06,
	FORM_DATA8 = 0x07,
	FORM_STRING = 0x08,
	FORM_DATA1 = 0x0b,
	FORM_STRP = 0x0e,
	FORM_REF4 = 0x13,
	FORM_EXPRLOC = 0x18,
	FORM_PRESENT = 0x19,

	ATE_BOOLEAN = 0x02,
	ATE_FLOAT = 0x04,
	ATE_SIGNED = 0x05,
	ATE_SIGNED_CHAR = 0x06,
	ATE_UNSIGNED = 0x07,
	ATE_UNSIGNED_CHAR = 0x08,

	LANGUAGE_C99 = 0x0c,
	OP_ADDR = 0x03
};

/* Kinds of entries. Of some there is one without a type, which is void, or without a name: it
 * follows at once. */
enum entry {
	ENTRY_UNIT = 1,
	ENTRY_BASE,
	ENTRY_POINTER,
	ENTRY_POINTER_VOID,
	ENTRY_TYPEDEF,
	ENTRY_TYPEDEF_VOID,
	ENTRY_CONST,
	ENTRY_CONST_VOID,
	ENTRY_VOLATILE,
	ENTRY_VOLATILE_VOID,
	ENTRY_RESTRICT,
	ENTRY_RESTRICT_VOID,
	ENTRY_ARRAY,
	ENTRY_ARRAY_VOID,
	ENTRY_SUBRANGE,
	ENTRY_STRUCT,
	ENTRY_STRUCT_UNNAMED,
	ENTRY_UNION,
	ENTRY_UNION_UNNAMED,
	ENTRY_MEMBER,
	ENTRY_MEMBER_VOID,
	ENTRY_BITS,
	ENTRY_BITS_VOID,
	ENTRY_ENUM,
	ENTRY_ENUM_UNNAMED,
	ENTRY_ENUMERATOR,
	ENTRY_STRUCT_ELSEWHERE,
	ENTRY_UNION_ELSEWHERE,
	ENTRY_FUNCTION,
	ENTRY_FUNCTION_VOID,
	ENTRY_PARAMETER,
	ENTRY_PARAMETER_VOID,
	ENTRY_VARIABLE,
	ENTRIES
};

struct attribute {
	uint8_t at, form;
};

#define ATTRIBUTES_MAX 4u
static const struct {
	uint8_t tag;
	bool children;
	struct attribute attributes[ATTRIBUTES_MAX];
} entries[ENTRIES] = {
	[ENTRY_UNIT] = {TAG_UNIT, true, {{AT_LANGUAGE, FORM_DATA1}, {AT_NAME, FORM_STRING}}},
	[ENTRY_BASE] = {TAG_BASE, false,
		{{AT_NAME, FORM_STRP}, {AT_BYTE_SIZE, FORM_DATA4}, {AT_ENCODING, FORM_DATA1}}},
	[ENTRY_POINTER] = {TAG_POINTER, false, {{AT_BYTE_SIZE, FORM_DATA4}, {AT_TYPE, FORM_REF4}}},
	[ENTRY_POINTER_VOID] = {TAG_POINTER, false, {{AT_BYTE_SIZE, FORM_DATA4}}},
	[ENTRY_TYPEDEF] = {TAG_TYPEDEF, false, {{AT_NAME, FORM_STRP}, {AT_TYPE, FORM_REF4}}},
	[ENTRY_TYPEDEF_VOID] = {TAG_TYPEDEF, false, {{AT_NAME, FORM_STRP}}},
	[ENTRY_CONST] = {TAG_CONST, false, {{AT_TYPE, FORM_REF4}}},
	[ENTRY_CONST_VOID] = {TAG_CONST, false, {{0}}},
	[ENTRY_VOLATILE] = {TAG_VOLATILE, false, {{AT_TYPE, FORM_REF4}}},
	[ENTRY_VOLATILE_VOID] = {TAG_VOLATILE, false, {{0}}},
	[ENTRY_RESTRICT] = {TAG_RESTRICT, false, {{AT_TYPE, FORM_REF4}}},
	[ENTRY_RESTRICT_VOID] = {TAG_RESTRICT, false, {{0}}},
	[ENTRY_ARRAY] = {TAG_ARRAY, true, {{AT_TYPE, FORM_REF4}}},
	[ENTRY_ARRAY_VOID] = {TAG_ARRAY, true, {{0}}},
	[ENTRY_SUBRANGE] = {TAG_SUBRANGE, false, {{AT_COUNT, FORM_DATA4}}},
	[ENTRY_STRUCT] = {TAG_STRUCTURE, true, {{AT_NAME, FORM_STRP}, {AT_BYTE_SIZE, FORM_DATA4}}},
	[ENTRY_STRUCT_UNNAMED] = {TAG_STRUCTURE, true, {{AT_BYTE_SIZE, FORM_DATA4}}},
	[ENTRY_UNION] = {TAG_UNION, true, {{AT_NAME, FORM_STRP}, {AT_BYTE_SIZE, FORM_DATA4}}},
	[ENTRY_UNION_UNNAMED] = {TAG_UNION, true, {{AT_BYTE_SIZE, FORM_DATA4}}},
	[ENTRY_MEMBER] = {TAG_MEMBER, false,
		{{AT_NAME, FORM_STRP}, {AT_MEMBER_LOCATION, FORM_DATA4}, {AT_TYPE, FORM_REF4}}},
	[ENTRY_MEMBER_VOID] = {TAG_MEMBER, false,
		{{AT_NAME, FORM_STRP}, {AT_MEMBER_LOCATION, FORM_DATA4}}},
	[ENTRY_BITS] = {TAG_MEMBER, false,
		{{AT_NAME, FORM_STRP}, {AT_DATA_BIT_OFFSET, FORM_DATA4}, {AT_BIT_SIZE, FORM_DATA1},
			{AT_TYPE, FORM_REF4}}},
	[ENTRY_BITS_VOID] = {TAG_MEMBER, false,
		{{AT_NAME, FORM_STRP}, {AT_DATA_BIT_OFFSET, FORM_DATA4},
			{AT_BIT_SIZE, FORM_DATA1}}},
	[ENTRY_ENUM] = {TAG_ENUMERATION, true, {{AT_NAME, FORM_STRP}, {AT_BYTE_SIZE, FORM_DATA4}}},
	[ENTRY_ENUM_UNNAMED] = {TAG_ENUMERATION, true, {{AT_BYTE_SIZE, FORM_DATA4}}},
	[ENTRY_ENUMERATOR] = {TAG_ENUMERATOR, false,
		{{AT_NAME, FORM_STRP}, {AT_CONST_VALUE, FORM_DATA8}}},
	[ENTRY_STRUCT_ELSEWHERE] = {TAG_STRUCTURE, false,
		{{AT_NAME, FORM_STRP}, {AT_DECLARATION, FORM_PRESENT}}},
	[ENTRY_UNION_ELSEWHERE] = {TAG_UNION, false,
		{{AT_NAME, FORM_STRP}, {AT_DECLARATION, FORM_PRESENT}}},
	[ENTRY_FUNCTION] = {TAG_SUBROUTINE, true,
		{{AT_PROTOTYPED, FORM_PRESENT}, {AT_TYPE, FORM_REF4}}},
	[ENTRY_FUNCTION_VOID] = {TAG_SUBROUTINE, true, {{AT_PROTOTYPED, FORM_PRESENT}}},
	[ENTRY_PARAMETER] = {TAG_PARAMETER, false, {{AT_TYPE, FORM_REF4}}},
	[ENTRY_PARAMETER_VOID] = {TAG_PARAMETER, false, {{0}}},
	[ENTRY_VARIABLE] = {TAG_VARIABLE, false,
		{{AT_NAME, FORM_STRING}, {AT_EXTERNAL, FORM_PRESENT}, {AT_LOCATION, FORM_EXPRLOC},
			{AT_TYPE, FORM_REF4}}},
};

/* Written twice: first only counted, which says where each type's entry is. */
struct dwarf_writer {
	const struct btf *btf;
	const vmsig_os_handle *os;
	uint32_t types;
	uint32_t *at;   /* of each type's entry; 0: it has none; 1: it is not known yet where */
	uint8_t *bytes; /* NULL: they are counted */
	size_t len;
};

static void put(struct dwarf_writer *writer, uint64_t value, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		if (writer->bytes)
			writer->bytes[writer->len] = (uint8_t)(value >> 8 * i);
		writer->len++;
	}
}

static void put_text(struct dwarf_writer *writer, const char *text)
{
	size_t size = strlen(text) + 1;

	if (writer->bytes)
		memcpy(writer->bytes + writer->len, text, size);
	writer->len += size;
}

static void put_code(struct dwarf_writer *writer, unsigned entry)
{
	put(writer, entry, 1); /* all are below 128: one byte of LEB128 */
}

static void end_children(struct dwarf_writer *writer)
{
	put(writer, 0, 1);
}

/* 0, which is "", of what is outside of the strings. */
static void put_name(struct dwarf_writer *writer, uint32_t name)
{
	put(writer, btf__name_by_offset(writer->btf, name) ? name : 0, 4);
}

static bool has_name(const struct dwarf_writer *writer, const struct btf_type *type)
{
	const char *name = btf__name_by_offset(writer->btf, type->name_off);

	return name && name[0];
}

/* ---- references ---- */

/* What another type is made of; 0: of none that is followed. */
static uint32_t next_of(const struct btf_type *type)
{
	if (btf_is_array(type))
		return btf_array(type)->type;
	return btf_is_mod(type) || btf_is_typedef(type) || btf_is_ptr(type) || btf_is_type_tag(type)
		       ? type->type
		       : 0;
}

static bool ends(const struct dwarf_writer *writer, uint32_t id)
{
	for (unsigned depth = 0; depth < DEPTH_MAX; depth++) {
		const struct btf_type *type = btf__type_by_id(writer->btf, id);

		if (!id || !type)
			return true;
		id = next_of(type);
	}
	return false;
}

/* The entry that stands for a type; 0: void. */
static uint32_t target(const struct dwarf_writer *writer, uint32_t id)
{
	if (!ends(writer, id))
		return 0;
	while (id && id < writer->types && btf_is_type_tag(btf__type_by_id(writer->btf, id)))
		id = btf__type_by_id(writer->btf, id)->type;
	return id < writer->types ? writer->at[id] : 0;
}

/* Whether a reference follows, behind what else the entry has. */
static bool put_typed_code(struct dwarf_writer *writer, enum entry entry, uint32_t id)
{
	bool typed = target(writer, id) != 0;

	put_code(writer, typed ? entry : entry + 1);
	return typed;
}

static void put_type(struct dwarf_writer *writer, uint32_t id, bool typed)
{
	if (typed)
		put(writer, target(writer, id), 4);
}

/* ---- entries ---- */

static void put_base(struct dwarf_writer *writer, const struct btf_type *type, uint8_t encoding)
{
	put_code(writer, ENTRY_BASE);
	put_name(writer, type->name_off);
	put(writer, type->size, 4);
	put(writer, encoding, 1);
}

static uint8_t encoding_of(const struct dwarf_writer *writer, const struct btf_type *type)
{
	const char *name = btf__name_by_offset(writer->btf, type->name_off);
	bool is_signed = btf_int_encoding(type) & BTF_INT_SIGNED;

	if (btf_int_encoding(type) & BTF_INT_BOOL)
		return ATE_BOOLEAN;
	if (type->size == 1 && name && strstr(name, "char"))
		return is_signed ? ATE_SIGNED_CHAR : ATE_UNSIGNED_CHAR;
	return is_signed ? ATE_SIGNED : ATE_UNSIGNED;
}

static void put_member(struct dwarf_writer *writer, const struct btf_type *type, uint32_t index)
{
	const struct btf_member *member = btf_members(type) + index;
	uint32_t bit = btf_member_bit_offset(type, index),
		 bits = btf_member_bitfield_size(type, index);
	bool typed = put_typed_code(writer, bits ? ENTRY_BITS : ENTRY_MEMBER, member->type);

	put_name(writer, member->name_off);
	put(writer, bits ? bit : bit / 8, 4);
	if (bits)
		put(writer, bits, 1);
	put_type(writer, member->type, typed);
}

static void put_composite(struct dwarf_writer *writer, const struct btf_type *type)
{
	enum entry entry = btf_is_struct(type) ? ENTRY_STRUCT : ENTRY_UNION;

	put_code(writer, has_name(writer, type) ? entry : entry + 1);
	if (has_name(writer, type))
		put_name(writer, type->name_off);
	put(writer, type->size, 4);
	for (uint32_t i = 0; i < btf_vlen(type); i++)
		put_member(writer, type, i);
	end_children(writer);
}

static void put_enumeration(struct dwarf_writer *writer, const struct btf_type *type)
{
	put_code(writer, has_name(writer, type) ? ENTRY_ENUM : ENTRY_ENUM_UNNAMED);
	if (has_name(writer, type))
		put_name(writer, type->name_off);
	put(writer, type->size, 4);
	for (uint32_t i = 0; i < btf_vlen(type); i++) {
		put_code(writer, ENTRY_ENUMERATOR);
		put_name(writer, btf_is_enum(type) ? btf_enum(type)[i].name_off
						   : btf_enum64(type)[i].name_off);
		put(writer,
			btf_is_enum(type) ? (uint64_t)(int64_t)btf_enum(type)[i].val
					  : btf_enum64_value(btf_enum64(type) + i),
			8);
	}
	end_children(writer);
}

static void put_array(struct dwarf_writer *writer, const struct btf_type *type)
{
	uint32_t of = btf_array(type)->type;

	put_type(writer, of, put_typed_code(writer, ENTRY_ARRAY, of));
	put_code(writer, ENTRY_SUBRANGE);
	put(writer, btf_array(type)->nelems, 4);
	end_children(writer);
}

static void put_function(struct dwarf_writer *writer, const struct btf_type *type)
{
	put_type(writer, type->type, put_typed_code(writer, ENTRY_FUNCTION, type->type));
	for (uint32_t i = 0; i < btf_vlen(type); i++) {
		uint32_t of = btf_params(type)[i].type;

		put_type(writer, of, put_typed_code(writer, ENTRY_PARAMETER, of));
	}
	end_children(writer);
}

static void put_pointer(struct dwarf_writer *writer, const struct btf_type *type)
{
	bool typed = put_typed_code(writer, ENTRY_POINTER, type->type);

	put(writer, POINTER_BYTES, 4);
	put_type(writer, type->type, typed);
}

static void put_typedef(struct dwarf_writer *writer, const struct btf_type *type)
{
	bool typed = put_typed_code(writer, ENTRY_TYPEDEF, type->type);

	put_name(writer, type->name_off);
	put_type(writer, type->type, typed);
}

static void put_qualifier(struct dwarf_writer *writer, const struct btf_type *type)
{
	enum entry entry = btf_is_const(type)      ? ENTRY_CONST
			   : btf_is_volatile(type) ? ENTRY_VOLATILE
						   : ENTRY_RESTRICT;

	put_type(writer, type->type, put_typed_code(writer, entry, type->type));
}

static void put_elsewhere(struct dwarf_writer *writer, const struct btf_type *type)
{
	put_code(writer, btf_kflag(type) ? ENTRY_UNION_ELSEWHERE : ENTRY_STRUCT_ELSEWHERE);
	put_name(writer, type->name_off);
}

static void put_entry(struct dwarf_writer *writer, const struct btf_type *type)
{
	if (btf_is_int(type))
		put_base(writer, type, encoding_of(writer, type));
	else if (btf_is_float(type))
		put_base(writer, type, ATE_FLOAT);
	else if (btf_is_composite(type))
		put_composite(writer, type);
	else if (btf_is_any_enum(type))
		put_enumeration(writer, type);
	else if (btf_is_array(type))
		put_array(writer, type);
	else if (btf_is_func_proto(type))
		put_function(writer, type);
	else if (btf_is_ptr(type))
		put_pointer(writer, type);
	else if (btf_is_typedef(type))
		put_typedef(writer, type);
	else if (btf_is_mod(type) && !btf_is_type_tag(type))
		put_qualifier(writer, type);
	else if (btf_is_fwd(type))
		put_elsewhere(writer, type);
}

/* Of functions, variables and remarks there is none; a tag is as what it is put on. */
static bool has_entry(const struct btf_type *type)
{
	return !btf_is_func(type) && !btf_is_var(type) && !btf_is_datasec(type) &&
	       !btf_is_decl_tag(type) && !btf_is_type_tag(type);
}

static void put_variable(struct dwarf_writer *writer, const struct typeinfo_variable *variable)
{
	int32_t id = btf__find_by_name_kind(writer->btf, variable->type, BTF_KIND_STRUCT);
	vmsig_symbol symbol;
	uint32_t of;

	if (id <= 0 || !vmsig_os_symbol_find(writer->os, variable->symbol, &symbol))
		return;
	of = writer->at[id];
	if (variable->pointer) {
		uint32_t at = (uint32_t)writer->len;

		put_code(writer, ENTRY_POINTER);
		put(writer, POINTER_BYTES, 4);
		put(writer, of, 4);
		of = at;
	}
	put_code(writer, ENTRY_VARIABLE);
	put_text(writer, variable->symbol);
	put(writer, 1 + POINTER_BYTES, 1);
	put(writer, OP_ADDR, 1);
	put(writer, symbol.addr, POINTER_BYTES);
	put(writer, of, 4);
}

/* ---- all of it ---- */

static void put_unit(struct dwarf_writer *writer, size_t len)
{
	writer->len = 0;
	put(writer, len ? len - 4 : 0, 4);
	put(writer, VERSION, 2);
	put(writer, 0, 4); /* where the abbreviations begin */
	put(writer, POINTER_BYTES, 1);
	put_code(writer, ENTRY_UNIT);
	put(writer, LANGUAGE_C99, 1);
	put_text(writer, "vmlinux");
	for (uint32_t id = 1; id < writer->types; id++) {
		if (!writer->at[id])
			continue;
		writer->at[id] = (uint32_t)writer->len;
		put_entry(writer, btf__type_by_id(writer->btf, id));
	}
	for (size_t i = 0; i < TYPEINFO_VARIABLES; i++)
		put_variable(writer, &typeinfo_variables[i]);
	end_children(writer);
}

static void put_abbreviations(struct dwarf_writer *writer, size_t len)
{
	(void)len;
	writer->len = 0;
	for (unsigned entry = ENTRY_UNIT; entry < ENTRIES; entry++) {
		put_code(writer, entry);
		put(writer, entries[entry].tag, 1);
		put(writer, entries[entry].children, 1);
		for (unsigned i = 0; i < ATTRIBUTES_MAX && entries[entry].attributes[i].at; i++) {
			put(writer, entries[entry].attributes[i].at, 1);
			put(writer, entries[entry].attributes[i].form, 1);
		}
		put(writer, 0, 2);
	}
	put(writer, 0, 1);
}

/* What is put, in memory of its own; `put_all` is told how long it is, or 0. */
static int take(struct dwarf_writer *writer, void (*put_all)(struct dwarf_writer *, size_t),
	uint8_t **ret_bytes, size_t *ret_len)
{
	writer->bytes = NULL;
	put_all(writer, 0);
	*ret_len = writer->len;
	writer->bytes = *ret_bytes = malloc(*ret_len);
	if (!writer->bytes)
		return VMSIG_ERR_NO_MEMORY;
	put_all(writer, *ret_len);
	return 0;
}

int dwarf_init(struct dwarf *dwarf, const struct btf *btf, const vmsig_os_handle *os)
{
	struct dwarf_writer writer = {.btf = btf, .os = os, .types = btf__type_cnt(btf)};
	int r = VMSIG_ERR_NO_MEMORY;

	*dwarf = (struct dwarf){0};
	writer.at = calloc(writer.types, sizeof(*writer.at));
	for (uint32_t id = 1; writer.at && id < writer.types; id++)
		writer.at[id] = has_entry(btf__type_by_id(btf, id));
	if (writer.at)
		r = take(&writer, put_unit, &dwarf->info, &dwarf->info_len);
	if (!r)
		r = take(&writer, put_abbreviations, &dwarf->abbrev, &dwarf->abbrev_len);
	free(writer.at);
	if (r)
		dwarf_deinit(dwarf);
	return r;
}

void dwarf_deinit(struct dwarf *dwarf)
{
	free(dwarf->info);
	free(dwarf->abbrev);
	*dwarf = (struct dwarf){0};
}
