/* SPDX-License-Identifier: Apache-2.0 */
/* `vmsigctl ps`, `threads` and `environ`: what runs in a guest. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/common/text.h"
#include "clients/common/tree.h"
#include "clients/ctl/guest.h"

#define COMMAND_SHOWN 200u /* bytes of a command line in a table */

enum { OPT_TREE = CTL_OPT_FIRST };

static const struct option ps_options[] = {{"tree", no_argument, NULL, OPT_TREE},
	{"pid", required_argument, NULL, CTL_OPT_PID}, {NULL, 0, NULL, 0}};

struct ps {
	bool tree;
	const char *pid; /* NULL: of all */
};

static bool handle(void *ctx, int code, const char *value)
{
	struct ps *ps = ctx;

	if (code == OPT_TREE) {
		ps->tree = true;
		return true;
	}
	ps->pid = value;
	return ctl_is_pid(value);
}

/* ---- one process ---- */

/* The words of a command line; NULL: it has none, or they are not resident. */
static json_t *command_json(struct ctl_guest *guest, const vmsig_proc *process)
{
	char *text = malloc(VMSIG_OS_TEXT_MAX + 1);
	json_t *words = NULL;
	size_t len, at = 0;

	if (text && !vmsig_os_command_line(guest->os, process, text, VMSIG_OS_TEXT_MAX, &len) &&
		len) {
		text[len] = 0;
		words = json_array();
		while (at < len) {
			json_array_append_new(words, value_text(text + at));
			at += strlen(text + at) + 1;
		}
	}
	free(text);
	return words ? words : json_null();
}

static json_t *uid_json(uint32_t uid)
{
	return uid == VMSIG_PROC_NO_UID ? json_null() : json_integer(uid);
}

static json_t *process_json(struct ctl_guest *guest, const vmsig_proc *process)
{
	return json_pack("{s:I, s:I, s:o, s:s#, s:I, s:I, s:b, s:b, s:o, s:o, s:o, s:o}", "pid",
		(json_int_t)process->pid, "parent", (json_int_t)process->parent, "uid",
		uid_json(process->uid), "state", &process->state, (int)sizeof(process->state),
		"threads", (json_int_t)process->threads, "start_ns", (json_int_t)process->start_ns,
		"kernel", (process->flags & VMSIG_PROC_KERNEL) != 0, "zombie",
		(process->flags & VMSIG_PROC_ZOMBIE) != 0, "name", value_text(process->name),
		"object", value_hex(process->object), "root", value_hex(process->root), "command",
		command_json(guest, process));
}

/* As ps(1) has it: a name in brackets when there is no command line. */
static void add_command(
	struct table *table, struct ctl_guest *guest, const vmsig_proc *process, unsigned depth)
{
	char text[COMMAND_SHOWN + 1];
	size_t len;
	int indent = (int)(2 * depth);

	if (vmsig_os_command_line(guest->os, process, text, COMMAND_SHOWN, &len) || !len) {
		table_add(table, "%*s[%s]", indent, "", process->name);
		return;
	}
	len = len < COMMAND_SHOWN ? len : COMMAND_SHOWN;
	for (size_t i = 0; i < len; i++)
		text[i] = text[i] ? text[i] : ' ';
	while (len && text[len - 1] == ' ')
		len--;
	text[len] = 0;
	table_add(table, "%*s%s", indent, "", text);
}

static void add_row(
	struct table *table, struct ctl_guest *guest, const vmsig_proc *process, unsigned depth)
{
	table_add(table, "%" PRIu32, process->pid);
	table_add(table, "%" PRIu32, process->parent);
	if (process->uid == VMSIG_PROC_NO_UID)
		table_add(table, "-");
	else
		table_add(table, "%" PRIu32, process->uid);
	table_add(table, "%c", process->state);
	table_add(table, "%" PRIu32, process->threads);
	table_add(table, "%.2f s", (double)process->start_ns / 1e9);
	table_add(table, "%s", process->name);
	add_command(table, guest, process, depth);
}

/* ---- lists ---- */

struct rows {
	struct table *table;
	struct ctl_guest *guest;
	const vmsig_proc_list *list;
};

static void add_process(void *ctx, size_t index, unsigned depth)
{
	const struct rows *rows = ctx;

	add_row(rows->table, rows->guest, &rows->list->processes[index], depth);
}

static int add_tree(
	struct table *table, struct ctl_guest *guest, const vmsig_proc_list *list, size_t top)
{
	struct rows rows = {table, guest, list};
	struct tree_node *nodes = calloc(list->count + 1, sizeof(*nodes));
	bool done = nodes;

	for (size_t i = 0; done && i < list->count; i++)
		nodes[i] = (struct tree_node){list->processes[i].pid, list->processes[i].parent};
	done = done && tree_walk(nodes, list->count, top, add_process, &rows);
	free(nodes);
	return done ? EXIT_OK
		    : ctl_fail(VMSIG_ERR_NO_MEMORY, "no memory for %zu processes", list->count);
}

static int print_table(struct ctl_guest *guest, const vmsig_proc_list *list, bool tree, size_t top)
{
	static const struct table_column columns[] = {{"PID", 0, true}, {"PARENT", 0, true},
		{"UID", 0, true}, {"STATE", 0, false}, {"THREADS", 0, true}, {"STARTED", 0, true},
		{"NAME", 0, false}, {"COMMAND", 0, false}};
	struct table table;
	int code = EXIT_OK;

	table_init(&table, columns, sizeof(columns) / sizeof(columns[0]));
	if (tree)
		code = add_tree(&table, guest, list, top);
	for (size_t i = 0; !tree && i < list->count; i++) {
		if (top >= list->count || i == top)
			add_row(&table, guest, &list->processes[i], 0);
	}
	if (!code)
		code = ctl_print_table(&table);
	table_deinit(&table);
	return code;
}

