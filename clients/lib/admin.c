/* SPDX-License-Identifier: Apache-2.0 */
/* The handle of the admin plane: one question at a time, answered before the call returns. */
#include "vmsig/vmsig_admin.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients/lib/ask.h"
#include "clients/lib/uplink.h"
#include "clients/lib/writer.h"
#include "proto/wire/clean.h"
#include "proto/wire/vmsig.pb-c.h"

#define HASH_BYTES 32u

/* One question at a time, whose answer is taken over as it came. */
struct vmsig_admin {
	struct uplink link;
	uint64_t request_id; /* 0: nothing is asked */
	int64_t until;
	Vmsig__AdminMessage *answer;
	int error; /* positive: the connection was lost first */
};

/* ---- what the link asks ---- */

static void on_up(void *owner)
{
}

static void on_down(void *owner, int code, bool news)
{
	vmsig_admin *admin = owner;

	admin->error = code;
	admin->request_id = 0;
}

/* The message is borrowed, the answer is to be kept: packed and unpacked once more. */
static Vmsig__AdminMessage *copy(const struct envelope *message)
{
	size_t len = protobuf_c_message_get_packed_size(&message->base);
	uint8_t *packed = malloc(len ? len : 1);
	Vmsig__AdminMessage *answer = NULL;

	if (packed) {
		protobuf_c_message_pack(&message->base, packed);
		answer = vmsig__admin_message__unpack(NULL, len, packed);
	}
	/* Whoever asks shows it as it is. */
	if (answer)
		clean_texts(&answer->base);
	free(packed);
	return answer;
}

static int on_message(void *owner, const struct envelope *message)
{
	vmsig_admin *admin = owner;

	if (!message->request_id && message->body_case == ENVELOPE_ERROR) {
		const Vmsig__Error *error = message->body;
		char text[CLIENT_TEXT_MAX + 1];

		client_clean_text(text, sizeof(text), error->detail);
		return uplink_fail(
			&admin->link, VMSIG_ERR_DISCONNECTED, "the broker says: %s", text);
	}
	if (!message->request_id || message->request_id > admin->link.last_id)
		return uplink_fail(&admin->link, VMSIG_ERR_PROTOCOL,
			"the broker answers what it was not asked");
	/* One that came too late. */
	if (message->request_id != admin->request_id)
		return 0;
	admin->answer = copy(message);
	admin->request_id = 0;
	return admin->answer ? 0 : -ENOMEM;
}

static bool is_full(const void *owner)
{
	const vmsig_admin *admin = owner;

	return admin->answer != NULL;
}

static int on_due(void *owner, int64_t now)
{
	return 0;
}

static bool is_overdue(const void *owner, int64_t now)
{
	const vmsig_admin *admin = owner;

	return admin->request_id && admin->until <= now;
}

static int64_t next_deadline(const void *owner)
{
	const vmsig_admin *admin = owner;

	return admin->request_id ? admin->until : CLIENT_NEVER;
}

static const struct uplink_ops admin_ops = {
	.default_socket = VMSIG_ADMIN_SOCKET,
	.request = &vmsig__admin_request__descriptor,
	.message = &vmsig__admin_message__descriptor,
	.up = on_up,
	.down = on_down,
	.take = on_message,
	.is_full = is_full,
	.due = on_due,
	.is_overdue = is_overdue,
	.deadline = next_deadline,
};

/* ---- asking ---- */

static int await(vmsig_admin *admin, int64_t until)
{
	int r = 0;

	admin->error = 0;
	while (!r && admin->request_id && !admin->answer)
		r = uplink_step(&admin->link, until);
	admin->request_id = 0;
	return r ? r : admin->answer ? 0 : admin->error ? admin->error : VMSIG_ERR_DISCONNECTED;
}

static void answer_clear(vmsig_admin *admin)
{
	if (admin->answer)
		vmsig__admin_message__free_unpacked(admin->answer, NULL);
	admin->answer = NULL;
}

static int ask_with(
	vmsig_admin *admin, int body_case, void *body, const int *fds, size_t nfds, int64_t until)
{
	int r = 0;

	answer_clear(admin);
	while (!r && admin->link.phase != PHASE_READY)
		r = uplink_step(&admin->link, until);
	if (!r)
		r = uplink_request(&admin->link, body_case, body, fds, nfds, &admin->request_id);
	if (r)
		return r;
	admin->until = client_after(client_now(), admin->link.settings.request_timeout_ms);
	return await(admin, until);
}

