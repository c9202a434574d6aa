/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/net/renewal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/manager.h"
#include "broker/net/listener.h"

const struct config_listen *renewal_find(const struct renewal_plane *planes, size_t n,
	const struct config *config, const struct plane_ops *plane)
{
	for (size_t i = 0; i < n; i++) {
		const struct config_listen *where = renewal_listen(&planes[i], config);

		if (planes[i].ops == plane)
			return where->given ? where : NULL;
	}
	return NULL;
}

/* Whether the socket is there already. */
static bool stays(const struct renewal_plane *plane, const struct config *old,
	const struct config_listen *where)
{
	const struct config_listen *before = old ? renewal_listen(plane, old) : NULL;

	return before && before->given && strcmp(before->path, where->path) == 0;
}

static int add(struct renewal *renewal, const struct renewal_plane *plane, const struct config *old,
	const struct config *config, char *error, size_t error_size)
{
	const struct config_listen *where = renewal_listen(plane, config);
	size_t i = renewal->n++;
	int r;

	renewal->sockets[i] = -1;
	r = tls_set_add(&renewal->tls, plane->ops, config, error, error_size);
	if (r || stays(plane, old, where))
		return r;
	renewal->paths[i] = strdup(where->path);
	if (!renewal->paths[i])
		return -ENOMEM;
	return listener_bind(where, &renewal->sockets[i], error, error_size);
}

int renewal_make(struct renewal *ret_renewal, const struct renewal_plane *planes, size_t n,
	const struct config *old, const struct config *config, char *error, size_t error_size)
{
	int r = 0;

	*ret_renewal = RENEWAL_INIT;
	snprintf(error, error_size, "out of memory");
	for (size_t i = 0; !r && i < n; i++) {
		if (renewal_listen(&planes[i], config)->given)
			r = add(ret_renewal, &planes[i], old, config, error, error_size);
	}
	return r;
}

void renewal_deinit(struct renewal *renewal)
{
	for (size_t i = 0; i < renewal->n; i++) {
		if (renewal->paths[i] && renewal->sockets[i] >= 0) {
			/* The service manager's stays. */
			if (!manager_lends_socket(renewal->sockets[i]))
				unlink(renewal->paths[i]);
			close(renewal->sockets[i]);
		}
		free(renewal->paths[i]);
	}
	tls_set_deinit(&renewal->tls);
	*renewal = RENEWAL_INIT;
}
