/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_WIRE_IDENTITY_H
#define PROTO_WIRE_IDENTITY_H

/*
 * Who a certificate speaks for: exactly one URI SAN "vmsig://<role>/<name>". Pure.
 */

#include <stddef.h>
#include <stdint.h>

#define IDENTITY_NAME_MAX 63   /* bytes of a tenant or host name */
#define IDENTITY_SERIAL_MAX 40 /* hex digits of a serial: RFC 5280 allows 20 octets */

enum identity_role {
	IDENTITY_SENSOR = 1u << 0,
	IDENTITY_OPERATOR = 1u << 1,
	IDENTITY_ADMIN = 1u << 2,
	IDENTITY_PROVIDER = 1u << 3,
	IDENTITY_BROKER = 1u << 4,
	IDENTITY_MONITOR = 1u << 5,
};

struct identity {
	enum identity_role role;
	char name[IDENTITY_NAME_MAX + 1];
	char serial[IDENTITY_SERIAL_MAX + 1]; /* certificate serial, lower-case hex; may be empty */
};

/* Parses `len` bytes of a URI. The name is 1 to 63 of [A-Za-z0-9._-], not starting with '.'
 * or '-'. NULs, a query, a fragment, a second path element are refused.
 * 0 or VMSIG_ERR_BAD_REQUEST. Leaves ret_identity->serial empty. */
__attribute__((warn_unused_result)) int identity_parse(
	const char *uri, size_t len, struct identity *ret_identity);

/* "sensor", "operator", ...; NULL for an unknown value. */
const char *identity_role_name(enum identity_role role);
/* The inverse; 0 when unknown. */
enum identity_role identity_role_parse(const char *name);

#endif
