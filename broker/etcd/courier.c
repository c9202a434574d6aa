/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/etcd/courier.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <utlist.h>

#include "vmsig/vmsig_error.h"

/* Idle seconds after which a kept connection is probed, between probes: a member that is gone
 * without a word ends its streams half a minute later. */
#define PROBE_IDLE_S 10L
#define PROBE_EVERY_S 5L
/* What members send takes time of the loop's thread, and they decide how much there is of it. What
 * goes beyond half of all time is owed; so much of that, and nothing is heard until it is paid. */
#define REST_AFTER_NS 10000000u
#define NS_PER_MS 1000000u
/* Read at once, and a hundred times before curl comes back: what then comes of 100 KiB is a piece
 * of some milliseconds. It is the least that curl takes. */
#define BUFFER_BYTES 1024L

/* struct courier_keys, owned. */
struct copied_keys {
	char *ca, *cert, *key;
};

struct courier {
	CURLM *multi;
	uv_loop_t *loop;
	uv_timer_t timer; /* curl's */
	uv_timer_t rest;  /* the end of it */
	bool rests;
	uint64_t owed_ns, owed_at_ns;
	struct courier_socket *sockets;
	struct copied_keys keys;
	struct courier_parcel *parcels;
	unsigned handles; /* of libuv, that are not closed */
	bool closing;
	void (*closed)(void *arg);
	void *arg;
};

/* A socket of curl's. */
struct courier_socket {
	uv_poll_t poll;
	struct courier *courier;
	curl_socket_t fd;
	int events; /* that curl waits for */
	struct courier_socket *prev, *next;
};

static void keys_free(struct copied_keys *keys)
{
	free(keys->ca);
	free(keys->cert);
	free(keys->key);
	*keys = (struct copied_keys){0};
}

/* ---- ends ---- */

static void parcel_release(struct courier_parcel *parcel)
{
	struct courier *courier = parcel->courier;

	DL_DELETE(courier->parcels, parcel);
	curl_multi_remove_handle(courier->multi, parcel->easy);
	curl_easy_cleanup(parcel->easy);
	curl_slist_free_all(parcel->headers);
	parcel->easy = NULL;
	parcel->headers = NULL;
	parcel->courier = NULL;
}

static enum courier_end end_of(const struct courier_parcel *parcel, CURLcode code)
{
	if (code == CURLE_OK)
		return COURIER_ANSWERED;
	return parcel->body && !parcel->taken ? COURIER_UNSENT : COURIER_LOST;
}

static void finish(struct courier_parcel *parcel, CURLcode code)
{
	enum courier_end end = end_of(parcel, code);
	char *reply;

	if (parcel->too_large)
		strcpy(parcel->why, "the reply is larger than it may be");
	else if (!parcel->why[0])
		strcpy(parcel->why, curl_easy_strerror(code));
	curl_easy_getinfo(parcel->easy, CURLINFO_RESPONSE_CODE, &parcel->status);
	parcel_release(parcel);
	reply = parcel->reply;
	parcel->done(parcel, end);
	free(reply);
}

static void finish_all(struct courier *courier)
{
	struct CURLMsg *message;
	int left;

	/* Whoever is answered may close the courier. */
	while (courier->multi && (message = curl_multi_info_read(courier->multi, &left))) {
		struct courier_parcel *parcel = NULL;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&parcel);
		finish(parcel, message->data.result);
	}
}

/* ---- the loop ---- */

static void on_handle_closed(struct courier *courier)
{
	void (*closed)(void *arg) = courier->closed;
	void *arg = courier->arg;

	if (--courier->handles || !courier->closing)
		return;
	keys_free(&courier->keys);
	free(courier);
	if (closed)
		closed(arg);
}

static void on_socket_closed(uv_handle_t *handle)
{
	struct courier_socket *contact = handle->data;
	struct courier *courier = contact->courier;

	free(contact);
	on_handle_closed(courier);
}

static void on_timer_closed(uv_handle_t *handle)
{
	on_handle_closed(handle->data);
}

uint64_t courier_clock(void)
{
	struct timespec at;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &at);
	return (uint64_t)at.tv_sec * 1000 * NS_PER_MS + (uint64_t)at.tv_nsec;
}

