/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/ctl/pki_key.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>

#include "vmsig/vmsig_error.h"

#define PASSPHRASE_MAX 1023
#define PASSPHRASE_MIN 8
/* scrypt: 16 MiB, as much as OpenSSL reads, four times over for each guess. */
#define SCRYPT_N (1u << 14)
#define SCRYPT_R 8u
#define SCRYPT_P 4u

/* ---- making ---- */

static EVP_PKEY *new_p256(void)
{
	return EVP_EC_gen("P-256");
}

static EVP_PKEY *new_ed25519(void)
{
	return EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
}

static const struct {
	const char *name;
	EVP_PKEY *(*make)(void);
} types[] = {{"p256", new_p256}, {"ed25519", new_ed25519}};

EVP_PKEY *pki_key_new(struct pki_sentence *sentence, const struct pki_how *how)
{
	const char *wanted = how->key_type ? how->key_type : types[0].name;

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		EVP_PKEY *key;

		if (strcmp(types[i].name, wanted) != 0)
			continue;
		key = types[i].make();
		if (!key)
			pki_complain_openssl(sentence, "make a key");
		return key;
	}
	pki_complain(sentence, VMSIG_ERR_BAD_REQUEST,
		"'%s' is no type of key; write p256 or ed25519", wanted);
	return NULL;
}

const EVP_MD *pki_key_digest(const EVP_PKEY *key)
{
	return EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519 ? NULL : EVP_sha256();
}

/* ---- passphrases ---- */

static int check_secret(struct pki_sentence *sentence, const char *path, int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return pki_complain(sentence, VMSIG_ERR_IO, "%s: %s", path, strerror(errno));
	if (S_ISREG(st.st_mode) && (st.st_mode & 077))
		return pki_complain(sentence, VMSIG_ERR_BAD_REQUEST,
			"%s: the passphrase is open to group or others (mode %04o); run: chmod "
			"600 %s",
			path, st.st_mode & 07777u, path);
	return 0;
}

/* Its first line. */
static int read_passphrase(
	struct pki_sentence *sentence, const char *path, char text[static PASSPHRASE_MAX + 1])
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	ssize_t n = 0;
	size_t len = 0;
	int r;

	if (fd < 0)
		return pki_complain(sentence, VMSIG_ERR_IO, "%s: %s", path, strerror(errno));
	r = check_secret(sentence, path, fd);
	while (!r && len < PASSPHRASE_MAX) {
		n = read(fd, text + len, PASSPHRASE_MAX - len);
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	if (!r && n < 0)
		r = pki_complain(sentence, VMSIG_ERR_IO, "%s: %s", path, strerror(errno));
	close(fd);
	text[len] = '\0';
	text[strcspn(text, "\r\n")] = '\0';
	return r;
}

static int ask_passphrase(struct pki_sentence *sentence, const char *prompt, bool twice,
	char text[static PASSPHRASE_MAX + 1])
{
	if (EVP_read_pw_string(text, PASSPHRASE_MAX, prompt, twice) == 0)
		return 0;
	return pki_complain(sentence, VMSIG_ERR_BAD_REQUEST,
		"no passphrase was given; type it on a terminal, or name a file that has it with "
		"--passphrase-file");
}

/* ---- writing ---- */

static X509_SIG *seal(EVP_PKEY *key, const char *passphrase)
{
	PKCS8_PRIV_KEY_INFO *bare = EVP_PKEY2PKCS8(key);
	X509_ALGOR *method = PKCS5_pbe2_set_scrypt(
		EVP_aes_256_cbc(), NULL, 0, NULL, SCRYPT_N, SCRYPT_R, SCRYPT_P);
	X509_SIG *sealed = NULL;

	if (bare && method)
		sealed = PKCS8_set0_pbe(passphrase, (int)strlen(passphrase), bare, method);
	if (!sealed)
		X509_ALGOR_free(method);
	PKCS8_PRIV_KEY_INFO_free(bare);
	return sealed;
}

static int write_sealed(struct pki_sentence *sentence, const char *dir, const char *file,
	EVP_PKEY *key, const char *passphrase)
{
	X509_SIG *sealed;
	int r;

	if (strlen(passphrase) < PASSPHRASE_MIN)
		return pki_complain(sentence, VMSIG_ERR_BAD_REQUEST,
			"the passphrase is too short; take at least %d characters", PASSPHRASE_MIN);
	sealed = seal(key, passphrase);
	r = sealed ? pki_write(sentence, dir, file, pki_encode_sealed, sealed, 0600, false)
		   : pki_complain_openssl(sentence, "encrypt the key");
	X509_SIG_free(sealed);
	return r;
}

int pki_key_write(struct pki_sentence *sentence, const char *dir, const char *file, EVP_PKEY *key,
	const struct pki_how *how)
{
	char passphrase[PASSPHRASE_MAX + 1] = "";
	int r;

	if (!how->encrypt)
		return pki_write(sentence, dir, file, pki_encode_key, key, 0600, false);
	r = how->passphrase_file
		    ? read_passphrase(sentence, how->passphrase_file, passphrase)
		    : ask_passphrase(sentence, "Passphrase of the new key: ", true, passphrase);
	if (!r)
		r = write_sealed(sentence, dir, file, key, passphrase);
	OPENSSL_cleanse(passphrase, sizeof(passphrase));
	return r;
}

/* ---- reading ---- */

struct pki_asking {
	struct pki_sentence *sentence;
	const struct pki_how *how;
	const char *path;
	bool asked, failed;
};

/* Called by OpenSSL for a key that is encrypted. */
static int on_passphrase(char *buf, int size, int rwflag, void *arg)
{
	struct pki_asking *asking = arg;
	char passphrase[PASSPHRASE_MAX + 1] = "", prompt[PATH_MAX + 32];
	int len = -1;

	asking->asked = true;
	snprintf(prompt, sizeof(prompt), "Passphrase of %s: ", asking->path);
	asking->failed = asking->how->passphrase_file
				 ? read_passphrase(asking->sentence, asking->how->passphrase_file,
					   passphrase)
				 : ask_passphrase(asking->sentence, prompt, false, passphrase);
	if (!asking->failed && strlen(passphrase) <= (size_t)size) {
		len = (int)strlen(passphrase);
		memcpy(buf, passphrase, (size_t)len);
	}
	OPENSSL_cleanse(passphrase, sizeof(passphrase));
	return len;
}

EVP_PKEY *pki_key_read(struct pki_sentence *sentence, const char *path, const struct pki_how *how)
{
	struct pki_asking asking = {.sentence = sentence, .how = how, .path = path};
	BIO *bio = BIO_new_file(path, "r");
	EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, on_passphrase, &asking) : NULL;

	BIO_free(bio);
	if (key || asking.failed)
		ERR_clear_error();
	else if (asking.asked)
		pki_complain(sentence, VMSIG_ERR_BAD_REQUEST,
			"%s: the passphrase does not fit the key", path);
	else
		pki_complain(sentence, VMSIG_ERR_IO,
			"cannot read a key from %s; is it a CA made by `vmsigctl pki init`? Where "
			"its key is elsewhere, certificates are signed there (pki csr, pki sign)",
			path);
	return key;
}
