/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_CTL_PLACE_H
#define CLIENTS_CTL_PLACE_H

/*
 * Where in a guest a command looks: an address, or one that a symbol of the kernel names
 * (--symbol NAME[+OFFSET]), under the kernel's root or that of a process (--pid PID).
 */

#include "clients/ctl/guest.h"

struct ctl_place {
	const char *pid;    /* NULL: the kernel's */
	const char *symbol; /* NULL: none */
	uint64_t addr;      /* of the symbol, when there is one */
};

#define CTL_PLACE_OPTIONS                                                                          \
	{"pid", required_argument, NULL, CTL_OPT_PID},                                             \
	{                                                                                          \
		"symbol", required_argument, NULL, CTL_OPT_SYMBOL                                  \
	}
#define CTL_PLACE_HELP                                                                             \
	"  --pid PID      guest-virtual addresses are those of a process\n"                        \
	"  --symbol NAME[+OFFSET]\n"                                                               \
	"                 the address of a symbol of the kernel, instead of ADDR\n"

/* False: it is another option. */
bool ctl_place_option(struct ctl_place *place, int code, const char *value);

/* ctl_context_open(), for that place: `context` reads under its root. */
int ctl_place_open(const struct ctl *ctl, const char *endpoint, struct ctl_place *place,
	struct context *ret_context);
/* The same for a look from *start to `last`: where there is a symbol, *start is what it names, and
 * may not be given beside. */
int ctl_place_open_range(const struct ctl *ctl, const char *endpoint, struct ctl_place *place,
	uint64_t *start, uint64_t last, struct context *ret_context);

#endif
