/* SPDX-License-Identifier: Apache-2.0 */
/* `vmsigctl dump`: guest memory into a file that other tools read. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients/common/corefile.h"
#include "clients/common/moment.h"
#include "clients/ctl/guest.h"
#include "clients/ctl/output.h"

#define PIECE (1u << 20)
#define MIB (1024.0 * 1024.0)
#define PROGRESS_MS 200

static const struct {
	const char *name;
	enum corefile_format format;
} formats[] = {{"elf", COREFILE_ELF}, {"elf-kcore", COREFILE_KCORE}, {"lime", COREFILE_LIME},
	{"raw", COREFILE_RAW}};

struct dump {
	const char *output; /* "-": standard output */
	enum corefile_format format;
	int fd;
	bool seeks; /* holes stay holes */
	const struct context *context;
	uint8_t *buf;
	uint64_t at;   /* of the output, when it cannot seek */
	uint64_t data; /* bytes that were no holes */
	uint64_t size; /* of all of it */
	bool shows;
	int64_t next; /* when it is shown again how far this is */
};

enum { OPT_FORMAT = CTL_OPT_FIRST };

static bool handle(void *ctx, int code, const char *value)
{
	struct dump *dump = ctx;

	if (code == 'o') {
		dump->output = value;
		return true;
	}
	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
		if (strcmp(formats[i].name, value) == 0) {
			dump->format = formats[i].format;
			return true;
		}
	}
	return false;
}

static void show(struct dump *dump, uint64_t done)
{
	if (!dump->shows || moment_now() < dump->next)
		return;
	dump->next = moment_in_ms(PROGRESS_MS);
	fprintf(stderr, "\r%s: %.1f of %.1f MiB", dump->output, (double)done / MIB,
		(double)dump->size / MIB);
}

/* ---- output; all return 0 or a positive errno ---- */

