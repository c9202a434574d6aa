/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/ctl/place.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

bool ctl_place_option(struct ctl_place *place, int code, const char *value)
{
	if (code == CTL_OPT_PID)
		place->pid = value;
	else if (code == CTL_OPT_SYMBOL)
		place->symbol = value;
	return code == CTL_OPT_PID || code == CTL_OPT_SYMBOL;
}

/* What can be said without looking. NAME[+OFFSET]; no symbol's name has a plus. */
static int check(const struct ctl_place *place, uint64_t *ret_offset)
{
	const char *plus = place->symbol ? strchr(place->symbol, '+') : NULL;

	*ret_offset = 0;
	if (plus && !text_number(plus + 1, ret_offset)) {
		ctl_fail_with(VMSIG_ERR_BAD_REQUEST, NULL, "'%s' is no offset", plus + 1);
		return EXIT_USAGE;
	}
	return place->pid ? ctl_check_pid(place->pid) : EXIT_OK;
}

static int find_symbol(const struct ctl_guest *guest, struct ctl_place *place, uint64_t offset)
{
	char *name = strndup(place->symbol, strcspn(place->symbol, "+"));
	vmsig_symbol symbol;
	int code = EXIT_OK;

	if (!name)
		return ctl_fail(VMSIG_ERR_NO_MEMORY, "out of memory");
	if (!vmsig_os_symbol_find(guest->os, name, &symbol)) {
		ctl_fail_with(VMSIG_ERR_NOT_MAPPED, "see `vmsigctl symbols`",
			"%s has no symbol '%s'", guest->endpoint, name);
		code = EXIT_NOT_FOUND;
	} else {
		place->addr = symbol.addr + offset;
	}
	free(name);
	return code;
}

static int find_root(const struct ctl_guest *guest, const char *pid, uint64_t *ret_root)
{
	vmsig_proc process;
	int code = ctl_guest_process(guest, pid, &process);

	if (code)
		return code;
	*ret_root = process.root;
	if (process.root)
		return EXIT_OK;
	ctl_fail_with(VMSIG_ERR_NOT_MAPPED, "threads of the kernel have none: leave out --pid",
		"process %s has no address space of its own", pid);
	return EXIT_ADDRESS;
}

int ctl_place_open(const struct ctl *ctl, const char *endpoint, struct ctl_place *place,
	struct context *ret_context)
{
	struct ctl_guest guest;
	uint64_t offset;
	int code = check(place, &offset);

	if (code || (!place->pid && !place->symbol))
		return code ? code : ctl_context_open(ctl, endpoint, ret_context);
	code = ctl_guest_open(ctl, endpoint, &guest);
	if (code)
		return code;
	if (place->symbol)
		code = find_symbol(&guest, place, offset);
	if (!code && place->pid)
		code = find_root(&guest, place->pid, &guest.context.root);
	if (code) {
		ctl_guest_close(&guest);
		return code;
	}
	guest.os = vmsig_os_close(guest.os);
	*ret_context = guest.context;
	return EXIT_OK;
}

static int fail_range(const char *why)
{
	ctl_fail_with(VMSIG_ERR_BAD_REQUEST, NULL, "%s", why);
	return EXIT_USAGE;
}

int ctl_place_open_range(const struct ctl *ctl, const char *endpoint, struct ctl_place *place,
	uint64_t *start, uint64_t last, struct context *ret_context)
{
	int code;

	if (place->symbol && *start)
		return fail_range("--start and --symbol are two places to begin at: give one");
	if (*start > last)
		return fail_range("--start is above --end");
	code = ctl_place_open(ctl, endpoint, place, ret_context);
	if (code || !place->symbol)
		return code;
	*start = place->addr;
	if (*start <= last)
		return EXIT_OK;
	context_close(ret_context);
	return fail_range("the symbol is above --end");
}