static void on_rested(uv_timer_t *timer);

/* Sockets are not looked at, and curl's time does not pass. */
static void begin_rest(struct courier *courier)
{
	struct courier_socket *contact;

	courier->rests = true;
	uv_timer_stop(&courier->timer);
	DL_FOREACH (courier->sockets, contact)
		uv_poll_stop(&contact->poll);
	uv_timer_start(&courier->rest, on_rested, courier->owed_ns / NS_PER_MS + 1, 0);
}

void courier_spent(struct courier *courier, uint64_t ns)
{
	uint64_t now_ns = uv_hrtime(), paid_ns = now_ns - courier->owed_at_ns;

	courier->owed_at_ns = now_ns;
	courier->owed_ns -= paid_ns < courier->owed_ns ? paid_ns : courier->owed_ns;
	courier->owed_ns += ns;
	if (courier->owed_ns > REST_AFTER_NS && !courier->rests && !courier->closing)
		begin_rest(courier);
}

static void act(struct courier *courier, curl_socket_t fd, int events)
{
	uint64_t began_ns = courier_clock();
	int running;

	(void)curl_multi_socket_action(courier->multi, fd, events, &running);
	finish_all(courier);
	courier_spent(courier, courier_clock() - began_ns);
}

static void on_ready(uv_poll_t *poll, int status, int events)
{
	const struct courier_socket *contact = poll->data;
	int what = 0;

	if (status < 0)
		what = CURL_CSELECT_ERR;
	if (events & UV_READABLE)
		what |= CURL_CSELECT_IN;
	if (events & UV_WRITABLE)
		what |= CURL_CSELECT_OUT;
	act(contact->courier, contact->fd, what);
}

static struct courier_socket *courier_socket_new(struct courier *courier, curl_socket_t fd)
{
	struct courier_socket *contact = calloc(1, sizeof(*contact));

	if (!contact)
		return NULL;
	contact->courier = courier;
	contact->fd = fd;
	contact->poll.data = contact;
	if (uv_poll_init_socket(courier->loop, &contact->poll, fd)) {
		free(contact);
		return NULL;
	}
	courier->handles++;
	DL_APPEND(courier->sockets, contact);
	curl_multi_assign(courier->multi, fd, contact);
	return contact;
}

static int listen_to(struct courier_socket *contact)
{
	return uv_poll_start(&contact->poll, contact->events, on_ready);
}

/* curl closes the descriptor right after CURL_POLL_REMOVE. */
static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *own)
{
	struct courier *courier = arg;
	struct courier_socket *contact = own;

	if (what == CURL_POLL_REMOVE) {
		if (contact) {
			curl_multi_assign(courier->multi, fd, NULL);
			DL_DELETE(courier->sockets, contact);
			uv_poll_stop(&contact->poll);
			uv_close((uv_handle_t *)&contact->poll, on_socket_closed);
		}
		return 0;
	}
	if (!contact)
		contact = courier_socket_new(courier, fd);
	if (!contact)
		return -1;
	contact->events =
		(what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
	return !courier->rests && listen_to(contact) ? -1 : 0;
}

static void on_timer(uv_timer_t *timer)
{
	act(timer->data, CURL_SOCKET_TIMEOUT, 0);
}

static void on_rested(uv_timer_t *timer)
{
	struct courier *courier = timer->data;
	struct courier_socket *contact;

	courier->rests = false;
	DL_FOREACH (courier->sockets, contact)
		(void)!listen_to(contact);
	/* curl looks itself for what is due. */
	uv_timer_start(&courier->timer, on_timer, 1, 0);
}

/* 0 is not to be answered from here: curl would be called inside of a call of it. Nor by a timer of
 * 0, which libuv would fire again and again without looking for events, as long as there is
 * something to read. */
static int on_timeout(CURLM *multi, long ms, void *arg)
{
	struct courier *courier = arg;

	if (courier->closing || courier->rests)
		return 0;
	if (ms < 0)
		return uv_timer_stop(&courier->timer) ? -1 : 0;
	return uv_timer_start(&courier->timer, on_timer, ms ? (uint64_t)ms : 1, 0) ? -1 : 0;
}

/* ---- life ---- */

static int copy(const char *text, char **ret_copy)
{
	*ret_copy = text ? strdup(text) : NULL;
	return text && !*ret_copy ? -ENOMEM : 0;
}

static int keys_copy(const struct courier_keys *keys, struct copied_keys *ret_keys)
{
	struct copied_keys copied = {0};

	if (copy(keys->ca, &copied.ca) || copy(keys->cert, &copied.cert) ||
		copy(keys->key, &copied.key)) {
		keys_free(&copied);
		return -ENOMEM;
	}
	*ret_keys = copied;
	return 0;
}

static CURLM *multi_new(struct courier *courier)
{
	CURLM *multi = curl_multi_init();

	if (!multi)
		return NULL;
	curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, courier);
	curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timeout);
	curl_multi_setopt(multi, CURLMOPT_TIMERDATA, courier);
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long)COURIER_CONNECTIONS);
	/* A stream has a connection of its own. */
	curl_multi_setopt(multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
	return multi;
}

