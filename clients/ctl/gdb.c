/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `vmsigctl gdb`: gdb's remote protocol, for
 *
 *   (gdb) target remote | vmsigctl gdb web1
 *
 * on standard input and output, or on a socket of its user's (gdb_link.h). gdb reads memory under
 * the kernel's root or that of a process. It changes nothing, but with --write memory: each write
 * under a lease, as gdb_write.h has it. The broker has no registers of CPUs: those of a process are
 * what it entered the kernel with last, those of the kernel where its first thread (kthreadd) gave
 * its CPU away. What is not known of them is told as unavailable.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/common/rsp.h"
#include "clients/ctl/gdb_link.h"
#include "clients/ctl/gdb_write.h"
#include "clients/ctl/place.h"

#define READ_MAX (RSP_PACKET_MAX / 2)
/* What `g` of the architecture in TARGET has: 16 registers and rip of 8 bytes, eflags and segments
 * of 4, st0 to st7 of 10, 8 of the FPU of 4, xmm0 to xmm15 of 16, mxcsr of 4. */
#define WORDS_SIZE (17 * 8)
#define REGISTERS_SIZE (WORDS_SIZE + 7 * 4 + 8 * 10 + 8 * 4 + 16 * 16 + 4)

static const char target[] =
	"<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\">"
	"<target version=\"1.0\"><architecture>i386:x86-64</architecture></target>";

struct gdb {
	const struct ctl *ctl;
	const char *endpoint;
	struct ctl_gdb_link link;
	struct context context;
	vmsig_os_handle *os; /* NULL: what runs there is not known */
	vmsig_proc process;  /* whose registers are shown */
	bool may_write;
	struct rsp rsp;
	char answer[2 * RSP_PACKET_MAX]; /* data of the last one */
	size_t len;
	bool physical, no_ack, detached;
};

/* ---- answers ---- */

__attribute__((format(printf, 2, 3))) static void say(struct gdb *gdb, const char *format, ...)
{
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(gdb->answer, sizeof(gdb->answer), format, args);
	va_end(args);
	gdb->len = len < 0 ? 0 : (size_t)len;
}

static void answer_features(struct gdb *gdb, const char *args)
{
	uint64_t at, len;
	size_t left;

	if (strncmp(args, "target.xml:", 11) != 0 || !rsp_pair(args + 11, &at, &len)) {
		say(gdb, "E00");
		return;
	}
	left = at < sizeof(target) - 1 ? sizeof(target) - 1 - (size_t)at : 0;
	say(gdb, "%c%.*s", len < left ? 'm' : 'l', (int)(len < left ? len : left),
		target + sizeof(target) - 1 - left);
}

static void put_register(struct gdb *gdb, size_t at, const void *value, size_t size)
{
	char text[2 * sizeof(uint64_t) + 1];

	rsp_hex(value, size, text);
	memcpy(gdb->answer + 2 * at, text, 2 * size);
}

/* "xx" for each byte of those that are not known; with none, all are 0. */
static void answer_registers(struct gdb *gdb)
{
	vmsig_registers registers = {0};
	bool any = gdb->os && !vmsig_os_registers(gdb->os, &gdb->process, &registers);
	uint32_t flags = (uint32_t)registers.rflags, cs = registers.cs, ss = registers.ss;

	memset(gdb->answer, any ? 'x' : '0', 2 * REGISTERS_SIZE);
	gdb->len = 2 * REGISTERS_SIZE;
	if (!any)
		return;
	for (size_t i = 0; i < VMSIG_REGISTERS; i++) {
		if (registers.known & 1u << i)
			put_register(gdb, 8 * i, &registers.general[i], 8);
	}
	put_register(gdb, 8 * VMSIG_REGISTERS, &registers.rip, 8);
	put_register(gdb, WORDS_SIZE, &flags, 4);
	put_register(gdb, WORDS_SIZE + 4, &cs, 4);
	put_register(gdb, WORDS_SIZE + 8, &ss, 4);
}

