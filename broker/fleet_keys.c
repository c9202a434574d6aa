/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/fleet_keys.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "vmsig/vmsig_error.h"

#define PEM_MAX (256u << 10) /* bytes of a file of keys */

static int read_pem(const char *path, char **ret_text, char *error, size_t error_size)
{
	FILE *file;
	size_t len;

	if (!path)
		return 0;
	*ret_text = calloc(1, PEM_MAX + 1);
	if (!*ret_text)
		return -ENOMEM;
	file = fopen(path, "re");
	len = file ? fread(*ret_text, 1, PEM_MAX, file) : 0;
	if (file)
		fclose(file);
	if (len)
		return 0;
	snprintf(error, error_size, "cannot read %s", path);
	return VMSIG_ERR_IO;
}

static int no_passphrase(char *buffer, int size, int writing, void *arg)
{
	return -1;
}

static X509 *cert_of(const char *text)
{
	BIO *bio = BIO_new_mem_buf(text, -1);
	X509 *cert = bio ? PEM_read_bio_X509(bio, NULL, no_passphrase, NULL) : NULL;

	BIO_free(bio);
	return cert;
}

static EVP_PKEY *key_of(const char *text)
{
	BIO *bio = BIO_new_mem_buf(text, -1);
	EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;

	BIO_free(bio);
	return key;
}

/* Whoever has replaced one file and not the other yet is told so before etcd is. */
static int check_pair(const struct fleet_keys *keys, const struct config_fleet *config, char *error,
	size_t error_size)
{
	X509 *cert = keys->cert ? cert_of(keys->cert) : NULL;
	EVP_PKEY *key = keys->key ? key_of(keys->key) : NULL;
	const char *wrong = NULL, *file = config->cert;

	if (keys->cert && !cert) {
		wrong = "is no certificate in PEM";
	} else if (keys->key && !key) {
		wrong = "has no key in PEM without a passphrase";
		file = config->key;
	} else if (cert && key && X509_check_private_key(cert, key) != 1) {
		wrong = "is not the certificate of the key in 'fleet.key'";
	}
	if (wrong)
		snprintf(error, error_size, "%s %s", file, wrong);
	X509_free(cert);
	EVP_PKEY_free(key);
	ERR_clear_error();
	return wrong ? VMSIG_ERR_BAD_REQUEST : 0;
}

int fleet_keys_read(struct fleet_keys *ret_keys, const struct config_fleet *config, char *error,
	size_t error_size)
{
	int r = read_pem(config->ca, &ret_keys->ca, error, error_size);

	if (!r)
		r = read_pem(config->cert, &ret_keys->cert, error, error_size);
	if (!r)
		r = read_pem(config->key, &ret_keys->key, error, error_size);
	if (!r)
		r = check_pair(ret_keys, config, error, error_size);
	if (r)
		fleet_keys_deinit(ret_keys);
	return r;
}

void fleet_keys_deinit(struct fleet_keys *keys)
{
	if (keys->key)
		explicit_bzero(keys->key, strlen(keys->key));
	free(keys->ca);
	free(keys->cert);
	free(keys->key);
	*keys = (struct fleet_keys){0};
}