int courier_new(struct courier **ret_courier, uv_loop_t *loop, const struct courier_keys *keys)
{
	struct courier *courier;

	if (curl_global_init(CURL_GLOBAL_DEFAULT))
		return -ENOMEM;
	courier = calloc(1, sizeof(*courier));
	if (!courier)
		return -ENOMEM;
	courier->loop = loop;
	if (keys_copy(keys, &courier->keys) || !(courier->multi = multi_new(courier)) ||
		uv_timer_init(loop, &courier->timer) || uv_timer_init(loop, &courier->rest)) {
		if (courier->multi)
			curl_multi_cleanup(courier->multi);
		keys_free(&courier->keys);
		free(courier);
		return -ENOMEM;
	}
	courier->timer.data = courier->rest.data = courier;
	courier->handles = 2;
	*ret_courier = courier;
	return 0;
}

int courier_rekey(struct courier *courier, const struct courier_keys *keys)
{
	struct copied_keys copied;
	int r = keys_copy(keys, &copied);

	if (r)
		return r;
	keys_free(&courier->keys);
	courier->keys = copied;
	return 0;
}

void courier_close(struct courier *courier, void (*closed)(void *arg), void *arg)
{
	courier->closed = closed;
	courier->arg = arg;
	/* It closes the sockets that it keeps, and says so. */
	curl_multi_cleanup(courier->multi);
	courier->multi = NULL;
	courier->closing = true;
	uv_close((uv_handle_t *)&courier->timer, on_timer_closed);
	uv_close((uv_handle_t *)&courier->rest, on_timer_closed);
}

/* ---- a parcel ---- */

static size_t on_body(char *buffer, size_t size, size_t n, void *arg)
{
	struct courier_parcel *parcel = arg;
	size_t len = parcel->body_len - parcel->taken;

	if (len > size * n)
		len = size * n;
	memcpy(buffer, parcel->body + parcel->taken, len);
	parcel->taken += len;
	return len;
}

/* curl wants to send the body again. */
static int on_rewind(void *arg, curl_off_t offset, int origin)
{
	return CURL_SEEKFUNC_FAIL;
}

static bool keep(struct courier_parcel *parcel, const char *data, size_t len)
{
	char *reply;

	if (len > parcel->reply_max - parcel->reply_len) {
		parcel->too_large = true;
		return false;
	}
	reply = realloc(parcel->reply, parcel->reply_len + len + 1);
	if (!reply)
		return false;
	parcel->reply = reply;
	memcpy(reply + parcel->reply_len, data, len);
	parcel->reply_len += len;
	reply[parcel->reply_len] = 0;
	return true;
}

static size_t on_reply(char *data, size_t size, size_t n, void *arg)
{
	struct courier_parcel *parcel = arg;
	size_t len = size * n;
	bool taken = parcel->heard ? parcel->heard(parcel, data, len) : keep(parcel, data, len);

	return taken ? len : CURL_WRITEFUNC_ERROR;
}

