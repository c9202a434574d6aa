/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who a DER certificate speaks for. What is accepted must be a valid identity, with a serial
 * in hex; a refusal must say why.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

#include "proto/wire/tls_peer.h"
#include "vmsig/vmsig_error.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_accepted(const struct identity *id)
{
	struct identity again;
	char uri[128];
	int n = snprintf(uri, sizeof(uri), "vmsig://%s/%s", identity_role_name(id->role), id->name);

	if (identity_parse(uri, (size_t)n, &again) || again.role != id->role)
		abort();
	if (strspn(id->serial, "0123456789abcdef") != strlen(id->serial))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const unsigned char *at = data;
	X509 *cert = d2i_X509(NULL, &at, (long)size);
	struct identity id;
	char error[160] = "";
	int r;

	ERR_clear_error();
	if (!cert)
		return 0;
	r = tls_peer_certificate(cert, &id, error, sizeof(error));
	if (r == 0)
		check_accepted(&id);
	else if (r != VMSIG_ERR_BAD_REQUEST || !error[0])
		abort();
	X509_free(cert);
	ERR_clear_error();
	return 0;
}
