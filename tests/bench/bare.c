/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/bare.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/sha.h>
#include <utlist.h>
#include <uv.h>

#include "broker/multihash.h"
#include "tests/bench/line.h"
#include "vmsig/vmsig_error.h"

#define PAGE 4096u
#define IDENTITY 192u /* bytes of what identifies a write */

/* What is to be stored, together with what comes with it. */
struct held {
	struct bare_request request;
	size_t len;
	uint8_t data[PAGE], old[PAGE];
};

struct server {
	uv_loop_t loop;
	uv_poll_t listener;
	int listen_fd;
	struct tls_ctx *tls;
	struct peer *peers;
	int fds[BARE_FDS];
	uint8_t reply[CHAN_FRAME_MAX];
	uint8_t ram[PAGE];
	struct multihash *multihash; /* NULL: one hash at a time */
	struct held held[MULTIHASH_LANES];
	size_t nheld;
};

struct peer {
	struct server *server;
	struct chan *chan;
	uv_poll_t poll;
	int mask;
	struct peer *prev, *next;
};

static void on_poll(uv_poll_t *poll, int status, int events);

static void on_closed(uv_handle_t *handle)
{
	struct peer *peer = handle->data;

	chan_free(peer->chan);
	free(peer);
}

static void peer_close(struct peer *peer)
{
	DL_DELETE(peer->server->peers, peer);
	uv_close((uv_handle_t *)&peer->poll, on_closed);
}

static void peer_flush(struct peer *peer)
{
	int mask = UV_READABLE;

	if (chan_drain(peer->chan) == VMSIG_ERR_WOULD_BLOCK)
		mask |= UV_WRITABLE;
	if (mask != peer->mask)
		uv_poll_start(&peer->poll, mask, on_poll);
	peer->mask = mask;
}

static void peer_send(struct peer *peer, size_t len, const int *fds, size_t nfds)
{
	if (chan_send(peer->chan, peer->server->reply, len, fds, nfds))
		bench_die("bare server: cannot send: %s", chan_error(peer->chan));
}

static int open_again(int fd)
{
	char path[64];
	int again;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, O_RDONLY | O_CLOEXEC);
	if (again < 0)
		bench_die("%s: %s", path, strerror(errno));
	return again;
}

static void peer_reply(struct peer *peer, const struct bare_request *request)
{
	const int *own = peer->server->fds;
	int fds[BARE_FDS];

	for (size_t i = 0; i < request->nfds; i++)
		fds[i] = i == 0 && request->duties & BARE_FRESH ? open_again(own[i])
								: fcntl(own[i], F_DUPFD_CLOEXEC, 0);
	peer_send(peer, request->reply, fds, request->nfds);
}

static void tell_everybody(struct peer *asker, const struct bare_request *request)
{
	struct peer *peer;

	DL_FOREACH (asker->server->peers, peer) {
		if (peer == asker || !(request->duties & BARE_TELL))
			continue;
		peer_send(peer, BARE_NOTE, NULL, 0);
		peer_flush(peer);
	}
	DL_FOREACH (asker->server->peers, peer) {
		if (peer == asker)
			continue;
		peer_reply(peer, request);
		peer_flush(peer);
	}
}

/* As many together as are there, where that is faster. */
static void hash_all(struct server *server, bool old)
{
	uint8_t hashes[MULTIHASH_LANES][SHA256_DIGEST_LENGTH];
	struct multihash_message messages[MULTIHASH_LANES];

	for (size_t i = 0; i < server->nheld; i++) {
		const struct held *held = &server->held[i];

		messages[i] = (struct multihash_message){.data = old ? held->old : held->data,
			.len = held->len,
			.ret_hash = hashes[i]};
	}
	if (multihash_pays(server->multihash, messages, server->nheld) &&
		multihash_make(server->multihash, messages, server->nheld))
		return;
	for (size_t i = 0; i < server->nheld; i++)
		SHA256(messages[i].data, messages[i].len, hashes[i]);
}

/* The bytes go to where they belong, and those that were there away from it. */
static void peer_store(struct peer *peer)
{
	struct server *server = peer->server;
	uint8_t hash[SHA256_DIGEST_LENGTH];

	if (!server->nheld)
		return;
	hash_all(server, false);
	for (size_t i = 0; i < server->nheld; i++) {
		struct held *held = &server->held[i];

		SHA256(server->reply, IDENTITY, hash);
		memcpy(held->old, server->ram, held->len);
		memcpy(server->ram, held->data, held->len);
	}
	hash_all(server, true);
	for (size_t i = 0; i < server->nheld; i++)
		peer_reply(peer, &server->held[i].request);
	server->nheld = 0;
}

