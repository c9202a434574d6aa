/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/wire/tls_peer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "proto/wire/tls_ctx.h"
#include "vmsig/vmsig_error.h"

/* Length-prefixed list of protocol names, RFC 7301. */
static const unsigned char alpn[] = "\x07" TLS_ALPN;
#define ALPN_LEN (sizeof(alpn) - 1)
_Static_assert(sizeof(TLS_ALPN) - 1 == 7, "the length byte in front of the name");

static int serial_read(X509 *cert, char ret_serial[IDENTITY_SERIAL_MAX + 1])
{
	const ASN1_INTEGER *serial = X509_get0_serialNumber(cert);
	const unsigned char *bytes = ASN1_STRING_get0_data(serial);
	int len = ASN1_STRING_length(serial);

	if (len < 0 || len > IDENTITY_SERIAL_MAX / 2)
		return VMSIG_ERR_BAD_REQUEST;
	ret_serial[0] = '\0';
	for (int i = 0; i < len; i++)
		snprintf(ret_serial + 2 * i, 3, "%02x", bytes[i]);
	return 0;
}

/* The only URI among the names; NULL when there is none or several. */
static const ASN1_IA5STRING *only_uri(const GENERAL_NAMES *names, int *ret_count)
{
	const ASN1_IA5STRING *uri = NULL;
	int count = 0;

	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

		if (name->type != GEN_URI)
			continue;
		uri = name->d.uniformResourceIdentifier;
		count++;
	}
	*ret_count = count;
	return count == 1 ? uri : NULL;
}

int tls_peer_certificate(X509 *cert, struct identity *ret_identity, char *error, size_t error_size)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	struct identity id = {0};
	const ASN1_IA5STRING *uri;
	int count = 0;
	int r = VMSIG_ERR_BAD_REQUEST;

	uri = names ? only_uri(names, &count) : NULL;
	if (!uri) {
		snprintf(error, error_size,
			"the certificate has %d URI names, it needs exactly one "
			"vmsig://<role>/<name>",
			count);
		goto out;
	}
	r = identity_parse(
		(const char *)ASN1_STRING_get0_data(uri), (size_t)ASN1_STRING_length(uri), &id);
	if (r) {
		snprintf(error, error_size,
			"the certificate's URI name is not vmsig://<role>/<name>");
		goto out;
	}
	r = serial_read(cert, id.serial);
	if (r) {
		snprintf(error, error_size, "the certificate's serial is longer than 20 octets");
		goto out;
	}
	*ret_identity = id;
out:
	GENERAL_NAMES_free(names);
	return r;
}

static bool alpn_agreed(const SSL *ssl)
{
	const unsigned char *name = NULL;
	unsigned len = 0;

	SSL_get0_alpn_selected(ssl, &name, &len);
	return len == ALPN_LEN - 1 && memcmp(name, TLS_ALPN, len) == 0;
}

static int peer_accept(struct tls_peer *peer, const SSL *ssl, X509 *cert)
{
	struct identity id;
	int r;

	/* A server that selects nothing sends no extension, so no callback would see it. */
	if (!alpn_agreed(ssl)) {
		snprintf(peer->error, sizeof(peer->error),
			"the peer did not select the protocol " TLS_ALPN " (ALPN)");
		return VMSIG_ERR_UNAUTHENTICATED;
	}
	r = tls_peer_certificate(cert, &id, peer->error, sizeof(peer->error));
	if (r)
		return r;
	if (!(id.role & peer->roles)) {
		snprintf(peer->error, sizeof(peer->error),
			"the peer's role %s is not accepted here", identity_role_name(id.role));
		return VMSIG_ERR_UNAUTHENTICATED;
	}
	peer->identity = id;
	peer->verified = true;
	return 0;
}

/* What a client can do about a server that it does not know, or "". */
static const char *advice(const SSL *ssl, int error)
{
	static const int strange[] = {X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN,
		X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT,
		X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
		X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE, X509_V_ERR_CERT_SIGNATURE_FAILURE};

	for (size_t i = 0; !SSL_is_server(ssl) && i < sizeof(strange) / sizeof(strange[0]); i++) {
		if (strange[i] == error)
			return "; our ca.pem is not of the authority that has issued the peer's "
			       "certificate";
	}
	return "";
}

