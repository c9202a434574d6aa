/* SPDX-License-Identifier: Apache-2.0 */

/*
 * vmsig-intact: an example of a sensor, meant to be copied. A JSON line whenever a kernel's text,
 * its table of system calls or its list of modules is not what it was at the last look:
 *
 *	{"endpoint": "web1", "epoch": 3, "what": "text", "addr": "0xffffffff81064000"}
 *	{"endpoint": "web1", "epoch": 3, "what": "call", "number": 59, "addr": "0xffffffffc0a31000"}
 *	{"endpoint": "web1", "epoch": 3, "what": "module", "name": "rootkit", "loaded": true}
 *
 * Kernels from 6.9 on, and older ones that were mended after it, do not call by that table: there a
 * system call that leads elsewhere is a change of text, and `vmsigctl check` follows the code.
 * Text changes without an attacker, too: when somebody traces, or by live patches.
 *
 *	cc -o intact intact.c guests.c $(pkg-config --cflags --libs libvmsig)
 */

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guests.h"

#define PAGES_MAX (1u << 16)
#define CALLS 450u /* as many as all kernels have that are of use here */

struct intact_seen {
	bool began;
	uint64_t *pages; /* a number for what each page of text was */
	uint64_t calls[CALLS];
	vmsig_module_list *modules;

	struct sensor_guest *guest; /* of the page that is looked at */
	size_t page;
};

static void begin_line(const struct sensor_guest *guest, const char *what)
{
	printf("{\"endpoint\": ");
	guests_print_text(guest->name);
	printf(", \"epoch\": %" PRIu32 ", \"what\": \"%s\"", guest->epoch, what);
}

/* ---- text ---- */

/* FNV-1a: a sensor that has an attacker against it takes a cryptographic digest here. */
static uint64_t number_of(const uint8_t *bytes, size_t len)
{
	uint64_t number = 0xcbf29ce484222325ull;

	for (size_t i = 0; i < len; i++)
		number = (number ^ bytes[i]) * 0x100000001b3ull;
	return number;
}

static int look_at_page(void *ctx, uint64_t addr, const uint8_t *bytes, size_t len)
{
	struct intact_seen *seen = ctx;
	uint64_t number = number_of(bytes, len);

	if (seen->page == PAGES_MAX)
		return 0;
	if (seen->began && seen->pages[seen->page] != number) {
		begin_line(seen->guest, "text");
		printf(", \"addr\": \"0x%" PRIx64 "\"}\n", addr);
	}
	seen->pages[seen->page++] = number;
	return 0;
}

/* ---- system calls ---- */

static int look_at_calls(struct sensor_guest *guest, struct intact_seen *seen)
{
	uint64_t calls[CALLS];
	vmsig_symbol table;
	int r;

	if (!vmsig_os_symbol_find(guest->os, "sys_call_table", &table))
		return 0;
	r = vmsig_gva_read(guest->mem, guest->root, table.addr, calls, sizeof(calls));
	if (r)
		return r;
	for (size_t i = 0; i < CALLS && seen->began; i++) {
		if (calls[i] == seen->calls[i])
			continue;
		begin_line(guest, "call");
		printf(", \"number\": %zu, \"addr\": \"0x%" PRIx64 "\"}\n", i, calls[i]);
	}
	memcpy(seen->calls, calls, sizeof(calls));
	return 0;
}

/* ---- modules ---- */

static bool has(const vmsig_module_list *list, const vmsig_module *module)
{
	for (size_t i = 0; i < list->count; i++) {
		if (list->modules[i].object == module->object &&
			strcmp(list->modules[i].name, module->name) == 0)
			return true;
	}
	return false;
}

static void print_missing(const struct sensor_guest *guest, const vmsig_module_list *list,
	const vmsig_module_list *other, bool loaded)
{
	for (size_t i = 0; i < list->count; i++) {
		if (has(other, &list->modules[i]))
			continue;
		begin_line(guest, "module");
		printf(", \"name\": ");
		guests_print_text(list->modules[i].name);
		printf(", \"loaded\": %s}\n", loaded ? "true" : "false");
	}
}

static int look_at_modules(struct sensor_guest *guest, struct intact_seen *seen)
{
	vmsig_module_list *list;
	int r = vmsig_os_modules(guest->os, &list);

	if (r)
		return r;
	if (list->partial) {
		vmsig_module_list_free(list);
		return 0;
	}
	if (seen->modules) {
		print_missing(guest, list, seen->modules, true);
		print_missing(guest, seen->modules, list, false);
	}
	vmsig_module_list_free(seen->modules);
	seen->modules = list;
	return 0;
}

/* ---- all ---- */

static int look(struct sensor_guest *guest)
{
	struct intact_seen *seen = guest->seen;
	int r;

	if (!seen->pages)
		seen->pages = calloc(PAGES_MAX, sizeof(*seen->pages));
	if (!seen->pages)
		return -VMSIG_ERR_NO_MEMORY;
	seen->guest = guest;
	seen->page = 0;
	r = vmsig_os_text(guest->os, look_at_page, seen);
	if (!r)
		r = look_at_calls(guest, seen);
	if (!r)
		r = look_at_modules(guest, seen);
	seen->began |= !r;
	return r;
}

static void forget(void *ctx)
{
	struct intact_seen *seen = ctx;

	free(seen->pages);
	vmsig_module_list_free(seen->modules);
}

int main(int argc, char **argv)
{
	static const struct sensor sensor = {.program = "vmsig-intact",
		.seen_size = sizeof(struct intact_seen),
		.look = look,
		.forget = forget};

	return guests_run(&sensor, argc, argv);
}
