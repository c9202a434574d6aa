/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/fleet/deed.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS 1000000ull
#define PPM 1000000ull

static const char *const status_names[DEED_STATUSES] = {
	[DEED_HELD] = "held",
	[DEED_RELEASED] = "released",
	[DEED_OFFERED] = "offered",
};

bool deed_is_name(const char *text)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				      "0123456789._-";
	size_t len = strlen(text);

	return len && len <= FLEET_NAME_MAX && strspn(text, allowed) == len;
}

/* ---- writing ---- */

size_t deed_write(const struct deed *deed, char ret_text[static DEED_TEXT_MAX])
{
	const struct deed_holder *holder = &deed->holder;

	/* The longest is far below the bound: five names and ten numbers. */
	return (size_t)snprintf(ret_text, DEED_TEXT_MAX,
		"vmsig-deed 1\nchange %" PRIu64 "\ngeneration %" PRIu64
		"\nstatus %s\nhost %s\nboot %s\nnonce %s\n"
		"ttl_ms %" PRIu32 "\nrho_ppm %" PRIu32 "\nmargin_ms %" PRIu32 "\ntarget %s\n"
		"floor %" PRIu32 "\nepoch %" PRIu32 "\nreserved %" PRIu32
		"\nsession %s\ntoken %" PRIu64 "\nrecorded %" PRIu64 "\nlease_ms %" PRIu32
		"\nwait_ms %" PRIu32 "\n",
		deed->change, deed->generation, status_names[deed->status], holder->host,
		holder->boot, holder->nonce, holder->ttl_ms, holder->rho_ppm, holder->margin_ms,
		deed->target[0] ? deed->target : "-", deed->floor, deed->epoch, deed->reserved,
		deed->session[0] ? deed->session : "-", deed->token, deed->recorded, deed->lease_ms,
		deed->wait_ms);
}

size_t deed_write_owner(const struct deed_holder *holder, uint64_t cluster_id, uint32_t epoch,
	const char *name, char ret_text[static DEED_TEXT_MAX])
{
	return (size_t)snprintf(ret_text, DEED_TEXT_MAX,
		"vmsig-owner 1\nhost %s\nboot %s\nnonce %s\ncluster %" PRIu64 "\nepoch %" PRIu32
		"\nttl_ms %" PRIu32 "\nrho_ppm %" PRIu32 "\nmargin_ms %" PRIu32 "\nname %.63s\n",
		holder->host, holder->boot, holder->nonce, cluster_id, epoch, holder->ttl_ms,
		holder->rho_ppm, holder->margin_ms, name);
}

size_t deed_write_generation(
	const struct deed_generation *generation, char ret_text[static DEED_TEXT_MAX])
{
	return (size_t)snprintf(ret_text, DEED_TEXT_MAX,
		"vmsig-generation 1\nnumber %" PRIu64 "\ncluster %" PRIu64 "\nepoch_floor %" PRIu32
		"\ntoken_floor %" PRIu64 "\n",
		generation->number, generation->cluster_id, generation->epoch_floor,
		generation->token_floor);
}

/* ---- reading ---- */

/* A value that is being read, line by line; what does not fit makes it bad for good. */
struct lines {
	char *next;
	bool bad;
};

static const char *lines_take(struct lines *lines, const char *name)
{
	size_t len = strlen(name);
	char *line = lines->next, *end = lines->bad ? NULL : strchr(line, '\n');

	if (!end || strncmp(line, name, len) != 0 || line[len] != ' ') {
		lines->bad = true;
		return "";
	}
	*end = '\0';
	lines->next = end + 1;
	return line + len + 1;
}

static uint64_t lines_number(struct lines *lines, const char *name, uint64_t max)
{
	const char *text = lines_take(lines, name);
	size_t len = strlen(text);
	uint64_t number = strtoull(text, NULL, 10);

	/* Written in one way only, and 20 digits may be beyond 64 bits. */
	if (!len || len > 19 || strspn(text, "0123456789") != len || (len > 1 && text[0] == '0') ||
		number > max)
		lines->bad = true;
	return lines->bad ? 0 : number;
}

static void lines_name(struct lines *lines, const char *name, char *ret_text, size_t size)
{
	const char *text = lines_take(lines, name);

	if (!deed_is_name(text) || strlen(text) >= size)
		lines->bad = true;
	else
		memcpy(ret_text, text, strlen(text) + 1);
}

/* A dash is none. */
static void lines_name_or_none(struct lines *lines, const char *name, char *ret_text, size_t size)
{
	lines_name(lines, name, ret_text, size);
	if (strcmp(ret_text, "-") == 0)
		ret_text[0] = '\0';
}

static enum deed_status lines_status(struct lines *lines)
{
	const char *text = lines_take(lines, "status");

	for (unsigned s = 0; s < DEED_STATUSES; s++) {
		if (strcmp(text, status_names[s]) == 0)
			return s;
	}
	lines->bad = true;
	return DEED_HELD;
}

static bool lines_begin(struct lines *lines, char copy[static DEED_TEXT_MAX + 1], const char *kind,
	const void *text, size_t len)
{
	if (!len || len > DEED_TEXT_MAX || memchr(text, '\0', len))
		return false;
	memcpy(copy, text, len);
	copy[len] = '\0';
	*lines = (struct lines){.next = copy};
	return strcmp(lines_take(lines, kind), "1") == 0 && !lines->bad;
}

