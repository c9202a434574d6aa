/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/adapters/libvirt/monitor.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <jansson.h>
#include <libvirt/virterror.h>

#include "broker/adapters/libvirt/event_loop.h"
#include "broker/adapters/libvirt/contact.h"
#include "broker/adapters/libvirt/rescue.h"
#include "broker/config/config.h"
#include "broker/thread.h"

#define COMMAND_MAX (64u << 10)  /* the adapter's own are some 100 bytes */
#define EVENTS_MAX (1u << 20)    /* bytes that nobody has taken yet; more is a flood */
#define AGAIN_MS 200             /* between two tries to have the guest go on */
#define PIDS "/run/libvirt/qemu" /* of qemu:///system */

/* Of the adapter, the thread, and libvirt as long as events may come. */
struct transport_line {
	atomic_uint refs;
	char *uri, *domain, *pids;
	int socket; /* the thread's */
	int wake;   /* eventfd: there are events */
	atomic_int pid;

	pthread_mutex_t lock;
	char *events; /* lines, of `nevents` bytes */
	size_t nevents;
	bool flooded;
	char why[CONTACT_WHY_MAX];
	char uuid[VIR_UUID_STRING_BUFLEN]; /* "": not known yet */

	/* The thread's alone. */
	struct contact contact;
	char command[COMMAND_MAX];
	size_t ncommand;
};

static void line_unref(void *arg)
{
	struct transport_line *line = arg;

	if (atomic_fetch_sub(&line->refs, 1) > 1)
		return;
	if (line->socket >= 0)
		close(line->socket);
	if (line->wake >= 0)
		close(line->wake);
	pthread_mutex_destroy(&line->lock);
	free(line->events);
	free(line->uri);
	free(line->domain);
	free(line->pids);
	free(line);
}

static void set_why(struct transport_line *line, const char *why)
{
	pthread_mutex_lock(&line->lock);
	if (!line->why[0])
		snprintf(line->why, sizeof(line->why), "%s", why);
	pthread_mutex_unlock(&line->lock);
}

/* ---- events, from libvirt's thread ---- */

static char *event_text(const char *event, long long seconds, unsigned micros, const char *details)
{
	json_t *data = details ? json_loads(details, 0, NULL) : NULL;
	json_t *root = json_pack("{s:s, s:{s:I, s:I}, s:o*}", "event", event, "timestamp",
		"seconds", (json_int_t)seconds, "microseconds", (json_int_t)micros, "data", data);
	char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;

	json_decref(root);
	return text;
}

static void add_event(struct transport_line *line, const char *text)
{
	size_t len = strlen(text);
	char *grown = NULL;

	if (line->nevents + len + 1 <= EVENTS_MAX)
		grown = realloc(line->events, line->nevents + len + 1);
	/* An event that is missing could be the one that ends the session. */
	line->flooded |= !grown;
	if (!grown)
		return;
	line->events = grown;
	memcpy(grown + line->nevents, text, len + 1);
	grown[line->nevents + len] = '\n';
	line->nevents += len + 1;
}

static void on_event(virConnectPtr conn, virDomainPtr domain, const char *event, long long seconds,
	unsigned micros, const char *details, void *arg)
{
	struct transport_line *line = arg;
	char *text = event_text(event, seconds, micros, details);
	uint64_t one = 1;

	pthread_mutex_lock(&line->lock);
	if (text)
		add_event(line, text);
	else
		line->flooded = true;
	pthread_mutex_unlock(&line->lock);
	free(text);
	(void)!write(line->wake, &one, sizeof(one));
}

/* ---- the thread ---- */

