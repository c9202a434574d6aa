/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/multihash.h"

#include <assert.h>
#include <stdlib.h>

#ifdef VMSIG_HAVE_IPSEC_MB

#include <time.h>

/* Names of a former version, which OpenSSL has too. */
#define NO_COMPAT_IMB_API_053
#include <intel-ipsec-mb.h>
#include <openssl/sha.h>

#define BLOCK 64u
#define PADDING 9u /* bytes at least: one, and the length */

#define TRIES 5u      /* of which the fastest counts */
#define TRIED 4096u   /* bytes of a message */
#define PAYS_LEAST 2u /* lanes */
#define PAYS_MOST 8u  /* of the slowest that has them, a Sapphire Rapids: the rest is noise */

struct multihash {
	IMB_MGR *manager;
	/* Messages that OpenSSL does one after the other in the time that all lanes take: 5 on a
	 * Zen 5. */
	size_t pays;
};

static IMB_MGR *manager_new(void)
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
	return manager;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t least(uint64_t least_ns, uint64_t began_ns)
{
	uint64_t took_ns = now_ns() - began_ns;

	return took_ns < least_ns ? took_ns : least_ns;
}

/* Whoever is interrupted while he measures only loses a little time later. False: it does not work
 * here. */
static bool learn(struct multihash *multihash)
{
	static const uint8_t data[TRIED];
	uint8_t hashes[MULTIHASH_LANES][MULTIHASH_SIZE];
	struct multihash_message messages[MULTIHASH_LANES];
	uint64_t one_ns = UINT64_MAX, all_ns = UINT64_MAX;

	for (size_t i = 0; i < MULTIHASH_LANES; i++)
		messages[i] = (struct multihash_message){
			.data = data, .len = TRIED, .ret_hash = hashes[i]};
	for (unsigned i = 0; i < TRIES; i++) {
		uint64_t began_ns = now_ns();

		if (!SHA256(data, TRIED, hashes[0]))
			return false;
		one_ns = least(one_ns, began_ns);
		began_ns = now_ns();
		if (!multihash_make(multihash, messages, MULTIHASH_LANES))
			return false;
		all_ns = least(all_ns, began_ns);
	}
	one_ns = one_ns ? one_ns : 1;
	multihash->pays = (size_t)((all_ns + one_ns - 1) / one_ns);
	if (multihash->pays < PAYS_LEAST)
		multihash->pays = PAYS_LEAST;
	if (multihash->pays > PAYS_MOST)
		multihash->pays = PAYS_MOST;
	return true;
}

struct multihash *multihash_new(void)
{
	struct multihash *multihash = calloc(1, sizeof(*multihash));

	if (!multihash)
		return NULL;
	multihash->manager = manager_new();
	return multihash->manager && learn(multihash) ? multihash : multihash_free(multihash);
}

struct multihash *multihash_free(struct multihash *multihash)
{
	if (multihash && multihash->manager)
		free_mb_mgr(multihash->manager);
	free(multihash);
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

	if (!multihash || n < multihash->pays)
		return false;
	for (size_t i = 0; i < n; i++) {
		size_t blocks = blocks_of(&messages[i]);

		all += blocks;
		most = blocks > most ? blocks : most;
	}
	return all >= most * multihash->pays;
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
	IMB_MGR *manager = multihash->manager;
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
