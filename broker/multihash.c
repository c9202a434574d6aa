/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/multihash.h"

#include <assert.h>
#include <stdlib.h>

#ifdef VMSIG_HAVE_IPSEC_MB

#include <intel-ipsec-mb.h>

#define BLOCK 64u
#define PADDING 9u /* bytes at least: one, and the length */

/* Blocks that OpenSSL does with the CPU's instructions for SHA in the time that one of each lane
 * takes: 7 to 8, measured. */
#define PAYS 8u

/* The library's manager under a name of ours. */
static IMB_MGR *manager_of(struct multihash *multihash)
{
	return (IMB_MGR *)(void *)multihash;
}

struct multihash *multihash_new(void)
{
	IMB_MGR *manager = alloc_mb_mgr(0);

	if (!manager)
		return NULL;
	if (manager->features & IMB_FEATURE_AVX512_SKX)
		init_mb_mgr_avx512(manager);
	if (!(manager->features & IMB_FEATURE_AVX512_SKX) || imb_get_errno(manager)) {
		free_mb_mgr(manager);
		return NULL;
	}
	return (struct multihash *)(void *)manager;
}

struct multihash *multihash_free(struct multihash *multihash)
{
	if (multihash)
		free_mb_mgr(manager_of(multihash));
	return NULL;
}

static size_t blocks_of(const struct multihash_message *message)
{
	return (message->len + PADDING + BLOCK - 1) / BLOCK;
}

bool multihash_pays(
	const struct multihash *multihash, const struct multihash_message *messages, size_t n)
{
	size_t most = 0, all = 0;

	if (!multihash || n < PAYS)
		return false;
	for (size_t i = 0; i < n; i++) {
		size_t blocks = blocks_of(&messages[i]);

		all += blocks;
		most = blocks > most ? blocks : most;
	}
	return all >= most * PAYS;
}

/* Of jobs that have come back. */
static size_t count_good(IMB_MGR *manager, const IMB_JOB *job)
{
	size_t good = 0;

	for (; job; job = IMB_GET_COMPLETED_JOB(manager))
		good += job->status == IMB_STATUS_COMPLETED;
	return good;
}

static const IMB_JOB *submit(IMB_MGR *manager, const struct multihash_message *message)
{
	IMB_JOB *job = IMB_GET_NEXT_JOB(manager);

	job->cipher_mode = IMB_CIPHER_NULL;
	job->cipher_direction = IMB_DIR_ENCRYPT;
	job->chain_order = IMB_ORDER_HASH_CIPHER;
	job->hash_alg = IMB_AUTH_SHA_256;
	job->src = message->data;
	job->hash_start_src_offset_in_bytes = 0;
	job->msg_len_to_hash_in_bytes = message->len;
	job->auth_tag_output = message->ret_hash;
	job->auth_tag_output_len_in_bytes = MULTIHASH_SIZE;
	return IMB_SUBMIT_JOB(manager);
}

bool multihash_make(struct multihash *multihash, const struct multihash_message *messages, size_t n)
{
	IMB_MGR *manager = manager_of(multihash);
	const IMB_JOB *job;
	size_t good = 0;

	assert(n <= MULTIHASH_LANES);
	for (size_t i = 0; i < n; i++)
		good += count_good(manager, submit(manager, &messages[i]));
	while ((job = IMB_FLUSH_JOB(manager)))
		good += count_good(manager, job);
	return good == n;
}

#else

struct multihash *multihash_new(void)
{
	return NULL;
}

struct multihash *multihash_free(struct multihash *multihash)
{
	return NULL;
}

bool multihash_pays(
	const struct multihash *multihash, const struct multihash_message *messages, size_t n)
{
	return false;
}

bool multihash_make(struct multihash *multihash, const struct multihash_message *messages, size_t n)
{
	return false;
}

#endif
