/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_EXPORTER_VISITORS_H
#define CLIENTS_EXPORTER_VISITORS_H

/*
 * Who is connected to the exporter: anybody on the host may be, and as often as he likes, and say
 * a byte now and then. Whoever asks is answered at once, so the one who is there for longest wants
 * nothing: it makes room for who comes next.
 */

#include <stddef.h>

#define VISITORS_MAX 48u   /* beyond that the oldest goes */
#define VISITORS_LEAVE 16u /* that may be on their way out, or in */

struct visitors_one;

/* All zero: nobody. */
struct visitors {
	struct visitors_one *all; /* the oldest first */
	size_t n;
};

/* `fd` is its connection; what is returned is for visitors_remove(). NULL: no memory, and nobody
 * goes for it. */
struct visitors_one *visitors_add(struct visitors *visitors, int fd);
/* Its connection is closed. Accepts NULL. */
void visitors_remove(struct visitors *visitors, struct visitors_one *visitor);

#endif
