/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/lib/client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

#define CONNECT_TIMEOUT_MS 10000u
#define REQUEST_TIMEOUT_MS 10000u
#define BACKOFF_MIN_MS 100u
#define BACKOFF_MAX_MS 10000u
#define QUEUE_MAX 64u
#define QUEUE_LIMIT 65536u /* of the option */

int64_t client_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t client_after(int64_t now, uint32_t ms)
{
	int64_t at;

	return __builtin_add_overflow(now, (int64_t)ms * 1000000, &at) ? CLIENT_NEVER : at;
}

int client_fail(vmsig *v, int code, const char *format, ...)
{
	char text[sizeof(v->error)];
	va_list args;

	va_start(args, format);
	/* The old sentence may be one of the arguments. */
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	memcpy(v->error, text, sizeof(text));
	return code;
}

int client_result(int r)
{
	if (r >= 0)
		return -r;
	return r == -ENOMEM ? -VMSIG_ERR_NO_MEMORY : -VMSIG_ERR_IO;
}

static uint32_t or_default(uint32_t value, uint32_t standard)
{
	return value ? value : standard;
}

static int options_check(vmsig *v, const vmsig_options *options)
{
	if (!options->identity_dir || !options->identity_dir[0])
		return client_fail(v, VMSIG_ERR_BAD_REQUEST,
			"no identity: name the directory with key.pem, cert.pem and ca.pem");
	if (options->flags & ~(uint32_t)(VMSIG_OPT_NO_RECONNECT | VMSIG_OPT_PIN_UID))
		return client_fail(
			v, VMSIG_ERR_BAD_REQUEST, "unknown option flags 0x%x", options->flags);
	if (v->backoff_max_ms < v->backoff_min_ms)
		return client_fail(v, VMSIG_ERR_BAD_REQUEST,
			"the longest pause (%u ms) is below the shortest (%u ms)",
			v->backoff_max_ms, v->backoff_min_ms);
	if (options->queue_max > QUEUE_LIMIT)
		return client_fail(v, VMSIG_ERR_BAD_REQUEST, "queue_max is above %u", QUEUE_LIMIT);
	return 0;
}

static int options_copy(vmsig *v, const vmsig_options *options)
{
	v->flags = options->flags;
	v->broker_uid = options->broker_uid;
	v->connect_timeout_ms = or_default(options->connect_timeout_ms, CONNECT_TIMEOUT_MS);
	v->request_timeout_ms = or_default(options->request_timeout_ms, REQUEST_TIMEOUT_MS);
	v->backoff_min_ms = or_default(options->backoff_min_ms, BACKOFF_MIN_MS);
	v->backoff_max_ms = or_default(options->backoff_max_ms,
		v->backoff_min_ms > BACKOFF_MAX_MS ? v->backoff_min_ms : BACKOFF_MAX_MS);
	v->link.pause_ms = v->backoff_min_ms;
	v->socket_path = strdup(options->socket_path ? options->socket_path : VMSIG_CTX_SOCKET);
	v->identity_dir = strdup(options->identity_dir ? options->identity_dir : "");
	return v->socket_path && v->identity_dir ? 0 : -ENOMEM;
}

static int handle_init(vmsig *v, const vmsig_options *options)
{
	struct tls_ctx *tls = NULL;
	int r;

	r = options_copy(v, options);
	if (r)
		return r;
	r = options_check(v, options);
	if (r)
		return r;
	r = queue_init(&v->queue, or_default(options->queue_max, QUEUE_MAX));
	if (r)
		return r;
	/* Only to say now what is wrong with the files; each connection reads them anew. */
	r = link_identity(v, &tls);
	tls_ctx_unref(tls);
	if (r)
		return r;
	v->link.epoll = epoll_create1(EPOLL_CLOEXEC);
	if (v->link.epoll < 0)
		return client_fail(v, -errno, "epoll: %s", strerror(errno));
	return 0;
}

int vmsig_open(vmsig **ret_vmsig, const vmsig_options *options, char *error, size_t error_size)
{
	vmsig *v = calloc(1, sizeof(*v));
	int r;

	if (!v) {
		if (error_size)
			snprintf(error, error_size, "out of memory");
		return -VMSIG_ERR_NO_MEMORY;
	}
	v->link.epoll = -1;
	r = handle_init(v, options);
	if (r) {
		if (error_size)
			snprintf(error, error_size, "%s",
				v->error[0] ? v->error : vmsig_error_text(client_result(r)));
		vmsig_close(v);
		return client_result(r);
	}
	*ret_vmsig = v;
	return 0;
}

vmsig *vmsig_close(vmsig *v)
{
	if (!v)
		return NULL;
	link_deinit(v);
	queue_deinit(&v->queue);
	listing_deinit(v);
	while (v->subscriptions)
		subscription_free(v, v->subscriptions);
	epochs_deinit(v);
	free(v->socket_path);
	free(v->identity_dir);
	free(v);
	return NULL;
}

int vmsig_fd(const vmsig *v)
{
	return v->link.epoll;
}

short vmsig_poll_events(const vmsig *v)
{
	return v->link.armed ? POLLIN : 0;
}

int64_t vmsig_deadline(const vmsig *v)
{
	int64_t deadline = link_deadline(v);

	return deadline == CLIENT_NEVER ? -1 : deadline;
}

int vmsig_process(vmsig *v)
{
	return link_process(v);
}

bool vmsig_is_connected(const vmsig *v)
{
	return v->link.phase == PHASE_READY;
}

int vmsig_broker(const vmsig *v, vmsig_broker_info *ret_info)
{
	struct ucred cred;

	if (v->link.phase != PHASE_READY)
		return -VMSIG_ERR_DISCONNECTED;
	if (chan_peer_cred(v->link.chan, &cred))
		return -VMSIG_ERR_IO;
	*ret_info = (vmsig_broker_info){
		.host = v->link.broker.name,
		.software = v->link.software,
		.uid = cred.uid,
		.pid = cred.pid,
	};
	return 0;
}

const char *vmsig_last_error(const vmsig *v)
{
	return v->error;
}

const char *vmsig_version(void)
{
	return VMSIG_VERSION;
}

/* Indexed by the numbers of vmsig_event.h. */
static const char *const state_names[] = {"unknown", "booting", "ready", "invalid", "gone"};
static const char *const guard_names[] = {"none", "mode", "ro-mount", "sealed"};

static const char *name_at(const char *const *names, size_t count, uint32_t index)
{
	return index < count ? names[index] : "unknown";
}

const char *vmsig_state_name(uint32_t state)
{
	return name_at(state_names, sizeof(state_names) / sizeof(state_names[0]), state);
}

const char *vmsig_guard_name(uint32_t guard)
{
	return name_at(guard_names, sizeof(guard_names) / sizeof(guard_names[0]), guard);
}