/* 0 when the answer is of this kind; it stays in the handle until answer_clear(). */
static int expect(vmsig_admin *admin, Vmsig__AdminMessage__BodyCase body_case)
{
	const Vmsig__AdminMessage *answer = admin->answer;
	char text[CLIENT_TEXT_MAX + 1];

	if (answer->body_case == body_case)
		return 0;
	if (answer->body_case != VMSIG__ADMIN_MESSAGE__BODY_ERROR)
		return uplink_fail(&admin->link, VMSIG_ERR_PROTOCOL,
			"the broker's answer does not fit the question");
	client_clean_text(text, sizeof(text), answer->error->detail);
	return uplink_fail(&admin->link,
		answer->error->code && answer->error->code <= INT16_MAX ? (int)answer->error->code
									: VMSIG_ERR_INTERNAL,
		"%s", text);
}

static int exchange(vmsig_admin *admin, int body_case, void *body,
	Vmsig__AdminMessage__BodyCase wanted, int64_t until)
{
	int r = ask_with(admin, body_case, body, NULL, 0, until);

	return r ? r : expect(admin, wanted);
}

/* ---- public ---- */

int ask_admin(vmsig_admin *admin, Vmsig__AdminRequest__BodyCase body_case, void *body,
	Vmsig__AdminMessage__BodyCase wanted, const Vmsig__AdminMessage **ret_answer,
	int timeout_ms)
{
	int r = exchange(admin, (int)body_case, body, wanted, uplink_until(timeout_ms));

	if (r)
		answer_clear(admin);
	else
		*ret_answer = admin->answer;
	return client_result(r);
}

int vmsig_admin_open(
	vmsig_admin **ret_admin, const vmsig_options *options, char *error, size_t error_size)
{
	vmsig_admin *admin = calloc(1, sizeof(*admin));
	int r = admin ? uplink_init(&admin->link, &admin_ops, admin, options) : -ENOMEM;
	int64_t until = CLIENT_NEVER;

	/* Each attempt has its own time limit; only with NO_RECONNECT there is just one. */
	while (!r && admin->link.phase != PHASE_READY)
		r = uplink_step(&admin->link, until);
	if (r) {
		r = uplink_refuse(admin ? &admin->link : NULL, r, error, error_size);
		vmsig_admin_close(admin);
		return r;
	}
	*ret_admin = admin;
	return 0;
}

vmsig_admin *vmsig_admin_close(vmsig_admin *admin)
{
	if (!admin)
		return NULL;
	answer_clear(admin);
	uplink_deinit(&admin->link);
	free(admin);
	return NULL;
}

const char *vmsig_admin_last_error(const vmsig_admin *admin)
{
	return admin->link.error;
}

static int leases_page(
	vmsig_admin *admin, vmsig_lease_entries *entries, bool *ret_more, int64_t until)
{
	Vmsig__LeaseList body = VMSIG__LEASE_LIST__INIT;
	int r;

	body.after = entries->count ? entries->entries[entries->count - 1].id : 0;
	r = exchange(admin, VMSIG__ADMIN_REQUEST__BODY_LEASE_LIST, &body,
		VMSIG__ADMIN_MESSAGE__BODY_LEASE_INFOS, until);
	if (!r)
		r = writer_entries_add(&admin->link, entries, admin->answer->lease_infos);
	*ret_more = !r && admin->answer->lease_infos->more;
	answer_clear(admin);
	return r;
}

int vmsig_admin_leases(vmsig_admin *admin, vmsig_lease_entries **ret_entries, int timeout_ms)
{
	vmsig_lease_entries *entries = calloc(1, sizeof(*entries));
	int64_t until = uplink_until(timeout_ms);
	int r = entries ? 0 : -ENOMEM;
	bool more = true;

	while (!r && more)
		r = leases_page(admin, entries, &more, until);
	if (r) {
		vmsig_lease_entries_free(entries);
		return client_result(r);
	}
	*ret_entries = entries;
	return 0;
}

int vmsig_admin_revoke(vmsig_admin *admin, uint64_t lease, int timeout_ms)
{
	Vmsig__LeaseRevoke body = VMSIG__LEASE_REVOKE__INIT;
	int r;

	body.lease = lease;
	r = exchange(admin, VMSIG__ADMIN_REQUEST__BODY_LEASE_REVOKE, &body,
		VMSIG__ADMIN_MESSAGE__BODY_DONE, uplink_until(timeout_ms));
	answer_clear(admin);
	return client_result(r);
}

/* ---- the audit log ---- */

vmsig_audit_page *vmsig_audit_page_free(vmsig_audit_page *page)
{
	if (!page)
		return NULL;
	for (size_t i = 0; i < page->count; i++)
		free((void *)(uintptr_t)page->rows[i].body);
	free(page->rows);
	free(page);
	return NULL;
}