/* E14: gdb says that it cannot access memory there (EFAULT, in decimal). */
static void answer_memory(struct gdb *gdb, const char *args)
{
	uint8_t bytes[READ_MAX];
	uint64_t addr, len;
	int r;

	if (!rsp_pair(args, &addr, &len)) {
		say(gdb, "E22");
		return;
	}
	len = len < READ_MAX ? len : READ_MAX;
	/* The guest changes its tables, and nobody says when. */
	vmsig_mem_flush(gdb->context.mem);
	r = context_read(&gdb->context, gdb->physical, addr, bytes, (size_t)len);
	if (r) {
		say(gdb, "E14");
		return;
	}
	rsp_hex(bytes, (size_t)len, gdb->answer);
	gdb->len = 2 * (size_t)len;
}

static void answer_mode(struct gdb *gdb, const char *args)
{
	gdb->physical = args[0] == '1';
	say(gdb, "OK");
}

static void answer_which_mode(struct gdb *gdb, const char *args)
{
	say(gdb, "%d", gdb->physical);
}

static void answer_supported(struct gdb *gdb, const char *args)
{
	say(gdb, "PacketSize=%x;qXfer:features:read+;QStartNoAckMode+", RSP_PACKET_MAX);
}

static void answer_no_ack(struct gdb *gdb, const char *args)
{
	gdb->no_ack = true;
	say(gdb, "OK");
}

static void answer_stopped(struct gdb *gdb, const char *args)
{
	say(gdb, "S05");
}

static void answer_ok(struct gdb *gdb, const char *args)
{
	say(gdb, "OK");
}

static void answer_thread(struct gdb *gdb, const char *args)
{
	say(gdb, "QC1");
}

static void answer_threads(struct gdb *gdb, const char *args)
{
	say(gdb, "m1");
}

static void answer_no_more_threads(struct gdb *gdb, const char *args)
{
	say(gdb, "l");
}

static void answer_attached(struct gdb *gdb, const char *args)
{
	say(gdb, "1");
}

static void answer_all_registers(struct gdb *gdb, const char *args)
{
	answer_registers(gdb);
}

/* E30: EROFS, in decimal. */
static void answer_refused(struct gdb *gdb, const char *args)
{
	say(gdb, "E30");
}

/* Memory. Without a word on binary data gdb takes hexadecimal. */
static void answer_write(struct gdb *gdb, const char *args)
{
	unsigned char bytes[READ_MAX];
	const char *data = strchr(args, ':');
	uint64_t addr, len;
	size_t got;

	if (!gdb->may_write) {
		answer_refused(gdb, args);
		return;
	}
	if (!data || !rsp_pair(args, &addr, &len) || len > sizeof(bytes) ||
		(len && (!text_hex_parse(data + 1, sizeof(bytes), bytes, &got) || got != len))) {
		say(gdb, "E22");
		return;
	}
	say(gdb, "%s",
		!len || ctl_gdb_write(gdb->ctl, gdb->endpoint, &gdb->context, gdb->physical, addr,
				bytes, (size_t)len) == EXIT_OK
			? "OK"
			: "E14");
}

static void answer_binary(struct gdb *gdb, const char *args)
{
	if (!gdb->may_write)
		answer_refused(gdb, args);
}

static void answer_detach(struct gdb *gdb, const char *args)
{
	gdb->detached = true;
	say(gdb, "OK");
}

static void answer_kill(struct gdb *gdb, const char *args)
{
	gdb->detached = true;
	gdb->len = 0;
}

/* What a packet begins with. The first that fits counts: longer ones come first. To what is not
 * here the answer is empty, which says that it is not known. */