/* Whatever an option is refused for, the request is not made without it. */
#define SET(option, value)                                                                         \
	do {                                                                                       \
		if (curl_easy_setopt(parcel->easy, option, value))                                 \
			return VMSIG_ERR_UNSUPPORTED;                                              \
	} while (0)

static int set_keys(struct courier_parcel *parcel, const struct copied_keys *keys)
{
	const struct {
		CURLoption option;
		char *text;
	} blobs[] = {{CURLOPT_CAINFO_BLOB, keys->ca}, {CURLOPT_SSLCERT_BLOB, keys->cert},
		{CURLOPT_SSLKEY_BLOB, keys->key}};

	SET(CURLOPT_SSL_VERIFYPEER, 1L);
	SET(CURLOPT_SSL_VERIFYHOST, 2L);
	SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	/* Nobody else is trusted. */
	SET(CURLOPT_CAPATH, NULL);
	SET(CURLOPT_CAINFO, NULL);
	for (size_t i = 0; i < sizeof(blobs) / sizeof(blobs[0]); i++) {
		struct curl_blob blob = {
			blobs[i].text, blobs[i].text ? strlen(blobs[i].text) : 0, CURL_BLOB_COPY};

		if (blobs[i].text)
			SET(blobs[i].option, &blob);
	}
	return 0;
}

static int set_connection(struct courier_parcel *parcel)
{
	SET(CURLOPT_URL, parcel->url);
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_PROXY, "");
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_TCP_KEEPALIVE, 1L);
	SET(CURLOPT_TCP_KEEPIDLE, PROBE_IDLE_S);
	SET(CURLOPT_TCP_KEEPINTVL, PROBE_EVERY_S);
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long)parcel->connect_timeout_ms);
	SET(CURLOPT_TIMEOUT_MS, (long)parcel->timeout_ms);
	return 0;
}

static int set_body(struct courier_parcel *parcel)
{
	/* "Expect": etcd is not asked first. A stream is to end where there is no leader. */
	static const char *const headers[] = {
		"Content-Type: application/json", "Expect:", "Grpc-Metadata-hasleader: true"};

	if (!parcel->body)
		return 0;
	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
		struct curl_slist *longer = curl_slist_append(parcel->headers, headers[i]);

		if (!longer)
			return -ENOMEM;
		parcel->headers = longer;
	}
	SET(CURLOPT_HTTPHEADER, parcel->headers);
	SET(CURLOPT_POST, 1L);
	SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)parcel->body_len);
	SET(CURLOPT_READFUNCTION, on_body);
	SET(CURLOPT_READDATA, parcel);
	SET(CURLOPT_SEEKFUNCTION, on_rewind);
	SET(CURLOPT_SEEKDATA, parcel);
	return 0;
}

static int set_reply(struct courier_parcel *parcel)
{
	SET(CURLOPT_PRIVATE, parcel);
	SET(CURLOPT_ERRORBUFFER, parcel->why);
	SET(CURLOPT_WRITEFUNCTION, on_reply);
	SET(CURLOPT_WRITEDATA, parcel);
	SET(CURLOPT_BUFFERSIZE, BUFFER_BYTES);
	return 0;
}

static int prepare(struct courier *courier, struct courier_parcel *parcel)
{
	int r = set_connection(parcel);

	if (!r)
		r = set_keys(parcel, &courier->keys);
	if (!r)
		r = set_body(parcel);
	return r ? r : set_reply(parcel);
}

int courier_send(struct courier *courier, struct courier_parcel *parcel)
{
	int r;

	parcel->easy = curl_easy_init();
	if (!parcel->easy)
		return -ENOMEM;
	r = prepare(courier, parcel);
	if (!r && curl_multi_add_handle(courier->multi, parcel->easy))
		r = -ENOMEM;
	if (r) {
		curl_easy_cleanup(parcel->easy);
		curl_slist_free_all(parcel->headers);
		parcel->easy = NULL;
		parcel->headers = NULL;
		return r;
	}
	parcel->courier = courier;
	DL_APPEND(courier->parcels, parcel);
	return 0;
}

void courier_cancel(struct courier_parcel *parcel)
{
	if (!parcel->courier)
		return;
	parcel_release(parcel);
	free(parcel->reply);
	parcel->reply = NULL;
}
