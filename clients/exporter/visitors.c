/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/exporter/visitors.h"

#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <utlist.h>

struct visitors_one {
	struct visitors_one *prev, *next;
	int fd;
	bool leaves; /* in no list any more */
};

static void leave_list(struct visitors *visitors, struct visitors_one *visitor)
{
	if (visitor->leaves)
		return;
	visitor->leaves = true;
	DL_DELETE(visitors->all, visitor);
	visitors->n--;
}

/* Whoever serves it finds out, and closes it. */
static void send_off(struct visitors *visitors, struct visitors_one *visitor)
{
	leave_list(visitors, visitor);
	/* One that has left by itself is closed, too. */
	(void)shutdown(visitor->fd, SHUT_RDWR);
}

struct visitors_one *visitors_add(struct visitors *visitors, int fd)
{
	struct visitors_one *visitor = calloc(1, sizeof(*visitor));

	if (!visitor)
		return NULL;
	visitor->fd = fd;
	DL_APPEND(visitors->all, visitor);
	if (++visitors->n > VISITORS_MAX)
		send_off(visitors, visitors->all);
	return visitor;
}

void visitors_remove(struct visitors *visitors, struct visitors_one *visitor)
{
	if (!visitor)
		return;
	leave_list(visitors, visitor);
	free(visitor);
}
