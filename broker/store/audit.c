/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/store/audit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "broker/store/store.h"
#include "proto/chain/auditchain.h"
#include "proto/wire/pack.h"
#include "vmsig/vmsig_error.h"

#define ENTRY_BYTES 64    /* of a record beside its body: header, hash, index */
#define RECORD_ROOM 1024u /* bytes of a record of one write or lease, and more */
#define WAIT_MS 5000u     /* for the thread to bring what was committed into a segment */

struct audit {
	struct store *store;
	struct auditchain_md *md;
	uint64_t appended; /* bytes, since it was opened */
};

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static struct journal *journal_of(const struct audit *audit)
{
	return store_journal(audit->store);
}

int audit_new(struct audit **ret_audit, struct store *store)
{
	struct audit *audit = calloc(1, sizeof(*audit));
	int r;

	if (!audit)
		return -ENOMEM;
	audit->store = store;
	r = store_journal(store) ? auditchain_md_new(&audit->md) : VMSIG_ERR_IO;
	if (r) {
		audit_free(audit);
		return r;
	}
	*ret_audit = audit;
	return 0;
}

struct audit *audit_free(struct audit *audit)
{
	if (!audit)
		return NULL;
	auditchain_md_free(audit->md);
	free(audit);
	return NULL;
}

bool audit_lost(const struct audit *audit, struct audit_loss *ret_loss)
{
	ret_loss->id = store_lost_audit(audit->store, ret_loss->hash);
	return ret_loss->id != 0;
}

/* ---- appending ---- */

/* An entry of the open batch. One that is long is measured and packed in the ring itself: no memory
 * is needed that might not be there. */
static int entry_append(struct journal *journal, const struct journal_keys *keys,
	const Vmsig__AuditRecord *record, size_t *ret_len)
{
	uint8_t room[RECORD_ROOM], *body;
	size_t len;
	bool is_packed = pack_backwards(&record->base, room, sizeof(room), &len);
	int r;

	if (!is_packed)
		len = vmsig__audit_record__get_packed_size(record);
	r = journal_append(journal, JOURNAL_AUDIT, keys, len, &body);
	if (r)
		return r == -ENOMEM ? r : VMSIG_ERR_IO;
	if (is_packed)
		memcpy(body, room + sizeof(room) - len, len);
	else
		vmsig__audit_record__pack(record, body);
	*ret_len = len;
	return 0;
}

int audit_append(struct audit *audit, Vmsig__AuditRecord *record)
{
	struct journal *journal = journal_of(audit);
	struct journal_keys keys;
	size_t len;
	int r = store_begin(audit->store);

	if (r)
		return r;
	record->id = journal_next_id(journal);
	record->real_ns = clock_ns(CLOCK_REALTIME);
	record->boot_ns = clock_ns(CLOCK_BOOTTIME);
	audit_keys(record, &keys);
	r = entry_append(journal, &keys, record, &len);
	if (!r)
		audit->appended += len + ENTRY_BYTES;
	return r;
}

uint64_t audit_appended(const struct audit *audit)
{
	return audit->appended;
}

void audit_head(const struct audit *audit, struct audit_head *ret_head)
{
	audit_head_of(journal_of(audit), ret_head);
}

void audit_head_of(struct journal *journal, struct audit_head *ret_head)
{
	struct journal_head head;

	journal_head(journal, &head);
	*ret_head = (struct audit_head){.id = head.id, .first = head.first};
	memcpy(ret_head->hash, head.hash, AUDIT_HASH);
	memcpy(ret_head->anchor, head.anchor, AUDIT_HASH);
}

int audit_digest(struct audit *audit, const void *data, size_t len, uint8_t ret_digest[AUDIT_HASH])
{
	return auditchain_digest(audit->md, data, len, ret_digest);
}

/* ---- reading ---- */

/* What was found in the ring when the store was opened is on its way to a segment. */
static void await_drained(struct journal *journal)
{
	const struct timespec pause = {.tv_nsec = 1000000};
	uint64_t number = journal_committed(journal);

	for (unsigned i = 0; i < WAIT_MS && journal_drained(journal) < number; i++) {
		journal_hurry(journal);
		nanosleep(&pause, NULL);
	}
}

