/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/etcd/etcd.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "broker/etcd/errand.h"
#include "broker/etcd/reply.h"
#include "broker/etcd/watch.h"
#include "broker/log.h"
#include "vmsig/vmsig_error.h"

#define NS_PER_MS 1000000u
#define LOOK_MS 1000u  /* for a member's version, and for the connection of a watch */
#define LOOK_MAX 4096u /* bytes of that */
#define HTTP_OK 200
#define WHY_SIZE 320u

enum saying { SAID_NOTHING, SAID_ANSWERS, SAID_SILENT };

struct etcd {
	struct etcd_options options;
	struct courier *courier;
	uv_timer_t timer; /* the next pump() */
	struct etcd_members members;
	char *urls[ETCD_MEMBERS_MAX];
	struct etcd_errand *errands;
	unsigned nerrands;
	struct etcd_watch *watches;
	uint64_t serial;
	struct courier_parcel look; /* at the version of: */
	struct etcd_member *looked; /* NULL: none */
	char look_url[ETCD_URL_SIZE];
	bool heard; /* a watch has */
	bool answers, warned;
	enum saying said;
	char why[WHY_SIZE];
	uint64_t requests, failures;
	bool closing;
	unsigned open; /* parts that have not ended */
	void (*closed)(void *arg);
	void *arg;
};

static uint64_t now_ms(void)
{
	return uv_hrtime() / NS_PER_MS;
}

/* ---- what is said of it ---- */

static void works(struct etcd *etcd, struct etcd_member *member)
{
	etcd_member_worked(member);
	etcd->answers = true;
	etcd->why[0] = 0;
	if (etcd->said == SAID_ANSWERS)
		return;
	etcd->said = SAID_ANSWERS;
	log_info("etcd answers", LOG_STR("member", member->url),
		LOG_STR("version", member->version));
}

/* One that hangs keeps its connections, and would say nothing on them for ever. */
static void cut_watches(struct etcd *etcd, const struct etcd_member *member)
{
	struct etcd_watch *watch;

	DL_FOREACH (etcd->watches, watch) {
		if (watch->member == member)
			etcd_watch_cut(watch);
	}
}

static void fails(struct etcd *etcd, struct etcd_member *member, const char *why)
{
	cut_watches(etcd, member);
	etcd_member_failed(&etcd->members, member, now_ms());
	etcd->answers = false;
	etcd->failures++;
	snprintf(etcd->why, sizeof(etcd->why), "%s: %s", member->url, why);
	if (etcd->said == SAID_SILENT)
		return;
	etcd->said = SAID_SILENT;
	log_warning("etcd does not answer", LOG_STR("member", member->url), LOG_STR("why", why));
}

void etcd_status(const struct etcd *etcd, struct etcd_status *ret_status)
{
	const struct etcd_member *member = &etcd->members.list[etcd->members.current];

	*ret_status = (struct etcd_status){.url = member->url,
		.version = member->version,
		.answers = etcd->answers,
		.why = etcd->why,
		.requests = etcd->requests,
		.failures = etcd->failures};
}

/* ---- the timer ---- */

static void on_timer(uv_timer_t *timer);

/* Soon, and not from inside of whoever asks for it. */
static void pump_soon(struct etcd *etcd)
{
	if (!etcd->closing)
		uv_timer_start(&etcd->timer, on_timer, 0, 0);
}

static void pump_at(struct etcd *etcd, uint64_t then_ms, uint64_t at_ms)
{
	if (etcd->closing || then_ms == UINT64_MAX)
		return;
	uv_update_time(etcd->options.loop);
	uv_timer_start(&etcd->timer, on_timer, then_ms > at_ms ? then_ms - at_ms : 0, 0);
}

/* ---- answers ---- */

static void errand_end(struct etcd *etcd, struct etcd_errand *errand)
{
	DL_DELETE(etcd->errands, errand);
	etcd->nerrands--;
	etcd_errand_free(errand);
}

/* Whoever is told may send. */
static void tell(struct etcd *etcd, struct etcd_errand *errand, struct txn_answer *answer)
{
	errand_end(etcd, errand);
	etcd->options.answered(etcd->options.arg, answer);
	txn_answer_deinit(answer);
}

static void give_up(struct etcd *etcd, struct etcd_errand *errand)
{
	struct txn_answer answer = {.number = errand->number, .outcome = TXN_UNAVAILABLE};

	snprintf(answer.why, sizeof(answer.why), "%.158s",
		etcd->why[0] ? etcd->why : "no member of etcd could be asked in time");
	tell(etcd, errand, &answer);
}

