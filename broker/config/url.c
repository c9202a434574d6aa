/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/config/url.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define HOST_SIZE 64
#define IDENTITY_MAX 36

static bool is_address(const char *host, bool *ret_loopback)
{
	struct in6_addr six;
	struct in_addr four;

	if (inet_pton(AF_INET, host, &four) == 1) {
		*ret_loopback = ntohl(four.s_addr) >> 24 == 127;
		return true;
	}
	if (inet_pton(AF_INET6, host, &six) != 1)
		return false;
	*ret_loopback = IN6_IS_ADDR_LOOPBACK(&six);
	return true;
}

/* What is in front of the port; IPv6 stands in brackets. */
static const char *read_host(const char *text, char host[static HOST_SIZE])
{
	bool bracketed = *text == '[';
	const char *from = text + bracketed;
	const char *end = strchr(from, bracketed ? ']' : ':');
	size_t len = end ? (size_t)(end - from) : HOST_SIZE;

	if (!end || len >= HOST_SIZE || (!bracketed && memchr(from, '[', len)))
		return NULL;
	memcpy(host, from, len);
	host[len] = '\0';
	return end + bracketed;
}

bool url_read(struct url *ret_url, const char *text)
{
	char host[HOST_SIZE], *end;
	const char *rest;
	unsigned long port;

	ret_url->tls = strncmp(text, "https://", 8) == 0;
	if (!ret_url->tls && strncmp(text, "http://", 7) != 0)
		return false;
	rest = read_host(text + (ret_url->tls ? 8 : 7), host);
	if (!rest || *rest != ':' || !isdigit((unsigned char)rest[1]))
		return false;
	port = strtoul(rest + 1, &end, 10);
	ret_url->port = (unsigned)port;
	return !*end && port > 0 && port < 65536 && is_address(host, &ret_url->loopback);
}

bool url_is_identity(const char *text)
{
	size_t len = strlen(text);

	for (size_t i = 0; i < len; i++) {
		if (!isalnum((unsigned char)text[i]) && text[i] != '-')
			return false;
	}
	return len && len <= IDENTITY_MAX;
}
