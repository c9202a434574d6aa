/* SPDX-License-Identifier: Apache-2.0 */
#include "guests.h"

#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOOK_MS 1000
#define GUESTS_MAX 1024u

struct guests {
	const struct sensor *sensor;
	struct sensor_guest list[GUESTS_MAX];
	size_t count;
};

void guests_print_text(const char *text)
{
	putchar('"');
	for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
		if (*c < 0x20 || *c > 0x7e || *c == '"' || *c == '\\')
			printf("\\u%04x", *c);
		else
			putchar(*c);
	}
	putchar('"');
}

/* ---- one guest ---- */

static void guest_close(const struct sensor *sensor, struct sensor_guest *guest)
{
	guest->os = vmsig_os_close(guest->os);
	guest->mem = vmsig_mem_close(guest->mem);
	if (guest->seen)
		sensor->forget(guest->seen);
	free(guest->seen);
	guest->seen = NULL;
}

static struct sensor_guest *guest_of(struct guests *guests, const char *name)
{
	for (size_t i = 0; i < guests->count; i++) {
		if (strcmp(guests->list[i].name, name) == 0)
			return &guests->list[i];
	}
	if (guests->count == GUESTS_MAX)
		return NULL;
	snprintf(guests->list[guests->count].name, sizeof(guests->list[0].name), "%s", name);
	return &guests->list[guests->count++];
}

static void guest_open(struct guests *guests, const vmsig_delivery *delivery)
{
	struct sensor_guest *guest = guest_of(guests, delivery->endpoint);
	char error[256] = "";
	vmsig_memctx pod;
	int r;

	if (!guest)
		return;
	memcpy(&pod, delivery->event.inln, sizeof(pod));
	guest_close(guests->sensor, guest);
	guest->epoch = pod.epoch;
	guest->root = pod.kcr3;
	guest->seen = calloc(1, guests->sensor->seen_size);
	r = guest->seen ? vmsig_mem_from_event(&guest->mem, &delivery->event, delivery->ram_fd,
				  delivery->coherence_fd)
			: -VMSIG_ERR_NO_MEMORY;
	/* The VM's owner may truncate its memory, which would end whoever maps it. */
	if (!r)
		r = vmsig_mem_set_mode(guest->mem, VMSIG_MEM_PREAD);
	if (!r)
		r = vmsig_os_open(&guest->os, guest->mem, pod.kcr3, error, sizeof(error));
	if (!r)
		return;
	fprintf(stderr, "%s: %s epoch %u: %s\n", guests->sensor->program, guest->name, guest->epoch,
		error[0] ? error : vmsig_error_text(r));
	guest_close(guests->sensor, guest);
}

static void look_at_all(struct guests *guests)
{
	for (size_t i = 0; i < guests->count; i++) {
		struct sensor_guest *guest = &guests->list[i];
		int r = guest->os ? guests->sensor->look(guest) : 0;

		if (r == -VMSIG_ERR_STALE_EPOCH || r == -VMSIG_ERR_GONE)
			guest_close(guests->sensor, guest);
		else if (r)
			fprintf(stderr, "%s: %s: %s\n", guests->sensor->program, guest->name,
				vmsig_error_text(r));
	}
	fflush(stdout);
}

/* ---- all ---- */

static int64_t now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static bool output_is_gone(void)
{
	struct pollfd output = {.fd = STDOUT_FILENO};

	return ferror(stdout) ||
	       (poll(&output, 1, 0) == 1 && (output.revents & (POLLERR | POLLHUP)));
}

static int follow(vmsig *v, struct guests *guests)
{
	vmsig_delivery delivery = VMSIG_DELIVERY_INIT;
	int64_t next = now_ms();
	bool refused = false;

	while (!refused && !output_is_gone()) {
		int64_t left = next - now_ms();
		int r = vmsig_wait(v, &delivery, left > 0 ? (int)left : 0);

		if (now_ms() >= next) {
			look_at_all(guests);
			next = now_ms() + LOOK_MS;
		}
		if (r == -VMSIG_ERR_TIMEOUT)
			continue;
		if (r) {
			fprintf(stderr, "%s: %s\n", guests->sensor->program, vmsig_last_error(v));
			return 1;
		}
		if (delivery.event.kind == VMSIG_EV_MEMCTX)
			guest_open(guests, &delivery);
		else if (delivery.error)
			fprintf(stderr, "%s: %s\n", guests->sensor->program,
				vmsig_delivery_text(&delivery));
		refused = delivery.event.kind == VMSIG_EV_SUBSCRIBED && delivery.error &&
			  !vmsig_error_retryable(delivery.error);
		vmsig_delivery_clear(&delivery);
	}
	if (ferror(stdout))
		fprintf(stderr, "%s: cannot write the output\n", guests->sensor->program);
	return refused || ferror(stdout) ? 1 : 0;
}

int guests_run(const struct sensor *sensor, int argc, char **argv)
{
	vmsig_options options = {
		.identity_dir = getenv("VMSIG_IDENTITY"),
		.socket_path = getenv("VMSIG_SOCKET"),
	};
	static struct guests guests;
	char error[512];
	bool asked;
	vmsig *v;
	int r;

	for (int fd = 0; fd <= 2; fd++) {
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd ? O_RDONLY : O_WRONLY) != fd)
			return 1;
	}
	asked = argc == 2 && (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0);
	if (asked || argc > 2 || (argc > 1 && argv[1][0] == '-')) {
		fprintf(asked ? stdout : stderr,
			"Usage: VMSIG_IDENTITY=DIR %s [ENDPOINT]\n"
			"ENDPOINT is a name or a pattern; '*' without one.\n",
			sensor->program);
		return asked ? 0 : 2;
	}
	if (vmsig_open(&v, &options, error, sizeof(error))) {
		fprintf(stderr, "%s: %s\n", sensor->program, error);
		return 5;
	}
	guests.sensor = sensor;
	r = vmsig_subscribe(v, argc > 1 ? argv[1] : "*");
	if (r)
		fprintf(stderr, "%s: %s\n", sensor->program, vmsig_last_error(v));
	r = r ? 1 : follow(v, &guests);
	for (size_t i = 0; i < guests.count; i++)
		guest_close(sensor, &guests.list[i]);
	vmsig_close(v);
	return r;
}
