/* SPDX-License-Identifier: Apache-2.0 */

/* A broker, or somebody in its place, that lies: the holder gets a typed error and keeps no
 * descriptor, and the next connection works. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/lib/fake_broker.h"
#include "vmsig/vmsig_coherence.h"

/* ---- lies in a MEMCTX ---- */

static void exchange(struct fake_memctx *memctx, size_t i, int fd)
{
	close(memctx->fds[i]);
	memctx->fds[i] = fd;
	fake_memctx_describe(memctx, i);
}

static void no_descriptors(struct fake_memctx *memctx)
{
	close(memctx->fds[0]);
	close(memctx->fds[1]);
	memctx->nfds = 0;
}

static void one_too_few(struct fake_memctx *memctx)
{
	close(memctx->fds[1]);
	memctx->nfds = 1;
}

static void one_too_many(struct fake_memctx *memctx)
{
	memctx->fds[2] = fake_file(1, O_RDONLY);
	memctx->nfds = 3;
}

static void announces_many(struct fake_memctx *memctx)
{
	memctx->body.n_descriptors = FAKE_FDS;
}

static void writable_ram(struct fake_memctx *memctx)
{
	exchange(memctx, 0, fake_file(FAKE_RAM, O_RDWR));
}

static void writable_ram_denied(struct fake_memctx *memctx)
{
	writable_ram(memctx);
	memctx->descriptors[0].access = O_RDONLY;
}

static void writable_page(struct fake_memctx *memctx)
{
	exchange(memctx, 1, fake_file(VMSIG_COHERENCE_SIZE, O_RDWR));
}

static void short_page(struct fake_memctx *memctx)
{
	exchange(memctx, 1, fake_file(VMSIG_COHERENCE_SIZE - 1, O_RDONLY));
}

static void other_file(struct fake_memctx *memctx)
{
	memctx->descriptors[0].ino++;
}

static void other_size(struct fake_memctx *memctx)
{
	memctx->descriptors[0].size += 4096;
}

static void in_other_order(struct fake_memctx *memctx)
{
	int fd = memctx->fds[0];

	memctx->fds[0] = memctx->fds[1];
	memctx->fds[1] = fd;
}

static void two_rams(struct fake_memctx *memctx)
{
	memctx->descriptors[1].purpose = VMSIG__DESCRIPTOR__PURPOSE__GUEST_RAM;
}

static void no_ram(struct fake_memctx *memctx)
{
	memctx->descriptors[0].purpose = VMSIG__DESCRIPTOR__PURPOSE__UNKNOWN;
}

