/* SPDX-License-Identifier: Apache-2.0 */
/* TLS contexts: files that are wrong, and what a peer has to be. */
#include "tests/unit/proto/chan_pair.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

/* ---- files ---- */

static void expect_files(const struct tls_files *files, enum tls_side side, int code,
	const char *path, const char *words)
{
	struct tls_ctx *ctx = NULL;
	char error[512];

	assert_int_equal(
		tls_ctx_new(&ctx, side, files, IDENTITY_BROKER, error, sizeof(error)), code);
	assert_null(ctx);
	if (!strstr(error, path) || !strstr(error, words))
		fail_msg("\"%s\" does not name \"%s\" and \"%s\"", error, path, words);
	assert_int_equal(ERR_peek_error(), 0);
}

static const char *file_write(struct chan_world *world, const char *name, const char *text)
{
	static char path[PATH_MAX];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", pki_dir(world->pki), name);
	file = fopen(path, "w");
	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fchmod(fileno(file), 0600), 0);
	assert_int_equal(fclose(file), 0);
	return path;
}

static void bad_files_are_named(void **state)
{
	struct chan_world *world = *state;
	const struct tls_files good = pki_files(world->pki, &world->sensor_cert, NULL);
	struct tls_files files;

	files = good;
	files.ca = "/nonexistent/ca";
	expect_files(&files, TLS_CLIENT, -ENOENT, "/nonexistent/ca", "No such file");
	files = good;
	files.cert = "/dev/null";
	expect_files(&files, TLS_CLIENT, VMSIG_ERR_BAD_REQUEST, "/dev/null", "regular file");
	files = good;
	files.cert = file_write(world, "junk", "no certificate\n");
	expect_files(&files, TLS_CLIENT, VMSIG_ERR_BAD_REQUEST, "junk", "not a PEM certificate");
	files = good;
	files.ca = file_write(
		world, "broken", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
	expect_files(&files, TLS_CLIENT, VMSIG_ERR_BAD_REQUEST, "broken", "certificate");
	files = good;
	files.crl = file_write(world, "empty.crl", "");
	expect_files(&files, TLS_CLIENT, VMSIG_ERR_BAD_REQUEST, "empty.crl", "revocation list");
	files = good;
	files.key = world->broker_cert.key;
	expect_files(&files, TLS_CLIENT, VMSIG_ERR_BAD_REQUEST, files.key, "key");
	files = good;
	files.key = files.cert;
	expect_files(&files, TLS_CLIENT, VMSIG_ERR_FORBIDDEN, files.key, "chmod 600");
}

static void an_encrypted_key_is_refused_without_asking(void **state)
{
	struct chan_world *world = *state;
	struct tls_files files = pki_files(world->pki, &world->sensor_cert, NULL);
	EVP_PKEY *key = EVP_EC_gen("P-256");
	char path[PATH_MAX];
	FILE *file;
	int fd;

	snprintf(path, sizeof(path), "%s/secret.key", pki_dir(world->pki));
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	file = fdopen(fd, "w");
	assert_non_null(file);
	assert_int_equal(
		PEM_write_PKCS8PrivateKey(file, key, EVP_aes_128_cbc(), "abcd", 4, NULL, NULL), 1);
	assert_int_equal(fclose(file), 0);
	EVP_PKEY_free(key);
	files.key = path;
	expect_files(&files, TLS_CLIENT, VMSIG_ERR_BAD_REQUEST, path, "unencrypted");
}

static void an_open_key_is_refused(void **state)
{
	static const mode_t modes[] = {0640, 0604, 0620, 0602, 0610, 0777};
	struct chan_world *world = *state;
	struct tls_files files = pki_files(world->pki, &world->sensor_cert, NULL);

	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		assert_int_equal(chmod(files.key, modes[i]), 0);
		expect_files(&files, TLS_CLIENT, VMSIG_ERR_FORBIDDEN, files.key, "chmod 600");
	}
	assert_int_equal(chmod(files.key, 0400), 0);
	tls_ctx_unref(ctx_make(TLS_CLIENT, &files, IDENTITY_BROKER));
	assert_int_equal(chmod(files.key, 0600), 0);
}

