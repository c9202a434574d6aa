/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/crowd.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "proto/wire/feature.h"
#include "proto/wire/vmsig.pb-c.h"
#include "tests/bench/line.h"
#include "vmsig/vmsig_error.h"

#define EVENTS 64
#define IDENTITIES_MAX 16u

struct member {
	struct chan *chan;
	unsigned number;
	unsigned contexts;
	bool asked;
};

struct crowd {
	struct crowd_spec spec;
	struct tls_ctx *tls[IDENTITIES_MAX];
	struct member *members;
	int epoll;
	unsigned goal, reached; /* members that have had `goal` contexts */
	vmsig_coherence *page;
};

/* ---- messages ---- */

static size_t request_pack(Vmsig__CtxRequest *request, uint8_t *buf)
{
	request->request_id = 1;
	return vmsig__ctx_request__pack(request, buf);
}

static size_t hello_pack(uint8_t *buf)
{
	Vmsig__CtxRequest request = VMSIG__CTX_REQUEST__INIT;
	Vmsig__Hello hello = VMSIG__HELLO__INIT;

	hello.version = 1;
	hello.features = FEATURE_TAKEN_UNSAID; /* as the library does */
	request.body_case = VMSIG__CTX_REQUEST__BODY_HELLO;
	request.hello = &hello;
	return request_pack(&request, buf);
}

static size_t subscribe_pack(const char *endpoint, uint8_t *buf)
{
	Vmsig__CtxRequest request = VMSIG__CTX_REQUEST__INIT;
	Vmsig__Subscribe subscribe = VMSIG__SUBSCRIBE__INIT;

	subscribe.endpoint = (char *)(uintptr_t)endpoint;
	request.body_case = VMSIG__CTX_REQUEST__BODY_SUBSCRIBE;
	request.subscribe = &subscribe;
	return request_pack(&request, buf);
}

static size_t taken_pack(uint64_t delivery, uint8_t *buf)
{
	Vmsig__CtxRequest request = VMSIG__CTX_REQUEST__INIT;
	Vmsig__MemctxTaken taken = VMSIG__MEMCTX_TAKEN__INIT;

	taken.delivery = delivery;
	request.body_case = VMSIG__CTX_REQUEST__BODY_MEMCTX_TAKEN;
	request.memctx_taken = &taken;
	return request_pack(&request, buf);
}

size_t crowd_subscribe_size(const char *endpoint)
{
	uint8_t buf[256];

	return subscribe_pack(endpoint, buf);
}

/* With numbers as large as they are in practice. */
size_t crowd_memctx_size(void)
{
	char name[] = "vm";
	Vmsig__CtxMessage message = VMSIG__CTX_MESSAGE__INIT;
	Vmsig__Descriptor descriptor = VMSIG__DESCRIPTOR__INIT,
			  *descriptors[] = {&descriptor, &descriptor};
	Vmsig__Memctx body = VMSIG__MEMCTX__INIT;

	descriptor.purpose = VMSIG__DESCRIPTOR__PURPOSE__GUEST_RAM;
	descriptor.dev = 1u << 8;
	descriptor.ino = 1u << 12;
	descriptor.size = 1u << 28;
	body.endpoint = body.epoch = body.flags = body.guard = 1;
	body.name = name;
	body.delivery = 1;
	body.kcr3 = BENCH_TABLES;
	body.low = 1u << 28;
	body.descriptors = descriptors;
	body.n_descriptors = 2;
	message.body_case = VMSIG__CTX_MESSAGE__BODY_MEMCTX;
	message.memctx = &body;
	return vmsig__ctx_message__get_packed_size(&message);
}

/* ---- one member ---- */

static void name_of(
	char name[], size_t size, const char *prefix, unsigned number, unsigned variants)
{
	if (variants == 1)
		snprintf(name, size, "%s", prefix);
	else
		snprintf(name, size, "%s%u", prefix, number % variants);
}

static void count(struct crowd *crowd, struct member *member)
{
	if (++member->contexts == crowd->goal)
		crowd->reached++;
}

static void queue(struct member *member, const uint8_t *buf, size_t len)
{
	if (chan_send(member->chan, buf, len, NULL, 0))
		bench_die("cannot queue a frame: %s", chan_error(member->chan));
}

static void ask(struct crowd *crowd, struct member *member)
{
	const struct bare_request request = {
		.reply = (uint32_t)crowd_memctx_size(), .nfds = BARE_FDS};
	uint8_t buf[256];
	char endpoint[64];

	member->asked = true;
	if (crowd->spec.bare) {
		queue(member, (const uint8_t *)&request, sizeof(request));
		return;
	}
	name_of(endpoint, sizeof(endpoint), crowd->spec.endpoint, member->number,
		crowd->spec.endpoints);
	queue(member, buf, hello_pack(buf));
	queue(member, buf, subscribe_pack(endpoint, buf));
}

static void keep_page(struct crowd *crowd, int fd)
{
	void *page;

	if (crowd->page)
		return;
	page = mmap(NULL, VMSIG_COHERENCE_SIZE, PROT_READ, MAP_SHARED, fd, 0);
	if (page == MAP_FAILED)
		bench_die("the coherence page cannot be mapped: %s", strerror(errno));
	crowd->page = page;
}

