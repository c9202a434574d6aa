/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/ctl/pki_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>

#include "vmsig/vmsig_error.h"

int pki_complain(struct pki_sentence *sentence, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(sentence->text, sentence->size, format, args);
	va_end(args);
	ERR_clear_error();
	return error;
}

int pki_complain_openssl(struct pki_sentence *sentence, const char *what)
{
	const char *reason = ERR_reason_error_string(ERR_peek_last_error());

	return pki_complain(sentence, VMSIG_ERR_INTERNAL, "cannot %s: %s", what,
		reason ? reason : "OpenSSL gives no reason");
}

void pki_path(char path[static PATH_MAX], const char *dir, const char *file)
{
	snprintf(path, PATH_MAX, "%s/%s", dir, file);
}

/* What is there already, in /tmp say, may be anybody's, or lead anywhere. */
static int folder_check(struct pki_sentence *sentence, const char *dir, int fd, bool holds_keys)
{
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return pki_complain(sentence, VMSIG_ERR_IO,
			errno == ENOTDIR || errno == ELOOP
				? "%s is no folder itself (%s); choose another one"
				: "cannot use the folder %s: %s",
			dir, strerror(errno));
	if (holds_keys && st.st_uid != geteuid())
		return pki_complain(sentence, VMSIG_ERR_IO,
			"%s belongs to uid %u, who could replace what is put there; choose a "
			"folder of your own",
			dir, (unsigned)st.st_uid);
	/* The mode does not depend on the umask. */
	if (st.st_uid == geteuid() && fchmod(fd, 0700) < 0)
		return pki_complain(
			sentence, VMSIG_ERR_IO, "cannot chmod %s to 700: %s", dir, strerror(errno));
	return 0;
}

int pki_folder_make(struct pki_sentence *sentence, const char *dir, bool holds_keys)
{
	int fd, r;

	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return pki_complain(sentence, VMSIG_ERR_IO, "cannot make the folder %s: %s", dir,
			strerror(errno));
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	r = folder_check(sentence, dir, fd, holds_keys);
	if (fd >= 0)
		close(fd);
	return r;
}

/* ---- writing ---- */

static int write_all(int fd, const char *data, long len)
{
	while (len > 0) {
		ssize_t n = write(fd, data, (size_t)len);

		if (n < 0 && errno != EINTR)
			return -1;
		if (n > 0) {
			data += n;
			len -= n;
		}
	}
	return fsync(fd);
}

/* Beside its place first, then linked there: link(2) does not replace. */
static int write_file(struct pki_sentence *sentence, const char *dir, const char *file,
	BIO *content, mode_t mode, bool replace)
{
	char path[PATH_MAX], temporary[PATH_MAX];
	char *data;
	long len = BIO_get_mem_data(content, &data);
	int fd, r;

	pki_path(path, dir, file);
	pki_path(temporary, dir, ".new-XXXXXX");
	fd = mkostemp(temporary, O_CLOEXEC);
	if (fd < 0)
		return pki_complain(
			sentence, VMSIG_ERR_IO, "cannot write in %s: %s", dir, strerror(errno));
	r = fchmod(fd, mode) < 0 || write_all(fd, data, len) < 0;
	if (!r)
		r = replace ? rename(temporary, path) : link(temporary, path);
	if (r)
		r = pki_complain(sentence, VMSIG_ERR_IO, "cannot write %s: %s%s", path,
			strerror(errno),
			errno == EEXIST ? "; choose another folder or remove it first" : "");
	close(fd);
	unlink(temporary);
	return r;
}

int pki_append(struct pki_sentence *sentence, const char *dir, const char *file, const char *line)
{
	char path[PATH_MAX];
	int fd, r;

	pki_path(path, dir, file);
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	r = fd < 0 || write_all(fd, line, (long)strlen(line)) < 0;
	if (r)
		r = pki_complain(
			sentence, VMSIG_ERR_IO, "cannot write %s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return r;
}

int pki_encode_key(BIO *bio, const void *object)
{
	return PEM_write_bio_PrivateKey(
		bio, (EVP_PKEY *)(uintptr_t)object, NULL, NULL, 0, NULL, NULL);
}

int pki_encode_sealed(BIO *bio, const void *object)
{
	return PEM_write_bio_PKCS8(bio, (X509_SIG *)(uintptr_t)object);
}

int pki_encode_cert(BIO *bio, const void *object)
{
	return PEM_write_bio_X509(bio, (X509 *)(uintptr_t)object);
}

int pki_encode_request(BIO *bio, const void *object)
{
	return PEM_write_bio_X509_REQ(bio, (X509_REQ *)(uintptr_t)object);
}

int pki_encode_crl(BIO *bio, const void *object)
{
	return PEM_write_bio_X509_CRL(bio, (X509_CRL *)(uintptr_t)object);
}

/* The memory that held a key is cleared: BIO_s_secmem. */
int pki_write(struct pki_sentence *sentence, const char *dir, const char *file,
	pki_encode_fn encode, const void *object, mode_t mode, bool replace)
{
	BIO *bio = BIO_new(BIO_s_secmem());
	int r;

	if (!bio || !encode(bio, object))
		r = pki_complain_openssl(sentence, "encode a PEM file");
	else
		r = write_file(sentence, dir, file, bio, mode, replace);
	BIO_free(bio);
	return r;
}

/* ---- reading ---- */

X509 *pki_read_cert(struct pki_sentence *sentence, const char *path)
{
	BIO *bio = BIO_new_file(path, "r");
	X509 *cert = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;

	if (!cert)
		pki_complain(sentence, VMSIG_ERR_IO, "cannot read a certificate from %s", path);
	BIO_free(bio);
	return cert;
}

X509_REQ *pki_read_request(struct pki_sentence *sentence, const char *path)
{
	BIO *bio = BIO_new_file(path, "r");
	X509_REQ *request = bio ? PEM_read_bio_X509_REQ(bio, NULL, NULL, NULL) : NULL;

	if (!request)
		pki_complain(sentence, VMSIG_ERR_IO,
			"cannot read a request from %s; is it one made by `vmsigctl pki csr`?",
			path);
	BIO_free(bio);
	return request;
}

X509_CRL *pki_read_crl(struct pki_sentence *sentence, const char *dir)
{
	char path[PATH_MAX];
	X509_CRL *crl = NULL;
	BIO *bio;

	pki_path(path, dir, "crl.pem");
	if (access(path, F_OK) < 0 && errno == ENOENT) {
		crl = X509_CRL_new();
		if (!crl)
			pki_complain_openssl(sentence, "make a revocation list");
		return crl;
	}
	bio = BIO_new_file(path, "r");
	if (bio)
		crl = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL);
	if (!crl)
		pki_complain(sentence, VMSIG_ERR_IO,
			"cannot read the revocation list %s, and a new one would forget what it "
			"revokes; restore it",
			path);
	BIO_free(bio);
	return crl;
}
