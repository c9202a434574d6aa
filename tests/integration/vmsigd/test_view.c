/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a client of the read plane gets to see: its tenant's endpoints, their contexts, and
 * what happens to them.
 */
#include "tests/integration/vmsigd/scene.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmsig/vmsig_coherence.h"
#include "vmsig/vmsig_memctx.h"

static void expect_list(
	struct scene *scene, const struct pki_cert *cert, const char *const *names, size_t n)
{
	struct ctx_client client;
	Vmsig__CtxMessage *message;
	uint64_t id;

	ctx_client_open(&client, scene->daemon, cert);
	id = ctx_client_list(&client);
	message = ctx_client_expect(&client, VMSIG__CTX_MESSAGE__BODY_ENDPOINT_LIST);
	assert_int_equal(message->request_id, id);
	assert_int_equal(message->endpoint_list->n_endpoints, n);
	for (size_t i = 0; i < n; i++) {
		const Vmsig__EndpointInfo *info = message->endpoint_list->endpoints[i];

		assert_string_equal(info->name, names[i]);
		assert_string_equal(info->adapter, "file");
		assert_int_equal(info->state, VMSIG_STATE_READY);
		assert_int_equal(info->ram_bytes, SCENE_RAM);
		assert_true(info->id && info->epoch);
		assert_int_equal(info->system->os, VMSIG_OS_UNKNOWN);
		assert_int_equal(info->system->proof, VMSIG_PROOF_CONFIGURED);
		assert_false(info->writable);
	}
	ctx_client_free_message(message);
	ctx_client_close(&client);
}

static void a_tenant_lists_what_its_policy_names(void **state)
{
	expect_list(*state, &((struct scene *)*state)->acme, (const char *const[]){"a1", "a2"}, 2);
	expect_list(*state, &((struct scene *)*state)->globex, (const char *const[]){"g1"}, 1);
}

/* I14: another's endpoint answers exactly as one that is not there. */
static void foreign_and_missing_endpoints_look_alike(void **state)
{
	static const char *const names[] = {"a1", "none"};
	struct scene *scene = *state;
	char details[2][256];
	struct ctx_client client;

	ctx_client_open(&client, scene->daemon, &scene->globex);
	for (size_t i = 0; i < 2; i++) {
		Vmsig__CtxMessage *message;

		ctx_client_subscribe(&client, names[i]);
		message = ctx_client_expect(&client, VMSIG__CTX_MESSAGE__BODY_ERROR);
		assert_int_equal(message->error->code, VMSIG_ERR_NO_SUCH_ENDPOINT);
		snprintf(details[i], sizeof(details[i]), "%s", message->error->detail);
		ctx_client_free_message(message);
	}
	assert_string_equal(details[0], details[1]);
	ctx_client_close(&client);
}

