/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/ctl/write_data.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clients/common/moment.h"

#define CHUNK (1u << 20)
#define PROGRESS_MS 100
#define MIB 1048576.0

int write_data_hex(struct write_data *data, const struct ctl_command *command, const char *text)
{
	data->bytes = malloc(strlen(text) / 2 + 1);
	if (!data->bytes)
		return ctl_fail(VMSIG_ERR_NO_MEMORY, "out of memory");
	if (!text_hex_parse(text, WRITE_DATA_INLINE_MAX, data->bytes, &data->len))
		return ctl_usage(command, "'%s' is no hexadecimal, two digits a byte", text);
	return EXIT_OK;
}

int write_data_number(struct write_data *data, const struct ctl_command *command, const char *text,
	unsigned width)
{
	data->bytes = malloc(width);
	if (!data->bytes)
		return ctl_fail(VMSIG_ERR_NO_MEMORY, "out of memory");
	if (!text_word(text, width, data->bytes))
		return ctl_usage(command, "'%s' is no unsigned number of %u bits", text, 8 * width);
	data->len = width;
	return EXIT_OK;
}

/* ---- files ---- */

/* What is being read, and how far it is. */
struct source {
	const char *path;
	int fd;
	off_t size; /* 0: nobody knows */
	size_t len; /* so far */
	bool shows;
	int64_t next; /* when that is shown again */
};

static int source_open(struct source *source, const char *path)
{
	struct stat status;

	*source = (struct source){.path = path, .shows = ctl_shows_progress()};
	source->fd = strcmp(path, "-") == 0 ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3)
					    : open(path, O_RDONLY | O_CLOEXEC);
	if (source->fd < 0 || fstat(source->fd, &status) < 0)
		return ctl_fail(VMSIG_ERR_IO, "cannot open %s: %s", path, strerror(errno));
	if (S_ISREG(status.st_mode))
		source->size = status.st_size;
	return EXIT_OK;
}

static void source_show(struct source *source)
{
	if (!source->shows || moment_now() < source->next)
		return;
	source->next = moment_in_ms(PROGRESS_MS);
	fprintf(stderr, "\r%s: %.1f MiB", source->path, (double)source->len / MIB);
	if (source->size)
		fprintf(stderr, " of %.1f MiB", (double)source->size / MIB);
}

static void source_close(struct source *source)
{
	if (source->next)
		fputs("\r\033[K", stderr);
	if (source->fd >= 0)
		close(source->fd);
}

/* Up to `size` bytes; fewer only at the end. -errno. */
static ssize_t source_read(struct source *source, unsigned char *buf, size_t size)
{
	size_t len = 0;

	while (len < size) {
		ssize_t n = read(source->fd, buf + len, size - len);

		if (n == 0)
			break;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			len += (size_t)n;
			source->len += (size_t)n;
			source_show(source);
		}
	}
	return (ssize_t)len;
}

static int write_all(int fd, const unsigned char *bytes, size_t len)
{
	while (len) {
		ssize_t n = write(fd, bytes, len);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			bytes += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

static int memfd_new(void)
{
	int memfd = memfd_create("vmsigctl-write", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	return memfd < 0 ? -errno : memfd;
}

static int memfd_seal(int memfd)
{
	return fcntl(memfd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) <
			       0
		       ? -errno
		       : 0;
}

/* `buf` of CHUNK bytes has the first `n`. 0 or -errno. */
static int copy_to_memfd(struct source *source, unsigned char *buf, ssize_t n, int memfd)
{
	int r = 0;

	while (n > 0 && r == 0) {
		r = write_all(memfd, buf, (size_t)n);
		if (r == 0)
			n = source_read(source, buf, CHUNK);
	}
	if (r == 0 && n < 0)
		r = (int)n;
	return r ? r : memfd_seal(memfd);
}

/* More than is kept in memory: of a file only its descriptor. */
static int load_much(struct write_data *data, struct source *source, unsigned char *buf, ssize_t n)
{
	if (source->size > n) {
		data->fd = source->fd;
		data->len = (size_t)source->size;
		source->fd = -1;
		return 0;
	}
	data->fd = memfd_new();
	if (data->fd < 0)
		return data->fd;
	data->sealed = true;
	return copy_to_memfd(source, buf, n, data->fd);
}

static int load(struct write_data *data, struct source *source)
{
	unsigned char *buf = malloc(CHUNK);
	ssize_t n = buf ? source_read(source, buf, CHUNK) : -ENOMEM;
	int r = n < 0 ? (int)n : 0;

	if (n > (ssize_t)WRITE_DATA_INLINE_MAX) {
		r = load_much(data, source, buf, n);
	} else if (r == 0) {
		data->bytes = buf;
		buf = NULL;
	}
	free(buf);
	if (!data->len)
		data->len = source->len;
	return r;
}

int write_data_file(struct write_data *data, const struct ctl_command *command, const char *path)
{
	struct source source;
	int code = source_open(&source, path), r = 0;

	if (!code)
		r = load(data, &source);
	source_close(&source);
	if (r)
		code = ctl_fail(VMSIG_ERR_IO, "cannot read %s: %s", path, strerror(-r));
	if (!code && !data->len)
		code = ctl_usage(command, "%s is empty", path);
	return code;
}

static int copy_part(int fd, size_t at, size_t len, int memfd, void (*meanwhile)(void *), void *ctx)
{
	while (len) {
		off_t from = (off_t)at;
		ssize_t n = sendfile(memfd, fd, &from, len < CHUNK ? len : CHUNK);

		if (n == 0)
			return -EPIPE;
		if (n < 0 && errno != EINTR)
			return -errno;
		at += n > 0 ? (size_t)n : 0;
		len -= n > 0 ? (size_t)n : 0;
		meanwhile(ctx);
	}
	return memfd_seal(memfd);
}

int write_data_memfd(const struct write_data *data, size_t at, size_t len,
	void (*meanwhile)(void *), void *ctx, int *ret_memfd, uint64_t *ret_offset)
{
	int memfd, r;

	*ret_offset = data->sealed ? at : 0;
	if (data->sealed) {
		memfd = fcntl(data->fd, F_DUPFD_CLOEXEC, 3);
		r = memfd < 0 ? -errno : 0;
	} else {
		memfd = memfd_new();
		r = memfd < 0 ? memfd : copy_part(data->fd, at, len, memfd, meanwhile, ctx);
	}
	if (!r)
		*ret_memfd = memfd;
	else if (memfd >= 0)
		close(memfd);
	return r;
}

void write_data_clear(struct write_data *data)
{
	free(data->bytes);
	if (data->fd >= 0)
		close(data->fd);
	*data = WRITE_DATA_INIT;
}
