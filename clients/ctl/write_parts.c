/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/ctl/write_parts.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients/common/moment.h"

#define MIB 1048576.0
#define RATE_PAUSE_MS 100 /* before what exceeded the policy's rate is sent again */

/* ---- one part ---- */

/* The data may come slowly, and the lease has to be kept meanwhile. */
static void meanwhile(void *ctx)
{
	(void)!ctl_hold_turn(ctx, moment_now());
}

static struct ctl_piece piece_at(const struct write_parts *parts, size_t len)
{
	return (struct ctl_piece){.op = {.addr = parts->addr + parts->written,
					  .cr3 = parts->cr3,
					  .flags = parts->op_flags,
					  .len = (uint32_t)len},
		.flags = parts->flags,
		.memfd = -1,
		.len = len};
}

/* The policy's rates make a large write wait between its parts. */
static int send_in_time(
	struct write_parts *parts, const struct ctl_piece *piece, vmsig_write_result *ret_result)
{
	int64_t until = moment_in_ms(parts->ctl->wait_ms);
	int r = ctl_piece_write(parts->ctl, parts->hold, piece, ret_result);

	while (r == -VMSIG_ERR_QUOTA && moment_now() < until) {
		vmsig_write_result_clear(ret_result);
		r = ctl_hold_pause(parts->hold, RATE_PAUSE_MS);
		if (!r)
			r = ctl_piece_write(parts->ctl, parts->hold, piece, ret_result);
	}
	return r;
}

static int source_failed(int error, vmsig_write_result *ret_result)
{
	char *text;

	if (asprintf(&text, "the data cannot be read: %s",
		    error == EPIPE ? "it has become shorter" : strerror(error)) >= 0)
		*ret_result = (vmsig_write_result){.text = text, .owned = text};
	return -VMSIG_ERR_IO;
}

static int write_bulk(struct write_parts *parts, size_t len, vmsig_write_result *ret_result)
{
	struct ctl_piece piece = piece_at(parts, len);
	int memfd, r = write_data_memfd(parts->data, parts->written, len, meanwhile, parts->hold,
			   &memfd, &piece.offset);

	if (r)
		return source_failed(-r, ret_result);
	piece.memfd = memfd;
	r = send_in_time(parts, &piece, ret_result);
	close(memfd);
	return r;
}

static int write_inline(struct write_parts *parts, size_t len, vmsig_write_result *ret_result)
{
	struct ctl_piece piece = piece_at(parts, len);
	unsigned char *bytes = malloc(len);
	ssize_t n = bytes ? pread(parts->data->fd, bytes, len, (off_t)parts->written) : -1;
	int r;

	if (n == (ssize_t)len) {
		piece.op.data = bytes;
		r = send_in_time(parts, &piece, ret_result);
	} else {
		r = source_failed(n < 0 ? errno : EPIPE, ret_result);
	}
	free(bytes);
	return r;
}

/* ---- all of them ---- */

static size_t part_len(const struct write_parts *parts)
{
	uint64_t most =
		parts->hold->info.bulk_max ? parts->hold->info.bulk_max : WRITE_DATA_INLINE_MAX;
	uint64_t left = parts->data->len - parts->written;

	return (size_t)(left < most ? left : most);
}

static void show(const struct write_parts *parts)
{
	fprintf(stderr, "\rwriting %.1f of %.1f MiB...", (double)parts->written / MIB,
		(double)parts->data->len / MIB);
}

int write_parts_run(struct write_parts *parts, vmsig_write_result *ret_result)
{
	bool shows = ctl_shows_progress();
	int r = 0;

	*ret_result = (vmsig_write_result){.text = ""};
	while (!r && parts->written < parts->data->len) {
		size_t len = part_len(parts);

		vmsig_write_result_clear(ret_result);
		if (shows)
			show(parts);
		r = parts->hold->info.bulk_max ? write_bulk(parts, len, ret_result)
					       : write_inline(parts, len, ret_result);
		if (r == -VMSIG_ERR_TIMEOUT || r == -VMSIG_ERR_UNKNOWN_OUTCOME)
			parts->unknown = len;
		else
			parts->written += r ? ret_result->written : len;
	}
	if (shows)
		fputs("\r\033[K", stderr);
	return r;
}

int write_parts_fail(const struct write_parts *parts, int error, const vmsig_write_result *result)
{
	const char *why = ctl_write_why(parts->hold->writer, error, result);
	char unknown[64] = "";

	if (!parts->written)
		return ctl_write_fail(parts->hold->writer, error, result, parts->hold->endpoint,
			parts->addr, parts->data->len);
	if (parts->unknown)
		snprintf(unknown, sizeof(unknown), ", and of the next %zu it cannot be told",
			parts->unknown);
	return ctl_fail(VMSIG_ERR_PARTIAL,
		"only %zu of %zu bytes at 0x%" PRIx64 " of %s were written%s: %s", parts->written,
		parts->data->len, parts->addr, parts->hold->endpoint, unknown, why);
}