int audit_get(struct audit *audit, uint64_t id, Vmsig__AuditRecord **ret_record)
{
	const struct journal_query query = {.after = id - 1, .until = id, .limit = 1};
	struct journal_page page = {0};
	int r;

	if (!id)
		return VMSIG_ERR_BAD_REQUEST;
	await_drained(journal_of(audit));
	r = journal_read(journal_of(audit), &query, &page);
	if (r)
		return r;
	r = VMSIG_ERR_BAD_REQUEST;
	if (page.n) {
		*ret_record =
			vmsig__audit_record__unpack(NULL, page.rows[0].len, page.rows[0].body);
		r = *ret_record ? 0 : VMSIG_ERR_INTERNAL;
	}
	journal_page_free(&page);
	return r;
}

static void row_fill(Vmsig__AuditRow *row, const struct journal_row *from)
{
	vmsig__audit_row__init(row);
	row->id = from->id;
	row->body.data = (uint8_t *)(uintptr_t)from->body;
	row->body.len = from->len;
	row->hash.data = (uint8_t *)(uintptr_t)from->hash;
	row->hash.len = AUDIT_HASH;
}

int audit_find(
	struct journal *journal, const struct journal_query *query, struct audit_page *ret_page)
{
	struct audit_page page = {0};
	/* An empty log has nothing up to 0, which would mean everything. */
	int r = query->until > query->after ? journal_read(journal, query, &page.page) : 0;

	if (r)
		return r;
	page.rows = calloc(page.page.n + 1, sizeof(*page.rows));
	if (!page.rows) {
		journal_page_free(&page.page);
		return -ENOMEM;
	}
	page.n = page.page.n;
	for (size_t i = 0; i < page.n; i++)
		row_fill(&page.rows[i], &page.page.rows[i]);
	*ret_page = page;
	return 0;
}

int audit_page(struct journal *journal, uint64_t after, uint64_t until, uint32_t limit,
	struct audit_page *ret_page)
{
	const struct journal_query query = {
		.after = after, .until = until, .limit = limit, .bytes = AUDIT_PAGE_BYTES};

	return audit_find(journal, &query, ret_page);
}

void audit_page_free(struct audit_page *page)
{
	free(page->rows);
	journal_page_free(&page->page);
	*page = (struct audit_page){0};
}

/* ---- retention ---- */

static int record_cut(struct audit *audit, struct journal_cut *cut)
{
	Vmsig__AuditRecord record = VMSIG__AUDIT_RECORD__INIT;

	record.kind = VMSIG__AUDIT_RECORD__KIND__PRUNED;
	record.pruned = cut->id;
	record.anchor = (ProtobufCBinaryData){.data = cut->hash, .len = AUDIT_HASH};
	return audit_append(audit, &record);
}

int audit_prune(struct audit *audit, uint64_t bytes, uint64_t age_ms, bool *ret_more)
{
	struct journal *journal = journal_of(audit);
	uint64_t now_ns = clock_ns(CLOCK_REALTIME), before_ns = 0;
	struct journal_cut cut;
	struct audit_head head;
	int r = store_alone(audit->store);

	*ret_more = false;
	if (r)
		return r;
	if (age_ms < now_ns / 1000000)
		before_ns = now_ns - age_ms * 1000000;
	if (!journal_prunable(journal, bytes, before_ns, store_saved(audit->store), &cut)) {
		/* The snapshot may lack what would go. */
		if (journal_prunable(journal, bytes, before_ns, UINT64_MAX, &cut))
			store_want_snapshot(audit->store);
		return 0;
	}
	audit_head(audit, &head);
	if (cut.id >= head.first)
		r = record_cut(audit, &cut);
	if (!r)
		r = store_commit(audit->store);
	if (r) {
		store_rollback(audit->store);
		return r;
	}
	journal_prune(journal, &cut);
	*ret_more = true;
	return 0;
}
