/* SPDX-License-Identifier: Apache-2.0 */
/* `vmsigctl cat`: files of a guest, as far as they are in its memory. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clients/ctl/guest.h"
#include "clients/ctl/output.h"

#define INIT "1"                      /* whose names are meant when nobody says whose */
#define SIZE_MAX_WRITTEN (1ull << 44) /* 16 TiB: what a guest says beyond makes no sense */

enum { OPT_FD = CTL_OPT_FIRST, OPT_OUTPUT };

struct cat {
	const char *pid, *path;
	bool has_fd;
	uint64_t fd;
	const char *output;

	struct ctl_guest guest;
	vmsig_file file;
	int to;         /* -1: only what is resident is counted */
	bool seekable;  /* holes stay holes */
	uint64_t at;    /* bytes that are written */
	uint64_t pages; /* that were found */
	int code;
};

static bool handle(void *ctx, int code, const char *value)
{
	struct cat *cat = ctx;

	if (code == CTL_OPT_PID) {
		cat->pid = value;
		return ctl_is_pid(value);
	}
	if (code == OPT_FD) {
		cat->has_fd = true;
		return text_number(value, &cat->fd) && cat->fd <= INT32_MAX;
	}
	cat->output = value;
	return true;
}

/* ---- which ---- */

static int find(struct cat *cat)
{
	vmsig_proc process;
	int code = ctl_guest_process(&cat->guest, cat->pid ? cat->pid : INIT, &process), r;

	if (code)
		return code;
	r = cat->has_fd ? vmsig_os_file_of(cat->guest.os, &process, (int32_t)cat->fd, &cat->file)
			: vmsig_os_file_find(cat->guest.os, &process, cat->path, &cat->file);
	if (r != -VMSIG_ERR_NOT_MAPPED)
		return r ? ctl_guest_fail(&cat->guest, r, "files") : EXIT_OK;
	if (cat->has_fd)
		ctl_fail_with(r, "see `vmsigctl files`",
			"process %s of %s has no descriptor %" PRIu64, cat->pid,
			cat->guest.endpoint, cat->fd);
	else
		ctl_fail_with(r, "its disk may have it nevertheless",
			"the kernel of %s does not know a file %s", cat->guest.endpoint, cat->path);
	return EXIT_NOT_FOUND;
}

/* ---- writing ---- */

