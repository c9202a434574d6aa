/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/shim/arguments.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "clients/common/text.h"

#define PEEK_LEN 64 /* bytes, when nothing else is said */
#define NO_ADDR                                                                                    \
	"ADDR is a number like 0xffffffff81000000, or a symbol of the guest's kernel, "            \
	"NAME[+OFFSET]"
#define NO_PID "PID is the number of a process, as `vmsigctl ps` has it"
#define NO_MEMORY "out of memory"

/* ---- places ---- */

/* The last words, which say which addresses are meant, are taken from the line. */
static const char *take_space(int *argc, char **argv, struct place_arguments *place)
{
	uint64_t pid;

	*place = (struct place_arguments){0};
	if (*argc >= 2 && strcmp(argv[*argc - 1], "phys") == 0) {
		place->physical = true;
		--*argc;
	} else if (*argc >= 3 && strcmp(argv[*argc - 2], "pid") == 0) {
		if (!text_number(argv[*argc - 1], &pid) || pid > INT32_MAX)
			return NO_PID;
		place->has_pid = true;
		place->pid = (uint32_t)pid;
		*argc -= 2;
	}
	return NULL;
}

static const char *take_addr(const char *word, struct place_arguments *place)
{
	const char *plus = strchr(word, '+');
	uint64_t offset;

	if (text_number(word, &place->addr))
		return NULL;
	if (!isalpha((unsigned char)word[0]) && word[0] != '_')
		return NO_ADDR;
	if (plus && !text_number(plus + 1, &offset))
		return NO_ADDR;
	place->symbol = word;
	return place->physical ? "the address of a symbol is no physical one" : NULL;
}

const char *arguments_translate(int argc, char **argv, struct place_arguments *ret_place)
{
	const char *wrong = take_space(&argc, argv, ret_place);

	if (wrong)
		return wrong;
	if (argc != 2 || ret_place->physical)
		return "it takes ADDR [pid PID]";
	return take_addr(argv[1], ret_place);
}

const char *arguments_peek(int argc, char **argv, struct peek_arguments *ret_arguments)
{
	struct peek_arguments arguments = {.len = PEEK_LEN};
	uint64_t len = PEEK_LEN;
	const char *wrong = take_space(&argc, argv, &arguments.place);

	if (!wrong && (argc < 2 || argc > 3))
		wrong = "it takes ADDR [LEN] [phys | pid PID]";
	if (!wrong)
		wrong = take_addr(argv[1], &arguments.place);
	if (wrong)
		return wrong;
	if (argc == 3 && (!text_number(argv[2], &len) || !len || len > ARGUMENTS_PEEK_MAX))
		return "LEN is a number of bytes, at most 1 MiB";
	arguments.len = (size_t)len;
	if (arguments.len - 1 > UINT64_MAX - arguments.place.addr)
		return "ADDR and LEN wrap around";
	*ret_arguments = arguments;
	return NULL;
}

/* ---- writing ---- */

/* 0 for what is none. */
static unsigned width_of(const char *type)
{
	static const struct {
		const char *name;
		unsigned width;
	} types[] = {{"u8", 1}, {"u16", 2}, {"u32", 4}, {"u64", 8}};

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		if (strcmp(types[i].name, type) == 0)
			return types[i].width;
	}
	return 0;
}

static const char *poke_number(const char *text, unsigned width, struct write_arguments *arguments)
{
	static const char *const fits[] = {[1] = "VALUE is a number from 0 to 255",
		[2] = "VALUE is a number from 0 to 65535",
		[4] = "VALUE is a number from 0 to 0xffffffff",
		[8] = "VALUE is a number like 1 or 0x10, of 64 bits at most"};

	arguments->data = malloc(width);
	if (!arguments->data)
		return NO_MEMORY;
	arguments->len = width;
	return text_word(text, width, arguments->data) ? NULL : fits[width];
}

