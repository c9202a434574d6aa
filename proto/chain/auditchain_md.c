/* SPDX-License-Identifier: Apache-2.0 */
/* The chain's SHA-256 by OpenSSL, fetched once. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "proto/chain/auditchain.h"
#include "vmsig/vmsig_error.h"

struct auditchain_md {
	EVP_MD *sha256;
	EVP_MD_CTX *ctx;
};

int auditchain_md_new(struct auditchain_md **ret_md)
{
	struct auditchain_md *md = calloc(1, sizeof(*md));
	int r;

	if (!md)
		return -ENOMEM;
	md->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	r = md->sha256 ? 0 : VMSIG_ERR_INTERNAL;
	if (!r) {
		md->ctx = EVP_MD_CTX_new();
		r = md->ctx ? 0 : -ENOMEM;
	}
	if (r) {
		auditchain_md_free(md);
		return r;
	}
	*ret_md = md;
	return 0;
}

struct auditchain_md *auditchain_md_free(struct auditchain_md *md)
{
	if (!md)
		return NULL;
	EVP_MD_CTX_free(md->ctx);
	EVP_MD_free(md->sha256);
	free(md);
	return NULL;
}

static int md_hash(struct auditchain_md *md, const uint8_t *prev, const void *data, size_t len,
	uint8_t *ret_hash)
{
	uint8_t hash[AUDITCHAIN_HASH];

	if (EVP_DigestInit_ex2(md->ctx, md->sha256, NULL) != 1 ||
		(prev && EVP_DigestUpdate(md->ctx, prev, AUDITCHAIN_HASH) != 1) ||
		(len && EVP_DigestUpdate(md->ctx, data, len) != 1) ||
		EVP_DigestFinal_ex(md->ctx, hash, NULL) != 1)
		return VMSIG_ERR_INTERNAL;
	memcpy(ret_hash, hash, sizeof(hash));
	return 0;
}

int auditchain_hash(struct auditchain_md *md, const uint8_t prev[static AUDITCHAIN_HASH],
	const void *body, size_t len, uint8_t ret_hash[static AUDITCHAIN_HASH])
{
	return md_hash(md, prev, body, len, ret_hash);
}

int auditchain_digest(struct auditchain_md *md, const void *data, size_t len,
	uint8_t ret_hash[static AUDITCHAIN_HASH])
{
	return md_hash(md, NULL, data, len, ret_hash);
}
