/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/today.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define STUB_PART 2048u        /* bytes of memory in one packet; QEMU's bound */
#define ANSWER_MAX (64u << 10) /* bytes of one answer of the monitor or the stub */

struct way {
	const char *name;
	void (*open)(struct today *today, const struct bench *bench);
	void (*read)(struct today *today, uint64_t gpa, void *buf, size_t len);
	void (*write)(struct today *today, uint64_t gpa, const void *buf, size_t len);
};

struct today {
	const struct way *way;
	int fd;
	uint64_t base; /* of RAM in QEMU's address space */
	char file[PATH_MAX];
	char answer[ANSWER_MAX], packet[ANSWER_MAX];
	size_t len; /* of the answer */
};

/* ---- sockets ---- */

static int socket_open(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || strlen(path) >= sizeof(address.sun_path))
		bench_die("%s: no socket", path);
	strcpy(address.sun_path, path);
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		bench_die("%s: %s", path, strerror(errno));
	return fd;
}

static void send_text(struct today *today, const char *text)
{
	size_t len = strlen(text);

	if (write(today->fd, text, len) != (ssize_t)len)
		bench_die("QEMU does not take '%.20s': %s", text, strerror(errno));
}

/* What comes up to and with `end`, as a string. */
static char *receive_until(struct today *today, const char *end)
{
	today->len = 0;
	for (;;) {
		ssize_t n = read(today->fd, today->answer + today->len,
			sizeof(today->answer) - 1 - today->len);

		if (n <= 0)
			bench_die("QEMU has ended the connection");
		today->len += (size_t)n;
		today->answer[today->len] = '\0';
		if (strstr(today->answer, end))
			return today->answer;
	}
}

/* ---- the monitor ---- */

/* Events may come before the answer. */
static char *monitor_ask(struct today *today, const char *command)
{
	char *answer;

	send_text(today, command);
	do
		answer = receive_until(today, "}\r\n");
	while (!strstr(answer, "\"return\"") && !strstr(answer, "\"error\""));
	if (strstr(answer, "\"error\""))
		bench_die("the monitor says %s", answer);
	return strstr(answer, "\"return\"");
}

static void monitor_open(struct today *today, const struct bench *bench)
{
	char path[PATH_MAX];

	today->fd = socket_open(bench_path(path, sizeof(path), bench->guest, "bench.qmp"));
	bench_path(today->file, sizeof(today->file), bench->scratch, "pmemsave");
	(void)receive_until(today, "}\r\n");
	(void)monitor_ask(today, "{\"execute\":\"qmp_capabilities\"}\n");
}

/* "0000000000001000: 0x0123456789abcdef" */
static void xp_read(struct today *today, uint64_t gpa, void *buf, size_t len)
{
	char command[160], *answer;
	uint64_t word;

	snprintf(command, sizeof(command),
		"{\"execute\":\"human-monitor-command\",\"arguments\":{\"command-line\":"
		"\"xp /1gx 0x%" PRIx64 "\"}}\n",
		gpa);
	answer = strstr(monitor_ask(today, command), ": 0x");
	if (!answer || len != sizeof(word))
		bench_die("xp has no answer");
	word = strtoull(answer + 2, NULL, 16);
	memcpy(buf, &word, len);
}

static void pmemsave_read(struct today *today, uint64_t gpa, void *buf, size_t len)
{
	char command[PATH_MAX + 160];
	int fd;

	snprintf(command, sizeof(command),
		"{\"execute\":\"pmemsave\",\"arguments\":{\"val\":%" PRIu64
		",\"size\":%zu,\"filename\":\"%s\"}}\n",
		gpa, len, today->file);
	(void)monitor_ask(today, command);
	fd = open(today->file, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, buf, len) != (ssize_t)len)
		bench_die("%s: %s", today->file, strerror(errno));
	close(fd);
}

/* ---- the debugger's stub ---- */

/* The next packet's text, without its sum. What was received behind it stays. */
static const char *stub_packet(struct today *today)
{
	for (;;) {
		char *end = today->len ? memchr(today->answer, '#', today->len) : NULL;
		ssize_t n;

		if (end && end + 3 <= today->answer + today->len) {
			size_t size = (size_t)(end - today->answer);
			char *start = memchr(today->answer, '$', size);

			if (!start)
				bench_die("the stub sends no packets");
			*end = '\0';
			memmove(today->packet, start + 1, (size_t)(end - start));
			today->len -= size + 3;
			memmove(today->answer, end + 3, today->len);
			send_text(today, "+");
			return today->packet;
		}
		n = read(today->fd, today->answer + today->len, sizeof(today->answer) - today->len);
		if (n <= 0)
			bench_die("the stub has ended the connection");
		today->len += (size_t)n;
	}
}