static void a_fifo_does_not_hang_the_start(void **state)
{
	struct chan_world *world = *state;
	struct tls_files files = pki_files(world->pki, &world->sensor_cert, NULL);
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/fifo", pki_dir(world->pki));
	assert_int_equal(mkfifo(path, 0600), 0);
	files.key = path;
	expect_files(&files, TLS_CLIENT, VMSIG_ERR_BAD_REQUEST, path, "regular file");
}

static void a_server_must_be_a_broker(void **state)
{
	struct chan_world *world = *state;
	struct tls_files files = pki_files(world->pki, &world->sensor_cert, NULL);

	expect_files(&files, TLS_SERVER, VMSIG_ERR_BAD_REQUEST, files.cert, "role broker");
}

static void a_context_outlives_its_owner(void **state)
{
	struct chan_world *world = *state;
	struct tls_files files = pki_files(world->pki, &world->sensor_cert, NULL);
	struct tls_ctx *ctx = ctx_make(TLS_CLIENT, &files, IDENTITY_BROKER);
	struct chan_pair pair;
	int server;
	int client;

	chan_pair_make(&pair, world->broker, ctx, NULL);
	assert_null(tls_ctx_unref(ctx));
	assert_null(tls_ctx_unref(NULL));
	chan_pair_handshake(&pair, &server, &client);
	assert_int_equal(server, 0);
	assert_int_equal(client, 0);
	chan_pair_down(&pair);
}

/* ---- who may come in, seen from the server ---- */

/* The server refuses, with these words; the client learns it at the latest when it reads. */
static void expect_refused(
	struct tls_ctx *server_ctx, const struct tls_files *files, const char *words)
{
	struct tls_ctx *ctx = ctx_make(TLS_CLIENT, files, IDENTITY_BROKER);
	struct chan_pair pair;
	struct identity id;
	const uint8_t *data;
	size_t len;
	int server;
	int client;

	chan_pair_make(&pair, server_ctx, ctx, NULL);
	chan_pair_handshake(&pair, &server, &client);
	assert_int_equal(server, VMSIG_ERR_UNAUTHENTICATED);
	if (!strstr(chan_error(pair.server), words))
		fail_msg("\"%s\" does not say \"%s\"", chan_error(pair.server), words);
	assert_int_equal(chan_peer_identity(pair.server, &id), VMSIG_ERR_UNAUTHENTICATED);
	if (client == 0)
		client = chan_await(pair.client, pair.server, &data, &len);
	assert_int_equal(client, VMSIG_ERR_UNAUTHENTICATED);
	assert_non_null(strstr(chan_error(pair.client), "alert"));
	chan_pair_down(&pair);
	tls_ctx_unref(ctx);
}

static void expect_names_refused(
	struct chan_world *world, const char *const *uris, const char *words)
{
	const struct pki_request request = {.uris = uris};
	struct pki_cert cert;
	struct tls_files files;

	pki_issue(world->pki, "odd", &request, &cert);
	files = pki_files(world->pki, &cert, NULL);
	expect_refused(world->broker, &files, words);
}

#define URIS(...)                                                                                  \
	(const char *const[])                                                                      \
	{                                                                                          \
		__VA_ARGS__, NULL                                                                  \
	}

static void exactly_one_good_name_is_needed(void **state)
{
	expect_names_refused(*state, NULL, "0 URI names");
	expect_names_refused(*state, URIS("vmsig://sensor/a", "vmsig://sensor/a"), "2 URI names");
	expect_names_refused(
		*state, URIS("vmsig://sensor/a", "https://example.org/"), "2 URI names");
	expect_names_refused(*state, URIS("https://example.org/"), "not vmsig://");
	expect_names_refused(*state, URIS("vmsig://sensor/a/b"), "not vmsig://");
}

