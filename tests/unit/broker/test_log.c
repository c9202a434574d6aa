/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of the log, whatever is in them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/log.h"

/* A seqpacket pair in the place of standard error: each write(2) is one message. */
static int capture[2] = {-1, -1};
static int saved = -1;
static char record[PIPE_BUF * 2];

static int setup(void **state)
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, capture), 0);
	saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	assert_true(saved >= 0);
	assert_true(dup2(capture[1], STDERR_FILENO) >= 0);
	return 0;
}

static int teardown(void **state)
{
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(capture[0]);
	close(capture[1]);
	log_setup(LOG_LEVEL_INFO, false);
	return 0;
}

/* The next record, or NULL when there is none. */
static const char *taken(void)
{
	ssize_t n = recv(capture[0], record, sizeof(record) - 1, MSG_DONTWAIT);

	if (n < 0)
		return NULL;
	record[n] = '\0';
	return record;
}

static void a_record_is_one_line_in_one_write(void **state)
{
	const char *text;

	log_setup(LOG_LEVEL_INFO, false);
	log_info("hello", LOG_STR("who", "acme"), LOG_INT("n", -7), LOG_HEX("kcr3", 0x2a000));
	text = taken();
	assert_non_null(text);
	assert_non_null(
		strstr(text, " level=\"info\" msg=\"hello\" who=\"acme\" n=-7 kcr3=0x2a000\n"));
	assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
	assert_null(taken());
}

static void levels_filter(void **state)
{
	log_setup(LOG_LEVEL_WARNING, false);
	log_info("not shown");
	assert_null(taken());
	log_error("shown");
	assert_non_null(taken());
}

/* What a client sends reaches the log: it must not forge records or drive a terminal. */
static void hostile_text_is_escaped(void **state)
{
	const char *text;

	log_setup(LOG_LEVEL_INFO, false);
	log_info("m", LOG_STR("x", "a\nlevel=error \"q\" \\ \x1b[2J\x7f"));
	text = taken();
	assert_non_null(
		strstr(text, "x=\"a\\u000alevel=error \\\"q\\\" \\\\ \\u001b[2J\\u007f\"\n"));
	assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
}

static void json_parses_whatever_is_in_it(void **state)
{
	json_error_t error;
	json_t *object;

	log_setup(LOG_LEVEL_DEBUG, true);
	log_debug("m\t\"", LOG_STR("bad", "\xff\xc3(\xed\xa0\x80"), LOG_STR("good", "\xc3\xa9"),
		LOG_STR("none", NULL), LOG_INT("n", INT64_MIN), LOG_HEX("h", UINT64_MAX));
	object = json_loads(taken(), 0, &error);
	if (!object)
		fail_msg("%s in %s", error.text, record);
	assert_string_equal(json_string_value(json_object_get(object, "msg")), "m\t\"");
	assert_string_equal(json_string_value(json_object_get(object, "good")), "\xc3\xa9");
	assert_string_equal(json_string_value(json_object_get(object, "none")), "");
	assert_int_equal(json_integer_value(json_object_get(object, "n")), INT64_MIN);
	assert_string_equal(json_string_value(json_object_get(object, "h")), "0xffffffffffffffff");
	json_decref(object);
}

static void a_long_record_is_cut_and_still_whole(void **state)
{
	char text[8192];
	json_t *object;

	for (int json = 0; json < 2; json++) {
		/* Every cut position, inside escapes and characters too. */
		for (size_t len = 1900; len < 2060; len++) {
			memset(text, 'x', len);
			memcpy(text + len, "\n\xc3\xa9\"\\", 6);
			log_setup(LOG_LEVEL_INFO, json);
			log_info("m", LOG_STR("x", text), LOG_INT("n", 123456789));
			assert_non_null(taken());
			assert_true(strlen(record) <= PIPE_BUF);
			assert_int_equal(record[strlen(record) - 1], '\n');
			if (!json)
				continue;
			object = json_loads(record, 0, NULL);
			if (!object)
				fail_msg("not JSON: %s", record);
			json_decref(object);
		}
	}
}

static void errno_survives(void **state)
{
	log_setup(LOG_LEVEL_INFO, false);
	errno = EXDEV;
	log_info("m");
	assert_int_equal(errno, EXDEV);
	assert_non_null(taken());
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_record_is_one_line_in_one_write),
		T(levels_filter),
		T(hostile_text_is_escaped),
		T(json_parses_whatever_is_in_it),
		T(a_long_record_is_cut_and_still_whole),
		T(errno_survives),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