static const struct {
	const char *begins;
	void (*answer)(struct gdb *gdb, const char *args);
} requests[] = {
	{"qSupported", answer_supported},
	{"QStartNoAckMode", answer_no_ack},
	{"qXfer:features:read:", answer_features},
	{"qqemu.PhyMemMode", answer_which_mode},
	{"Qqemu.PhyMemMode:", answer_mode},
	{"qfThreadInfo", answer_threads},
	{"qsThreadInfo", answer_no_more_threads},
	{"qAttached", answer_attached},
	{"qC", answer_thread},
	{"?", answer_stopped},
	{"g", answer_all_registers},
	{"m", answer_memory},
	{"H", answer_ok},
	{"T", answer_ok},
	{"D", answer_detach},
	{"k", answer_kill},
	{"G", answer_refused},
	{"M", answer_write},
	{"P", answer_refused},
	{"X", answer_binary},
	/* Nothing stops at them; and gdb would write them itself if they were not known. */
	{"Z", answer_refused},
	{"z", answer_refused},
	{"c", answer_stopped},
	{"s", answer_stopped},
};

static void answer(struct gdb *gdb)
{
	gdb->len = 0;
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		size_t len = strlen(requests[i].begins);

		if (strncmp(gdb->rsp.data, requests[i].begins, len) == 0) {
			requests[i].answer(gdb, gdb->rsp.data + len);
			return;
		}
	}
}

/* ---- the connection ---- */

static int put_answer(const struct gdb *gdb)
{
	static char frame[4 * RSP_PACKET_MAX + 5];

	return ctl_gdb_link_put(&gdb->link, frame, rsp_frame(gdb->answer, gdb->len, frame));
}

static int handle_event(struct gdb *gdb, enum rsp_event event)
{
	bool acked = !gdb->no_ack;
	int code = EXIT_OK;

	switch (event) {
	case RSP_PACKET:
		answer(gdb);
		if (acked)
			code = ctl_gdb_link_put(&gdb->link, "+", 1);
		/* Nothing is answered to the wish to end the target. */
		return code || (gdb->detached && !gdb->len) ? code : put_answer(gdb);
	case RSP_BAD:
		return acked ? ctl_gdb_link_put(&gdb->link, "-", 1) : EXIT_OK;
	case RSP_INTERRUPT:
		answer_stopped(gdb, "");
		return put_answer(gdb);
	case RSP_AGAIN:
		return put_answer(gdb);
	default:
		return EXIT_OK;
	}
}

/* Of bytes that have just come. One answer too many would be taken for that to the next packet. */
static int take(struct gdb *gdb, const unsigned char *bytes, size_t len)
{
	int code = EXIT_OK;

	for (size_t i = 0; i < len && !code && !gdb->detached; i++) {
		enum rsp_event event = rsp_take(&gdb->rsp, bytes[i]);

		if (event != RSP_PACKET || gdb->no_ack ||
			!rsp_is_again(&gdb->rsp, bytes + i + 1, len - i - 1))
			code = handle_event(gdb, event);
	}
	return code;
}

/* Until gdb goes. */
static int serve(struct gdb *gdb)
{
	unsigned char buf[4096];
	int code = EXIT_OK;
	size_t len = 1;

	while (!code && len && !gdb->detached) {
		code = ctl_gdb_link_take(&gdb->link, buf, sizeof(buf), &len);
		code = code ? code : take(gdb, buf, len);
	}
	return code;
}

/* ---- the command ---- */

enum { OPT_WRITE = CTL_OPT_FIRST, OPT_LISTEN };

struct gdb_options {
	struct ctl_place place;
	const char *listen; /* NULL: standard input and output */
	bool write;
};

static bool handle(void *ctx, int code, const char *value)
{
	struct gdb_options *options = ctx;

	if (code == OPT_WRITE)
		options->write = true;
	else if (code == OPT_LISTEN)
		options->listen = value;
	else
		return ctl_place_option(&options->place, code, value);
	return true;
}

#define KTHREADD "2" /* the first thread of a Linux kernel's */

/* For registers; memory is there without. */
static void learn(struct gdb *gdb, const char *pid)
{
	uint64_t number;

	if (vmsig_os_open(&gdb->os, gdb->context.mem, gdb->context.pod.kcr3, NULL, 0))
		gdb->os = NULL;
	if (!gdb->os || !text_number(pid ? pid : KTHREADD, &number) ||
		vmsig_os_process(gdb->os, (uint32_t)number, &gdb->process)) {
		gdb->os = vmsig_os_close(gdb->os);
		ctl_note("registers are all 0: those of the CPUs are not known");
	} else if (pid) {
		ctl_note("registers are no CPU's: they are those with which process %s entered "
			 "the kernel last",
			pid);
	} else {
		ctl_note("registers are no CPU's: they are those with which %s, process %s, gave "
			 "its CPU away last",
			gdb->process.name, KTHREADD);
	}
}