static void check_ram(const Vmsig__Memctx *memctx, int fd, const char *name)
{
	char text[8] = "";

	assert_int_equal(memctx->kcr3, SCENE_KCR3);
	assert_int_equal(memctx->low, SCENE_RAM);
	assert_true(memctx->flags & VMSIG_MEMCTX_RDONLY);
	assert_int_equal(memctx->system->proof, VMSIG_PROOF_CONFIGURED);
	assert_string_equal(memctx->system->release, "");
	assert_int_equal(pread(fd, text, strlen(name), 0), strlen(name));
	assert_string_equal(text, name);
	assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_ptr_equal(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
	assert_int_equal(errno, EACCES);
}

static void check_page(const Vmsig__Memctx *memctx, int fd)
{
	vmsig_coherence page;

	assert_int_equal(pread(fd, &page, sizeof(page), 0), sizeof(page));
	assert_true(page.magic == VMSIG_COHERENCE_MAGIC);
	assert_int_equal(page.endpoint, memctx->endpoint);
	assert_int_equal(page.epoch, memctx->epoch);
	assert_int_equal(page.state, VMSIG_STATE_READY);
	assert_int_equal(page.sequence, 0);
}

static void a_subscriber_gets_context_ram_and_page(void **state)
{
	struct scene *scene = *state;
	struct ctx_client client;
	Vmsig__CtxMessage *message;
	int fds[2];

	ctx_client_open(&client, scene->daemon, &scene->acme);
	ctx_client_expect_done(&client, ctx_client_subscribe(&client, "a1"));
	message = ctx_client_expect_memctx(&client, fds);
	assert_string_equal(message->memctx->name, "a1");
	check_ram(message->memctx, fds[0], "a1");
	check_page(message->memctx, fds[1]);
	ctx_client_free_message(message);
	close(fds[0]);
	close(fds[1]);
	assert_true(ctx_client_silent(&client, 100));
	ctx_client_close(&client);
}

/* R2: no offset, no lock on guest RAM is shared between holders. The page, which is mapped, may
 * come by duplicates of one descriptor. */
static void each_delivery_has_its_own_file_description(void **state)
{
	struct scene *scene = *state;
	struct ctx_client clients[2];
	int fds[2][2];

	for (size_t i = 0; i < 2; i++) {
		ctx_client_open(&clients[i], scene->daemon, &scene->acme);
		ctx_client_expect_done(&clients[i], ctx_client_subscribe(&clients[i], "a1"));
		ctx_client_free_message(ctx_client_expect_memctx(&clients[i], fds[i]));
	}
	assert_int_equal(lseek(fds[0][0], 7, SEEK_SET), 7);
	assert_int_equal(lseek(fds[1][0], 0, SEEK_CUR), 0);
	for (size_t i = 0; i < 2; i++) {
		close(fds[i][0]);
		close(fds[i][1]);
		ctx_client_close(&clients[i]);
	}
}

/* One Memctx is in flight at a time; the next follows the acknowledgement. */
static void a_glob_brings_all_that_it_may(void **state)
{
	struct scene *scene = *state;
	struct ctx_client client;
	bool seen[2] = {false, false};
	int fds[2];

	ctx_client_open(&client, scene->daemon, &scene->acme);
	ctx_client_expect_done(&client, ctx_client_subscribe(&client, "*"));
	for (int i = 0; i < 2; i++) {
		Vmsig__CtxMessage *message = ctx_client_expect_memctx(&client, fds);

		assert_true(strcmp(message->memctx->name, "a1") == 0 ||
			    strcmp(message->memctx->name, "a2") == 0);
		seen[message->memctx->name[1] - '1'] = true;
		ctx_client_free_message(message);
		close(fds[0]);
		close(fds[1]);
	}
	assert_true(seen[0] && seen[1]);
	assert_true(ctx_client_silent(&client, 100));
	ctx_client_close(&client);
}

/* R4, R5, R6: the invalidation first, then the new context in the new epoch. */
static void a_new_session_is_told_in_order(void **state)
{
	struct scene *scene = *state;
	struct ctx_client client;
	Vmsig__CtxMessage *message;
	vmsig_coherence page;
	uint32_t epoch;
	int fds[2], again[2];

	ctx_client_open(&client, scene->daemon, &scene->acme);
	ctx_client_expect_done(&client, ctx_client_subscribe(&client, "a1"));
	message = ctx_client_expect_memctx(&client, fds);
	epoch = message->memctx->epoch;
	ctx_client_free_message(message);
	scene_replace_ram(scene);
	message = ctx_client_expect(&client, VMSIG__CTX_MESSAGE__BODY_MEMCTX_INVALIDATED);
	assert_true(message->memctx_invalidated->epoch > epoch);
	ctx_client_free_message(message);
	message = ctx_client_expect_memctx(&client, again);
	assert_true(message->memctx->epoch > epoch);
	check_ram(message->memctx, again[0], "new");
	/* The page of the first delivery is the endpoint's, and it has moved on. */
	assert_int_equal(pread(fds[1], &page, sizeof(page), 0), sizeof(page));
	assert_int_equal(page.epoch, message->memctx->epoch);
	ctx_client_free_message(message);
	for (size_t i = 0; i < 2; i++) {
		close(fds[i]);
		close(again[i]);
	}
	ctx_client_close(&client);
}

static void unsubscribed_is_silent(void **state)
{
	struct scene *scene = *state;
	struct ctx_client client;
	unsigned ready;
	int fds[2];

	ctx_client_open(&client, scene->daemon, &scene->acme);
	ctx_client_expect_done(&client, ctx_client_subscribe(&client, "a1"));
	ctx_client_free_message(ctx_client_expect_memctx(&client, fds));
	ctx_client_expect_done(&client, ctx_client_unsubscribe(&client, "a1"));
	ctx_client_expect_error(
		&client, ctx_client_unsubscribe(&client, "a1"), VMSIG_ERR_NO_SUCH_ENDPOINT);
	ready = daemon_log_count(scene->daemon, "endpoint ready");
	scene_replace_ram(scene);
	daemon_await_log(scene->daemon, "endpoint ready", ready + 1);
	assert_true(ctx_client_silent(&client, 100));
	close(fds[0]);
	close(fds[1]);
	ctx_client_close(&client);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, scene_setup, scene_teardown)
	const struct CMUnitTest tests[] = {
		T(a_tenant_lists_what_its_policy_names),
		T(foreign_and_missing_endpoints_look_alike),
		T(a_subscriber_gets_context_ram_and_page),
		T(each_delivery_has_its_own_file_description),
		T(a_glob_brings_all_that_it_may),
		T(a_new_session_is_told_in_order),
		T(unsubscribed_is_silent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
