/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_CONFIG_URL_H
#define BROKER_CONFIG_URL_H

/*
 * Where a member of etcd is: http[s]://ADDRESS:PORT, and nothing behind it. A name would have to be
 * looked up, which may take as long as it likes.
 */

#include <stdbool.h>

struct url {
	bool tls, loopback;
	unsigned port;
};

/* False: it is none. */
__attribute__((warn_unused_result)) bool url_read(struct url *ret_url, const char *text);
/* Whether a guest can be called that over hosts: 1 to 36 of [A-Za-z0-9-]. */
bool url_is_identity(const char *text);

#endif