static void leave(struct gdb *gdb)
{
	gdb->os = vmsig_os_close(gdb->os);
	context_close(&gdb->context);
}

/* The guest as it is when a gdb comes, for as long as that stays. EXIT_OK, or the exit code. */
static int serve_one(struct gdb *gdb, struct ctl_place *place)
{
	int code = ctl_place_open(gdb->ctl, gdb->endpoint, place, &gdb->context);

	if (code)
		return code;
	gdb->rsp = (struct rsp){0};
	gdb->physical = gdb->no_ack = gdb->detached = false;
	learn(gdb, place->pid);
	code = serve(gdb);
	leave(gdb);
	return code;
}

/* One after another, until somebody ends us. What goes wrong with one is said, and the next may
 * come. */
static int serve_all(struct gdb *gdb, struct ctl_place *place)
{
	/* Not when the first one comes, but now one learns that there is no such guest. */
	int code = ctl_place_open(gdb->ctl, gdb->endpoint, place, &gdb->context);

	if (code)
		return code;
	leave(gdb);
	ctl_note("for gdb: target remote %s", gdb->link.path);
	while (ctl_gdb_link_next(&gdb->link)) {
		(void)!serve_one(gdb, place);
		ctl_gdb_link_drop(&gdb->link);
	}
	return EXIT_OK;
}

static int run_gdb(struct ctl *ctl, int argc, char **argv)
{
	static const struct option own[] = {{"pid", required_argument, NULL, CTL_OPT_PID},
		{"listen", required_argument, NULL, OPT_LISTEN},
		{"write", no_argument, NULL, OPT_WRITE}, {NULL, 0, NULL, 0}};
	static struct gdb gdb;
	struct gdb_options options = {0};
	int code = ctl_options(ctl, &ctl_gdb, argc, argv, own, handle, &options);

	if (code)
		return code;
	if (optind + 1 != argc)
		return ctl_usage(&ctl_gdb, "it takes one ENDPOINT");
	gdb.ctl = ctl;
	gdb.endpoint = argv[optind];
	gdb.may_write = options.write;
	if (gdb.may_write)
		code = ctl_gdb_may_write(ctl);
	if (!code)
		code = ctl_gdb_link_open(&gdb.link, options.listen);
	if (code)
		return code;
	code = options.listen ? serve_all(&gdb, &options.place) : serve_one(&gdb, &options.place);
	ctl_gdb_link_close(&gdb.link);
	return code;
}

const struct ctl_command ctl_gdb = {
	.name = "gdb",
	.arguments = "ENDPOINT [--pid PID] [--listen FILE] [--write]",
	.summary = "Speak gdb's remote protocol on a pipe or a socket",
	.help = "  --pid PID  memory of a process, and the registers with which it entered the\n"
		"             kernel last; else the kernel's memory, and the registers with which\n"
		"             its first thread gave its CPU away last\n"
		"  --listen FILE\n"
		"             make a socket for gdbs of your own, one after another, until it is "
		"told\n"
		"             to end; else it speaks on standard input and output with one\n"
		"  --write    let gdb write memory, each time under a lease; `vmsigctl undo` "
		"takes\n"
		"             it back. Else it can change nothing\n"
		"\n"
		"Breakpoints are refused: nothing would stop at them.\n"
		"\n"
		"Examples:\n"
		"  gdb -ex 'target remote | vmsigctl gdb web1'\n"
		"  gdb -ex 'target remote | vmsigctl gdb web1 --pid 812 --write'\n"
		"  vmsigctl gdb web1 --listen web1.gdb &\n"
		"  gdb -ex 'target remote web1.gdb'\n"
		"  (gdb) maintenance packet Qqemu.PhyMemMode:1\n",
	.run = run_gdb,
};
