/* SPDX-License-Identifier: Apache-2.0 */
/* Help in 80 columns: what is filled anew, and what stays as it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "clients/common/page.h"

#define X10 "xxxxxxxxx "
#define X70 X10 X10 X10 X10 X10 X10 X10

static void check(const char *text, const char *expected)
{
	char *printed = NULL;
	size_t size;
	FILE *to = open_memstream(&printed, &size);

	assert_non_null(to);
	page_print(to, "%s", text);
	assert_int_equal(fclose(to), 0);
	assert_string_equal(printed, expected);
	free(printed);
}

static void keeps_what_fits(void **state)
{
	static const char text[] =
		"usage: a B\n\nOne\nline.\n\n  --x  short\n       text\n\n" X70 "123456789\n";

	(void)state;
	check(text, text);
	check("", "");
	check("no end", "no end");
}

static void fills_text(void **state)
{
	(void)state;
	check(X70 "123456789 behind\nit\n\nnext\n", X70 "123456789\nbehind it\n\nnext\n");
	check("One.\n\n" X70 "123456789 behind\n", "One.\n\n" X70 "123456789\nbehind\n");
	check("Heading:\n  " X70 "a b c d e f\n", "Heading:\n  " X70 "a b c d e f\n");
}

static void fills_rows_below_their_text(void **state)
{
	(void)state;
	check("  --x   " X70 "word\n        more\n  --y   other\n",
		"  --x   xxxxxxxxx xxxxxxxxx xxxxxxxxx xxxxxxxxx xxxxxxxxx xxxxxxxxx xxxxxxxxx\n"
		"        word more\n  --y   other\n");
	check("  --long X Y Z\n           " X70 "yy\n           end\n",
		"  --long X Y Z\n           xxxxxxxxx xxxxxxxxx xxxxxxxxx xxxxxxxxx xxxxxxxxx "
		"xxxxxxxxx "
		"xxxxxxxxx\n           yy end\n");
}

static void fills_usage(void **state)
{
	(void)state;
	check("usage: a " X70 "[-x]\n       [-y]\n",
		"usage: a xxxxxxxxx xxxxxxxxx xxxxxxxxx xxxxxxxxx xxxxxxxxx xxxxxxxxx xxxxxxxxx\n"
		"       [-x] [-y]\n");
	/* What belongs together stays so. */
	check("usage: a " X10 X10 X10 X10 X10 X10 "[--format HEX]\n",
		"usage: a xxxxxxxxx xxxxxxxxx xxxxxxxxx xxxxxxxxx xxxxxxxxx xxxxxxxxx\n"
		"       [--format HEX]\n");
}

static void breaks_no_command(void **state)
{
	static const char text[] = "  vmsigctl ls " X70 X10 "\n  vmsigctl ls\n";

	(void)state;
	check(text, text);
}

static void breaks_no_word(void **state)
{
	static const char word[] = "0123456789012345678901234567890123456789"
				   "01234567890123456789012345678901234567890123456789\n";

	(void)state;
	check(word, word);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keeps_what_fits),
		cmocka_unit_test(fills_text),
		cmocka_unit_test(fills_rows_below_their_text),
		cmocka_unit_test(fills_usage),
		cmocka_unit_test(breaks_no_command),
		cmocka_unit_test(breaks_no_word),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