static void on_errand_done(struct courier_parcel *parcel, enum courier_end end)
{
	struct etcd_errand *errand = (struct etcd_errand *)parcel;
	struct etcd *etcd = errand->owner;
	struct etcd_member *member = errand->member;
	struct txn_answer answer = {0};
	bool worked;
	bool final = etcd_errand_back(errand, end, now_ms(), &answer, &worked);

	if (worked)
		works(etcd, member);
	else
		fails(etcd, member, answer.why);
	pump_soon(etcd);
	if (final)
		tell(etcd, errand, &answer);
	else
		txn_answer_deinit(&answer);
}

/* ---- watches ---- */

static void watch_end(struct etcd *etcd, struct etcd_watch *watch)
{
	DL_DELETE(etcd->watches, watch);
	etcd_watch_free(watch);
}

static struct etcd_watch *watch_behind(struct etcd *etcd, uint64_t serial)
{
	struct etcd_watch *watch;

	DL_FOREACH (etcd->watches, watch) {
		if (watch->serial > serial)
			return watch;
	}
	return NULL;
}

static void on_watch_woken(struct etcd_watch *watch)
{
	struct etcd *etcd = watch->owner;

	etcd->heard = true;
	pump_soon(etcd);
}

/* It is begun anew, with the next member. */
static void watch_lost(struct etcd *etcd, struct etcd_watch *watch, const char *why)
{
	if (watch->member)
		fails(etcd, watch->member, why);
	etcd_watch_cut(watch);
	pump_soon(etcd);
}

/* Asked again it would be sent the same, which is too much at once. */
static void watch_flooded(struct etcd *etcd, struct etcd_watch *watch)
{
	const struct txn_notice notice = {.number = watch->number, .kind = TXN_COMPACTED};

	watch_end(etcd, watch);
	etcd->options.noticed(etcd->options.arg, &notice);
}

/* What has come is told before it goes on elsewhere. */
static void watch_tell(struct etcd *etcd, uint64_t serial);

static void on_watch_done(struct courier_parcel *parcel, enum courier_end end)
{
	struct etcd_watch *watch = (struct etcd_watch *)parcel;
	struct etcd *etcd = watch->owner;
	char why[CURL_ERROR_SIZE];
	uint64_t serial = watch->serial;
	bool flooded = watch->stream.flooded;

	snprintf(why, sizeof(why), "%s",
		flooded                   ? "a watch has more to catch up on than is taken at once"
		: end == COURIER_ANSWERED ? "it has ended a watch"
					  : parcel->why);
	watch_tell(etcd, serial);
	watch = watch_behind(etcd, serial - 1);
	if (!watch || watch->serial != serial || !watch->member)
		return;
	watch_lost(etcd, watch, why);
	if (flooded)
		watch_flooded(etcd, watch);
}

static void watch_notice(
	struct etcd *etcd, struct etcd_watch *watch, const struct txn_notice *notice)
{
	if (notice->kind == TXN_COMPACTED)
		watch_end(etcd, watch);
	etcd->options.noticed(etcd->options.arg, notice);
}

/* One line of it. Whether there may be more. */
static bool watch_line(struct etcd *etcd, struct etcd_watch *watch)
{
	struct txn_notice notice = {.number = watch->number};
	const char *why = "";
	enum etcd_line line = etcd_stream_next(&watch->stream, &notice, &why);

	if (line == ETCD_LINE_OVER)
		watch_lost(etcd, watch, why);
	if (line == ETCD_LINE_BEGUN && watch->member)
		works(etcd, watch->member);
	if (line == ETCD_LINE_NOTICE)
		watch_notice(etcd, watch, &notice);
	txn_notice_deinit(&notice);
	return line == ETCD_LINE_NOTICE || line == ETCD_LINE_BEGUN;
}

/* Whoever is told may end it: it is looked for anew each time. */
static void watch_tell(struct etcd *etcd, uint64_t serial)
{
	struct etcd_watch *watch;

	do {
		watch = watch_behind(etcd, serial - 1);
	} while (watch && watch->serial == serial && !etcd->closing && watch_line(etcd, watch));
}

static void watches_tell(struct etcd *etcd)
{
	const struct etcd_watch *watch;
	uint64_t serial = 0, began_ns = courier_clock();

	etcd->heard = false;
	while (!etcd->closing && (watch = watch_behind(etcd, serial))) {
		serial = watch->serial;
		watch_tell(etcd, serial);
	}
	courier_spent(etcd->courier, courier_clock() - began_ns);
}

/* ---- members ---- */

static bool is_old_allowed(struct etcd *etcd, const struct etcd_member *member)
{
	if (!etcd->options.allow_old)
		return false;
	if (!etcd->warned)
		log_warning("this etcd ends leases too early now and then, which 3.5 does not; "
			    "whose are lost have to be asked for anew",
			LOG_STR("member", member->url), LOG_STR("version", member->version));
	etcd->warned = true;
	return true;
}