static void directory(struct fake_memctx *memctx)
{
	exchange(memctx, 0, open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

static void device(struct fake_memctx *memctx)
{
	exchange(memctx, 0, open("/dev/zero", O_RDONLY | O_CLOEXEC));
}

static void overlapping(struct fake_memctx *memctx)
{
	memctx->segments[1].gpa = memctx->segments[0].len - 4096;
}

static void wrapping(struct fake_memctx *memctx)
{
	memctx->segments[1].gpa = UINT64_MAX - 4095;
}

static void beyond_the_file(struct fake_memctx *memctx)
{
	memctx->segments[1].len += 4096;
}

static void offset_wraps(struct fake_memctx *memctx)
{
	memctx->segments[1].file_off = UINT64_MAX - 4095;
}

static void empty_segment(struct fake_memctx *memctx)
{
	memctx->segments[0].len = 0;
}

static void no_layout(struct fake_memctx *memctx)
{
	memctx->body.n_segments = 0;
	memctx->body.low = 0;
}

static void low_beyond_the_file(struct fake_memctx *memctx)
{
	memctx->body.n_segments = 0;
	memctx->body.low = FAKE_RAM + 4096;
}

static void not_read_only(struct fake_memctx *memctx)
{
	memctx->body.flags = 0;
}

static void no_epoch(struct fake_memctx *memctx)
{
	memctx->body.epoch = 0;
}

static void no_name(struct fake_memctx *memctx)
{
	static char name[] = "";

	memctx->body.name = name;
}

static void long_name(struct fake_memctx *memctx)
{
	static char name[VMSIG_NAME_MAX + 2];

	memset(name, 'a', sizeof(name) - 1);
	memctx->body.name = name;
}

static void name_for_terminals(struct fake_memctx *memctx)
{
	static char name[] = "web\033[2J";

	memctx->body.name = name;
}

static const struct {
	const char *name;
	void (*spoil)(struct fake_memctx *memctx);
} memctx_lies[] = {
	{"no descriptors", no_descriptors},
	{"one descriptor too few", one_too_few},
	{"one descriptor too many", one_too_many},
	{"announces 20 descriptors", announces_many},
	{"RAM is writable", writable_ram},
	{"RAM is writable and said not to be", writable_ram_denied},
	{"coherence page is writable", writable_page},
	{"coherence page is short", short_page},
	{"RAM is another file", other_file},
	{"RAM has another size", other_size},
	{"descriptors in another order", in_other_order},
	{"two files of RAM", two_rams},
	{"no RAM", no_ram},
	{"RAM is a directory", directory},
	{"RAM is a device", device},
	{"segments overlap", overlapping},
	{"a segment wraps", wrapping},
	{"a segment beyond the file", beyond_the_file},
	{"an offset wraps", offset_wraps},
	{"an empty segment", empty_segment},
	{"no layout", no_layout},
	{"low beyond the file", low_beyond_the_file},
	{"not read-only", not_read_only},
	{"no epoch", no_epoch},
	{"no name", no_name},
	{"a long name", long_name},
	{"a name with control characters", name_for_terminals},
};

static void memctx_that_lies(void **state)
{
	struct fake *fake = *state;
	vmsig_delivery delivery;

	fake_connect(fake);
	for (size_t i = 0; i < sizeof(memctx_lies) / sizeof(memctx_lies[0]); i++) {
		struct fake_memctx memctx;
		int64_t deadline;

		fake_memctx_init(&memctx, "a", 1);
		memctx_lies[i].spoil(&memctx);
		fake_memctx_send(fake, &memctx);
		delivery = fake_expect(fake, VMSIG_EV_DISCONNECTED);
		if (delivery.error != -VMSIG_ERR_PROTOCOL)
			fail_msg("%s: %s", memctx_lies[i].name, vmsig_error_name(delivery.error));
		assert_true(delivery.event.payload.len > 0);
		vmsig_delivery_clear(&delivery);
		/* Back-off, not a storm. */
		deadline = vmsig_deadline(fake->v);
		assert_true(deadline > 0);
		fake_drop(fake);
		fake_greet(fake);
		delivery = fake_expect(fake, VMSIG_EV_CONNECTED);
		vmsig_delivery_clear(&delivery);
	}
	delivery = fake_memctx_deliver(fake, "a", 2);
	vmsig_delivery_clear(&delivery);
}

/* A newer broker may send what this library has no use for. */
static void memctx_with_an_unknown_descriptor(void **state)
{
	struct fake *fake = *state;
	struct fake_memctx memctx;
	vmsig_delivery delivery;

	fake_connect(fake);
	fake_memctx_init(&memctx, "a", 1);
	memctx.fds[2] = fake_file(1, O_RDONLY);
	memctx.nfds = 3;
	memctx.body.n_descriptors = 3;
	memctx.descriptors[2].purpose = (Vmsig__Descriptor__Purpose)99;
	fake_memctx_describe(&memctx, 2);
	fake_memctx_send(fake, &memctx);
	delivery = fake_expect(fake, VMSIG_EV_MEMCTX);
	assert_true(delivery.ram_fd >= 0 && delivery.coherence_fd >= 0);
	vmsig_delivery_clear(&delivery);
}

/* The release is the guest's word, and ends on terminals. */
static void what_runs_is_clean_text_that_ends(void **state)
{
	static const char *const releases[] = {"6.1.0-18-amd64", "\033[2J\r\n", ""};
	static const char *const clean[] = {"6.1.0-18-amd64", "?[2J??", ""};
	struct fake *fake = *state;
	char endless[300];
	Vmsig__System system;
	struct fake_memctx memctx;
	vmsig_delivery delivery;

	fake_connect(fake);
	memset(endless, 'r', sizeof(endless));
	endless[sizeof(endless) - 1] = '\0';
	for (uint32_t i = 0; i < 5; i++) {
		fake_memctx_init(&memctx, "a", 1 + i);
		vmsig__system__init(&system);
		system.os = VMSIG_OS_WINDOWS;
		system.proof = 77; /* of a newer broker */
		system.release = i < 3 ? (char *)(uintptr_t)releases[i] : endless;
		memctx.body.system = i < 4 ? &system : NULL;
		fake_memctx_send(fake, &memctx);
		if (i)
			fake_expect(fake, VMSIG_EV_MEMCTX_INVALIDATED);
		delivery = fake_expect(fake, VMSIG_EV_MEMCTX);
		if (i < 3)
			assert_string_equal(delivery.system.release, clean[i]);
		assert_int_equal(strlen(delivery.system.release),
			i < 3 ? strlen(clean[i]) : (i < 4 ? VMSIG_RELEASE_MAX - 1 : 0));
		assert_string_equal(
			vmsig_os_name(delivery.system.os), i < 4 ? "windows" : "unknown");
		assert_string_equal(
			vmsig_proof_name(delivery.system.proof), i < 4 ? "unknown" : "none");
		vmsig_delivery_clear(&delivery);
	}
}

/* ---- other messages ---- */

static void send_empty_hello(struct fake *fake)
{
	fake_hello(fake, 1, 1);
}

static void send_garbage(struct fake *fake)
{
	fake_send_raw(fake, "\xff\xff\xff\xff", 4);
}

static void send_answer_to_nothing(struct fake *fake)
{
	fake_done(fake, 4711);
}

static void send_done_without_id(struct fake *fake)
{
	fake_done(fake, 0);
}

static void send_old_epoch(struct fake *fake)
{
	fake_state(fake, "b", 5, VMSIG_STATE_BOOTING);
	fake_state(fake, "b", 4, VMSIG_STATE_BOOTING);
}

static void send_nameless_state(struct fake *fake)
{
	fake_state(fake, "", 5, VMSIG_STATE_BOOTING);
}

static void send_list(struct fake *fake)
{
	Vmsig__EndpointList body = VMSIG__ENDPOINT_LIST__INIT;
	Vmsig__CtxMessage message = VMSIG__CTX_MESSAGE__INIT;

	message.request_id = 99;
	message.body_case = VMSIG__CTX_MESSAGE__BODY_ENDPOINT_LIST;
	message.endpoint_list = &body;
	fake_send(fake, &message, NULL, 0);
}

static const struct {
	const char *name;
	void (*send)(struct fake *fake);
} lies[] = {
	{"hello twice", send_empty_hello},
	{"garbage", send_garbage},
	{"an answer to nothing", send_answer_to_nothing},
	{"an answer without id", send_done_without_id},
	{"an older epoch", send_old_epoch},
	{"a state without a name", send_nameless_state},
	{"a list that nobody wanted", send_list},
};

/* Whatever comes before it, the connection ends with PROTOCOL. */
static void expect_protocol_error(struct fake *fake, const char *what)
{
	vmsig_delivery delivery;
	int error;

	for (;;) {
		while (vmsig_next(fake->v, &delivery))
			assert_int_equal(fake_step(fake), 0);
		error = delivery.error;
		vmsig_delivery_clear(&delivery);
		if (error)
			break;
	}
	if (error != -VMSIG_ERR_PROTOCOL)
		fail_msg("%s: %s", what, vmsig_error_name(error));
}

static void messages_that_lie(void **state)
{
	struct fake *fake = *state;

	fake_connect(fake);
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		vmsig_delivery delivery;

		lies[i].send(fake);
		expect_protocol_error(fake, lies[i].name);
		fake_drop(fake);
		fake_greet(fake);
		delivery = fake_expect(fake, VMSIG_EV_CONNECTED);
		vmsig_delivery_clear(&delivery);
	}
}

static void unknown_message_is_skipped(void **state)
{
	struct fake *fake = *state;
	vmsig_delivery delivery;

	fake_connect(fake);
	/* Field 200, a string: no body that this version knows. */
	fake_send_raw(fake,
		"\xc2\x0c\x03"
		"abc",
		6);
	fake_state(fake, "a", 1, VMSIG_STATE_BOOTING);
	delivery = fake_expect(fake, VMSIG_EV_ENDPOINT_STATE);
	vmsig_delivery_clear(&delivery);
}

static void hello_of_another_version(void **state)
{
	struct fake *fake = *state;
	Vmsig__CtxRequest *request;

	fake_open(fake);
	request = fake_request(fake, VMSIG__CTX_REQUEST__BODY_HELLO);
	fake_hello(fake, request->request_id, 2);
	fake_request_free(request);
	fake_expect_error(fake, VMSIG_EV_DISCONNECTED, VMSIG_ERR_UNSUPPORTED);
}

static void event_before_hello(void **state)
{
	struct fake *fake = *state;
	Vmsig__CtxRequest *request;

	fake_open(fake);
	request = fake_request(fake, VMSIG__CTX_REQUEST__BODY_HELLO);
	fake_state(fake, "a", 1, VMSIG_STATE_READY);
	fake_request_free(request);
	fake_expect_error(fake, VMSIG_EV_DISCONNECTED, VMSIG_ERR_PROTOCOL);
}

static void refusal_instead_of_hello(void **state)
{
	struct fake *fake = *state;
	Vmsig__CtxRequest *request;

	fake_open(fake);
	request = fake_request(fake, VMSIG__CTX_REQUEST__BODY_HELLO);
	fake_error(fake, request->request_id, VMSIG_ERR_QUOTA);
	fake_request_free(request);
	fake_expect_error(fake, VMSIG_EV_DISCONNECTED, VMSIG_ERR_QUOTA);
	/* What the broker said reaches people without its control characters. */
	assert_non_null(strstr(vmsig_last_error(fake->v), "because?of this??"));
}

static void cut_in_the_middle_of_a_frame(void **state)
{
	static uint8_t big[CHAN_FRAME_MAX];
	struct fake *fake = *state;

	fake_connect(fake);
	fake_send_raw(fake, big, sizeof(big));
	/* More than a socket holds: what was sent ends inside the frame. */
	assert_int_equal(chan_drain(fake->chan), VMSIG_ERR_WOULD_BLOCK);
	fake_drop(fake);
	fake_expect_error(fake, VMSIG_EV_DISCONNECTED, VMSIG_ERR_DISCONNECTED);
}

static void bytes_that_are_not_tls(void **state)
{
	struct fake *fake = *state;

	fake_connect(fake);
	assert_true(send(chan_socket(fake->chan), "hello, holder", 13, MSG_NOSIGNAL) == 13);
	fake_expect_error(fake, VMSIG_EV_DISCONNECTED, VMSIG_ERR_PROTOCOL);
}

static void broker_of_another_authority(void **state)
{
	struct fake *fake = *state;
	struct pki *other = pki_new();
	struct tls_ctx *tls = NULL;
	struct tls_files files;
	struct pki_cert cert;
	char error[256];

	pki_issue_uri(other, "broker", "vmsig://broker/host1", &cert);
	files = pki_files(other, &cert, NULL);
	assert_int_equal(
		tls_ctx_new(&tls, TLS_SERVER, &files, IDENTITY_SENSOR, error, sizeof(error)), 0);
	tls_ctx_unref(fake->tls);
	fake->tls = tls;
	fake_open(fake);
	fake_expect_error(fake, VMSIG_EV_DISCONNECTED, VMSIG_ERR_UNAUTHENTICATED);
	/* The same reason again is no news. */
	for (int i = 0; i < 5; i++) {
		fake_drop(fake);
		fake_expect_silence(fake);
	}
	pki_free(other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, fake_setup, fake_teardown)
		TEST(memctx_that_lies),
		TEST(memctx_with_an_unknown_descriptor),
		TEST(what_runs_is_clean_text_that_ends),
		TEST(messages_that_lie),
		TEST(unknown_message_is_skipped),
		TEST(hello_of_another_version),
		TEST(event_before_hello),
		TEST(refusal_instead_of_hello),
		TEST(cut_in_the_middle_of_a_frame),
		TEST(bytes_that_are_not_tls),
		TEST(broker_of_another_authority),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
