/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire SOCKET IDENTITY: an operator who names everything itself, as libvmsig never would: the
 * numbers of its writes, and leases that another broker has granted. Does what its standard input
 * says, one command a line, one answer a line: "ok ..." or the error's name and a sentence.
 *
 *   acquire NAME TTL_MS                              ok ID TOKEN EPOCH ENDPOINT
 *   resume ID TOKEN                                  the same
 *   renew ID TOKEN                                   ok MS
 *   release ID TOKEN                                 ok
 *   write ID TOKEN EPOCH ENDPOINT SEQUENCE GPA WORD [old]
 *                                                    ok [replayed] [old=HEX]: the bytes before
 *   ended                                            ok ID REASON HOST: waits for the end of a
 * lease
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/wire/chan.h"
#include "proto/wire/vmsig.pb-c.h"
#include "vmsig/vmsig_error.h"

#define WAIT_MS 60000
#define WORDS 8
#define WRITER 77u /* the same process, whatever broker it speaks with */

static struct chan *chan;
static uint64_t last_id;
/* The end of a lease that was told of while an answer was awaited. */
static Vmsig__WriteMessage *over;

static void give_up(const char *what)
{
	printf("DISCONNECTED %s\n", what);
	fflush(stdout);
	exit(0);
}

static void await(short events)
{
	struct pollfd poller = {.fd = chan_socket(chan), .events = events};

	if (poll(&poller, 1, WAIT_MS) != 1)
		give_up("vmsigd does not answer");
}

static int dial(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
		fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		give_up(strerror(errno));
	return fd;
}

static void shake_hands(void)
{
	int r;

	while ((r = chan_handshake(chan)) == VMSIG_ERR_WOULD_BLOCK) {
		(void)!chan_drain(chan);
		await(POLLIN);
		(void)!chan_fill(chan);
	}
	(void)!chan_drain(chan);
	if (r)
		give_up("the handshake failed");
}

static uint64_t send_request(Vmsig__WriteRequest *request)
{
	uint8_t buf[4096];

	request->request_id = ++last_id;
	if (vmsig__write_request__get_packed_size(request) > sizeof(buf) ||
		chan_send(chan, buf, vmsig__write_request__pack(request, buf), NULL, 0))
		give_up("cannot send");
	while (chan_drain(chan) == VMSIG_ERR_WOULD_BLOCK)
		await(POLLOUT);
	return request->request_id;
}

static Vmsig__WriteMessage *receive(void)
{
	Vmsig__WriteMessage *message;
	const uint8_t *data;
	size_t len;
	int r;

	while ((r = chan_recv(chan, &data, &len)) == VMSIG_ERR_WOULD_BLOCK) {
		await(POLLIN);
		(void)!chan_fill(chan);
	}
	message = r ? NULL : vmsig__write_message__unpack(NULL, len, data);
	if (!message)
		give_up("the connection has ended");
	return message;
}

static void keep(Vmsig__WriteMessage *message)
{
	bool ended = message->body_case == VMSIG__WRITE_MESSAGE__BODY_LEASE_ENDED;

	if (ended && over)
		vmsig__write_message__free_unpacked(over, NULL);
	if (ended)
		over = message;
	else
		vmsig__write_message__free_unpacked(message, NULL);
}

/* What a request is answered with in the end. */
static Vmsig__WriteMessage *ask(Vmsig__WriteRequest *request)
{
	uint64_t id = send_request(request);
	Vmsig__WriteMessage *message = receive();

	while (message->request_id != id ||
		message->body_case == VMSIG__WRITE_MESSAGE__BODY_LEASE_WAITING) {
		keep(message);
		message = receive();
	}
	return message;
}

static void open_chan(const char *path, const char *identity)
{
	static const struct chan_limits limits = {
		.frame_max = CHAN_FRAME_MAX, .tx_max = 1u << 20, .rx_fds_max = 0};
	char ca[512], cert[512], key[512], error[256];
	const struct tls_files files = {.ca = ca, .cert = cert, .key = key};
	Vmsig__Hello hello = VMSIG__HELLO__INIT;
	Vmsig__WriteRequest request = VMSIG__WRITE_REQUEST__INIT;
	struct tls_ctx *tls;

	snprintf(ca, sizeof(ca), "%s/ca.pem", identity);
	snprintf(cert, sizeof(cert), "%s/cert.pem", identity);
	snprintf(key, sizeof(key), "%s/key.pem", identity);
	if (tls_ctx_new(&tls, TLS_CLIENT, &files, IDENTITY_BROKER, error, sizeof(error)))
		give_up(error);
	if (chan_new(&chan, tls, dial(path), &limits))
		give_up("out of memory");
	tls_ctx_unref(tls);
	shake_hands();
	hello.version = 1;
	request.body_case = VMSIG__WRITE_REQUEST__BODY_HELLO;
	request.hello = &hello;
	send_request(&request);
	vmsig__write_message__free_unpacked(receive(), NULL);
}

/* ---- commands ---- */

static uint64_t number(const char *word)
{
	return word ? strtoull(word, NULL, 0) : 0;
}

static void tell_applied(const Vmsig__WriteResult *result)
{
	printf("ok%s%s", result->replayed ? " replayed" : "", result->old.len ? " old=" : "");
	for (size_t i = 0; i < result->old.len; i++)
		printf("%02x", result->old.data[i]);
	putchar('\n');
}