static int write_all(struct cat *cat, const uint8_t *bytes, size_t len)
{
	while (len) {
		ssize_t n = write(cat->to, bytes, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return ctl_fail(VMSIG_ERR_IO, "cannot write: %s", strerror(errno));
		bytes += n;
		len -= (size_t)n;
		cat->at += (uint64_t)n;
	}
	return EXIT_OK;
}

/* Zeros up to there. */
static int fill(struct cat *cat, uint64_t until)
{
	static const uint8_t zeros[64 * VMSIG_OS_PAGE];
	int code = EXIT_OK;

	if (cat->seekable && until > cat->at) {
		if (lseek(cat->to, (off_t)until, SEEK_SET) < 0)
			return ctl_fail(VMSIG_ERR_IO, "cannot write: %s", strerror(errno));
		cat->at = until;
	}
	while (!code && cat->at < until) {
		uint64_t left = until - cat->at;

		code = write_all(cat, zeros, left < sizeof(zeros) ? (size_t)left : sizeof(zeros));
	}
	return code;
}

static int take_page(void *ctx, uint64_t index)
{
	struct cat *cat = ctx;
	uint64_t start = index * VMSIG_OS_PAGE, left;
	uint8_t page[VMSIG_OS_PAGE];
	int r;

	/* Memory that was allotted ahead is behind the end. */
	if (index >= SIZE_MAX_WRITTEN / VMSIG_OS_PAGE || start >= cat->file.size)
		return 1;
	if (cat->to >= 0) {
		r = vmsig_os_file_page(cat->guest.os, &cat->file, index, page);
		if (r == -VMSIG_ERR_NOT_MAPPED || r == -VMSIG_ERR_TORN)
			return 0; /* gone meanwhile */
		cat->code =
			r ? ctl_guest_fail(&cat->guest, r, "pages of a file") : fill(cat, start);
		left = cat->file.size - start;
		if (!cat->code)
			cat->code = write_all(
				cat, page, left < sizeof(page) ? (size_t)left : sizeof(page));
	}
	cat->pages++;
	return cat->code ? 1 : 0;
}

static uint64_t pages_of(const struct cat *cat)
{
	return cat->file.size / VMSIG_OS_PAGE + (cat->file.size % VMSIG_OS_PAGE != 0);
}

static int take_pages(struct cat *cat)
{
	int r = vmsig_os_file_pages(cat->guest.os, &cat->file, take_page, cat);

	if (r < 0 && r != -VMSIG_ERR_TORN)
		return ctl_guest_fail(&cat->guest, r, "pages of a file");
	return cat->code;
}

static int write_file(struct cat *cat)
{
	int code = take_pages(cat);

	if (!code && cat->seekable) {
		if (ftruncate(cat->to, (off_t)cat->file.size) < 0)
			code = ctl_fail(VMSIG_ERR_IO, "cannot write: %s", strerror(errno));
	} else if (!code) {
		code = fill(cat, cat->file.size);
	}
	if (code || cat->pages == pages_of(cat))
		return code;
	ctl_fail_with(VMSIG_ERR_NOT_MAPPED, "they are on its disk, in swap, or holes",
		"%" PRIu64 " of %" PRIu64
		" pages are not in the guest's memory: they are zeros here",
		pages_of(cat) - cat->pages, pages_of(cat));
	return EXIT_PARTIAL;
}

/* What there is, without its bytes. */
static int print_about(struct cat *cat)
{
	int code = take_pages(cat);

	return code ? code
		    : ctl_print_json(json_pack("{s:I, s:I, s:I, s:I, s:o}", "size",
			      (json_int_t)cat->file.size, "mode", (json_int_t)cat->file.mode,
			      "pages", (json_int_t)pages_of(cat), "resident",
			      (json_int_t)cat->pages, "object", value_hex(cat->file.object)));
}

static int show(const struct ctl *ctl, struct cat *cat)
{
	struct ctl_output output;
	int code;

	cat->to = -1;
	if (ctl->json && strcmp(cat->output, "-") == 0)
		return print_about(cat);
	if (cat->file.size > SIZE_MAX_WRITTEN)
		return ctl_fail(VMSIG_ERR_UNSUPPORTED,
			"the guest says that it has %" PRIu64 " bytes", cat->file.size);
	code = ctl_output_open(&output, cat->output);
	if (code)
		return code;
	cat->to = output.fd;
	cat->seekable = output.is_file;
	return ctl_output_close(&output, write_file(cat));
}

static int run_cat(struct ctl *ctl, int argc, char **argv)
{
	static const struct option own[] = {{"pid", required_argument, NULL, CTL_OPT_PID},
		{"fd", required_argument, NULL, OPT_FD},
		{"output", required_argument, NULL, OPT_OUTPUT},
		{"o", required_argument, NULL, OPT_OUTPUT}, {NULL, 0, NULL, 0}};
	struct cat cat = {.output = "-"};
	int code = ctl_options(ctl, &ctl_cat, argc, argv, own, handle, &cat);

	if (code)
		return code;
	if (argc - optind != (cat.has_fd ? 1 : 2) || (cat.has_fd && !cat.pid))
		return ctl_usage(&ctl_cat, "it takes one ENDPOINT, and a PATH or --pid and --fd");
	if (!cat.has_fd && argv[optind + 1][0] != '/')
		return ctl_usage(&ctl_cat, "PATH is a whole one, which begins with /");
	cat.path = cat.has_fd ? NULL : argv[optind + 1];
	code = ctl_guest_open(ctl, argv[optind], &cat.guest);
	if (code)
		return code;
	code = find(&cat);
	if (!code)
		code = show(ctl, &cat);
	ctl_guest_close(&cat.guest);
	return code;
}

const struct ctl_command ctl_cat = {
	.name = "cat",
	.arguments = "[--output FILE] ENDPOINT PATH | --pid PID --fd FD ENDPOINT",
	.summary = "Print a file of a guest, as far as it is in its memory",
	.help = "  --pid PID      as that process sees files; else as the first one does\n"
		"  --fd FD        what that process has open, deleted files too\n"
		"  --output FILE  a new file, in which holes stay holes; - for standard output\n"
		"\n"
		"Pages that are not in memory are zeros, and said so. With --json: how many are.\n"
		"\n"
		"Examples:\n"
		"  vmsigctl cat web1 /etc/passwd\n"
		"  vmsigctl cat web1 --pid 812 --fd 3 --output deleted\n",
	.run = run_cat,
};
