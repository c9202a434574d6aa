/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/lib/fake_broker.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "vmsig/vmsig_coherence.h"
#include "tests/support/descriptors.h"

static const struct chan_limits limits = {
	.frame_max = CHAN_FRAME_MAX, .tx_max = 8u << 20, .rx_fds_max = 0};

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void identity_link(const struct fake *fake, const char *target, const char *name)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", fake->identity, name);
	assert_int_equal(symlink(target, path), 0);
}

static void listener_open(struct fake *fake)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", fake->path);
	fake->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_true(fake->listener >= 0);
	assert_int_equal(bind(fake->listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fake->listener, 4), 0);
}

int fake_setup(void **state)
{
	struct fake *fake = calloc(1, sizeof(*fake));
	struct pki_cert broker, sensor;
	struct tls_files files;
	char error[256];

	assert_non_null(fake);
	fake->pki = pki_new();
	pki_issue_uri(fake->pki, "broker", "vmsig://broker/host1", &broker);
	pki_issue_uri(fake->pki, "sensor", "vmsig://sensor/acme", &sensor);
	snprintf(fake->identity, sizeof(fake->identity), "%s/me", pki_dir(fake->pki));
	snprintf(fake->path, sizeof(fake->path), "%s/ctx.sock", pki_dir(fake->pki));
	assert_int_equal(mkdir(fake->identity, 0700), 0);
	identity_link(fake, pki_ca(fake->pki), "ca.pem");
	identity_link(fake, sensor.cert, "cert.pem");
	identity_link(fake, sensor.key, "key.pem");
	files = pki_files(fake->pki, &broker, NULL);
	if (tls_ctx_new(&fake->tls, TLS_SERVER, &files, IDENTITY_SENSOR, error, sizeof(error)))
		fail_msg("%s", error);
	listener_open(fake);
	fake->open_fds = descriptors_open();
	*state = fake;
	return 0;
}

int fake_teardown(void **state)
{
	struct fake *fake = *state;

	vmsig_close(fake->v);
	chan_free(fake->chan);
	assert_int_equal(descriptors_open(), fake->open_fds);
	close(fake->listener);
	tls_ctx_unref(fake->tls);
	pki_free(fake->pki);
	free(fake);
	return 0;
}

vmsig_options fake_options(const struct fake *fake)
{
	return (vmsig_options){
		.socket_path = fake->path,
		.identity_dir = fake->identity,
		.backoff_min_ms = 2,
		.backoff_max_ms = 8,
	};
}

void fake_open_with(struct fake *fake, const vmsig_options *options)
{
	char error[256];

	if (vmsig_open(&fake->v, options, error, sizeof(error)))
		fail_msg("%s", error);
}

void fake_open(struct fake *fake)
{
	vmsig_options options = fake_options(fake);

	fake_open_with(fake, &options);
}

void fake_connect(struct fake *fake)
{
	vmsig_delivery delivery;

	fake_open(fake);
	fake_greet(fake);
	delivery = fake_expect(fake, VMSIG_EV_CONNECTED);
	vmsig_delivery_clear(&delivery);
}

