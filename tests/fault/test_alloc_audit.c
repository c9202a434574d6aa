/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Out of memory while the audit log is verified is no reason to call it forged, and none to
 * call it intact.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "proto/chain/auditchain.h"
#include "proto/wire/vmsig.pb-c.h"
#include "tests/fault/alloc.h"

#define RECORDS 4u
#define BODY_MAX 512
#define MOST 200 /* allocations of one verification, generously */

struct row {
	uint8_t body[BODY_MAX], hash[AUDITCHAIN_HASH];
	size_t len;
};

static void row_fill(struct row *row, uint64_t id)
{
	static char tenant[] = "acme", endpoint[] = "web1";
	Vmsig__AuditRecord record = VMSIG__AUDIT_RECORD__INIT;
	Vmsig__Range range = VMSIG__RANGE__INIT, *ranges[] = {&range, &range, &range};

	record.id = id;
	record.kind = VMSIG__AUDIT_RECORD__KIND__GRANT;
	record.tenant = tenant;
	record.endpoint = endpoint;
	record.ranges = ranges;
	record.n_ranges = sizeof(ranges) / sizeof(ranges[0]);
	row->len = vmsig__audit_record__get_packed_size(&record);
	assert_in_range(row->len, 1, BODY_MAX);
	vmsig__audit_record__pack(&record, row->body);
}

static int verify(const struct row *rows)
{
	uint8_t hash[AUDITCHAIN_HASH];
	struct auditchain chain;
	uint64_t id;
	int r = auditchain_init(&chain);

	for (size_t i = 0; !r && i < RECORDS; i++)
		r = auditchain_add(&chain, i + 1, rows[i].body, rows[i].len, rows[i].hash);
	if (!r)
		r = auditchain_finish(&chain, &id, hash);
	auditchain_deinit(&chain);
	return r;
}

static void each_failing_allocation_is_told_from_an_edit(void **state)
{
	const uint8_t zero[AUDITCHAIN_HASH] = {0};
	struct row rows[RECORDS] = {0};
	struct auditchain_md *md;
	size_t n;

	assert_int_equal(auditchain_md_new(&md), 0);
	for (size_t i = 0; i < RECORDS; i++) {
		row_fill(&rows[i], i + 1);
		assert_int_equal(auditchain_hash(md, i ? rows[i - 1].hash : zero, rows[i].body,
					 rows[i].len, rows[i].hash),
			0);
	}
	auditchain_md_free(md);
	assert_int_equal(verify(rows), 0);
	for (n = 1; n < MOST; n++) {
		long before = alloc_balance();
		int r;

		alloc_fail_at(n);
		r = verify(rows);
		if (!alloc_failed())
			break;
		assert_int_equal(r, -ENOMEM);
		assert_int_equal(alloc_balance(), before);
	}
	alloc_fail_at(0);
	/* More than one for each record was tried. */
	assert_in_range(n, 2 * RECORDS, MOST - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_failing_allocation_is_told_from_an_edit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
