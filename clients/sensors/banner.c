/* SPDX-License-Identifier: Apache-2.0 */

/*
 * vmsig-banner: an example of a sensor, meant to be copied. It prints one line for every
 * epoch of every guest it is shown:
 *
 *	web1 epoch 3: Linux version 6.1.0-18-cloud-amd64 (...)
 *
 * and goes on across resets of guests and restarts of the broker.
 *
 *	cc -o banner banner.c $(pkg-config --cflags --libs libvmsig)
 */

#include <ctype.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmsig/vmsig.h"
#include "vmsig/vmsig_mem.h"

#define BANNER_MAX 512
#define LOOK_MS 200 /* between two looks whether somebody still reads */
/* Where x86-64 Linux maps its image: the last 2 GiB, without the modules behind it. */
#define KERNEL_START 0xffffffff80000000ull
#define KERNEL_END 0xffffffffbfffffffull

struct search {
	vmsig_mem *mem;
	uint64_t kcr3;
	char banner[BANNER_MAX];
};

/* The words occur in other strings too: the banner goes on with a digit, has the number of the
 * build (newer kernels keep a copy without it, which nobody prints), and ends in '\n'. */
static int look(void *ctx, uint64_t gva)
{
	struct search *search = ctx;
	char text[BANNER_MAX] = "";
	const char *build;
	char *end;

	if (vmsig_gva_read(search->mem, search->kcr3, gva, text, sizeof(text) - 1))
		return 0;
	end = strchr(text, '\n');
	build = strstr(text, ") #");
	if (!end || !isdigit((unsigned char)text[14]) || !build ||
		!isdigit((unsigned char)build[3]))
		return 0;
	*end = '\0';
	/* What a guest says is not fit for a terminal as it is. */
	for (char *c = text; *c; c++) {
		if (*c < 0x20 || *c > 0x7e)
			*c = '?';
	}
	memcpy(search->banner, text, sizeof(text));
	return 1; /* stop */
}

/* 1: found. 0: the kernel's image has no banner (yet). Negative: an error of the library;
 * -VMSIG_ERR_STALE_EPOCH says that the guest was reset and a new context will come. */
static int find_banner(const vmsig_delivery *delivery, struct search *search)
{
	static const char words[] = "Linux version ";
	vmsig_memctx pod;
	int r;

	memcpy(&pod, delivery->event.inln, sizeof(pod));
	search->kcr3 = pod.kcr3;
	r = vmsig_mem_from_event(
		&search->mem, &delivery->event, delivery->ram_fd, delivery->coherence_fd);
	if (r)
		return r;
	r = vmsig_scan_virt(search->mem, pod.kcr3, KERNEL_START, KERNEL_END, words, NULL,
		sizeof(words) - 1, look, search);
	search->mem = vmsig_mem_close(search->mem);
	return r;
}

/* A pipe whose reader has ended, which is only told to who writes. */
static bool output_is_gone(void)
{
	struct pollfd output = {.fd = STDOUT_FILENO};

	return poll(&output, 1, 0) == 1 && (output.revents & (POLLERR | POLLHUP));
}

/* Whether a banner was printed. */
static bool on_memctx(const vmsig_delivery *delivery)
{
	const vmsig_system *system = &delivery->system;
	struct search search = {0};
	vmsig_memctx pod;
	int r;

	memcpy(&pod, delivery->event.inln, sizeof(pod));
	/* That one has no banner: the release is all there is. */
	if (system->os == VMSIG_OS_WINDOWS) {
		printf("%s epoch %u: Windows %s\n", delivery->endpoint, pod.epoch, system->release);
		fflush(stdout);
		return true;
	}
	r = find_banner(delivery, &search);
	if (r == 1)
		printf("%s epoch %u: %s\n", delivery->endpoint, pod.epoch, search.banner);
	else
		fprintf(stderr, "%s epoch %u: %s (proof: %s)\n", delivery->endpoint, pod.epoch,
			r ? vmsig_error_text(r) : "no Linux banner found",
			vmsig_proof_name(system->proof));
	fflush(stdout);
	return r == 1;
}

static int run(vmsig *v, bool once)
{
	vmsig_delivery delivery = VMSIG_DELIVERY_INIT;
	bool done = false, refused = false;

	while (!done && !refused && !ferror(stdout)) {
		int r = vmsig_wait(v, &delivery, LOOK_MS);

		if (r == -VMSIG_ERR_TIMEOUT) {
			if (output_is_gone())
				return 0;
			continue;
		}
		if (r) {
			fprintf(stderr, "vmsig-banner: %s\n", vmsig_last_error(v));
			return 1;
		}
		if (delivery.event.kind == VMSIG_EV_MEMCTX)
			done = on_memctx(&delivery) && once;
		else if (delivery.error)
			fprintf(stderr, "vmsig-banner: %s\n", vmsig_delivery_text(&delivery));
		/* What is not ours to see is not asked for again. */
		refused = delivery.event.kind == VMSIG_EV_SUBSCRIBED && delivery.error &&
			  !vmsig_error_retryable(delivery.error);
		vmsig_delivery_clear(&delivery); /* closes the descriptors */
	}
	if (ferror(stdout))
		fprintf(stderr, "vmsig-banner: cannot write the output\n");
	return refused || ferror(stdout) ? 1 : 0;
}

static void usage(FILE *to)
{
	fprintf(to, "Usage: VMSIG_IDENTITY=DIR vmsig-banner [--once] [ENDPOINT]\n"
		    "Prints the kernel's banner for every epoch of a guest.\n"
		    "ENDPOINT is a name or a pattern; '*' without one.\n");
}

static bool is_option(const char *word, const char *letter, const char *name)
{
	return strcmp(word, letter) == 0 || strcmp(word, name) == 0;
}

int main(int argc, char **argv)
{
	bool once = argc > 1 && strcmp(argv[1], "--once") == 0;
	vmsig_options options = {
		.identity_dir = getenv("VMSIG_IDENTITY"),
		.socket_path = getenv("VMSIG_SOCKET"),
	};
	char error[512];
	vmsig *v;
	int r;

	/* Without standard output it would print into the first thing that it opens. */
	for (int fd = 0; fd <= 2; fd++) {
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd ? O_RDONLY : O_WRONLY) != fd)
			return 1;
	}
	if (argc == 2 && is_option(argv[1], "-h", "--help")) {
		usage(stdout);
		return fflush(stdout) ? 1 : 0;
	}
	if (argc == 2 && is_option(argv[1], "-V", "--version")) {
		printf("vmsig-banner %s\n", vmsig_version());
		return fflush(stdout) ? 1 : 0;
	}
	if (argc - once > 2 || (argc > 1 && !once && argv[1][0] == '-')) {
		usage(stderr);
		return 2;
	}
	if (vmsig_open(&v, &options, error, sizeof(error))) {
		fprintf(stderr, "vmsig-banner: %s\n", error);
		return 5;
	}
	r = vmsig_subscribe(v, argc - once > 1 ? argv[1 + once] : "*");
	if (r)
		fprintf(stderr, "vmsig-banner: %s\n", vmsig_last_error(v));
	r = r ? 1 : run(v, once);
	vmsig_close(v);
	return r;
}
