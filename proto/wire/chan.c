/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/wire/chan.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <openssl/err.h>

#include "proto/wire/frame.h"
#include "proto/wire/tls_peer.h"
#include "proto/wire/wire.h"
#include "vmsig/vmsig_error.h"

#define RECORD_MAX 16384u /* plaintext bytes of one TLS record */
/* Header 5, content type 1, tag 16 (RFC 8446, 5.2). */
#define RECORD_OVERHEAD 22u
/* What OpenSSL may put in front of a record on its own: the answer to a key update. */
#define RECORD_SPARE 64u
/* Payloads up to this wait for what is sent right after them and share its record: what a record
 * costs, here and at the peer, is more than what is in it. */
#define SMALL_MAX 512u
#define WHY_MAX 320u /* bytes of a sentence about a failure of TLS */

_Static_assert(CHAN_FRAME_HEADER == FRAME_HEADER, "one frame header");
_Static_assert(CHAN_FDS_PER_FRAME <= WIRE_FDS_MAX, "a frame's descriptors fit one message");

struct chan {
	struct tls_ctx *tls;
	SSL *ssl;
	struct wire wire;
	struct chan_limits limits;
	struct buffer plain; /* decrypted, not yet taken */
	struct buffer small; /* frames to send that are not encrypted yet: a record at most */
	size_t taken;        /* bytes of plain that the caller borrows */
	int failed;          /* what every further call returns, or 0 */
	bool established;
	bool closing; /* close_notify is queued */
	struct tls_peer peer;
	char error[WHY_MAX + 24];
};

/* OpenSSL's queue of errors has to be empty before a call whose errors are looked at. That it is
 * nearly always is found out in a tenth of the time that it takes to empty it. */
static void forget_errors(void)
{
	if (ERR_peek_error())
		ERR_clear_error();
}

int chan_new(struct chan **ret_chan, struct tls_ctx *tls, int fd, const struct chan_limits *limits)
{
	struct chan *chan = calloc(1, sizeof(*chan));
	BIO *bio;

	if (!chan)
		return -ENOMEM;
	/* The caller keeps the socket until nothing can fail any more. */
	wire_init(&chan->wire, -1, limits->rx_fds_max);
	chan->limits = *limits;
	if (chan->limits.frame_max > CHAN_FRAME_MAX)
		chan->limits.frame_max = CHAN_FRAME_MAX;
	chan->tls = tls_ctx_ref(tls);
	ERR_clear_error();
	chan->ssl = tls_peer_session(tls, &chan->peer);
	bio = bio_buffers_new(&chan->wire.buffers);
	if (!chan->ssl || !bio) {
		BIO_free(bio);
		chan_free(chan);
		ERR_clear_error();
		return -ENOMEM;
	}
	SSL_set_bio(chan->ssl, bio, bio);
	chan->wire.fd = fd;
	*ret_chan = chan;
	return 0;
}

struct chan *chan_free(struct chan *chan)
{
	if (!chan)
		return NULL;
	SSL_free(chan->ssl);
	wire_deinit(&chan->wire);
	buffer_deinit(&chan->plain);
	buffer_deinit(&chan->small);
	tls_ctx_unref(chan->tls);
	free(chan);
	return NULL;
}

void chan_dispose(struct chan *chan, void (*close_fd)(void *ctx, int fd), void *ctx)
{
	chan->wire.disposal = (struct wire_disposal){.close = close_fd, .ctx = ctx};
}

void chan_look_for_fds(struct chan *chan)
{
	chan->wire.look = true;
}

int chan_socket(const struct chan *chan)
{
	return chan->wire.fd;
}

int chan_peer_cred(const struct chan *chan, struct ucred *ret_cred)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(chan->wire.fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return -errno;
	*ret_cred = cred;
	return 0;
}

int chan_peer_identity(const struct chan *chan, struct identity *ret_identity)
{
	if (!chan->established)
		return VMSIG_ERR_UNAUTHENTICATED;
	*ret_identity = chan->peer.identity;
	return 0;
}

int chan_reverify(struct chan *chan, struct tls_ctx *tls)
{
	if (!chan->established)
		return VMSIG_ERR_UNAUTHENTICATED;
	return tls_peer_reverify(chan->ssl, tls, chan->error, sizeof(chan->error));
}

int64_t chan_peer_until(const struct chan *chan)
{
	return chan->established ? tls_peer_until(chan->ssl) : INT64_MAX;
}

const char *chan_error(const struct chan *chan)
{
	if (chan->error[0])
		return chan->error;
	return chan->wire.error ? chan->wire.error : "";
}