/* Runs in the handshake in place of X509_verify_cert(). */
static int peer_verify(X509_STORE_CTX *store, void *arg)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct tls_peer *peer = SSL_get_app_data(ssl);

	peer->verified = false;
	if (X509_verify_cert(store) != 1) {
		snprintf(peer->error, sizeof(peer->error),
			"certificate verify failed: %s (depth %d)%s",
			X509_verify_cert_error_string(X509_STORE_CTX_get_error(store)),
			X509_STORE_CTX_get_error_depth(store),
			advice(ssl, X509_STORE_CTX_get_error(store)));
		return 0;
	}
	if (peer_accept(peer, ssl, X509_STORE_CTX_get0_cert(store))) {
		X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
		return 0;
	}
	return 1;
}

/* A client without ALPN is refused before any signature is made for it. */
static int hello_check(SSL *ssl, int *al, void *arg)
{
	struct tls_peer *peer = SSL_get_app_data(ssl);
	const unsigned char *ext;
	size_t len;

	if (SSL_client_hello_get0_ext(
		    ssl, TLSEXT_TYPE_application_layer_protocol_negotiation, &ext, &len))
		return SSL_CLIENT_HELLO_SUCCESS;
	snprintf(peer->error, sizeof(peer->error),
		"the peer offers no application protocol; it needs " TLS_ALPN " (ALPN)");
	*al = SSL_AD_NO_APPLICATION_PROTOCOL;
	return SSL_CLIENT_HELLO_ERROR;
}

static int alpn_select(SSL *ssl, const unsigned char **out, unsigned char *out_len,
	const unsigned char *in, unsigned in_len, void *arg)
{
	struct tls_peer *peer = SSL_get_app_data(ssl);
	unsigned char *name;

	if (SSL_select_next_proto(&name, out_len, alpn, ALPN_LEN, in, in_len) ==
		OPENSSL_NPN_NEGOTIATED) {
		*out = name;
		return SSL_TLSEXT_ERR_OK;
	}
	snprintf(peer->error, sizeof(peer->error),
		"the peer offers other application protocols than " TLS_ALPN " (ALPN)");
	return SSL_TLSEXT_ERR_ALERT_FATAL;
}

void tls_peer_configure(SSL_CTX *ssl_ctx, bool server)
{
	SSL_CTX_set_verify(ssl_ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	SSL_CTX_set_cert_verify_callback(ssl_ctx, peer_verify, NULL);
	if (server) {
		SSL_CTX_set_client_hello_cb(ssl_ctx, hello_check, NULL);
		SSL_CTX_set_alpn_select_cb(ssl_ctx, alpn_select, NULL);
	}
}

/* Alerts by which a peer says that it does not accept who we are or what we speak. */
static bool alert_is_identity(int alert)
{
	switch (alert) {
	case SSL_AD_HANDSHAKE_FAILURE:
	case SSL_AD_BAD_CERTIFICATE:
	case SSL_AD_UNSUPPORTED_CERTIFICATE:
	case SSL_AD_CERTIFICATE_REVOKED:
	case SSL_AD_CERTIFICATE_EXPIRED:
	case SSL_AD_CERTIFICATE_UNKNOWN:
	case SSL_AD_UNKNOWN_CA:
	case SSL_AD_ACCESS_DENIED:
	case SSL_AD_DECRYPT_ERROR:
	case SSL_AD_PROTOCOL_VERSION:
	case SSL_AD_INSUFFICIENT_SECURITY:
	case SSL_AD_CERTIFICATE_REQUIRED:
	case SSL_AD_NO_APPLICATION_PROTOCOL:
		return true;
	default:
		return false;
	}
}

static const struct {
	int reason;
	const char *text;
} reasons[] = {
	{SSL_R_WRONG_VERSION_NUMBER, "the peer does not speak TLS"},
	{SSL_R_HTTP_REQUEST, "the peer does not speak TLS"},
	{SSL_R_BAD_RECORD_TYPE, "the peer does not speak TLS"},
	{SSL_R_UNSUPPORTED_PROTOCOL, "the peer does not offer TLS 1.3"},
	{SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE, "the peer sent no certificate"},
	{SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC, "a record was altered on its way"},
};

int tls_peer_failure(char *error, size_t error_size, int *ret_alert)
{
	unsigned long e = ERR_peek_error();
	int reason = ERR_GET_REASON(e);
	const char *text = ERR_reason_error_string(e);
	int alert = reason - SSL_AD_REASON_OFFSET;

	ERR_clear_error();
	*ret_alert = -1;
	if (ERR_GET_LIB(e) == ERR_LIB_SSL && reason > SSL_AD_REASON_OFFSET) {
		*ret_alert = alert;
		snprintf(error, error_size, "the peer ended the connection with alert %d: %s",
			alert, SSL_alert_desc_string_long(alert));
		return alert_is_identity(alert) ? VMSIG_ERR_UNAUTHENTICATED : VMSIG_ERR_PROTOCOL;
	}
	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
		if (ERR_GET_LIB(e) == ERR_LIB_SSL && reasons[i].reason == reason)
			text = reasons[i].text;
	}
	snprintf(error, error_size, "%s", text ? text : "unknown TLS error");
	return reason == ERR_R_MALLOC_FAILURE ? -ENOMEM : VMSIG_ERR_PROTOCOL;
}