static bool is_fit(struct etcd *etcd, struct etcd_member *member, char *why, size_t size)
{
	unsigned version = etcd_reply_version(etcd->look.reply ? etcd->look.reply : "",
		etcd->look.reply_len, member->version, sizeof(member->version));

	if (etcd->look.status != HTTP_OK || !version) {
		snprintf(why, size, "it does not say its version (HTTP %ld); is it etcd?",
			etcd->look.status);
		return false;
	}
	if (version >= ETCD_VERSION_LEAST || is_old_allowed(etcd, member))
		return true;
	snprintf(why, size,
		"its version %s is older than 3.5, whose leases can be relied on; install a newer "
		"one, or write 'allow_old_etcd: yes'",
		member->version);
	return false;
}

static void on_looked(struct courier_parcel *parcel, enum courier_end end)
{
	struct etcd *etcd = (struct etcd *)((char *)parcel - offsetof(struct etcd, look));
	struct etcd_member *member = etcd->looked;
	char why[CURL_ERROR_SIZE];

	etcd->looked = NULL;
	if (end != COURIER_ANSWERED)
		snprintf(why, sizeof(why), "%s", parcel->why);
	if (end == COURIER_ANSWERED && is_fit(etcd, member, why, sizeof(why)))
		member->known = true;
	else
		fails(etcd, member, why);
	pump_soon(etcd);
}

static void look_at(struct etcd *etcd, struct etcd_member *member)
{
	snprintf(etcd->look_url, sizeof(etcd->look_url), "%s/version", member->url);
	etcd->look = (struct courier_parcel){.url = etcd->look_url,
		.timeout_ms = LOOK_MS,
		.connect_timeout_ms = LOOK_MS,
		.reply_max = LOOK_MAX,
		.done = on_looked};
	if (courier_send(etcd->courier, &etcd->look))
		fails(etcd, member, "it cannot be asked: no memory");
	else
		etcd->looked = member;
}

/* ---- what waits ---- */

static bool is_waiting(const struct etcd *etcd)
{
	const struct etcd_errand *errand;
	const struct etcd_watch *watch;

	DL_FOREACH (etcd->errands, errand) {
		if (!errand->member)
			return true;
	}
	DL_FOREACH (etcd->watches, watch) {
		if (!watch->member)
			return true;
	}
	return false;
}

static void send_waiting(struct etcd *etcd, struct etcd_member *member, uint64_t at_ms)
{
	struct etcd_errand *errand;
	struct etcd_watch *watch;

	DL_FOREACH (etcd->errands, errand) {
		if (!errand->member &&
			etcd_errand_go(errand, etcd->courier, member, etcd->members.n == 1, at_ms))
			fails(etcd, member, "it cannot be asked: no memory");
	}
	DL_FOREACH (etcd->watches, watch) {
		if (!watch->member && etcd_watch_go(watch, etcd->courier, member, LOOK_MS))
			fails(etcd, member, "it cannot be asked: no memory");
	}
}

/* Those whose time is over without a member that could be asked. */
static void expire(struct etcd *etcd, uint64_t at_ms)
{
	struct etcd_errand *errand;

	do {
		DL_FOREACH (etcd->errands, errand) {
			if (!errand->member && errand->deadline_ms <= at_ms)
				break;
		}
		if (errand)
			give_up(etcd, errand);
	} while (errand && !etcd->closing);
}

static uint64_t next_deadline(const struct etcd *etcd)
{
	const struct etcd_errand *errand;
	uint64_t first = UINT64_MAX;

	DL_FOREACH (etcd->errands, errand) {
		if (!errand->member && errand->deadline_ms < first)
			first = errand->deadline_ms;
	}
	return first;
}

/* Has what waits go to the member whose turn it is, once that is known to be fit. */
static void serve(struct etcd *etcd, uint64_t at_ms)
{
	struct etcd_member *member = etcd_members_pick(&etcd->members, at_ms);
	uint64_t wake_ms, end_ms;

	if (member && member->known)
		send_waiting(etcd, member, at_ms);
	else if (member && !etcd->looked)
		look_at(etcd, member);
	if (!is_waiting(etcd))
		return;
	end_ms = next_deadline(etcd);
	wake_ms = etcd_members_wake(&etcd->members);
	if (wake_ms <= at_ms)
		wake_ms = UINT64_MAX; /* its look ends by itself */
	pump_at(etcd, wake_ms < end_ms ? wake_ms : end_ms, at_ms);
}

static void on_timer(uv_timer_t *timer)
{
	struct etcd *etcd = timer->data;
	uint64_t at_ms = now_ms();

	if (etcd->heard)
		watches_tell(etcd);
	if (!etcd->closing)
		expire(etcd, at_ms);
	if (!etcd->closing && is_waiting(etcd))
		serve(etcd, at_ms);
}