static int chan_fail(struct chan *chan, int code, const char *error)
{
	chan->failed = code;
	if (!chan->error[0])
		snprintf(chan->error, sizeof(chan->error), "%s", error);
	return code;
}

int chan_fill(struct chan *chan)
{
	int r;

	if (chan->failed)
		return chan->failed;
	r = wire_fill(&chan->wire);
	if (r == VMSIG_ERR_PROTOCOL)
		return chan_fail(chan, r, chan->wire.error);
	if (r < 0)
		return chan_fail(chan, r, strerror(-r));
	return r;
}

bool chan_took_all(const struct chan *chan)
{
	return chan->wire.took_all;
}

int chan_give(struct chan *chan, const void *data, size_t len, const int *fds, size_t nfds)
{
	int r = wire_give(&chan->wire, data, len, fds, nfds);

	return r ? chan_fail(chan, r, "out of memory for received bytes") : 0;
}

/* Bytes that the frame lacks which has begun; 0: none has, or it is too long. */
static size_t frame_lacks(const struct chan *chan)
{
	size_t missing = frame_missing(buffer_head(&chan->plain), chan->plain.len);

	return chan->plain.len && missing <= chan->limits.frame_max ? missing : 0;
}

/* Between messages only what is needed for the rest of one stays allocated. */
static void chan_rest(struct chan *chan)
{
	buffer_trim(&chan->wire.buffers.rx, 0);
	buffer_trim(&chan->plain, frame_lacks(chan));
}

/* Empties OpenSSL's queue of errors into a sentence. A client that is refused gets an alert, which
 * says little: what it showed is added. */
static int tls_failed(struct chan *chan, char why[static WHY_MAX])
{
	int alert, r = tls_peer_failure(why, WHY_MAX, &alert);
	char face[WHY_MAX];
	size_t len = strlen(why);

	if (r != VMSIG_ERR_UNAUTHENTICATED || SSL_is_server(chan->ssl))
		return r;
	tls_peer_own_face(chan->ssl, alert, face, sizeof(face));
	if (face[0])
		snprintf(why + len, WHY_MAX - len, "; %s", face);
	return r;
}

static int handshake_failed(struct chan *chan)
{
	char why[WHY_MAX];
	int r = tls_failed(chan, why);

	snprintf(chan->error, sizeof(chan->error), "TLS handshake failed: %s",
		chan->peer.error[0] ? chan->peer.error : why);
	chan->failed = r < 0 ? r : VMSIG_ERR_UNAUTHENTICATED;
	return chan->failed;
}

int chan_handshake(struct chan *chan)
{
	int r;

	if (chan->failed)
		return chan->failed;
	if (chan->established)
		return 0;
	ERR_clear_error();
	r = SSL_do_handshake(chan->ssl);
	if (r == 1) {
		if (!chan->peer.verified)
			return handshake_failed(chan);
		chan->established = true;
		return 0;
	}
	if (SSL_get_error(chan->ssl, r) != SSL_ERROR_WANT_READ)
		return handshake_failed(chan);
	chan_rest(chan);
	if (chan->wire.eof)
		return chan_fail(chan, VMSIG_ERR_DISCONNECTED,
			"the peer closed the connection during the TLS handshake");
	return VMSIG_ERR_WOULD_BLOCK;
}

bool chan_established(const struct chan *chan)
{
	return chan->established;
}

/* The stream is over; what is left of a frame will never be one. */
static int chan_ended(struct chan *chan)
{
	return chan_fail(chan, VMSIG_ERR_DISCONNECTED,
		chan->plain.len ? "the peer closed the connection in the middle of a frame"
				: "the peer closed the connection");
}

/* Decrypts one record. */
static int chan_decrypt(struct chan *chan)
{
	char why[WHY_MAX];
	size_t n = 0;
	int r;

	/* Without new bytes OpenSSL would only spend time and memory on finding that out. */
	if (chan->wire.buffers.rx.len == 0 && !SSL_has_pending(chan->ssl))
		return chan->wire.eof ? chan_ended(chan) : VMSIG_ERR_WOULD_BLOCK;
	/* All of the frame at once, and what may come with its last record: one that grows would
	 * be copied again and again. */
	r = buffer_reserve(&chan->plain, frame_lacks(chan) + RECORD_MAX);
	if (r)
		return chan_fail(chan, r, "out of memory for a received frame");
	forget_errors();
	r = SSL_read_ex(chan->ssl, buffer_tail(&chan->plain), RECORD_MAX, &n);
	if (r == 1) {
		buffer_commit(&chan->plain, n);
		return 0;
	}
	switch (SSL_get_error(chan->ssl, r)) {
	case SSL_ERROR_WANT_READ:
		return chan->wire.eof ? chan_ended(chan) : VMSIG_ERR_WOULD_BLOCK;
	case SSL_ERROR_ZERO_RETURN:
		return chan_ended(chan);
	default:
		r = tls_failed(chan, why);
		return chan_fail(chan, r, why);
	}
}