static void broker_accept(struct fake *fake)
{
	int fd = accept4(fake->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	assert_int_equal(chan_new(&fake->chan, fake->tls, fd, &limits), 0);
}

void fake_broker_step(struct fake *fake)
{
	int r = 0;

	if (!fake->chan)
		broker_accept(fake);
	if (!fake->chan || fake->mute)
		return;
	while (r == 0)
		r = chan_fill(fake->chan);
	if (!chan_established(fake->chan))
		r = chan_handshake(fake->chan);
	r = chan_drain(fake->chan);
	(void)r;
}

int fake_step(struct fake *fake)
{
	fake_broker_step(fake);
	return vmsig_process(fake->v);
}

void fake_nap(struct fake *fake)
{
	struct pollfd pfd = {.fd = vmsig_fd(fake->v), .events = POLLIN};

	assert_true(poll(&pfd, 1, 1) >= 0);
}

/* Sleeps a little when both have nothing to do; fails the test after DRIVE_MS. */
static void drive(struct fake *fake, int64_t until)
{
	if (now_ms() > until)
		fail_msg("nothing happened; last error: %s", vmsig_last_error(fake->v));
	if (fake_step(fake) == 0)
		fake_nap(fake);
}

vmsig_delivery fake_expect(struct fake *fake, uint32_t kind)
{
	int64_t until = now_ms() + DRIVE_MS;
	vmsig_delivery delivery;

	while (vmsig_next(fake->v, &delivery))
		drive(fake, until);
	if (delivery.event.kind != kind)
		fail_msg("a delivery of kind 0x%x (%s) instead of 0x%x; %s", delivery.event.kind,
			vmsig_delivery_text(&delivery), kind, vmsig_last_error(fake->v));
	return delivery;
}

void fake_expect_error(struct fake *fake, uint32_t kind, int error)
{
	vmsig_delivery delivery = fake_expect(fake, kind);

	if (delivery.error != -error)
		fail_msg("%s instead of %s: %s", vmsig_error_name(delivery.error),
			vmsig_error_name(error), vmsig_delivery_text(&delivery));
	vmsig_delivery_clear(&delivery);
}

void fake_expect_silence(struct fake *fake)
{
	vmsig_delivery delivery;

	for (int i = 0; i < 20; i++)
		assert_int_equal(fake_step(fake), 0);
	if (vmsig_next(fake->v, &delivery) == 0)
		fail_msg("unexpected delivery of kind 0x%x: %s", delivery.event.kind,
			vmsig_delivery_text(&delivery));
}

Vmsig__CtxRequest *fake_request(struct fake *fake, Vmsig__CtxRequest__BodyCase body)
{
	int64_t until = now_ms() + DRIVE_MS;
	Vmsig__CtxRequest *request;
	const uint8_t *data;
	size_t len;

	while (!fake->chan || chan_recv(fake->chan, &data, &len))
		drive(fake, until);
	request = vmsig__ctx_request__unpack(NULL, len, data);
	assert_non_null(request);
	assert_int_equal(request->body_case, body);
	assert_true(request->request_id != 0);
	return request;
}

void fake_request_free(Vmsig__CtxRequest *request)
{
	vmsig__ctx_request__free_unpacked(request, NULL);
}

void fake_greet(struct fake *fake)
{
	Vmsig__CtxRequest *request = fake_request(fake, VMSIG__CTX_REQUEST__BODY_HELLO);

	assert_int_equal(request->hello->version, 1);
	fake_hello(fake, request->request_id, 1);
	fake_request_free(request);
}

/* ---- saying things ---- */

void fake_send_raw(struct fake *fake, const void *data, size_t len)
{
	assert_int_equal(chan_send(fake->chan, data, len, NULL, 0), 0);
}

void fake_send(struct fake *fake, const Vmsig__CtxMessage *message, const int *fds, size_t nfds)
{
	size_t len = vmsig__ctx_message__get_packed_size(message);
	uint8_t *data = malloc(len ? len : 1);

	assert_non_null(data);
	vmsig__ctx_message__pack(message, data);
	assert_int_equal(chan_send(fake->chan, data, len, fds, nfds), 0);
	free(data);
}

void fake_hello(struct fake *fake, uint64_t id, uint32_t version)
{
	Vmsig__Hello body = VMSIG__HELLO__INIT;
	Vmsig__CtxMessage message = VMSIG__CTX_MESSAGE__INIT;
	char software[] = "fake\033[31m/1";

	body.version = version;
	body.software = software;
	message.request_id = id;
	message.body_case = VMSIG__CTX_MESSAGE__BODY_HELLO;
	message.hello = &body;
	fake_send(fake, &message, NULL, 0);
}

void fake_done(struct fake *fake, uint64_t id)
{
	Vmsig__Done body = VMSIG__DONE__INIT;
	Vmsig__CtxMessage message = VMSIG__CTX_MESSAGE__INIT;

	message.request_id = id;
	message.body_case = VMSIG__CTX_MESSAGE__BODY_DONE;
	message.done = &body;
	fake_send(fake, &message, NULL, 0);
}

void fake_error(struct fake *fake, uint64_t id, int code)
{
	Vmsig__Error body = VMSIG__ERROR__INIT;
	Vmsig__CtxMessage message = VMSIG__CTX_MESSAGE__INIT;
	char detail[] = "because\nof this\xc2\x9b\xff";

	body.code = (uint32_t)code;
	body.detail = detail;
	message.request_id = id;
	message.body_case = VMSIG__CTX_MESSAGE__BODY_ERROR;
	message.error = &body;
	fake_send(fake, &message, NULL, 0);
}

void fake_state(struct fake *fake, const char *name, uint32_t epoch, uint32_t state)
{
	Vmsig__EndpointState body = VMSIG__ENDPOINT_STATE__INIT;
	Vmsig__CtxMessage message = VMSIG__CTX_MESSAGE__INIT;
	char detail[] = "looking";

	body.endpoint = 7;
	body.name = (char *)(uintptr_t)name;
	body.epoch = epoch;
	body.state = state;
	body.guard = VMSIG_GUARD_SEALED;
	body.detail = detail;
	message.body_case = VMSIG__CTX_MESSAGE__BODY_ENDPOINT_STATE;
	message.endpoint_state = &body;
	fake_send(fake, &message, NULL, 0);
}

void fake_invalidated(struct fake *fake, const char *name, uint32_t epoch)
{
	Vmsig__MemctxInvalidated body = VMSIG__MEMCTX_INVALIDATED__INIT;
	Vmsig__CtxMessage message = VMSIG__CTX_MESSAGE__INIT;

	body.endpoint = 7;
	body.name = (char *)(uintptr_t)name;
	body.epoch = epoch;
	message.body_case = VMSIG__CTX_MESSAGE__BODY_MEMCTX_INVALIDATED;
	message.memctx_invalidated = &body;
	fake_send(fake, &message, NULL, 0);
}

void fake_grant(struct fake *fake, const char *pattern)
{
	Vmsig__CtxRequest *request = fake_request(fake, VMSIG__CTX_REQUEST__BODY_SUBSCRIBE);

	assert_string_equal(request->subscribe->endpoint, pattern);
	fake_done(fake, request->request_id);
	fake_request_free(request);
}

void fake_drop(struct fake *fake)
{
	fake->chan = chan_free(fake->chan);
}

/* ---- contexts ---- */

int fake_file(size_t size, int access)
{
	int fd = memfd_create("ram", MFD_CLOEXEC), again;
	char path[64];

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	if (access == O_RDWR)
		return fd;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, access | O_CLOEXEC);
	assert_true(again >= 0);
	close(fd);
	return again;
}

