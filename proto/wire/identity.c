/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/wire/identity.h"

#include <stdbool.h>
#include <string.h>

#include "vmsig/vmsig_error.h"

static const char scheme[] = "vmsig://";

static const struct {
	enum identity_role role;
	const char *name;
} roles[] = {
	{IDENTITY_SENSOR, "sensor"},
	{IDENTITY_OPERATOR, "operator"},
	{IDENTITY_ADMIN, "admin"},
	{IDENTITY_PROVIDER, "provider"},
	{IDENTITY_MONITOR, "monitor"},
	{IDENTITY_BROKER, "broker"},
};

#define ROLES (sizeof(roles) / sizeof(roles[0]))

const char *identity_role_name(enum identity_role role)
{
	for (size_t i = 0; i < ROLES; i++) {
		if (roles[i].role == role)
			return roles[i].name;
	}
	return NULL;
}

static enum identity_role role_find(const char *name, size_t len)
{
	for (size_t i = 0; i < ROLES; i++) {
		if (strlen(roles[i].name) == len && memcmp(roles[i].name, name, len) == 0)
			return roles[i].role;
	}
	return 0;
}

enum identity_role identity_role_parse(const char *name)
{
	return name ? role_find(name, strlen(name)) : 0;
}

/* ctype(3) depends on the locale; names do not. */
static bool name_char(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '.' || c == '_' || c == '-';
}

static bool name_valid(const char *name, size_t len)
{
	if (len == 0 || len > IDENTITY_NAME_MAX || name[0] == '.' || name[0] == '-')
		return false;
	for (size_t i = 0; i < len; i++) {
		if (!name_char((unsigned char)name[i]))
			return false;
	}
	return true;
}

int identity_parse(const char *uri, size_t len, struct identity *ret_identity)
{
	size_t prefix = sizeof(scheme) - 1;
	struct identity id = {0};
	const char *slash;
	const char *name;
	size_t name_len;

	if (len < prefix || memcmp(uri, scheme, prefix) != 0)
		return VMSIG_ERR_BAD_REQUEST;
	uri += prefix;
	len -= prefix;
	slash = memchr(uri, '/', len);
	if (!slash)
		return VMSIG_ERR_BAD_REQUEST;
	id.role = role_find(uri, (size_t)(slash - uri));
	name = slash + 1;
	name_len = len - (size_t)(name - uri);
	if (!id.role || !name_valid(name, name_len))
		return VMSIG_ERR_BAD_REQUEST;
	memcpy(id.name, name, name_len);
	*ret_identity = id;
	return 0;
}