static bool lines_end(const struct lines *lines)
{
	return !lines->bad && !*lines->next;
}

static void lines_holder(struct lines *lines, struct deed_holder *ret_holder)
{
	lines_name(lines, "host", ret_holder->host, sizeof(ret_holder->host));
	lines_name(lines, "boot", ret_holder->boot, sizeof(ret_holder->boot));
	lines_name(lines, "nonce", ret_holder->nonce, sizeof(ret_holder->nonce));
	ret_holder->ttl_ms = (uint32_t)lines_number(lines, "ttl_ms", UINT32_MAX);
	ret_holder->rho_ppm = (uint32_t)lines_number(lines, "rho_ppm", PPM);
	ret_holder->margin_ms = (uint32_t)lines_number(lines, "margin_ms", UINT32_MAX);
}

bool deed_read(struct deed *ret_deed, const void *text, size_t len)
{
	char copy[DEED_TEXT_MAX + 1];
	struct lines lines;
	struct deed deed = {0};

	if (!lines_begin(&lines, copy, "vmsig-deed", text, len))
		return false;
	deed.change = lines_number(&lines, "change", INT64_MAX);
	deed.generation = lines_number(&lines, "generation", INT64_MAX);
	deed.status = lines_status(&lines);
	lines_holder(&lines, &deed.holder);
	lines_name_or_none(&lines, "target", deed.target, sizeof(deed.target));
	deed.floor = (uint32_t)lines_number(&lines, "floor", DEED_EPOCH_MAX);
	deed.epoch = (uint32_t)lines_number(&lines, "epoch", DEED_EPOCH_MAX);
	deed.reserved = (uint32_t)lines_number(&lines, "reserved", DEED_EPOCH_MAX);
	lines_name_or_none(&lines, "session", deed.session, sizeof(deed.session));
	deed.token = lines_number(&lines, "token", DEED_TOKEN_MAX);
	deed.recorded = lines_number(&lines, "recorded", DEED_TOKEN_MAX);
	deed.lease_ms = (uint32_t)lines_number(&lines, "lease_ms", UINT32_MAX);
	deed.wait_ms = (uint32_t)lines_number(&lines, "wait_ms", UINT32_MAX);
	if (!lines_end(&lines) || !deed.change)
		return false;
	*ret_deed = deed;
	return true;
}

bool deed_read_generation(struct deed_generation *ret_generation, const void *text, size_t len)
{
	char copy[DEED_TEXT_MAX + 1];
	struct lines lines;
	struct deed_generation generation = {0};
	const char *cluster;

	if (!lines_begin(&lines, copy, "vmsig-generation", text, len))
		return false;
	generation.number = lines_number(&lines, "number", INT64_MAX);
	/* All 64 bits are used of these. */
	cluster = lines_take(&lines, "cluster");
	if (strlen(cluster) > 20 || strspn(cluster, "0123456789") != strlen(cluster))
		return false;
	generation.cluster_id = strtoull(cluster, NULL, 10);
	generation.epoch_floor = (uint32_t)lines_number(&lines, "epoch_floor", DEED_EPOCH_MAX);
	generation.token_floor = lines_number(&lines, "token_floor", DEED_TOKEN_MAX);
	if (!lines_end(&lines) || !generation.number)
		return false;
	*ret_generation = generation;
	return true;
}

/* ---- how long ---- */

uint64_t deed_right_ns(const struct deed_holder *holder)
{
	uint64_t ttl = holder->ttl_ms * MS;
	uint64_t less = ttl / PPM * holder->rho_ppm + holder->margin_ms * MS;

	return less < ttl ? ttl - less : 0;
}

static uint64_t longest(uint64_t ns, uint64_t rho_ppm, uint64_t margin_ms)
{
	return ns + ns / PPM * rho_ppm + rho_ppm + margin_ms * MS;
}

/* The previous holder's clock has been counted with by itself; the two hosts may have been told
 * different bounds, and the worse one holds. */
uint64_t deed_wait_ns(const struct deed_holder *holder, const struct deed_holder *by)
{
	uint64_t rho = holder->rho_ppm > by->rho_ppm ? holder->rho_ppm : by->rho_ppm;
	uint64_t margin = holder->margin_ms > by->margin_ms ? holder->margin_ms : by->margin_ms;

	return longest(holder->ttl_ms * MS, rho, margin);
}

/* The holder of a lease counts on a clock of which nobody has written down how wrong it is. */
static uint64_t lease_ns(const struct deed *deed, const struct deed_holder *by)
{
	return deed->lease_ms * MS / (PPM - by->rho_ppm) * PPM;
}

uint64_t deed_patience_ns(const struct deed *deed, const struct deed_holder *by)
{
	uint64_t wait = longest(deed->wait_ms * MS, by->rho_ppm, 0), bound = 0;

	if (!deed->change)
		return wait;
	if (deed->status == DEED_HELD)
		bound = deed_wait_ns(&deed->holder, by);
	if (deed->lease_ms)
		bound += longest(lease_ns(deed, by), by->rho_ppm, by->margin_ms);
	return bound > wait ? bound : wait;
}