static void other_roles_are_refused_in_the_handshake(void **state)
{
	expect_names_refused(*state, URIS("vmsig://admin/acme"), "role admin is not accepted");
	expect_names_refused(*state, URIS("vmsig://broker/acme"), "role broker is not accepted");
	expect_names_refused(
		*state, URIS("vmsig://provider/acme"), "role provider is not accepted");
}

static void another_authority_is_refused(void **state)
{
	struct chan_world *world = *state;
	struct pki *other = pki_new();
	struct pki_cert cert;
	struct tls_files files;

	pki_issue_uri(other, "sensor", "vmsig://sensor/acme", &cert);
	files = pki_files(world->pki, &cert, NULL);
	expect_refused(world->broker, &files, "certificate verify failed");
	pki_free(other);
}

static void outside_its_dates_is_refused(void **state)
{
	struct chan_world *world = *state;
	struct pki_request request = {
		.uris = URIS("vmsig://sensor/acme"), .not_before = -7200, .not_after = -60};
	struct pki_cert cert;
	struct tls_files files;

	pki_issue(world->pki, "old", &request, &cert);
	files = pki_files(world->pki, &cert, NULL);
	expect_refused(world->broker, &files, "expired");
	request = (struct pki_request){.uris = request.uris, .not_before = 3600};
	pki_issue(world->pki, "young", &request, &cert);
	files = pki_files(world->pki, &cert, NULL);
	expect_refused(world->broker, &files, "not yet valid");
}

static void a_revoked_certificate_is_refused(void **state)
{
	struct chan_world *world = *state;
	struct pki_cert revoked;
	struct tls_files files;
	struct tls_ctx *broker;
	struct chan_pair pair;
	int server;
	int client;

	pki_issue_uri(world->pki, "revoked", "vmsig://sensor/acme", &revoked);
	pki_revoke(world->pki, &revoked);
	files = pki_files(world->pki, &world->broker_cert, pki_crl(world->pki));
	broker = ctx_make(TLS_SERVER, &files, IDENTITY_SENSOR);
	files = pki_files(world->pki, &revoked, NULL);
	expect_refused(broker, &files, "certificate revoked");

	chan_pair_make(&pair, broker, world->sensor, NULL);
	chan_pair_handshake(&pair, &server, &client);
	assert_int_equal(server, 0);
	assert_int_equal(client, 0);
	chan_pair_down(&pair);
	tls_ctx_unref(broker);
}

/* A list of somebody else is no list: the check must fail, not be skipped. */
static void a_missing_list_fails_closed(void **state)
{
	struct chan_world *world = *state;
	struct pki *other = pki_new();
	struct pki_cert cert;
	struct tls_files files;
	struct tls_ctx *broker;

	pki_issue_uri(world->pki, "again", "vmsig://sensor/acme", &cert);
	files = pki_files(world->pki, &world->broker_cert, pki_crl(other));
	broker = ctx_make(TLS_SERVER, &files, IDENTITY_SENSOR);
	files = pki_files(world->pki, &cert, NULL);
	expect_refused(broker, &files, "CRL");
	tls_ctx_unref(broker);
	pki_free(other);
}