void fake_memctx_describe(struct fake_memctx *memctx, size_t i)
{
	struct chan_fd_claim claim;

	assert_int_equal(chan_fd_describe(memctx->fds[i], &claim), 0);
	memctx->descriptors[i].dev = claim.dev;
	memctx->descriptors[i].ino = claim.ino;
	memctx->descriptors[i].size = claim.size;
	memctx->descriptors[i].access = claim.access;
}

void fake_memctx_init(struct fake_memctx *memctx, const char *name, uint32_t epoch)
{
	memset(memctx, 0, sizeof(*memctx));
	vmsig__memctx__init(&memctx->body);
	for (size_t i = 0; i < FAKE_FDS; i++) {
		vmsig__descriptor__init(&memctx->descriptors[i]);
		memctx->descriptor_pointers[i] = &memctx->descriptors[i];
	}
	for (size_t i = 0; i < 3; i++) {
		vmsig__segment__init(&memctx->segments[i]);
		memctx->segment_pointers[i] = &memctx->segments[i];
	}
	memctx->segments[0].len = FAKE_RAM / 2;
	memctx->segments[1].gpa = 1ull << 32;
	memctx->segments[1].len = FAKE_RAM / 2;
	memctx->segments[1].file_off = FAKE_RAM / 2;
	memctx->fds[0] = fake_file(FAKE_RAM, O_RDONLY);
	memctx->fds[1] = fake_file(VMSIG_COHERENCE_SIZE, O_RDONLY);
	memctx->nfds = 2;
	memctx->descriptors[0].purpose = VMSIG__DESCRIPTOR__PURPOSE__GUEST_RAM;
	memctx->descriptors[1].purpose = VMSIG__DESCRIPTOR__PURPOSE__COHERENCE_PAGE;
	fake_memctx_describe(memctx, 0);
	fake_memctx_describe(memctx, 1);
	memctx->body.endpoint = 7;
	memctx->body.name = (char *)(uintptr_t)name;
	memctx->body.delivery = FAKE_DELIVERY;
	memctx->body.kcr3 = 0x1000;
	memctx->body.low = FAKE_RAM / 2;
	memctx->body.epoch = epoch;
	memctx->body.flags = VMSIG_MEMCTX_RDONLY;
	memctx->body.guard = VMSIG_GUARD_SEALED;
	memctx->body.segments = memctx->segment_pointers;
	memctx->body.n_segments = 2;
	memctx->body.descriptors = memctx->descriptor_pointers;
	memctx->body.n_descriptors = 2;
}

void fake_memctx_send(struct fake *fake, struct fake_memctx *memctx)
{
	Vmsig__CtxMessage message = VMSIG__CTX_MESSAGE__INIT;

	message.body_case = VMSIG__CTX_MESSAGE__BODY_MEMCTX;
	message.memctx = &memctx->body;
	fake_send(fake, &message, memctx->fds, memctx->nfds);
}

vmsig_delivery fake_memctx_deliver(struct fake *fake, const char *name, uint32_t epoch)
{
	struct fake_memctx memctx;
	Vmsig__CtxRequest *request;

	fake_memctx_init(&memctx, name, epoch);
	fake_memctx_send(fake, &memctx);
	request = fake_request(fake, VMSIG__CTX_REQUEST__BODY_MEMCTX_TAKEN);
	assert_true(request->memctx_taken->delivery == FAKE_DELIVERY);
	fake_request_free(request);
	return fake_expect(fake, VMSIG_EV_MEMCTX);
}