static void tell(const Vmsig__WriteMessage *message)
{
	const Vmsig__LeaseInfo *info = message->lease_info;

	switch (message->body_case) {
	case VMSIG__WRITE_MESSAGE__BODY_LEASE_INFO:
		printf("ok %" PRIu64 " %" PRIu64 " %u %u\n", info->lease, info->token, info->epoch,
			info->endpoint);
		break;
	case VMSIG__WRITE_MESSAGE__BODY_LEASE_RENEWED:
		printf("ok %u\n", message->lease_renewed->remaining_ms);
		break;
	case VMSIG__WRITE_MESSAGE__BODY_WRITE_RESULT:
		if (message->write_result->outcome)
			printf("%s %s\n", vmsig_error_name((int)message->write_result->outcome),
				message->write_result->detail);
		else
			tell_applied(message->write_result);
		break;
	case VMSIG__WRITE_MESSAGE__BODY_DONE:
		printf("ok\n");
		break;
	case VMSIG__WRITE_MESSAGE__BODY_ERROR:
		printf("%s %s\n", vmsig_error_name((int)message->error->code),
			message->error->detail);
		break;
	default:
		printf("PROTOCOL body %d\n", (int)message->body_case);
	}
}

static void do_acquire(char **words)
{
	Vmsig__LeaseAcquire body = VMSIG__LEASE_ACQUIRE__INIT;
	Vmsig__WriteRequest request = VMSIG__WRITE_REQUEST__INIT;
	Vmsig__WriteMessage *message;

	body.endpoint = words[0];
	body.ttl_ms = (uint32_t)number(words[1]);
	body.no_wait = true;
	request.body_case = VMSIG__WRITE_REQUEST__BODY_LEASE_ACQUIRE;
	request.lease_acquire = &body;
	message = ask(&request);
	tell(message);
	vmsig__write_message__free_unpacked(message, NULL);
}

static void do_resume(char **words)
{
	Vmsig__LeaseResume body = VMSIG__LEASE_RESUME__INIT;
	Vmsig__WriteRequest request = VMSIG__WRITE_REQUEST__INIT;
	Vmsig__WriteMessage *message;

	body.lease = number(words[0]);
	body.token = number(words[1]);
	request.body_case = VMSIG__WRITE_REQUEST__BODY_LEASE_RESUME;
	request.lease_resume = &body;
	message = ask(&request);
	tell(message);
	vmsig__write_message__free_unpacked(message, NULL);
}

static void do_renew(char **words)
{
	Vmsig__LeaseRenew body = VMSIG__LEASE_RENEW__INIT;
	Vmsig__WriteRequest request = VMSIG__WRITE_REQUEST__INIT;
	Vmsig__WriteMessage *message;

	body.lease = number(words[0]);
	body.token = number(words[1]);
	request.body_case = VMSIG__WRITE_REQUEST__BODY_LEASE_RENEW;
	request.lease_renew = &body;
	message = ask(&request);
	tell(message);
	vmsig__write_message__free_unpacked(message, NULL);
}

static void do_release(char **words)
{
	Vmsig__LeaseRelease body = VMSIG__LEASE_RELEASE__INIT;
	Vmsig__WriteRequest request = VMSIG__WRITE_REQUEST__INIT;
	Vmsig__WriteMessage *message;

	body.lease = number(words[0]);
	body.token = number(words[1]);
	request.body_case = VMSIG__WRITE_REQUEST__BODY_LEASE_RELEASE;
	request.lease_release = &body;
	message = ask(&request);
	tell(message);
	vmsig__write_message__free_unpacked(message, NULL);
}

static void do_write(char **words)
{
	Vmsig__CmdMemwrite body = VMSIG__CMD_MEMWRITE__INIT;
	Vmsig__WriteOp op = VMSIG__WRITE_OP__INIT, *ops = &op;
	Vmsig__WriteRequest request = VMSIG__WRITE_REQUEST__INIT;
	uint64_t word = number(words[6]);
	Vmsig__WriteMessage *message;

	body.lease = number(words[0]);
	body.token = number(words[1]);
	body.epoch = (uint32_t)number(words[2]);
	body.endpoint = (uint32_t)number(words[3]);
	body.writer = WRITER;
	body.sequence = number(words[4]);
	op.addr = number(words[5]);
	op.data = (ProtobufCBinaryData){.data = (uint8_t *)&word, .len = sizeof(word)};
	body.ops = &ops;
	body.n_ops = 1;
	body.want_old = words[7] != NULL;
	request.body_case = VMSIG__WRITE_REQUEST__BODY_MEMWRITE;
	request.memwrite = &body;
	message = ask(&request);
	tell(message);
	vmsig__write_message__free_unpacked(message, NULL);
}

static void do_ended(char **words)
{
	while (!over)
		keep(receive());
	printf("ok %" PRIu64 " %s %s\n", over->lease_ended->lease,
		vmsig_error_name((int)over->lease_ended->reason), over->lease_ended->host);
	vmsig__write_message__free_unpacked(over, NULL);
	over = NULL;
}

static const struct {
	const char *name;
	void (*run)(char **words);
} commands[] = {{"acquire", do_acquire}, {"resume", do_resume}, {"renew", do_renew},
	{"release", do_release}, {"write", do_write}, {"ended", do_ended}};

static void run(char *line)
{
	char *words[WORDS] = {0}, *rest = NULL, *name = strtok_r(line, " \n", &rest);

	for (size_t i = 0; i < WORDS && (words[i] = strtok_r(NULL, " \n", &rest)); i++)
		;
	for (size_t i = 0; name && i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(name, commands[i].name) == 0)
			commands[i].run(words);
	}
	fflush(stdout);
}

int main(int argc, char **argv)
{
	char line[512];

	if (argc != 3)
		return 2;
	open_chan(argv[1], argv[2]);
	while (fgets(line, sizeof(line), stdin))
		run(line);
	chan_free(chan);
	return 0;
}