static void the_client_checks_the_broker_too(void **state)
{
	struct chan_world *world = *state;
	struct tls_files files = pki_files(world->pki, &world->sensor_cert, NULL);
	struct pki *other = pki_new();
	struct pki_cert cert;
	struct tls_ctx *picky = ctx_make(TLS_CLIENT, &files, IDENTITY_PROVIDER);
	struct tls_ctx *stranger;
	struct chan_pair pair;
	int server;
	int client;

	chan_pair_make(&pair, world->broker, picky, NULL);
	chan_pair_handshake(&pair, &server, &client);
	assert_int_equal(client, VMSIG_ERR_UNAUTHENTICATED);
	assert_int_equal(server, VMSIG_ERR_UNAUTHENTICATED);
	assert_non_null(strstr(chan_error(pair.client), "role broker is not accepted"));
	chan_pair_down(&pair);

	pki_issue_uri(other, "broker", "vmsig://broker/host1", &cert);
	files = pki_files(world->pki, &cert, NULL);
	stranger = ctx_make(TLS_SERVER, &files, IDENTITY_SENSOR);
	chan_pair_make(&pair, stranger, world->sensor, NULL);
	chan_pair_handshake(&pair, &server, &client);
	assert_int_equal(client, VMSIG_ERR_UNAUTHENTICATED);
	assert_non_null(strstr(chan_error(pair.client), "certificate verify failed"));
	chan_pair_down(&pair);
	tls_ctx_unref(stranger);
	tls_ctx_unref(picky);
	pki_free(other);
}

/* ---- peers that are not ours: plain OpenSSL on the other end ---- */

struct plain {
	int max_version;
	const char *alpn; /* wire format, or NULL */
	bool cert;
	bool server;
};

static SSL *plain_make(struct chan_world *world, const struct plain *plain, int fd)
{
	const struct pki_cert *cert = plain->server ? &world->broker_cert : &world->sensor_cert;
	SSL_CTX *ctx = SSL_CTX_new(plain->server ? TLS_server_method() : TLS_client_method());
	SSL *ssl;

	assert_non_null(ctx);
	assert_true(SSL_CTX_set_max_proto_version(ctx, plain->max_version));
	if (plain->cert) {
		assert_true(SSL_CTX_use_certificate_chain_file(ctx, cert->cert));
		assert_true(SSL_CTX_use_PrivateKey_file(ctx, cert->key, SSL_FILETYPE_PEM));
	}
	if (plain->alpn)
		assert_int_equal(SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)plain->alpn,
					 (unsigned)strlen(plain->alpn)),
			0);
	ssl = SSL_new(ctx);
	assert_non_null(ssl);
	SSL_CTX_free(ctx);
	assert_true(SSL_set_fd(ssl, fd));
	if (plain->server)
		SSL_set_accept_state(ssl);
	else
		SSL_set_connect_state(ssl);
	return ssl;
}

/* Runs a handshake between a plain peer and a channel. Returns what the channel says. */
static int plain_handshake(struct chan_world *world, const struct plain *plain, char *error,
	size_t error_size, unsigned long *ret_plain_error)
{
	struct chan *chan;
	int fds[2];
	int r = VMSIG_ERR_WOULD_BLOCK;
	SSL *ssl;

	socket_pair(fds);
	assert_int_equal(chan_new(&chan, plain->server ? world->sensor : world->broker, fds[0],
				 &chan_limits_default),
		0);
	ssl = plain_make(world, plain, fds[1]);
	*ret_plain_error = 0;
	for (int i = 0; i < 10; i++) {
		char byte;

		ERR_clear_error();
		if (SSL_do_handshake(ssl) == 1)
			(void)!SSL_read(ssl, &byte, 1);
		if (!*ret_plain_error)
			*ret_plain_error = ERR_peek_error();
		if (r != VMSIG_ERR_WOULD_BLOCK)
			continue;
		assert_true(chan_fill(chan) >= 0);
		r = chan_handshake(chan);
		assert_true(chan_drain(chan) >= 0);
	}
	ERR_clear_error();
	snprintf(error, error_size, "%s", chan_error(chan));
	SSL_free(ssl);
	close(fds[1]);
	chan_free(chan);
	return r;
}

