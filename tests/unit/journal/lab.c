/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/journal/lab.h"

#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/chain/auditchain.h"

#define OTHER_BOOT "00000000-1111-2222-3333-444444444444"
#define PATIENCE_MS 60000u

/* ---- directories ---- */

void lab_init(struct lab *lab)
{
	memset(lab, 0, sizeof(*lab));
	strcpy(lab->dir, "/dev/shm/vmsig-lab-XXXXXX");
	assert_non_null(mkdtemp(lab->dir));
	snprintf(lab->state, sizeof(lab->state), "%s/state", lab->dir);
	snprintf(lab->run, sizeof(lab->run), "%s/run", lab->dir);
	assert_int_equal(mkdir(lab->state, 0700), 0);
	assert_int_equal(mkdir(lab->run, 0700), 0);
	lab->options = (struct journal_options){.state_dir = lab->state,
		.run_dir = lab->run,
		.segment_bytes = LAB_SEGMENT,
		.ring_bytes = LAB_RING};
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

void lab_deinit(struct lab *lab)
{
	if (lab->journal) {
		(void)journal_close(lab->journal, PATIENCE_MS);
		journal_free(lab->journal);
	}
	nftw(lab->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

const char *lab_segment(const struct lab *lab, uint64_t first)
{
	static char path[160];

	snprintf(path, sizeof(path), "%s/journal/%016" PRIx64 ".seg", lab->state, first);
	return path;
}

/* ---- life ---- */

int lab_try(struct lab *lab)
{
	return journal_open(&lab->journal, &lab->options, lab->error, sizeof(lab->error));
}

void lab_open(struct lab *lab)
{
	if (lab_try(lab))
		fail_msg("%s", lab->error);
}

static void on_drained(void *arg)
{
	struct lab *lab = arg;

	lab->drained++;
}

static void on_synced(void *arg, uint64_t number, int result)
{
	struct lab *lab = arg;

	lab->synced++;
	lab->synced_number = number;
	lab->synced_result = result;
}

static void on_trouble(void *arg, const char *sentence)
{
	struct lab *lab = arg;

	lab->troubles++;
	snprintf(lab->trouble, sizeof(lab->trouble), "%s", sentence ? sentence : "");
}

void lab_start(struct lab *lab)
{
	static const struct journal_ops ops = {on_drained, on_synced, on_trouble};

	assert_int_equal(journal_start(lab->journal, NULL, &ops, lab), 0);
}

void lab_close(struct lab *lab)
{
	assert_int_equal(journal_close(lab->journal, PATIENCE_MS), 0);
	lab->journal = journal_free(lab->journal);
}

void lab_leave(struct lab *lab)
{
	lab->journal = journal_free(lab->journal);
}

/* In place: the note keeps its inode. */
void lab_boot(struct lab *lab)
{
	char path[160];
	FILE *note;

	snprintf(path, sizeof(path), "%s/journal/ring.where", lab->state);
	note = fopen(path, "r+");
	assert_non_null(note);
	assert_int_equal(fseek(note, (long)strlen("vmsig-shared 1 "), SEEK_SET), 0);
	assert_true(fputs(OTHER_BOOT, note) >= 0);
	fclose(note);
}

/* ---- entries ---- */

size_t lab_len(uint64_t number)
{
	return number * 37 % (LAB_LEN_MAX + 1);
}

enum journal_type lab_type(uint64_t number)
{
	return number % 3 ? JOURNAL_AUDIT : JOURNAL_STATE;
}

void lab_keys(uint64_t number, struct journal_keys *keys)
{
	char endpoint[32], tenant[32];

	snprintf(endpoint, sizeof(endpoint), "vm%u", (unsigned)(number % 5));
	snprintf(tenant, sizeof(tenant), "tenant%u", (unsigned)(number % 4));
	*keys = (struct journal_keys){.time_ns = number * 1000,
		.endpoint = journal_key(endpoint),
		.tenant = journal_key(tenant),
		.kind = number % 16};
}

void lab_fill(uint64_t number, uint8_t *body)
{
	size_t len = lab_len(number);

	for (size_t i = 0; i < len; i++)
		body[i] = (uint8_t)(number * 7 + i);
}

bool lab_append_one(struct lab *lab)
{
	uint64_t number = journal_next_number(lab->journal);
	enum journal_type type = lab_type(number);
	struct journal_keys keys;
	uint8_t *body;

	lab_keys(number, &keys);
	if (journal_append(lab->journal, type, type == JOURNAL_AUDIT ? &keys : NULL,
		    lab_len(number), &body))
		return false;
	lab_fill(number, body);
	journal_commit(lab->journal);
	return true;
}

void lab_append(struct lab *lab, unsigned n)
{
	while (n--)
		assert_true(lab_append_one(lab));
}

static void await_number(struct lab *lab, uint64_t (*reached)(const struct journal *journal))
{
	for (unsigned i = 0; reached(lab->journal) < journal_committed(lab->journal); i++) {
		if (i == PATIENCE_MS)
			fail_msg("the journal does not go on: %s", journal_error(lab->journal));
		usleep(1000);
		journal_turn(lab->journal);
	}
	journal_turn(lab->journal);
}

void lab_await_drained(struct lab *lab)
{
	journal_hurry(lab->journal);
	await_number(lab, journal_drained);
}

void lab_await_synced(struct lab *lab)
{
	(void)journal_sync(lab->journal);
	await_number(lab, journal_synced);
}

/* ---- checking ---- */

struct replay {
	uint64_t number, id;
	bool checks_id;
};

static int on_entry(void *arg, const struct journal_entry *entry)
{
	struct replay *replay = arg;
	struct journal_keys keys = {0};
	uint8_t body[LAB_LEN_MAX];

	assert_int_equal(entry->number, ++replay->number);
	assert_int_equal(entry->type, lab_type(entry->number));
	if (entry->type == JOURNAL_AUDIT)
		lab_keys(entry->number, &keys);
	assert_int_equal(entry->keys.time_ns, keys.time_ns);
	assert_int_equal(entry->keys.endpoint, keys.endpoint);
	assert_int_equal(entry->keys.tenant, keys.tenant);
	assert_int_equal(entry->keys.kind, keys.kind);
	if (entry->type == JOURNAL_AUDIT && replay->checks_id)
		assert_int_equal(entry->id, replay->id + 1);
	replay->checks_id = true;
	replay->id = entry->id;
	lab_fill(entry->number, body);
	assert_int_equal(entry->len, lab_len(entry->number));
	assert_memory_equal(entry->body, body, entry->len);
	return 0;
}

uint64_t lab_replay(struct lab *lab, uint64_t first)
{
	struct replay replay = {.number = first - 1};

	if (journal_replay(lab->journal, first - 1, on_entry, &replay))
		fail_msg("%s", journal_error(lab->journal));
	assert_int_equal(replay.number, journal_committed(lab->journal));
	return replay.number;
}

static void verify_page(struct auditchain_md *md, const struct journal_page *page, uint64_t *id,
	uint8_t hash[static JOURNAL_HASH])
{
	for (size_t i = 0; i < page->n; i++) {
		const struct journal_row *row = &page->rows[i];

		assert_int_equal(row->id, ++*id);
		assert_int_equal(auditchain_hash(md, hash, row->body, row->len, hash), 0);
		assert_memory_equal(row->hash, hash, JOURNAL_HASH);
	}
}

void lab_verify(struct lab *lab)
{
	struct journal_query query = {0};
	struct auditchain_md *md;
	struct journal_page page;
	struct journal_head head;
	uint8_t hash[JOURNAL_HASH];
	uint64_t id;
	bool more;

	journal_head(lab->journal, &head);
	id = head.first - 1;
	memcpy(hash, head.anchor, sizeof(hash));
	assert_int_equal(auditchain_md_new(&md), 0);
	do {
		query.after = id;
		assert_int_equal(journal_read(lab->journal, &query, &page), 0);
		verify_page(md, &page, &id, hash);
		more = page.more;
		journal_page_free(&page);
	} while (more);
	auditchain_md_free(md);
	assert_int_equal(id, head.id);
	assert_memory_equal(hash, head.hash, sizeof(hash));
}

void lab_append_all(struct lab *lab, unsigned n)
{
	while (n--) {
		if (journal_pressure(lab->journal) != JOURNAL_PRESSURE_NONE)
			lab_await_drained(lab);
		lab_append(lab, 1);
	}
}

int lab_setup(void **state)
{
	static struct lab lab;

	lab_init(&lab);
	*state = &lab;
	return 0;
}

int lab_teardown(void **state)
{
	lab_deinit(*state);
	return 0;
}

int lab_ignore(void *arg, const struct journal_entry *entry)
{
	return 0;
}