static int send_all(struct transport_line *line, const char *data, size_t len)
{
	while (len) {
		ssize_t n = send(line->socket, data, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

/* Takes the reference. */
static int send_json(struct transport_line *line, json_t *root)
{
	char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
	int r = text ? send_all(line, text, strlen(text)) : -ENOMEM;

	json_decref(root);
	free(text);
	return r ? r : send_all(line, "\n", 1);
}

static bool has_ended(const struct transport_line *line)
{
	struct pollfd pidfd = {.fd = line->contact.pidfd, .events = POLLIN};

	return poll(&pidfd, 1, 0) != 0;
}

static int send_events(struct transport_line *line)
{
	char *events;
	bool flooded;
	uint64_t n;
	size_t len;
	int r = 0;

	(void)!read(line->wake, &n, sizeof(n));
	pthread_mutex_lock(&line->lock);
	events = line->events;
	len = line->nevents;
	flooded = line->flooded;
	line->events = NULL;
	line->nevents = 0;
	pthread_mutex_unlock(&line->lock);
	if (flooded)
		set_why(line, "QEMU sends more events than can be passed on");
	else if (len)
		r = send_all(line, events, len);
	free(events);
	return flooded ? -ENOBUFS : r;
}

/* See monitor.h. */
static int settle_order(struct transport_line *line)
{
	unsigned long version;

	for (int i = 0; i < 2; i++) {
		if (virConnectGetLibVersion(line->contact.conn, &version) < 0)
			return -EIO;
	}
	event_loop_pass();
	return send_events(line);
}

/* A command that libvirt could not give is answered; a connection or a domain that is over ends. */
static json_t *refused(struct transport_line *line)
{
	char why[CONTACT_WHY_MAX];

	snprintf(why, sizeof(why), "%s", contact_error());
	if (virConnectIsAlive(line->contact.conn) == 1 &&
		virDomainIsActive(line->contact.domain) == 1)
		return json_pack("{s:{s:s, s:s}}", "error", "class", "GenericError", "desc", why);
	set_why(line, why);
	return NULL;
}

static json_t *ask(struct transport_line *line, json_t *command)
{
	char *text = json_dumps(command, JSON_COMPACT), *reply = NULL;
	json_t *root;

	if (!text || virDomainQemuMonitorCommand(line->contact.domain, text, &reply, 0) < 0)
		root = text ? refused(line) : NULL;
	else
		root = json_loads(reply, JSON_ALLOW_NUL, NULL);
	free(text);
	free(reply);
	return root;
}

static bool is_left(const struct transport_line *line)
{
	struct pollfd fd = {.fd = line->socket, .events = POLLRDHUP};

	return poll(&fd, 1, 0) > 0 && (fd.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

/* Else the guest would stay as it is with nobody left who knows that it has to go on. */
static int resume(struct transport_line *line)
{
	virDomainPtr domain = line->contact.domain;

	while (virDomainResume(domain) < 0) {
		int code = virGetLastErrorCode();

		if ((code != VIR_ERR_OPERATION_TIMEOUT && code != VIR_ERR_RESOURCE_BUSY) ||
			has_ended(line) || is_left(line))
			return -1;
		(void)poll(NULL, 0, AGAIN_MS);
	}
	return 0;
}

/* Who asked may have given up meanwhile, and had the guest go on before it stood still. */
static int suspend(struct transport_line *line)
{
	int r = virDomainSuspend(line->contact.domain);

	if (!r && is_left(line))
		(void)!resume(line);
	return r;
}

static int acknowledge(struct transport_line *line)
{
	return 0; /* libvirt has said it long ago */
}

/* What is not passed on as it is. */
static const struct {
	const char *name;
	int (*run)(struct transport_line *line);
} own[] = {
	{"qmp_capabilities", acknowledge},
	{"stop", suspend},
	{"cont", resume},
};

static json_t *answer(struct transport_line *line, json_t *command, const char *name)
{
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		if (strcmp(own[i].name, name) == 0)
			return own[i].run(line) < 0 ? refused(line) : json_pack("{s:{}}", "return");
	}
	return ask(line, command);
}

/* Takes the reference. */
static int execute(struct transport_line *line, json_t *command)
{
	const char *name = json_string_value(json_object_get(command, "execute"));
	json_t *id = json_incref(json_object_get(command, "id")), *reply;
	int r = -EPROTO;

	json_object_del(command, "id"); /* libvirt has its own */
	reply = name ? answer(line, command, name) : NULL;
	/* Without an answer as well: what it said last, as that its guest has left. */
	if (settle_order(line) && reply)
		reply = (json_decref(reply), NULL);
	json_decref(command);
	if (reply && has_ended(line)) {
		set_why(line, "QEMU has ended");
		reply = (json_decref(reply), NULL);
	}
	if (reply && json_object_set(reply, "id", id) == 0)
		r = send_json(line, json_incref(reply));
	json_decref(reply);
	json_decref(id);
	return r;
}

static int take_commands(struct transport_line *line)
{
	ssize_t n = recv(line->socket, line->command + line->ncommand,
		sizeof(line->command) - line->ncommand, 0);
	char *end;
	int r = n > 0 ? 0 : -ECONNRESET;

	if (n > 0)
		line->ncommand += (size_t)n;
	while (!r && (end = memchr(line->command, '\n', line->ncommand))) {
		size_t len = (size_t)(end - line->command) + 1;
		json_t *command = json_loadb(line->command, len, 0, NULL);

		line->ncommand -= len;
		memmove(line->command, line->command + len, line->ncommand);
		r = command ? execute(line, command) : -EPROTO;
	}
	return r;
}

static int turn(struct transport_line *line)
{
	struct pollfd fds[] = {{.fd = line->contact.pidfd, .events = POLLIN},
		{.fd = line->wake, .events = POLLIN}, {.fd = line->socket, .events = POLLIN}};

	if (poll(fds, 3, -1) < 0)
		return errno == EINTR ? 0 : -errno;
	/* What it said last, as SHUTDOWN, is worth to be known. */
	if (fds[0].revents) {
		(void)!settle_order(line);
		set_why(line, "QEMU has ended");
		return -ESRCH;
	}
	if (fds[1].revents)
		return send_events(line);
	return fds[2].revents ? take_commands(line) : 0;
}

static int serve(struct transport_line *line)
{
	int r = send_json(line, json_pack("{s:{s:{}, s:[]}}", "QMP", "version", "capabilities"));

	while (!r) {
		r = turn(line);
		if (!r && virConnectIsAlive(line->contact.conn) != 1) {
			set_why(line, "the connection to libvirt was lost");
			r = -ECONNRESET;
		}
	}
	return r;
}

static void learn_uuid(struct transport_line *line)
{
	char uuid[VIR_UUID_STRING_BUFLEN] = "";

	(void)virDomainGetUUIDString(line->contact.domain, uuid);
	pthread_mutex_lock(&line->lock);
	memcpy(line->uuid, uuid, sizeof(uuid));
	pthread_mutex_unlock(&line->lock);
}

static void *run(void *arg)
{
	struct transport_line *line = arg;
	const struct contact_wanted wanted = {.uri = line->uri,
		.domain = line->domain,
		.pids = line->pids,
		.on_event = on_event,
		.release = line_unref,
		.arg = line};
	char why[CONTACT_WHY_MAX] = "";

	atomic_fetch_add(&line->refs, 1); /* for libvirt */
	if (contact_begin(&line->contact, &wanted, why, sizeof(why))) {
		set_why(line, why);
	} else {
		atomic_store(&line->pid, line->contact.pid);
		learn_uuid(line);
		(void)!serve(line);
	}
	/* First, so that nobody waits for libvirt. */
	shutdown(line->socket, SHUT_RDWR);
	contact_end(&line->contact);
	line_unref(line);
	return NULL;
}

/* ---- for the adapter ---- */

static int line_new(struct transport_line **ret_line, const struct config_endpoint *config)
{
	struct transport_line *line = calloc(1, sizeof(*line));

	if (!line)
		return -ENOMEM;
	atomic_init(&line->refs, 1);
	pthread_mutex_init(&line->lock, NULL);
	line->socket = -1;
	line->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	line->uri = strdup(config->libvirt);
	line->domain = strdup(config->domain);
	line->pids = strdup(config->pids ? config->pids : PIDS);
	if (line->wake >= 0 && line->uri && line->domain && line->pids) {
		*ret_line = line;
		return 0;
	}
	line_unref(line);
	return -ENOMEM;
}

static int line_start(struct transport_line *line, int *ret_socket)
{
	pthread_t thread;
	int r, sockets[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) < 0)
		return -errno;
	line->socket = sockets[1];
	atomic_fetch_add(&line->refs, 1); /* for the thread */
	r = thread_start(&thread, NULL, 0, run, line);
	if (r) {
		close(sockets[0]);
		atomic_fetch_sub(&line->refs, 1);
		return r;
	}
	pthread_detach(thread);
	*ret_socket = sockets[0];
	return 0;
}

int monitor_open(
	struct transport_line **ret_line, int *ret_socket, const struct config_endpoint *config)
{
	struct transport_line *line;
	int r = line_new(&line, config);

	if (r)
		return r;
	r = line_start(line, ret_socket);
	if (r)
		line_unref(line);
	else
		*ret_line = line;
	return r;
}

pid_t monitor_pid(const struct transport_line *line)
{
	return atomic_load(&line->pid);
}

int monitor_ward(const struct transport_line *line, char *ward, size_t size)
{
	struct transport_line *mine = (struct transport_line *)(uintptr_t)line;
	int r;

	pthread_mutex_lock(&mine->lock);
	r = mine->uuid[0] ? rescue_ward(mine->uri, mine->uuid, ward, size) : -ENODEV;
	pthread_mutex_unlock(&mine->lock);
	return r;
}

void monitor_why(const struct transport_line *line, char *why, size_t why_size)
{
	struct transport_line *mine = (struct transport_line *)(uintptr_t)line;

	pthread_mutex_lock(&mine->lock);
	snprintf(why, why_size, "%s", mine->why);
	pthread_mutex_unlock(&mine->lock);
}

struct transport_line *monitor_close(struct transport_line *line)
{
	/* The thread ends when its peer, the link, has gone; or when libvirt comes back. */
	line_unref(line);
	return NULL;
}
