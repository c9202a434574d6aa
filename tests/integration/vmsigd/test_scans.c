/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guests that make the search for their kernel as long as they can: they harm themselves only.
 * Others connect, and other guests' kernels are found.
 */
#include "tests/support/ctx_client.h"
#include "tests/unit/guest/image.h"
#include "vmsig/vmsig_event.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE 4096u
#define HOSTILE 8u
#define HOSTILE_BYTES (8u << 20) /* of each file */
#define COPIES 128u              /* of it in each guest's memory: 1 GiB of notes */
#define CONNECTIONS 20u

struct scene {
	struct daemon *daemon;
	struct pki_cert acme;
};

/* Well-formed, and as long to read as one can be. */
static void put_note(char page[static PAGE], unsigned number)
{
	int n = snprintf(page, PAGE,
		"OSRELEASE=6.1.0-%x\nSYMBOL(swapper_pg_dir)=ffffffff82e10000\n"
		"SYMBOL(init_uts_ns)=ffffffff82e1a4c0\nNUMBER(phys_base)=0\n",
		number);

	memset(page + n, '\n', PAGE - (size_t)n);
}

static int open_ram(const struct scene *scene, const char *name)
{
	char path[512];
	int fd;

	snprintf(path, sizeof(path), "%s/%s.ram", daemon_dir(scene->daemon), name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static void make_hostile(struct scene *scene, unsigned which)
{
	char name[8], page[PAGE];
	int fd;

	snprintf(name, sizeof(name), "h%u", which);
	daemon_ram(scene->daemon, name, HOSTILE_BYTES);
	fd = open_ram(scene, name);
	for (unsigned i = 0; i < HOSTILE_BYTES / PAGE; i++) {
		put_note(page, which << 16 | i);
		assert_int_equal(write(fd, page, PAGE), PAGE);
	}
	close(fd);
}

static void make_honest(struct scene *scene)
{
	static const struct image_linux linux_ = {.release = "6.1.0-honest",
		.root = 0x200000,
		.text = 0x210000,
		.note = 0x220000,
		.levels = 4};
	struct image image;
	int fd;

	image_init(&image);
	image_put_linux(&image, &linux_);
	daemon_ram(scene->daemon, "honest", IMAGE_SIZE);
	fd = open_ram(scene, "honest");
	assert_int_equal(write(fd, image.ram, IMAGE_SIZE), IMAGE_SIZE);
	close(fd);
	image_deinit(&image);
}

/* The file again and again: any guest can have that much, no test should. */
static void describe_hostile(FILE *out, unsigned which)
{
	fprintf(out,
		"  - name: h%u\n    adapter: file\n    path: h%u.ram\n    poll: 20ms\n"
		"    segments:\n",
		which, which);
	for (unsigned i = 0; i < COPIES; i++)
		fprintf(out, "      - {gpa: 0x%" PRIx64 ", len: 0x%x, offset: 0}\n",
			(uint64_t)i * HOSTILE_BYTES, HOSTILE_BYTES);
}

static void configure(struct scene *scene)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	assert_non_null(out);
	fprintf(out, "endpoints:\n");
	for (unsigned i = 0; i < HOSTILE; i++)
		describe_hostile(out, i);
	fprintf(out,
		"  - {name: honest, adapter: file, path: honest.ram, low: %u, poll: 20ms}\n"
		"tenants:\n"
		"  - {name: acme, role: sensor, uids: [%u], endpoints: ['*']}\n",
		IMAGE_SIZE, getuid());
	assert_int_equal(fclose(out), 0);
	daemon_configure(scene->daemon, "%s", text);
	free(text);
}

static int setup(void **state)
{
	struct scene *scene = calloc(1, sizeof(*scene));

	assert_non_null(scene);
	scene->daemon = daemon_new();
	pki_issue_uri(daemon_pki(scene->daemon), "acme", "vmsig://sensor/acme", &scene->acme);
	for (unsigned i = 0; i < HOSTILE; i++)
		make_hostile(scene, i);
	make_honest(scene);
	configure(scene);
	*state = scene;
	return 0;
}

static int teardown(void **state)
{
	struct scene *scene = *state;

	daemon_free(scene->daemon);
	free(scene);
	return 0;
}

static void expect_honest(const struct scene *scene)
{
	struct ctx_client client;
	Vmsig__CtxMessage *message;
	int fds[2];

	ctx_client_open(&client, scene->daemon, &scene->acme);
	ctx_client_expect_done(&client, ctx_client_subscribe(&client, "honest"));
	message = ctx_client_expect_memctx(&client, fds);
	assert_int_equal(message->memctx->system->os, VMSIG_OS_LINUX);
	assert_string_equal(message->memctx->system->release, "6.1.0-honest");
	ctx_client_free_message(message);
	close(fds[0]);
	close(fds[1]);
	ctx_client_close(&client);
}

static void hostile_guests_harm_themselves_only(void **state)
{
	struct scene *scene = *state;
	struct ctx_client client;

	daemon_start(scene->daemon);
	for (unsigned i = 0; i < CONNECTIONS; i++) {
		ctx_client_open(&client, scene->daemon, &scene->acme);
		ctx_client_close(&client);
	}
	expect_honest(scene);
	/* And a search that is far from its end delays no stop. */
	assert_int_equal(daemon_stop(scene->daemon, SIGTERM), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			hostile_guests_harm_themselves_only, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
