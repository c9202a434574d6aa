/* SPDX-License-Identifier: Apache-2.0 */
/* Tables of the tools: widths, alignment, what others have said, tables that go on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients/common/table.h"
#include "vmsig/vmsig_error.h"

struct lab {
	struct table table;
	FILE *file;
	int stdout_fd; /* the real one */
};

static const struct table_column columns[] = {
	{"ID", 4, true}, {"NAME", 0, false}, {"DETAIL", 0, false}};

static int setup(void **state)
{
	struct lab *lab = calloc(1, sizeof(*lab));

	assert_non_null(lab);
	lab->file = tmpfile();
	assert_non_null(lab->file);
	fflush(stdout);
	lab->stdout_fd = dup(STDOUT_FILENO);
	assert_true(lab->stdout_fd >= 0);
	table_init(&lab->table, columns, 3);
	*state = lab;
	return 0;
}

static int teardown(void **state)
{
	struct lab *lab = *state;

	table_deinit(&lab->table);
	fclose(lab->file);
	close(lab->stdout_fd);
	free(lab);
	return 0;
}

static void row(struct lab *lab, int id, const char *name, const char *detail)
{
	table_add(&lab->table, "%d", id);
	table_add(&lab->table, "%s", name);
	table_add(&lab->table, "%s", detail);
}

/* What the table prints now is `expected`. */
static void check(struct lab *lab, const char *expected)
{
	char said[1024];
	size_t len;
	int r;

	rewind(lab->file);
	assert_int_equal(ftruncate(fileno(lab->file), 0), 0);
	dup2(fileno(lab->file), STDOUT_FILENO);
	r = table_print(&lab->table);
	fflush(stdout);
	dup2(lab->stdout_fd, STDOUT_FILENO);
	assert_int_equal(r, 0);
	rewind(lab->file);
	len = fread(said, 1, sizeof(said) - 1, lab->file);
	said[len] = 0;
	assert_string_equal(said, expected);
}

static void columns_are_as_wide_as_their_cells(void **state)
{
	struct lab *lab = *state;

	row(lab, 1, "web1", "good");
	row(lab, 12345, "a-longer-name", "");
	row(lab, 3, "", "odd");
	check(lab, "   ID  NAME           DETAIL\n"
		   "    1  web1           good\n"
		   "12345  a-longer-name\n"
		   "    3  -              odd\n");
}

static void a_table_without_rows_has_headings(void **state)
{
	check(*state, "  ID  NAME  DETAIL\n");
}

static void a_table_goes_on_without_moving_what_was_printed(void **state)
{
	struct lab *lab = *state;

	row(lab, 1, "web1", "x");
	check(lab, "  ID  NAME  DETAIL\n   1  web1  x\n");
	check(lab, "");
	row(lab, 2, "db-primary", "y");
	check(lab, "   2  db-primary  y\n");
	row(lab, 3, "web1", "z");
	check(lab, "   3  web1        z\n");
}

static void a_terminal_obeys_nobody_that_is_told_of(void **state)
{
	struct lab *lab = *state;

	row(lab, 1, "a\033[2Jb\n", "\xc3\xa9");
	check(lab, "  ID  NAME     DETAIL\n   1  a?[2Jb?  ??\n");
}

static void colours_are_for_terminals(void **state)
{
	struct lab *lab = *state;

	table_add(&lab->table, "1");
	table_add(&lab->table, "n");
	table_colour(&lab->table, TABLE_GOOD);
	table_add(&lab->table, "d");
	check(lab, "  ID  NAME  DETAIL\n   1  n     d\n");
	lab->table.colours = true;
	table_add(&lab->table, "1");
	table_add(&lab->table, "n");
	table_colour(&lab->table, TABLE_ODD);
	table_add(&lab->table, "d");
	check(lab, "   1  \033[33mn\033[0m     d\n");
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(columns_are_as_wide_as_their_cells),
		T(a_table_without_rows_has_headings),
		T(a_table_goes_on_without_moving_what_was_printed),
		T(a_terminal_obeys_nobody_that_is_told_of),
		T(colours_are_for_terminals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