static int frame_too_long(struct chan *chan)
{
	snprintf(chan->error, sizeof(chan->error),
		"the peer announced a frame over the limit of %zu bytes; send less at once",
		chan->limits.frame_max);
	return chan_fail(chan, VMSIG_ERR_PROTOCOL, "");
}

int chan_recv_piece(struct chan *chan, const uint8_t **ret_data, size_t *ret_len)
{
	int r;

	if (chan->failed)
		return chan->failed;
	if (!chan->established)
		return VMSIG_ERR_UNAUTHENTICATED;
	buffer_consume(&chan->plain, chan->taken);
	chan->taken = 0;
	for (bool decrypted = false;; decrypted = true) {
		r = frame_parse(buffer_head(&chan->plain), chan->plain.len, chan->limits.frame_max,
			ret_data, ret_len);
		if (r == 0) {
			chan->taken = FRAME_HEADER + *ret_len;
			return 0;
		}
		if (r != VMSIG_ERR_WOULD_BLOCK)
			return frame_too_long(chan);
		if (decrypted)
			return VMSIG_ERR_BUSY;
		r = chan_decrypt(chan);
		if (r) {
			chan_rest(chan);
			return r;
		}
	}
}

int chan_recv(struct chan *chan, const uint8_t **ret_data, size_t *ret_len)
{
	int r;

	do
		r = chan_recv_piece(chan, ret_data, ret_len);
	while (r == VMSIG_ERR_BUSY);
	return r;
}

/* Ciphertext bytes of a frame, at most. */
static size_t frame_cost(size_t len)
{
	size_t plain = FRAME_HEADER + len;
	size_t records = (plain + RECORD_MAX - 1) / RECORD_MAX;

	return plain + records * RECORD_OVERHEAD + RECORD_SPARE;
}

static int chan_encrypt(struct chan *chan, const void *data, size_t len)
{
	char why[192];
	size_t n;
	int alert, r;

	forget_errors();
	if (SSL_write_ex(chan->ssl, data, len, &n) == 1)
		return 0;
	r = tls_peer_failure(why, sizeof(why), &alert);
	return chan_fail(chan, r, why);
}

/* What has waited goes into a record. */
static int chan_seal(struct chan *chan)
{
	int r;

	if (!chan->small.len)
		return 0;
	r = chan_encrypt(chan, buffer_head(&chan->small), chan->small.len);
	buffer_consume(&chan->small, chan->small.len);
	return r;
}

int chan_drain(struct chan *chan)
{
	int sealed = chan_seal(chan), r = wire_drain(&chan->wire);

	if (r < 0)
		return chan_fail(chan, r, strerror(-r));
	return sealed ? sealed : r;
}

bool chan_has_output(const struct chan *chan)
{
	return chan->wire.buffers.tx.len > 0 || chan->small.len > 0;
}

bool chan_is_read(const struct chan *chan)
{
	return !chan->small.len && wire_is_read(&chan->wire);
}

size_t chan_output_bytes(const struct chan *chan)
{
	return chan->wire.buffers.tx.len +
	       (chan->small.len ? chan->small.len + RECORD_OVERHEAD : 0);
}

/* The header shares the first record with the payload; the rest goes without a copy. */
static int frame_encrypt(struct chan *chan, const uint8_t *data, size_t len)
{
	uint8_t first[RECORD_MAX];
	size_t n = len < RECORD_MAX - FRAME_HEADER ? len : RECORD_MAX - FRAME_HEADER;
	int r;

	frame_header(first, (uint32_t)len);
	if (n)
		memcpy(first + FRAME_HEADER, data, n);
	r = chan_encrypt(chan, first, FRAME_HEADER + n);
	if (r || n == len)
		return r;
	return chan_encrypt(chan, data + n, len - n);
}