static void moment_text(const ASN1_TIME *moment, char text[static 32])
{
	struct tm tm = {0};

	if (!ASN1_TIME_to_tm(moment, &tm) || !strftime(text, 32, "%Y-%m-%dT%H:%M:%SZ", &tm))
		snprintf(text, 32, "a moment that cannot be read");
}

bool tls_peer_is_current(const X509 *cert, char *text, size_t size)
{
	char moment[32];

	if (X509_cmp_current_time(X509_get0_notBefore(cert)) > 0) {
		moment_text(X509_get0_notBefore(cert), moment);
		snprintf(
			text, size, "our certificate is valid from %s on; check the clock", moment);
	} else if (X509_cmp_current_time(X509_get0_notAfter(cert)) < 0) {
		moment_text(X509_get0_notAfter(cert), moment);
		snprintf(text, size, "our certificate has expired on %s; issue another", moment);
	} else {
		return true;
	}
	return false;
}

/* What the alert means for who we are. */
static const char *face_meaning(int alert)
{
	switch (alert) {
	case SSL_AD_CERTIFICATE_REVOKED:
		return ", whose certificate has been revoked: have another issued (vmsigctl pki "
		       "issue)";
	case SSL_AD_UNKNOWN_CA:
		return ", and the peer does not know the authority of our certificate";
	default:
		return ": this socket may be another role's, or the peer does not know our "
		       "authority; its log says why";
	}
}

void tls_peer_own_face(SSL *ssl, int alert, char *text, size_t size)
{
	X509 *cert = SSL_get_certificate(ssl);
	struct identity identity;
	char why[160];

	text[0] = '\0';
	if (!cert || !tls_peer_is_current(cert, text, size))
		return;
	if (tls_peer_certificate(cert, &identity, why, sizeof(why))) {
		snprintf(text, size, "of ours %s", why);
	} else {
		snprintf(text, size, "we are the %s '%s'%s", identity_role_name(identity.role),
			identity.name, face_meaning(alert));
	}
}

/* ---- sessions of a context ---- */

int tls_peer_reverify(SSL *ssl, struct tls_ctx *ctx, char *error, size_t error_size)
{
	X509_STORE_CTX *verify = X509_STORE_CTX_new();
	X509 *cert = SSL_get0_peer_certificate(ssl);
	int r = -ENOMEM;

	if (!verify ||
		!X509_STORE_CTX_init(verify, SSL_CTX_get_cert_store(ctx->ssl_ctx), cert,
			SSL_get_peer_cert_chain(ssl)) ||
		!X509_STORE_CTX_set_default(
			verify, ctx->side == TLS_SERVER ? "ssl_client" : "ssl_server"))
		goto out;
	r = 0;
	if (X509_verify_cert(verify) != 1) {
		snprintf(error, error_size, "certificate verify failed: %s",
			X509_verify_cert_error_string(X509_STORE_CTX_get_error(verify)));
		r = VMSIG_ERR_UNAUTHENTICATED;
	}
out:
	X509_STORE_CTX_free(verify);
	ERR_clear_error();
	return r;
}

int64_t tls_peer_until(const SSL *ssl)
{
	const STACK_OF(X509) *chain = SSL_get0_verified_chain(ssl);
	int64_t first = INT64_MAX;

	for (int i = 0; i < sk_X509_num(chain); i++) {
		int64_t until = tls_seconds(X509_get0_notAfter(sk_X509_value(chain, i)));

		first = until < first ? until : first;
	}
	return first;
}

SSL *tls_peer_session(struct tls_ctx *ctx, struct tls_peer *peer)
{
	SSL *ssl = SSL_new(ctx->ssl_ctx);

	if (!ssl)
		return NULL;
	*peer = (struct tls_peer){.roles = ctx->peer_roles};
	SSL_set_app_data(ssl, peer);
	if (ctx->side == TLS_SERVER)
		SSL_set_accept_state(ssl);
	else
		SSL_set_connect_state(ssl);
	return ssl;
}