static void plain_peers_get_in_only_as_they_should(void **state)
{
	static const struct {
		struct plain plain;
		int code;
		const char *words;
		int alert; /* that the plain peer sees */
	} cases[] = {
		{{TLS1_3_VERSION, "\x07vmsig/1", true, false}, 0, "", 0},
		{{TLS1_3_VERSION, "\x02h2\x07vmsig/1", true, false}, 0, "", 0},
		{{TLS1_3_VERSION, NULL, true, false}, VMSIG_ERR_UNAUTHENTICATED,
			"offers no application protocol", SSL_AD_NO_APPLICATION_PROTOCOL},
		{{TLS1_3_VERSION, "\x02h2\x07vmsig/2", true, false}, VMSIG_ERR_UNAUTHENTICATED,
			"other application protocols", SSL_AD_NO_APPLICATION_PROTOCOL},
		{{TLS1_3_VERSION, "\x07vmsig/1", false, false}, VMSIG_ERR_UNAUTHENTICATED,
			"sent no certificate", SSL_AD_CERTIFICATE_REQUIRED},
		{{TLS1_2_VERSION, "\x07vmsig/1", true, false}, VMSIG_ERR_UNAUTHENTICATED,
			"does not offer TLS 1.3", SSL_AD_PROTOCOL_VERSION},
		{{TLS1_3_VERSION, NULL, true, true}, VMSIG_ERR_UNAUTHENTICATED,
			"did not select the protocol vmsig/1", SSL_AD_HANDSHAKE_FAILURE},
		{{TLS1_2_VERSION, NULL, true, true}, VMSIG_ERR_UNAUTHENTICATED, "alert 70", 0},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		unsigned long plain_error;
		char error[256];

		assert_int_equal(plain_handshake(*state, &cases[i].plain, error, sizeof(error),
					 &plain_error),
			cases[i].code);
		if (!strstr(error, cases[i].words))
			fail_msg("case %zu: \"%s\" does not say \"%s\"", i, error, cases[i].words);
		if (cases[i].alert)
			assert_int_equal(
				ERR_GET_REASON(plain_error), SSL_AD_REASON_OFFSET + cases[i].alert);
	}
}

/* A session of an accepted client must not get a revoked one in. */
static void there_is_nothing_to_resume(void **state)
{
	static const struct plain plain = {TLS1_3_VERSION, "\x07vmsig/1", true, false};
	struct chan_world *world = *state;
	struct chan *chan;
	int fds[2];
	SSL *ssl;

	socket_pair(fds);
	assert_int_equal(chan_new(&chan, world->broker, fds[0], &chan_limits_default), 0);
	ssl = plain_make(world, &plain, fds[1]);
	for (int i = 0; i < 10; i++) {
		char byte;

		if (SSL_do_handshake(ssl) == 1)
			(void)!SSL_read(ssl, &byte, 1);
		assert_true(chan_fill(chan) >= 0);
		assert_in_set(chan_handshake(chan),
			((LargestIntegralType[]){0, VMSIG_ERR_WOULD_BLOCK}), 2);
		assert_int_equal(chan_drain(chan), 0);
	}
	assert_true(chan_established(chan));
	assert_false(SSL_SESSION_is_resumable(SSL_get0_session(ssl)));
	SSL_free(ssl);
	close(fds[1]);
	chan_free(chan);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_files_are_named),
		cmocka_unit_test(an_encrypted_key_is_refused_without_asking),
		cmocka_unit_test(an_open_key_is_refused),
		cmocka_unit_test(a_fifo_does_not_hang_the_start),
		cmocka_unit_test(a_server_must_be_a_broker),
		cmocka_unit_test(a_context_outlives_its_owner),
		cmocka_unit_test(exactly_one_good_name_is_needed),
		cmocka_unit_test(other_roles_are_refused_in_the_handshake),
		cmocka_unit_test(another_authority_is_refused),
		cmocka_unit_test(outside_its_dates_is_refused),
		cmocka_unit_test(a_revoked_certificate_is_refused),
		cmocka_unit_test(a_missing_list_fails_closed),
		cmocka_unit_test(the_client_checks_the_broker_too),
		cmocka_unit_test(plain_peers_get_in_only_as_they_should),
		cmocka_unit_test(there_is_nothing_to_resume),
	};

	return cmocka_run_group_tests(tests, chan_world_setup, chan_world_teardown);
}
