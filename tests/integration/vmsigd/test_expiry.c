/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates that end, or are revoked, while their connections are open; and those of others. */
#include <signal.h>
#include <stdio.h>

#include "tests/integration/vmsigd/scene.h"

static const char *const acme_uri[] = {"vmsig://sensor/acme", NULL};

/* Of the loaded machine's time: to connect before the certificate has ended. */
#define AHEAD_S 8

static void a_connection_ends_with_its_certificate(void **state)
{
	struct scene *scene = *state;
	const struct pki_request request = {.uris = acme_uri, .not_after = AHEAD_S};
	struct ctx_client brief, steady;
	struct pki_cert cert;

	pki_issue(daemon_pki(scene->daemon), "brief", &request, &cert);
	ctx_client_open(&brief, scene->daemon, &cert);
	ctx_client_open(&steady, scene->daemon, &scene->acme);
	ctx_client_expect_end(&brief);
	ctx_client_close(&brief);
	daemon_await_log(scene->daemon, "certificate has expired", 1);
	ctx_client_list(&steady);
	ctx_client_free_message(ctx_client_expect(&steady, VMSIG__CTX_MESSAGE__BODY_ENDPOINT_LIST));
	ctx_client_close(&steady);
}

static void an_expired_certificate_does_not_get_in(void **state)
{
	struct scene *scene = *state;
	const struct pki_request request = {
		.uris = acme_uri, .not_before = -7200, .not_after = -60};
	struct ctx_client client;
	struct pki_cert cert;

	pki_issue(daemon_pki(scene->daemon), "expired", &request, &cert);
	(void)ctx_client_connect(&client, scene->daemon, &cert);
	ctx_client_expect_end(&client);
	ctx_client_close(&client);
	scene_expect_service(scene);
}

static void another_authoritys_certificate_does_not_get_in(void **state)
{
	struct scene *scene = *state;
	struct pki *foreign = pki_new();
	struct ctx_client client;
	struct pki_cert cert;

	pki_issue_uri(foreign, "acme", acme_uri[0], &cert);
	(void)ctx_client_connect(&client, scene->daemon, &cert);
	ctx_client_expect_end(&client);
	ctx_client_close(&client);
	pki_free(foreign);
	scene_expect_service(scene);
}

static void what_ends_soon_is_warned_of(void **state)
{
	struct scene *scene = *state;

	/* Those of the test end in a day. */
	daemon_await_log(scene->daemon, "the broker's certificate ends on", 1);
	daemon_await_log(scene->daemon, "the authority's certificate ends on", 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			a_connection_ends_with_its_certificate, scene_setup, scene_teardown),
		cmocka_unit_test_setup_teardown(
			an_expired_certificate_does_not_get_in, scene_setup, scene_teardown),
		cmocka_unit_test_setup_teardown(another_authoritys_certificate_does_not_get_in,
			scene_setup, scene_teardown),
		cmocka_unit_test_setup_teardown(
			what_ends_soon_is_warned_of, scene_setup, scene_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