static void take_context(struct crowd *crowd, struct member *member, const Vmsig__Memctx *memctx)
{
	struct chan_fd_claim claims[2];
	uint8_t buf[64];
	int fds[2];

	if (memctx->n_descriptors != 2)
		bench_die("a context has %zu descriptors", memctx->n_descriptors);
	for (size_t i = 0; i < 2; i++) {
		const Vmsig__Descriptor *d = memctx->descriptors[i];

		claims[i] = (struct chan_fd_claim){
			.dev = d->dev, .ino = d->ino, .size = d->size, .access = d->access};
	}
	if (chan_take_fds(member->chan, claims, 2, fds))
		bench_die("descriptors: %s", chan_error(member->chan));
	keep_page(crowd, fds[1]);
	close(fds[0]);
	close(fds[1]);
	if (memctx->delivery)
		queue(member, buf, taken_pack(memctx->delivery, buf));
	count(crowd, member);
}

static void broker_frame(
	struct crowd *crowd, struct member *member, const uint8_t *data, size_t len)
{
	Vmsig__CtxMessage *message = vmsig__ctx_message__unpack(NULL, len, data);

	if (!message)
		bench_die("what the broker says is not a message");
	if (message->body_case == VMSIG__CTX_MESSAGE__BODY_ERROR)
		bench_die("the broker says: %s", message->error->detail);
	if (message->body_case == VMSIG__CTX_MESSAGE__BODY_MEMCTX)
		take_context(crowd, member, message->memctx);
	vmsig__ctx_message__free_unpacked(message, NULL);
}

static void take_bare(struct crowd *crowd, struct member *member, size_t len)
{
	if (len == BARE_NOTE)
		return;
	line_close_fds(member->chan, crowd->spec.bare->claims, BARE_FDS);
	count(crowd, member);
}

static void member_frame(
	struct crowd *crowd, struct member *member, const uint8_t *data, size_t len)
{
	if (crowd->spec.bare) {
		take_bare(crowd, member, len);
	} else {
		broker_frame(crowd, member, data, len);
	}
}

static void member_step(struct crowd *crowd, struct member *member)
{
	const uint8_t *data;
	size_t len;
	int r = 0;

	(void)!chan_fill(member->chan); /* its failures come out of what follows */
	if (!member->asked) {
		r = chan_handshake(member->chan);
		if (!r)
			ask(crowd, member);
	}
	while (!r) {
		r = chan_recv(member->chan, &data, &len);
		if (!r)
			member_frame(crowd, member, data, len);
	}
	line_drain(member->chan);
	if (r != VMSIG_ERR_WOULD_BLOCK)
		bench_die("subscriber %u: %s", member->number, chan_error(member->chan));
}

/* ---- all of them ---- */

static void turn(struct crowd *crowd)
{
	struct epoll_event events[EVENTS];
	int n = epoll_wait(crowd->epoll, events, EVENTS, BENCH_WAIT_MS);

	if (n <= 0)
		bench_die("%u of %u subscribers have no context",
			crowd->spec.members - crowd->reached, crowd->spec.members);
	for (int i = 0; i < n; i++)
		member_step(crowd, &crowd->members[events[i].data.u32]);
}

static void member_open(struct crowd *crowd, unsigned number)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u32 = number};
	struct member *member = &crowd->members[number];

	member->number = number;
	member->chan = line_chan(
		crowd->tls[number % crowd->spec.identities], line_connect(crowd->spec.socket));
	if (epoll_ctl(crowd->epoll, EPOLL_CTL_ADD, chan_socket(member->chan), &event) < 0)
		bench_die("epoll: %s", strerror(errno));
	(void)!chan_handshake(member->chan);
	line_drain(member->chan);
}

struct crowd *crowd_open(const struct crowd_spec *spec)
{
	struct crowd *crowd = calloc(1, sizeof(*crowd));
	unsigned opened = 0;
	char identity[64];

	if (!crowd || !(crowd->members = calloc(spec->members, sizeof(*crowd->members))))
		bench_die("out of memory for subscribers");
	crowd->spec = *spec;
	crowd->goal = 1;
	crowd->epoll = epoll_create1(EPOLL_CLOEXEC);
	for (unsigned i = 0; i < spec->identities; i++) {
		name_of(identity, sizeof(identity), spec->identity, i, spec->identities);
		crowd->tls[i] = line_tls(spec->pki, identity, TLS_CLIENT);
	}
	while (crowd->reached < spec->members) {
		while (opened < spec->members && opened - crowd->reached < spec->window)
			member_open(crowd, opened++);
		turn(crowd);
	}
	return crowd;
}

struct crowd *crowd_close(struct crowd *crowd)
{
	for (unsigned i = 0; i < crowd->spec.members; i++)
		chan_free(crowd->members[i].chan);
	for (unsigned i = 0; i < crowd->spec.identities; i++)
		tls_ctx_unref(crowd->tls[i]);
	if (crowd->page)
		munmap(crowd->page, VMSIG_COHERENCE_SIZE);
	close(crowd->epoll);
	free(crowd->members);
	free(crowd);
	return NULL;
}

void crowd_await(struct crowd *crowd, unsigned contexts)
{
	crowd->goal = contexts;
	crowd->reached = 0;
	for (unsigned i = 0; i < crowd->spec.members; i++)
		crowd->reached += crowd->members[i].contexts >= contexts;
	while (crowd->reached < crowd->spec.members)
		turn(crowd);
}

const vmsig_coherence *crowd_page(const struct crowd *crowd)
{
	return crowd->page;
}