static void peer_hold(
	struct peer *peer, const struct bare_request *request, const uint8_t *data, size_t len)
{
	struct held *held = &peer->server->held[peer->server->nheld++];

	held->request = *request;
	held->len = len < PAGE ? len : PAGE;
	memcpy(held->data, data, held->len);
	if (peer->server->nheld == MULTIHASH_LANES)
		peer_store(peer);
}

static void peer_frame(struct peer *peer, const uint8_t *data, size_t len)
{
	struct bare_request request = {0};

	if (len >= sizeof(request))
		memcpy(&request, data, sizeof(request));
	if (request.duties & BARE_LOOK)
		chan_look_for_fds(peer->chan);
	if (request.duties & BARE_HASH) {
		peer_hold(peer, &request, data, len);
		return;
	}
	if (request.everybody)
		tell_everybody(peer, &request);
	else if (request.duties & BARE_TELL)
		peer_send(peer, BARE_NOTE, NULL, 0);
	if (request.reply)
		peer_reply(peer, &request);
}

static int peer_receive(struct peer *peer)
{
	int filled = chan_fill(peer->chan), r = 0;

	if (!chan_established(peer->chan))
		r = chan_handshake(peer->chan);
	while (!r) {
		const uint8_t *data;
		size_t len;

		r = chan_recv(peer->chan, &data, &len);
		if (!r)
			peer_frame(peer, data, len);
	}
	peer_store(peer);
	return r == VMSIG_ERR_WOULD_BLOCK && filled == VMSIG_ERR_DISCONNECTED ? filled : r;
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct peer *peer = poll->data;
	int r = peer_receive(peer);

	if (r == VMSIG_ERR_WOULD_BLOCK)
		peer_flush(peer);
	else
		peer_close(peer);
}

static void on_connection(uv_poll_t *poll, int status, int events)
{
	struct server *server = poll->data;
	struct peer *peer;
	int fd;

	while ((fd = accept4(server->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		peer = calloc(1, sizeof(*peer));
		if (!peer)
			bench_die("bare server: out of memory");
		peer->server = server;
		peer->chan = line_chan(server->tls, fd);
		peer->poll.data = peer;
		peer->mask = UV_READABLE;
		DL_APPEND(server->peers, peer);
		uv_poll_init(&server->loop, &peer->poll, fd);
		uv_poll_start(&peer->poll, UV_READABLE, on_poll);
	}
}

__attribute__((noreturn)) static void serve(struct server *server)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	server->multihash = multihash_new();
	uv_loop_init(&server->loop);
	uv_poll_init(&server->loop, &server->listener, server->listen_fd);
	server->listener.data = server;
	uv_poll_start(&server->listener, UV_READABLE, on_connection);
	uv_run(&server->loop, UV_RUN_DEFAULT);
	_exit(0);
}

static int listen_at(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 4096) < 0)
		bench_die("cannot listen at %s: %s", path, strerror(errno));
	return fd;
}

/* As a holder has it. */
static int read_only_memfd(void)
{
	int fd = memfd_create("bare", MFD_CLOEXEC), again;

	if (fd < 0)
		bench_die("memfd: %s", strerror(errno));
	again = open_again(fd);
	close(fd);
	return again;
}

void bare_start(struct bare *bare, const struct bench *bench)
{
	static struct server server;
	static unsigned number;
	char name[48];

	snprintf(name, sizeof(name), "bare-%d-%u.sock", getpid(), number++);
	bench_path(bare->socket, sizeof(bare->socket), bench->scratch, name);
	server.listen_fd = listen_at(bare->socket);
	server.tls = line_tls(bench->pki, "broker", TLS_SERVER);
	for (size_t i = 0; i < BARE_FDS; i++) {
		server.fds[i] = read_only_memfd();
		if (chan_fd_describe(server.fds[i], &bare->claims[i]))
			bench_die("memfd: %s", strerror(errno));
	}
	bare->pid = fork();
	if (bare->pid < 0)
		bench_die("fork: %s", strerror(errno));
	if (bare->pid == 0)
		serve(&server);
	close(server.listen_fd);
	tls_ctx_unref(server.tls);
	for (size_t i = 0; i < BARE_FDS; i++)
		close(server.fds[i]);
}

void bare_stop(struct bare *bare)
{
	kill(bare->pid, SIGKILL);
	waitpid(bare->pid, NULL, 0);
	unlink(bare->socket);
}
