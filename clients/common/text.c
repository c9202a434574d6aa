/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/common/text.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define HEX_ROW 16u
#define DURATION_MAX_MS (86400u * 1000)

/* strtoull(3) would take signs and spaces, and a leading 0 for octal. */
static bool number_start(const char *text, uint64_t *ret_number, char **ret_end)
{
	unsigned long long number;

	if (text[0] < '0' || text[0] > '9')
		return false;
	errno = 0;
	number = strtoull(text, ret_end, strncasecmp(text, "0x", 2) == 0 ? 16 : 10);
	if (errno)
		return false;
	*ret_number = number;
	return true;
}

bool text_number(const char *text, uint64_t *ret_number)
{
	uint64_t number;
	char *end;

	if (!number_start(text, &number, &end) || *end)
		return false;
	*ret_number = number;
	return true;
}

bool text_word(const char *text, unsigned width, unsigned char *ret_bytes)
{
	uint64_t number;

	if (!text_number(text, &number) || (width < 8 && number >> (8 * width)))
		return false;
	for (unsigned i = 0; i < width; i++)
		ret_bytes[i] = (unsigned char)(number >> (8 * i));
	return true;
}

bool text_duration(const char *text, uint32_t *ret_ms)
{
	static const struct {
		const char *name;
		uint32_t ms;
	} units[] = {{"", 1000}, {"ms", 1}, {"s", 1000}, {"min", 60000}, {"h", 3600000}};
	uint64_t number;
	char *end;

	if (!number_start(text, &number, &end))
		return false;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(units[i].name, end) != 0)
			continue;
		if (number > DURATION_MAX_MS / units[i].ms)
			return false;
		*ret_ms = (uint32_t)number * units[i].ms;
		return true;
	}
	return false;
}

bool text_range(const char *text, vmsig_lease_range *ret_range)
{
	uint64_t start, len;
	char *end;

	if (!number_start(text, &start, &end) || *end != '+' || !text_number(end + 1, &len))
		return false;
	if (!len || len - 1 > UINT64_MAX - start)
		return false;
	*ret_range = (vmsig_lease_range){start, start + (len - 1)};
	return true;
}

void text_time(uint64_t real_ns, int digits, char ret_text[static TEXT_TIME_MAX])
{
	time_t seconds = (time_t)(real_ns / 1000000000);
	unsigned long fraction = real_ns % 1000000000;
	char date[32];
	struct tm tm;

	for (int i = digits; i < 9; i++)
		fraction /= 10;
	gmtime_r(&seconds, &tm);
	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
	if (digits)
		snprintf(ret_text, TEXT_TIME_MAX, "%s.%0*luZ", date, digits, fraction);
	else
		snprintf(ret_text, TEXT_TIME_MAX, "%sZ", date);
}

void text_time_now(int digits, char ret_text[static TEXT_TIME_MAX])
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	text_time((uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec, digits, ret_text);
}

static int hex_digit(char c)
{
	static const char digits[] = "0123456789abcdef";
	const char *at = c ? strchr(digits, tolower((unsigned char)c)) : NULL;

	return at ? (int)(at - digits) : -1;
}

bool text_hex_parse(const char *text, size_t max, unsigned char *ret_bytes, size_t *ret_len)
{
	size_t len = strlen(text) / 2;

	if (!len || strlen(text) % 2 || len > max)
		return false;
	for (size_t i = 0; i < len; i++) {
		int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		ret_bytes[i] = (unsigned char)(high << 4 | low);
	}
	*ret_len = len;
	return true;
}

bool text_pattern(const char *text, size_t max, unsigned char *ret_bytes, size_t *ret_len)
{
	size_t len;

	if (strncmp(text, "hex:", 4) == 0)
		return text_hex_parse(text + 4, max, ret_bytes, ret_len);
	if (strncmp(text, "str:", 4) == 0)
		text += 4;
	len = strlen(text);
	if (!len || len > max)
		return false;
	memcpy(ret_bytes, text, len);
	*ret_len = len;
	return true;
}

char *text_hex(const unsigned char *bytes, size_t len)
{
	static const char digits[] = "0123456789abcdef";
	char *text = malloc(2 * len + 1);

	if (!text)
		return NULL;
	for (size_t i = 0; i < len; i++) {
		text[2 * i] = digits[bytes[i] >> 4];
		text[2 * i + 1] = digits[bytes[i] & 15];
	}
	text[2 * len] = '\0';
	return text;
}

void text_hex_print(uint64_t addr, const unsigned char *bytes, size_t len)
{
	/* Who cannot take one row takes none of the rest. */
	for (size_t at = 0; at < len && !ferror(stdout); at += HEX_ROW) {
		size_t n = len - at < HEX_ROW ? len - at : HEX_ROW;

		printf("%016" PRIx64 " ", addr + at);
		for (size_t i = 0; i < HEX_ROW; i++) {
			if (i < n)
				printf(" %02x", bytes[at + i]);
			else
				fputs("   ", stdout);
		}
		fputs("  |", stdout);
		for (size_t i = 0; i < n; i++)
			putchar(isprint(bytes[at + i]) ? bytes[at + i] : '.');
		puts("|");
	}
}

void text_clean(char *text)
{
	for (; *text; text++) {
		if ((unsigned char)*text < 0x20 || (unsigned char)*text >= 0x7f)
			*text = '?';
	}
}
