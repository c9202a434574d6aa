/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Verification of a page of the audit log, an AuditRows message, from hostile bytes. The first
 * byte says how: HASHED computes the hashes that the rows should have, to get behind them;
 * NOTED takes the page's head for one that somebody noted; the others pick a bit to flip.
 *
 * What is found intact must have contiguous ids and end in the hash that is computed here. It
 * must not be intact any more with one bit of a body flipped, nor without its last row for
 * somebody who noted the head.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/sha.h>

#include "proto/chain/auditchain.h"
#include "proto/wire/vmsig.pb-c.h"

#define HASHED 1u
#define NOTED 2u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct head {
	uint64_t id;
	uint8_t hash[AUDITCHAIN_HASH];
};

static void hash_next(struct head *head, const ProtobufCBinaryData *body)
{
	size_t len = AUDITCHAIN_HASH + body->len;
	uint8_t *both = malloc(len);

	if (!both)
		abort();
	memcpy(both, head->hash, AUDITCHAIN_HASH);
	if (body->len)
		memcpy(both + AUDITCHAIN_HASH, body->data, body->len);
	SHA256(both, len, head->hash);
	head->id++;
	free(both);
}

/* The head that the rows should end in. */
static struct head rows_hash(Vmsig__AuditRows *rows, bool store)
{
	struct head head = {0};

	if (rows->first > 1) {
		head.id = rows->first - 1;
		memcpy(head.hash, rows->anchor.data, AUDITCHAIN_HASH);
	}
	for (size_t i = 0; i < rows->n_rows; i++) {
		hash_next(&head, &rows->rows[i]->body);
		if (store)
			memcpy(rows->rows[i]->hash.data, head.hash, AUDITCHAIN_HASH);
	}
	return head;
}

/* As libvmsig refuses them before anybody verifies. */
static bool rows_sane(const Vmsig__AuditRows *rows)
{
	if (rows->anchor.len != AUDITCHAIN_HASH || rows->head_hash.len != AUDITCHAIN_HASH)
		return false;
	for (size_t i = 0; i < rows->n_rows; i++) {
		if (rows->rows[i]->hash.len != AUDITCHAIN_HASH)
			return false;
	}
	return true;
}

static bool rows_verify(
	const Vmsig__AuditRows *rows, size_t n, const struct head *noted, struct head *ret_head)
{
	struct auditchain chain;
	int added = 0, r;

	if (auditchain_init(&chain))
		abort();
	auditchain_start(&chain, rows->first ? rows->first - 1 : 0, rows->anchor.data);
	auditchain_note(&chain, noted->id, noted->hash);
	for (size_t i = 0; i < n && !added; i++) {
		const Vmsig__AuditRow *row = rows->rows[i];

		added = auditchain_add(
			&chain, row->id, row->body.data, row->body.len, row->hash.data);
	}
	r = auditchain_finish(&chain, &ret_head->id, ret_head->hash);
	if ((added && !r) || (r != 0) != (auditchain_error(&chain)[0] != '\0'))
		abort();
	auditchain_deinit(&chain);
	return r == 0;
}

static void rows_attack(Vmsig__AuditRows *rows, const struct head *head, unsigned pick)
{
	ProtobufCBinaryData *body;
	struct head ignored;

	if (rows->n_rows == 0)
		return;
	if (rows_verify(rows, rows->n_rows - 1, head, &ignored))
		abort();
	body = &rows->rows[pick % rows->n_rows]->body;
	body->data[pick % body->len] ^= (uint8_t)(1u << pick % 8);
	if (rows_verify(rows, rows->n_rows, &(struct head){0}, &ignored))
		abort();
}

static void rows_try(Vmsig__AuditRows *rows, unsigned how)
{
	struct head expected = rows_hash(rows, how & HASHED), noted = {0}, head;

	if (how & NOTED) {
		noted.id = rows->head;
		memcpy(noted.hash, rows->head_hash.data, AUDITCHAIN_HASH);
	}
	if (!rows_verify(rows, rows->n_rows, &noted, &head))
		return;
	if (head.id != expected.id || memcmp(head.hash, expected.hash, AUDITCHAIN_HASH) != 0)
		abort();
	rows_attack(rows, &head, how >> 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Vmsig__AuditRows *rows;

	if (size == 0)
		return 0;
	rows = vmsig__audit_rows__unpack(NULL, size - 1, data + 1);
	if (!rows)
		return 0;
	if (rows_sane(rows))
		rows_try(rows, data[0]);
	vmsig__audit_rows__free_unpacked(rows, NULL);
	return 0;
}