static int send_check(const struct chan *chan, size_t len, size_t nfds)
{
	if (chan->failed)
		return chan->failed;
	if (!chan->established)
		return VMSIG_ERR_UNAUTHENTICATED;
	if (chan->closing)
		return VMSIG_ERR_DISCONNECTED;
	if (len > CHAN_FRAME_MAX || nfds > CHAN_FDS_PER_FRAME)
		return VMSIG_ERR_BAD_REQUEST;
	if (chan_output_bytes(chan) + frame_cost(len) > chan->limits.tx_max)
		return VMSIG_ERR_QUOTA;
	return 0;
}

static int no_memory(struct chan *chan)
{
	return chan_fail(chan, -ENOMEM, "out of memory for a frame to send");
}

static int add_small(struct chan *chan, const void *data, size_t len)
{
	uint8_t header[FRAME_HEADER];

	if (buffer_reserve(&chan->small, FRAME_HEADER + len))
		return no_memory(chan);
	frame_header(header, (uint32_t)len);
	/* There is room for both. */
	(void)!buffer_append(&chan->small, header, sizeof(header));
	(void)!buffer_append(&chan->small, data, len);
	return 0;
}

/* Together with what waits for a record, which it fits into. */
static int frame_put(struct chan *chan, const void *data, size_t len, bool waits)
{
	int r;

	if (!waits && !chan->small.len)
		return frame_encrypt(chan, data, len);
	r = add_small(chan, data, len);
	return r || waits ? r : chan_seal(chan);
}

int chan_send(struct chan *chan, const void *data, size_t len, const int *fds, size_t nfds)
{
	bool waits = !nfds && len <= SMALL_MAX;
	uint64_t at;
	int r = send_check(chan, len, nfds);

	if (!r && chan->small.len + FRAME_HEADER + len > RECORD_MAX)
		r = chan_seal(chan);
	if (r)
		return r;
	at = wire_tx_end(&chan->wire);
	/* All memory first: a record that was encrypted cannot be taken back. */
	if (buffer_reserve(&chan->wire.buffers.tx, chan->small.len + frame_cost(len)) ||
		fdqueue_reserve(&chan->wire.tx_fds, nfds))
		return no_memory(chan);
	r = frame_put(chan, data, len, waits);
	return r ? r : fdqueue_push(&chan->wire.tx_fds, at, fds, nfds);
}

void chan_shutdown(struct chan *chan)
{
	if (!chan->established || chan->failed || chan->closing)
		return;
	if (chan_seal(chan))
		return;
	chan->closing = true;
	ERR_clear_error();
	/* 0 is success: our close_notify is out, the peer's has not come. */
	if (SSL_shutdown(chan->ssl) < 0)
		ERR_clear_error();
}

int chan_fd_describe_opened(int fd, uint32_t access, struct chan_fd_claim *ret_claim)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	*ret_claim = (struct chan_fd_claim){
		.dev = st.st_dev,
		.ino = st.st_ino,
		.size = (uint64_t)st.st_size,
		.access = access,
		.regular = S_ISREG(st.st_mode),
	};
	return 0;
}

int chan_fd_describe(int fd, struct chan_fd_claim *ret_claim)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return -errno;
	/* Its access mode reads as O_RDONLY and means nothing. */
	if (flags & O_PATH)
		return -EBADF;
	return chan_fd_describe_opened(fd, (uint32_t)(flags & O_ACCMODE), ret_claim);
}

static const char *claim_mismatch(int fd, const struct chan_fd_claim *claim)
{
	struct chan_fd_claim is = {0};

	if (chan_fd_describe(fd, &is))
		return "a received descriptor cannot be examined";
	if (is.dev != claim->dev || is.ino != claim->ino)
		return "a received descriptor is another file than announced";
	if (is.size != claim->size)
		return "a received descriptor's file has another size than announced";
	if (is.access != claim->access)
		return "a received descriptor has another access mode than announced";
	if (claim->regular && !is.regular)
		return "a received descriptor is not of a regular file";
	return NULL;
}

int chan_take_fds(struct chan *chan, const struct chan_fd_claim *claims, size_t n, int *ret_fds)
{
	struct fdqueue *queue = &chan->wire.rx_fds;
	const char *error = NULL;

	if (n > queue->len)
		error = "fewer descriptors came than the message announced";
	for (size_t i = 0; i < n && !error; i++)
		error = claim_mismatch(queue->entries[queue->head + i].fd, &claims[i]);
	if (error) {
		wire_drop_received(&chan->wire);
		return chan_fail(chan, VMSIG_ERR_PROTOCOL, error);
	}
	fdqueue_pop(queue, ret_fds, n);
	return 0;
}

size_t chan_pending_fds(const struct chan *chan)
{
	return chan->wire.rx_fds.len;
}