/* One packet and its answer. That the guest has stopped is told as well, at any time. */
static const char *stub_ask(struct today *today, const char *packet)
{
	char text[640];
	const char *answer;
	unsigned char sum = 0;

	for (const char *at = packet; *at; at++)
		sum = (unsigned char)(sum + (unsigned char)*at);
	snprintf(text, sizeof(text), "$%s#%02x", packet, sum);
	send_text(today, text);
	do
		answer = stub_packet(today);
	while (answer[0] == 'T');
	if (answer[0] == 'E')
		bench_die("the stub says '%s' to '%.40s'", answer, packet);
	return answer;
}

static void stub_open(struct today *today, const struct bench *bench)
{
	char path[PATH_MAX];

	today->fd = socket_open(bench_path(path, sizeof(path), bench->guest, "bench.gdb"));
	if (strncmp(stub_ask(today, "Qqemu.PhyMemMode:1"), "OK", 2) != 0)
		bench_die("the stub does not read guest-physical memory");
}

static void stub_read_part(struct today *today, uint64_t gpa, uint8_t *buf, size_t len)
{
	char packet[64];
	const char *answer;

	snprintf(packet, sizeof(packet), "m%" PRIx64 ",%zx", gpa, len);
	answer = stub_ask(today, packet);
	for (size_t i = 0; i < len; i++) {
		const char digits[3] = {answer[2 * i], answer[2 * i + 1], '\0'};

		buf[i] = (uint8_t)strtoul(digits, NULL, 16);
	}
}

static void stub_read(struct today *today, uint64_t gpa, void *buf, size_t len)
{
	for (size_t at = 0; at < len; at += STUB_PART)
		stub_read_part(today, gpa + at, (uint8_t *)buf + at,
			len - at < STUB_PART ? len - at : STUB_PART);
}

static void stub_write(struct today *today, uint64_t gpa, const void *buf, size_t len)
{
	char packet[256];
	int n = snprintf(packet, sizeof(packet), "M%" PRIx64 ",%zx:", gpa, len);

	for (size_t i = 0; i < len; i++)
		n += snprintf(
			packet + n, sizeof(packet) - (size_t)n, "%02x", ((const uint8_t *)buf)[i]);
	if (strncmp(stub_ask(today, packet), "OK", 2) != 0)
		bench_die("the stub does not write");
}

/* ---- the process's memory ---- */

static void process_open(struct today *today, const struct bench *bench)
{
	char line[PATH_MAX + 128];
	FILE *maps;

	snprintf(line, sizeof(line), "/proc/%d/maps", (int)bench->qemu);
	maps = fopen(line, "re");
	while (maps && !today->base && fgets(line, sizeof(line), maps)) {
		char *path = strchr(line, '/');

		if (path && strncmp(path, bench->guest_ram, strlen(bench->guest_ram)) == 0)
			today->base = strtoull(line, NULL, 16);
	}
	if (!today->base)
		bench_die("QEMU does not map %s", bench->guest_ram);
	fclose(maps);
	snprintf(line, sizeof(line), "/proc/%d/mem", (int)bench->qemu);
	today->fd = open(line, O_RDWR | O_CLOEXEC);
	if (today->fd < 0)
		bench_die("%s: %s", line, strerror(errno));
}

static void process_read(struct today *today, uint64_t gpa, void *buf, size_t len)
{
	if (pread(today->fd, buf, len, (off_t)(today->base + gpa)) != (ssize_t)len)
		bench_die("QEMU's memory: %s", strerror(errno));
}

static const struct way ways[] = {
	{"xp", monitor_open, xp_read, NULL},
	{"pmemsave", monitor_open, pmemsave_read, NULL},
	{"gdbstub", stub_open, stub_read, stub_write},
	{"procmem", process_open, process_read, NULL},
};

struct today *today_open(const struct bench *bench, const char *way)
{
	struct today *today = calloc(1, sizeof(*today));

	if (!today)
		bench_die("out of memory");
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		if (strcmp(ways[i].name, way) == 0) {
			today->way = &ways[i];
			today->way->open(today, bench);
			return today;
		}
	}
	free(today);
	return NULL;
}

void today_close(struct today *today)
{
	if (today->file[0])
		(void)unlink(today->file);
	close(today->fd);
	free(today);
}

void today_read(struct today *today, uint64_t gpa, void *buf, size_t len)
{
	today->way->read(today, gpa, buf, len);
}

void today_write(struct today *today, uint64_t gpa, const void *buf, size_t len)
{
	today->way->write(today, gpa, buf, len);
}