static const char *poke_hex(const char *text, struct write_arguments *arguments)
{
	arguments->data = malloc(strlen(text) / 2 + 1);
	if (!arguments->data)
		return NO_MEMORY;
	return text_hex_parse(text, ARGUMENTS_POKE_MAX, arguments->data, &arguments->len)
		       ? NULL
		       : "HEX has two digits a byte, for at most 480 KiB";
}

static const char *write_end(const char *error, const struct write_arguments *arguments,
	struct write_arguments *ret_arguments)
{
	if (!error && arguments->len - 1 > UINT64_MAX - arguments->place.addr)
		error = "ADDR and the length wrap around";
	if (error)
		free(arguments->data);
	else
		*ret_arguments = *arguments;
	return error;
}

const char *arguments_poke(int argc, char **argv, struct write_arguments *ret_arguments)
{
	struct write_arguments arguments = {0};
	const char *error = take_space(&argc, argv, &arguments.place);
	unsigned width;

	if (!error && argc != 4)
		error = "it takes ADDR (u8|u16|u32|u64) VALUE, or ADDR hex HEX, [phys | pid PID]";
	if (!error)
		error = take_addr(argv[1], &arguments.place);
	if (error)
		return error;
	width = width_of(argv[2]);
	if (width)
		error = poke_number(argv[3], width, &arguments);
	else if (strcmp(argv[2], "hex") == 0)
		error = poke_hex(argv[3], &arguments);
	else
		error = "what is written is u8, u16, u32, u64 or hex";
	return write_end(error, &arguments, ret_arguments);
}

const char *arguments_cas(int argc, char **argv, struct write_arguments *ret_arguments)
{
	struct write_arguments arguments = {0};
	const char *error = take_space(&argc, argv, &arguments.place);
	uint64_t size = 0;

	if (!error && argc != 5)
		error = "it takes ADDR SIZE EXPECT VALUE [phys | pid PID]";
	if (!error)
		error = take_addr(argv[1], &arguments.place);
	if (error)
		return error;
	if (!text_number(argv[2], &size))
		size = width_of(argv[2]);
	if (size != 1 && size != 2 && size != 4 && size != 8)
		return "SIZE is 1, 2, 4 or 8 bytes, or u8, u16, u32, u64";
	arguments.len = (size_t)size;
	arguments.data = malloc(2 * arguments.len);
	if (!arguments.data)
		return NO_MEMORY;
	arguments.expect = arguments.data + arguments.len;
	if (!text_word(argv[3], (unsigned)size, arguments.expect) ||
		!text_word(argv[4], (unsigned)size, arguments.data))
		return write_end("EXPECT and VALUE are unsigned numbers of that size", &arguments,
			ret_arguments);
	return write_end(NULL, &arguments, ret_arguments);
}

void arguments_clear(struct write_arguments *arguments)
{
	free(arguments->data);
	*arguments = (struct write_arguments){0};
}

/* ---- searching ---- */

const char *arguments_find(int argc, char **argv, struct find_arguments *ret_arguments)
{
	const char *wrong = NULL;

	ret_arguments->range = (vmsig_lease_range){0, UINT64_MAX};
	ret_arguments->place = (struct place_arguments){0};
	/* A pattern alone may be one of these words. */
	if (argc > 2)
		wrong = take_space(&argc, argv, &ret_arguments->place);
	if (wrong)
		return wrong;
	if (argc != 2 && argc != 4)
		return "it takes PATTERN [START END] [phys | pid PID]";
	if (!text_pattern(
		    argv[1], ARGUMENTS_PATTERN_MAX, ret_arguments->pattern, &ret_arguments->len))
		return "PATTERN is text, str:TEXT or hex:DIGITS of 1 to 4096 bytes";
	/* What is above is the kernel's, with any number of levels. */
	if (ret_arguments->place.has_pid)
		ret_arguments->range.last = (1ull << 56) - 1;
	if (argc == 4 && (!text_number(argv[2], &ret_arguments->range.start) ||
				 !text_number(argv[3], &ret_arguments->range.last) ||
				 ret_arguments->range.start > ret_arguments->range.last))
		return "START and END are addresses, both included";
	return NULL;
}