/* Of `top` alone, or of all when that is none of the list. */
static int print_list(const struct ctl *ctl, struct ctl_guest *guest, const vmsig_proc_list *list,
	bool tree, size_t top)
{
	json_t *array;

	if (!ctl->json)
		return print_table(guest, list, tree, top);
	array = json_array();
	for (size_t i = 0; i < list->count; i++) {
		if (top >= list->count || i == top)
			json_array_append_new(array, process_json(guest, &list->processes[i]));
	}
	return ctl_print_json(array);
}

/* EXIT_OK, or an exit code after a message. */
static int find_process(const struct ctl_guest *guest, const vmsig_proc_list *list, const char *pid,
	size_t *ret_index)
{
	uint64_t number = 0;

	*ret_index = list->count;
	if (!pid)
		return EXIT_OK;
	(void)text_number(pid, &number); /* it was checked */
	for (size_t i = 0; i < list->count; i++) {
		if (list->processes[i].pid == number)
			*ret_index = i;
	}
	return *ret_index < list->count ? EXIT_OK : ctl_guest_lacks(guest, pid);
}

static int look_at_processes(
	const struct ctl *ctl, struct ctl_guest *guest, const char *pid, bool tree)
{
	vmsig_proc_list *list;
	int r = vmsig_os_processes(guest->os, &list), code;
	size_t top;

	if (r)
		return ctl_guest_fail(guest, r, "processes");
	code = find_process(guest, list, pid, &top);
	if (!code) {
		code = print_list(ctl, guest, list, tree, top);
		code = code ? code : ctl_guest_whole(guest, list->partial, "processes");
	}
	vmsig_proc_list_free(list);
	return code;
}

static int run_ps(struct ctl *ctl, int argc, char **argv)
{
	struct ps ps = {0};
	struct ctl_guest guest;
	int code = ctl_options(ctl, &ctl_ps, argc, argv, ps_options, handle, &ps);

	if (code)
		return code;
	if (optind + 1 != argc)
		return ctl_usage(&ctl_ps, "it takes one ENDPOINT");
	code = ctl_guest_open(ctl, argv[optind], &guest);
	if (code)
		return code;
	code = look_at_processes(ctl, &guest, ps.pid, ps.tree);
	ctl_guest_close(&guest);
	return code;
}

const struct ctl_command ctl_ps = {
	.name = "ps",
	.arguments = "[--tree] [--pid PID] ENDPOINT",
	.summary = "List the processes of a guest",
	.help = "  --tree     below their parents\n"
		"  --pid PID  that one alone, or what is below it\n"
		"\n"
		"Examples:\n"
		"  vmsigctl ps web1\n"
		"  vmsigctl ps web1 --tree\n"
		"  vmsigctl ps web1 --json | jq -r '.[] | select(.uid == 0) | .name'\n",
	.run = run_ps,
};

static int print_threads(const struct ctl *ctl, struct ctl_guest *guest, const char *pid)
{
	vmsig_proc_list *list;
	vmsig_proc process;
	int code = ctl_guest_process(guest, pid, &process), r;

	if (code)
		return code;
	r = vmsig_os_threads(guest->os, &process, &list);
	if (r)
		return ctl_guest_fail(guest, r, "threads");
	code = print_list(ctl, guest, list, false, list->count);
	code = code ? code : ctl_guest_whole(guest, list->partial, "threads");
	vmsig_proc_list_free(list);
	return code;
}

static int run_threads(struct ctl *ctl, int argc, char **argv)
{
	return ctl_guest_run_process(ctl, &ctl_threads, argc, argv, print_threads);
}

const struct ctl_command ctl_threads = {
	.name = "threads",
	.arguments = "ENDPOINT PID | --pid PID ENDPOINT",
	.summary = "List the threads of a process of a guest",
	.help = "Examples:\n"
		"  vmsigctl threads web1 1\n",
	.run = run_threads,
};

/* ---- environ ---- */

static int print_words(const struct ctl *ctl, char *text, size_t len)
{
	json_t *array = ctl->json ? json_array() : NULL;

	text[len] = 0;
	for (char *word = text; word < text + len;) {
		char *next = word + strlen(word) + 1;

		if (ctl->json) {
			json_array_append_new(array, value_text(word));
		} else {
			text_clean(word);
			printf("%s\n", word);
		}
		word = next;
	}
	return ctl->json ? ctl_print_json(array) : ctl_flush();
}

static int print_environ(const struct ctl *ctl, struct ctl_guest *guest, const char *pid)
{
	vmsig_proc process;
	int code = ctl_guest_process(guest, pid, &process), r;
	char *text;
	size_t len;

	if (code)
		return code;
	text = malloc(VMSIG_OS_TEXT_MAX + 1);
	if (!text)
		return ctl_fail(VMSIG_ERR_NO_MEMORY, "out of memory");
	r = vmsig_os_environment(guest->os, &process, text, VMSIG_OS_TEXT_MAX, &len);
	code = r ? ctl_guest_fail(guest, r, "environment of a process")
		 : print_words(ctl, text, len);
	free(text);
	return code;
}

static int run_environ(struct ctl *ctl, int argc, char **argv)
{
	return ctl_guest_run_process(ctl, &ctl_environ, argc, argv, print_environ);
}

const struct ctl_command ctl_environ = {
	.name = "environ",
	.arguments = "ENDPOINT PID | --pid PID ENDPOINT",
	.summary = "Print the environment that a process of a guest was started with",
	.help = "Examples:\n"
		"  vmsigctl environ web1 1\n",
	.run = run_environ,
};
