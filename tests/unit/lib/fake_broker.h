/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_LIB_FAKE_BROKER_H
#define TESTS_UNIT_LIB_FAKE_BROKER_H

/*
 * A broker that says whatever a test wants, and the handle that listens to it, driven in turn
 * by one thread. What does not happen within DRIVE_MS fails the test.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/wire/chan.h"
#include "proto/wire/vmsig.pb-c.h"
#include "tests/support/pki.h"
#include "vmsig/vmsig.h"

#define DRIVE_MS 20000

struct fake {
	struct pki *pki;
	struct tls_ctx *tls;
	char identity[80]; /* directory of the holder's identity */
	char path[96];     /* the socket */
	int listener;
	struct chan *chan; /* NULL while nobody is connected */
	bool mute;         /* accepts, and never shakes hands */
	vmsig *v;
	size_t open_fds; /* before v and chan */
};

/* cmocka fixtures; *state is the struct fake. Teardown counts descriptors. */
int fake_setup(void **state);
int fake_teardown(void **state);

/* The options that fake_open() uses, to be changed for fake_open_with(). */
vmsig_options fake_options(const struct fake *fake);
void fake_open(struct fake *fake);
void fake_open_with(struct fake *fake, const vmsig_options *options);
/* Opens, answers the hello, takes the CONNECTED away. */
void fake_connect(struct fake *fake);
/* Answers the handshake and the hello of a handle that is connecting. */
void fake_greet(struct fake *fake);

/* One turn of the broker's channel alone. */
void fake_broker_step(struct fake *fake);
/* Waits a little for something to happen. */
void fake_nap(struct fake *fake);
/* One turn of both. Returns what vmsig_process() said. */
int fake_step(struct fake *fake);
/* The handle's next delivery, which must be of this kind. */
vmsig_delivery fake_expect(struct fake *fake, uint32_t kind);
/* The same, with this error (positive); it is cleared. */
void fake_expect_error(struct fake *fake, uint32_t kind, int error);
/* Nothing comes for some turns. */
void fake_expect_silence(struct fake *fake);
/* What the handle asks next; must have this body. Freed by fake_request_free(). */
Vmsig__CtxRequest *fake_request(struct fake *fake, Vmsig__CtxRequest__BodyCase body);
void fake_request_free(Vmsig__CtxRequest *request);

/* The descriptors are the channel's afterwards. */
void fake_send(struct fake *fake, const Vmsig__CtxMessage *message, const int *fds, size_t nfds);
void fake_send_raw(struct fake *fake, const void *data, size_t len);
void fake_hello(struct fake *fake, uint64_t id, uint32_t version);
void fake_done(struct fake *fake, uint64_t id);
void fake_error(struct fake *fake, uint64_t id, int code);
void fake_state(struct fake *fake, const char *name, uint32_t epoch, uint32_t state);
void fake_invalidated(struct fake *fake, const char *name, uint32_t epoch);
/* Grants the subscription that the handle asks for next. */
void fake_grant(struct fake *fake, const char *pattern);
/* Cuts the connection. */
void fake_drop(struct fake *fake);

#define FAKE_FDS 80

/* A MEMCTX as an honest broker sends it; tests spoil one thing. */
struct fake_memctx {
	Vmsig__Memctx body;
	Vmsig__Descriptor descriptors[FAKE_FDS];
	Vmsig__Descriptor *descriptor_pointers[FAKE_FDS];
	Vmsig__Segment segments[3];
	Vmsig__Segment *segment_pointers[3];
	int fds[FAKE_FDS];
	size_t nfds;
};

#define FAKE_RAM (1u << 20)
#define FAKE_DELIVERY 0x1122334455667788ull

void fake_memctx_init(struct fake_memctx *memctx, const char *name, uint32_t epoch);
/* Describes fds[i] again after it was exchanged. */
void fake_memctx_describe(struct fake_memctx *memctx, size_t i);
void fake_memctx_send(struct fake *fake, struct fake_memctx *memctx);
/* An honest one, and the acknowledgement that must follow. */
vmsig_delivery fake_memctx_deliver(struct fake *fake, const char *name, uint32_t epoch);

/* Of a memfd with that many bytes; O_RDONLY or O_RDWR. */
int fake_file(size_t size, int access);

#endif