/* ---- requests ---- */

static void cancel_watch(struct etcd *etcd, uint64_t number)
{
	struct etcd_watch *watch, *next;

	DL_FOREACH_SAFE (etcd->watches, watch, next) {
		if (watch->number == number)
			watch_end(etcd, watch);
	}
}

static int begin_watch(struct etcd *etcd, const struct txn_request *request)
{
	struct etcd_watch *watch;
	int r = etcd_watch_new(&watch, request);

	if (r)
		return r;
	watch->owner = etcd;
	watch->woken = on_watch_woken;
	watch->parcel.done = on_watch_done;
	watch->serial = ++etcd->serial;
	DL_APPEND(etcd->watches, watch);
	return 0;
}

static int begin_errand(struct etcd *etcd, const struct txn_request *request)
{
	uint64_t timeout_ms = request->timeout_ms ? request->timeout_ms : ETCD_TIMEOUT_MS;
	struct etcd_errand *errand;
	int r = etcd->nerrands < ETCD_REQUESTS_MAX
			? etcd_errand_new(&errand, request, now_ms() + timeout_ms)
			: VMSIG_ERR_BUSY;

	if (r)
		return r;
	errand->owner = etcd;
	errand->parcel.done = on_errand_done;
	DL_APPEND(etcd->errands, errand);
	etcd->nerrands++;
	return 0;
}

int etcd_send(struct etcd *etcd, const struct txn_request *request)
{
	int r;

	if (request->kind == TXN_WATCH_CANCEL) {
		cancel_watch(etcd, request->number);
		return 0;
	}
	r = request->kind == TXN_WATCH ? begin_watch(etcd, request) : begin_errand(etcd, request);
	if (r)
		return r;
	etcd->requests++;
	/* What comes together leaves in its order. */
	pump_soon(etcd);
	return 0;
}

int etcd_rekey(struct etcd *etcd, const struct courier_keys *keys)
{
	struct etcd_watch *watch;
	int r = courier_rekey(etcd->courier, keys);

	if (r)
		return r;
	DL_FOREACH (etcd->watches, watch)
		etcd_watch_cut(watch);
	pump_soon(etcd);
	return 0;
}

/* ---- life ---- */

static void part_closed(struct etcd *etcd)
{
	void (*closed)(void *arg) = etcd->closed;
	void *arg = etcd->arg;

	if (--etcd->open)
		return;
	for (size_t i = 0; i < etcd->members.n; i++)
		free(etcd->urls[i]);
	free(etcd);
	if (closed)
		closed(arg);
}

static void on_courier_closed(void *arg)
{
	part_closed(arg);
}

static void on_timer_closed(uv_handle_t *handle)
{
	part_closed(handle->data);
}

static int copy_urls(struct etcd *etcd, const struct etcd_options *options)
{
	if (!options->nurls || options->nurls > ETCD_MEMBERS_MAX)
		return VMSIG_ERR_BAD_REQUEST;
	for (size_t i = 0; i < options->nurls; i++) {
		etcd->urls[i] = strdup(options->urls[i]);
		if (!etcd->urls[i])
			return -ENOMEM;
		etcd->members.list[i].url = etcd->urls[i];
		etcd->members.n = i + 1;
	}
	return 0;
}

int etcd_new(struct etcd **ret_etcd, const struct etcd_options *options)
{
	struct etcd *etcd = calloc(1, sizeof(*etcd));
	int r = etcd ? copy_urls(etcd, options) : -ENOMEM;

	if (!r)
		r = courier_new(&etcd->courier, options->loop, &options->keys);
	if (r) {
		for (size_t i = 0; etcd && i < etcd->members.n; i++)
			free(etcd->urls[i]);
		free(etcd);
		return r;
	}
	etcd->options = *options;
	etcd->options.urls = NULL;
	etcd->options.keys = (struct courier_keys){0};
	etcd->members.chance = uv_hrtime() | 1;
	/* Not all brokers begin with the first. */
	etcd->members.current = etcd->members.chance / 2 % etcd->members.n;
	(void)!uv_timer_init(options->loop, &etcd->timer);
	etcd->timer.data = etcd;
	etcd->open = 2;
	*ret_etcd = etcd;
	return 0;
}

void etcd_close(struct etcd *etcd, void (*closed)(void *arg), void *arg)
{
	etcd->closing = true;
	etcd->closed = closed;
	etcd->arg = arg;
	while (etcd->errands)
		errand_end(etcd, etcd->errands);
	while (etcd->watches)
		watch_end(etcd, etcd->watches);
	courier_cancel(&etcd->look);
	courier_close(etcd->courier, on_courier_closed, etcd);
	uv_close((uv_handle_t *)&etcd->timer, on_timer_closed);
}