static int row_unpack(vmsig_admin *admin, const Vmsig__AuditRow *row, vmsig_audit_row *ret_row)
{
	unsigned char *body;

	if (row->hash.len != HASH_BYTES)
		return uplink_fail(&admin->link, VMSIG_ERR_PROTOCOL,
			"the broker sent an audit record without a proper hash");
	body = malloc(row->body.len ? row->body.len : 1);
	if (!body)
		return -ENOMEM;
	if (row->body.len)
		memcpy(body, row->body.data, row->body.len);
	*ret_row = (vmsig_audit_row){.id = row->id, .body = body, .body_len = row->body.len};
	memcpy(ret_row->hash, row->hash.data, HASH_BYTES);
	return 0;
}

static int rows_unpack(vmsig_admin *admin, const Vmsig__AuditRows *rows, vmsig_audit_page *page)
{
	if (rows->head_hash.len != HASH_BYTES || rows->anchor.len != HASH_BYTES)
		return uplink_fail(&admin->link, VMSIG_ERR_PROTOCOL,
			"the broker sent a page of the audit log without its head");
	page->head = rows->head;
	page->first = rows->first;
	page->next = rows->more ? rows->next : 0;
	memcpy(page->head_hash, rows->head_hash.data, HASH_BYTES);
	memcpy(page->anchor, rows->anchor.data, HASH_BYTES);
	page->rows = calloc(rows->n_rows + 1, sizeof(*page->rows));
	if (!page->rows)
		return -ENOMEM;
	for (size_t i = 0; i < rows->n_rows; i++) {
		int r = row_unpack(admin, rows->rows[i], &page->rows[i]);

		if (r)
			return r;
		page->count++;
	}
	return 0;
}

static int page_ask(
	vmsig_admin *admin, Vmsig__AuditQuery *body, vmsig_audit_page **ret_page, int timeout_ms)
{
	vmsig_audit_page *page = calloc(1, sizeof(*page));
	int r = page ? 0 : -ENOMEM;

	if (!r)
		r = exchange(admin, VMSIG__ADMIN_REQUEST__BODY_AUDIT_QUERY, body,
			VMSIG__ADMIN_MESSAGE__BODY_AUDIT_ROWS, uplink_until(timeout_ms));
	if (!r)
		r = rows_unpack(admin, admin->answer->audit_rows, page);
	answer_clear(admin);
	if (r) {
		vmsig_audit_page_free(page);
		return client_result(r);
	}
	*ret_page = page;
	return 0;
}

int vmsig_admin_audit(vmsig_admin *admin, uint64_t after, uint32_t limit, bool newest,
	vmsig_audit_page **ret_page, int timeout_ms)
{
	Vmsig__AuditQuery body = VMSIG__AUDIT_QUERY__INIT;

	body.after = after;
	body.limit = limit;
	body.newest = newest;
	return page_ask(admin, &body, ret_page, timeout_ms);
}

/* A broker of before says nothing of more: there is none behind a page without rows. */
static uint64_t next_of(const Vmsig__AuditQuery *query, const vmsig_audit_page *page)
{
	if (!page->count)
		return 0;
	return query->newest ? page->rows[0].id - 1 : page->rows[page->count - 1].id;
}

int vmsig_admin_audit_find(vmsig_admin *admin, const vmsig_audit_query *query,
	vmsig_audit_page **ret_page, int timeout_ms)
{
	Vmsig__AuditQuery body = VMSIG__AUDIT_QUERY__INIT;
	int r;

	body.after = query->after;
	body.until = query->until;
	body.from_ns = query->from_ns;
	body.to_ns = query->to_ns;
	body.endpoint = (char *)(uintptr_t)(query->endpoint ? query->endpoint : "");
	body.tenant = (char *)(uintptr_t)(query->tenant ? query->tenant : "");
	body.kinds = query->kinds;
	body.limit = query->limit;
	body.newest = query->newest;
	r = page_ask(admin, &body, ret_page, timeout_ms);
	if (!r && !(*ret_page)->next)
		(*ret_page)->next = next_of(&body, *ret_page);
	return r;
}

/* ---- providing ---- */

static void fds_close(int *fds, size_t n)
{
	while (n)
		close(fds[--n]);
}

static int files_describe(
	vmsig_admin *admin, const vmsig_guest *guest, Vmsig__Descriptor *files, int *ret_copies)
{
	struct chan_fd_claim claim;

	for (size_t i = 0; i < guest->nfds; i++) {
		int r = chan_fd_describe(guest->fds[i], &claim);

		ret_copies[i] = r ? -1 : fcntl(guest->fds[i], F_DUPFD_CLOEXEC, 3);
		if (ret_copies[i] < 0) {
			fds_close(ret_copies, i);
			return uplink_fail(&admin->link, VMSIG_ERR_IO,
				"RAM file %zu cannot be passed on: %s", i + 1,
				strerror(r ? -r : errno));
		}
		vmsig__descriptor__init(&files[i]);
		files[i].purpose = VMSIG__DESCRIPTOR__PURPOSE__GUEST_RAM;
		files[i].dev = claim.dev;
		files[i].ino = claim.ino;
		files[i].size = claim.size;
		files[i].access = claim.access;
	}
	return 0;
}

