/* SPDX-License-Identifier: Apache-2.0 */

/* Out of memory at every allocation of libvmsig, one after the other: the call says so, or the
 * connection is made again and the holder gets its context all the same. */
#include <string.h>

#include "tests/fault/alloc.h"
#include "tests/unit/lib/fake_broker.h"

#define MOST 500
#define STEPS_MAX 20000

static size_t left; /* allocations of the library until the one that fails; 0: it has */

/* Only the library's allocations fail, not those of the broker beside it. */
static size_t armed_at;

static void arm(void)
{
	armed_at = alloc_count();
	alloc_fail_at(left);
}

static void disarm(void)
{
	size_t used = alloc_count() - armed_at;

	alloc_fail_at(0);
	left = used < left ? left - used : 0;
}

/* Answers whatever is asked, as an honest broker does. */
static void serve(struct fake *fake)
{
	struct fake_memctx memctx;
	Vmsig__CtxRequest *request;
	const uint8_t *data;
	size_t len;
	int r;

	if (!fake->chan)
		return;
	r = chan_handshake(fake->chan);
	if (r == 0)
		r = chan_recv(fake->chan, &data, &len);
	/* A caller that gave up leaves its place to the next. */
	if (r && r != VMSIG_ERR_WOULD_BLOCK)
		fake_drop(fake);
	if (r)
		return;
	request = vmsig__ctx_request__unpack(NULL, len, data);
	assert_non_null(request);
	switch (request->body_case) {
	case VMSIG__CTX_REQUEST__BODY_HELLO:
		fake_hello(fake, request->request_id, 1);
		break;
	case VMSIG__CTX_REQUEST__BODY_SUBSCRIBE:
		fake_done(fake, request->request_id);
		fake_memctx_init(&memctx, "a", 1);
		fake_memctx_send(fake, &memctx);
		break;
	default:
		break;
	}
	fake_request_free(request);
}

/* Returns what vmsig_process() said. */
static int step(struct fake *fake)
{
	int r;

	fake_broker_step(fake);
	serve(fake);
	fake_broker_step(fake);
	arm();
	r = vmsig_process(fake->v);
	disarm();
	return r;
}

static bool await_context(struct fake *fake)
{
	vmsig_delivery delivery;

	for (unsigned i = 0; i < STEPS_MAX; i++) {
		int r = step(fake);

		assert_true(r == 0 || r == -VMSIG_ERR_NO_MEMORY);
		while (vmsig_next(fake->v, &delivery) == 0) {
			uint32_t kind = delivery.event.kind;

			if (kind == VMSIG_EV_DISCONNECTED)
				fake_drop(fake);
			vmsig_delivery_clear(&delivery);
			if (kind == VMSIG_EV_MEMCTX)
				return true;
		}
		fake_nap(fake);
	}
	return false;
}

static void scenario(struct fake *fake, size_t n)
{
	vmsig_options options = fake_options(fake);
	char error[256] = "";
	int r;

	left = n;
	arm();
	r = vmsig_open(&fake->v, &options, error, sizeof(error));
	disarm();
	if (r) {
		assert_int_equal(r, -VMSIG_ERR_NO_MEMORY);
		assert_true(error[0]);
		return;
	}
	arm();
	r = vmsig_subscribe(fake->v, "a");
	disarm();
	assert_true(r == 0 || r == -VMSIG_ERR_NO_MEMORY);
	if (r)
		assert_int_equal(vmsig_subscribe(fake->v, "a"), 0);
	if (!await_context(fake))
		fail_msg("allocation %zu: no context; %s", n, vmsig_last_error(fake->v));
	fake->v = vmsig_close(fake->v);
	fake_drop(fake);
}

static void every_allocation(void **state)
{
	struct fake *fake = *state;
	size_t n = 0;
	long balance;

	/* What OpenSSL and the channel keep for good is there after a first round. */
	scenario(fake, 0);
	balance = alloc_balance();
	do {
		assert_true(++n < MOST);
		scenario(fake, n);
		assert_int_equal(alloc_balance(), balance);
	} while (left == 0);
	/* Fewer would mean that nothing was tested. */
	assert_true(n > 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(every_allocation, fake_setup, fake_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