static int put(struct dump *dump, uint64_t at, const uint8_t *bytes, size_t len)
{
	while (len) {
		ssize_t n = dump->seeks ? pwrite(dump->fd, bytes, len, (off_t)at)
					: write(dump->fd, bytes, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno;
		bytes += n;
		at += (uint64_t)n;
		len -= (size_t)n;
	}
	dump->at = at;
	show(dump, at);
	return 0;
}

/* What is before `at` and was not written is zeros. */
static int skip_to(struct dump *dump, uint64_t at)
{
	int r = 0;

	if (dump->seeks || dump->at >= at)
		return 0;
	memset(dump->buf, 0, PIECE);
	while (!r && dump->at < at)
		r = put(dump, dump->at, dump->buf,
			at - dump->at < PIECE ? (size_t)(at - dump->at) : PIECE);
	return r;
}

/* ---- RAM ---- */

/* The bytes from `off` on that are data, `*len` at most; 0: there are none. What cannot tell holes
 * has data everywhere. */
static void next_data(int fd, uint64_t *off, uint64_t *len)
{
	uint64_t end = *off + *len;
	off_t data = lseek(fd, (off_t)*off, SEEK_DATA), hole;

	if (data < 0) {
		*len = errno == ENXIO ? 0 : *len;
		return;
	}
	hole = lseek(fd, data, SEEK_HOLE);
	*off = (uint64_t)data < end ? (uint64_t)data : end;
	if (hole >= 0 && (uint64_t)hole < end)
		end = (uint64_t)hole;
	*len = end - *off;
}

static int copy(struct dump *dump, int fd, uint64_t from, uint64_t to, uint64_t len)
{
	int r = skip_to(dump, to);

	while (!r && len) {
		ssize_t n = pread(fd, dump->buf, len < PIECE ? (size_t)len : PIECE, (off_t)from);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? errno : ENODATA; /* the guest's file has shrunk */
		r = put(dump, to, dump->buf, (size_t)n);
		from += (uint64_t)n;
		to += (uint64_t)n;
		len -= (uint64_t)n;
		dump->data += (uint64_t)n;
	}
	return r;
}

static int put_ram(struct dump *dump, const struct corefile_extent *extent)
{
	uint64_t done = 0, off, len, start;
	int r = 0;

	while (!r && done < extent->len) {
		int fd = corefile_ram(dump->context, extent->ram_off + done, &off, &len);
		uint64_t left = extent->len - done, part = len < left ? len : left;

		start = off;
		len = part;
		next_data(fd, &off, &len);
		if (!len) {
			done += part;
			continue;
		}
		r = copy(dump, fd, off, extent->at + done + (off - start), len);
		done += off - start + len;
	}
	return r;
}

static int put_all(struct dump *dump, const struct corefile *file)
{
	int r = 0;

	for (size_t i = 0; i < file->count && !r; i++) {
		const struct corefile_extent *extent = &file->extents[i];

		if (!extent->bytes) {
			r = put_ram(dump, extent);
			continue;
		}
		r = skip_to(dump, extent->at);
		if (!r)
			r = put(dump, extent->at, extent->bytes, (size_t)extent->len);
	}
	if (!r)
		r = dump->seeks ? (ftruncate(dump->fd, (off_t)file->size) < 0 ? errno : 0)
				: skip_to(dump, file->size);
	return r;
}

/* ---- one dump ---- */

/* Whether the guest's memory was the same epoch's all the time, and nobody wrote to it through the
 * broker meanwhile. The guest itself does, as nobody stops it. */
static int judge(const struct ctl *ctl, struct ctl_guest *guest, const struct dump *dump,
	const struct corefile *file, uint64_t sequence)
{
	int r = vmsig_mem_read_end(guest->context.mem, sequence);

	if (r && r != -VMSIG_ERR_TORN)
		return ctl_fail(r, "the dump is of no use: %s", vmsig_error_text(r));
	if (r)
		ctl_note("the broker wrote to %s meanwhile: the dump may have a part of what was "
			 "written",
			guest->endpoint);
	if (ctl->json && strcmp(dump->output, "-") != 0)
		return ctl_print_json(json_pack("{s:s, s:I, s:I, s:I, s:b}", "file", dump->output,
			"size", (json_int_t)file->size, "data", (json_int_t)dump->data, "epoch",
			(json_int_t)guest->context.epoch, "coherent", r == 0));
	return EXIT_OK;
}

static int write_out(const struct ctl *ctl, struct ctl_guest *guest, struct dump *dump,
	const struct corefile *file)
{
	uint64_t sequence;
	int r = vmsig_mem_read_begin(guest->context.mem, &sequence);

	if (r)
		return ctl_guest_fail(guest, r, "memory");
	dump->size = file->size;
	dump->shows = ctl_shows_progress();
	r = put_all(dump, file);
	if (dump->next)
		fputs("\r\033[K", stderr);
	if (r)
		return ctl_fail(VMSIG_ERR_IO, "cannot write %s: %s", dump->output, strerror(r));
	return judge(ctl, guest, dump, file, sequence);
}

static int dump_to_file(const struct ctl *ctl, struct ctl_guest *guest, struct dump *dump,
	const struct corefile *file)
{
	struct ctl_output output;
	int code = ctl_output_open(&output, dump->output);

	if (code)
		return code;
	dump->fd = output.fd;
	dump->seeks = output.is_file;
	return ctl_output_close(&output, write_out(ctl, guest, dump, file));
}

static bool needs_os(enum corefile_format format)
{
	return format == COREFILE_ELF || format == COREFILE_KCORE;
}

static int open_guest(const struct ctl *ctl, const char *endpoint, enum corefile_format format,
	struct ctl_guest *ret_guest)
{
	if (needs_os(format))
		return ctl_guest_open(ctl, endpoint, ret_guest);
	*ret_guest = (struct ctl_guest){.endpoint = endpoint};
	return ctl_context_open(ctl, endpoint, &ret_guest->context);
}

static int run_dump(struct ctl *ctl, int argc, char **argv)
{
	static const struct option own[] = {{"output", required_argument, NULL, 'o'},
		{"format", required_argument, NULL, OPT_FORMAT}, {NULL, 0, NULL, 0}};
	static uint8_t buf[PIECE];
	struct dump dump = {.format = COREFILE_ELF};
	struct corefile file;
	struct ctl_guest guest;
	char error[256];
	int code = ctl_options(ctl, &ctl_dump, argc, argv, own, handle, &dump), r;

	if (code)
		return code;
	if (optind + 1 != argc || !dump.output)
		return ctl_usage(&ctl_dump, "it takes one ENDPOINT and -o FILE");
	code = open_guest(ctl, argv[optind], dump.format, &guest);
	if (code)
		return code;
	dump.context = &guest.context;
	dump.buf = buf;
	r = corefile_init(&file, &guest.context, guest.os, dump.format, error, sizeof(error));
	if (r) {
		code = ctl_fail_about(guest.endpoint, r, error[0] ? error : vmsig_error_text(r));
	} else {
		code = dump_to_file(ctl, &guest, &dump, &file);
		corefile_deinit(&file);
	}
	ctl_guest_close(&guest);
	return code;
}

const struct ctl_command ctl_dump = {
	.name = "dump",
	.arguments = "ENDPOINT -o FILE|- [--format elf|elf-kcore|lime|raw]",
	.summary = "Write guest memory to a file that gdb, crash, drgn or Volatility read",
	.help = "  -o, --output FILE  a file that does not exist yet, or - for standard output\n"
		"  --format FMT       elf (default; crash, drgn, LeechCore, Volatility), "
		"elf-kcore\n"
		"                     (gdb), lime, or raw\n"
		"\n"
		"Holes of the RAM stay holes of the file. The guest runs meanwhile.\n"
		"\n"
		"Examples:\n"
		"  vmsigctl dump web1 -o web1.core\n"
		"  vmsigctl dump web1 --format raw -o - | strings | less\n",
	.run = run_dump,
};