static void segments_fill(
	const vmsig_guest *guest, Vmsig__Segment *segments, Vmsig__Segment **pointers)
{
	for (size_t i = 0; i < guest->nsegs; i++) {
		vmsig__segment__init(&segments[i]);
		segments[i].gpa = guest->segs[i].gpa;
		segments[i].len = guest->segs[i].len;
		segments[i].file_off = guest->segs[i].file_off;
		pointers[i] = &segments[i];
	}
}

static int guest_check(vmsig_admin *admin, const vmsig_guest *guest)
{
	return guest->nfds && guest->nfds <= VMSIG_GUEST_FILES_MAX &&
			       guest->nsegs <= VMSIG_GUEST_SEGMENTS_MAX
		       ? 0
		       : uplink_fail(&admin->link, VMSIG_ERR_BAD_REQUEST,
				 "a guest has 1 to %u RAM files, in at most %u segments",
				 VMSIG_GUEST_FILES_MAX, VMSIG_GUEST_SEGMENTS_MAX);
}

int vmsig_admin_provide(
	vmsig_admin *admin, const vmsig_guest *guest, bool *ret_resumed, int timeout_ms)
{
	Vmsig__Provide body = VMSIG__PROVIDE__INIT;
	Vmsig__Descriptor files[VMSIG_GUEST_FILES_MAX], *file_pointers[VMSIG_GUEST_FILES_MAX];
	Vmsig__Segment segments[VMSIG_GUEST_SEGMENTS_MAX];
	Vmsig__Segment *segment_pointers[VMSIG_GUEST_SEGMENTS_MAX];
	int copies[VMSIG_GUEST_FILES_MAX];
	int64_t until = uplink_until(timeout_ms);
	int r = guest_check(admin, guest);

	if (!r)
		r = files_describe(admin, guest, files, copies);
	if (r)
		return client_result(r);
	for (size_t i = 0; i < guest->nfds; i++)
		file_pointers[i] = &files[i];
	segments_fill(guest, segments, segment_pointers);
	body.name = (char *)(uintptr_t)guest->name;
	body.files = file_pointers;
	body.n_files = guest->nfds;
	body.low = guest->low;
	body.segments = segment_pointers;
	body.n_segments = guest->nsegs;
	body.kcr3 = guest->kcr3;
	body.levels = guest->levels;
	body.writable = guest->writable;
	r = ask_with(admin, VMSIG__ADMIN_REQUEST__BODY_PROVIDE, &body, copies, guest->nfds, until);
	if (!r)
		r = expect(admin, VMSIG__ADMIN_MESSAGE__BODY_PROVIDED);
	if (!r)
		*ret_resumed = admin->answer->provided->resumed;
	answer_clear(admin);
	return client_result(r);
}

int vmsig_admin_provide_invalidate(
	vmsig_admin *admin, const char *name, uint64_t kcr3, uint32_t levels, int timeout_ms)
{
	Vmsig__ProvideInvalidate body = VMSIG__PROVIDE_INVALIDATE__INIT;
	int r;

	body.name = (char *)(uintptr_t)name;
	body.kcr3 = kcr3;
	body.levels = levels;
	r = exchange(admin, VMSIG__ADMIN_REQUEST__BODY_PROVIDE_INVALIDATE, &body,
		VMSIG__ADMIN_MESSAGE__BODY_DONE, uplink_until(timeout_ms));
	answer_clear(admin);
	return client_result(r);
}

int vmsig_admin_provide_end(vmsig_admin *admin, const char *name, int timeout_ms)
{
	Vmsig__ProvideEnd body = VMSIG__PROVIDE_END__INIT;
	int r;

	body.name = (char *)(uintptr_t)name;
	r = exchange(admin, VMSIG__ADMIN_REQUEST__BODY_PROVIDE_END, &body,
		VMSIG__ADMIN_MESSAGE__BODY_DONE, uplink_until(timeout_ms));
	answer_clear(admin);
	return client_result(r);
}

int vmsig_admin_hold(vmsig_admin *admin, int timeout_ms)
{
	int64_t until = uplink_until(timeout_ms);
	int r = 0;

	while (!r && admin->link.phase == PHASE_READY)
		r = uplink_step(&admin->link, until);
	return client_result(r ? r : VMSIG_ERR_DISCONNECTED);
}
