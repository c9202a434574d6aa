/* SPDX-License-Identifier: Apache-2.0 */
/*
 * windows-dump RAM KCR3: everything that the library finds in a Windows guest's memory, as
 * one JSON object on standard output. Exit status 3 with a reason when it is none.
 *
 * windows-dump RAM KCR3 --spoil FILE: the same without output, once for each line of FILE, "OFFSET
 * VALUE [OFFSET VALUE...]" of bytes, which are put into a private copy of the RAM and undone
 * afterwards. Prints how long the longest took in milliseconds, and how many of them found a guest.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "vmsig/vmsig_os.h"

#define TEXT_MAX VMSIG_OS_TEXT_MAX
#define SPOILT_MAX 64

static json_t *text_json(const char *text)
{
	json_t *json = json_string(text);

	return json ? json : json_sprintf("not UTF-8, %zu bytes", strlen(text));
}

static json_t *names_json(vmsig_name_list *list, int r)
{
	json_t *array;

	if (r)
		return json_pack("{s:i}", "error", -r);
	array = json_array();
	for (size_t i = 0; i < list->count; i++)
		json_array_append_new(array, json_pack("[o, I]", text_json(list->names[i].name),
						     (json_int_t)list->names[i].addr));
	array = json_pack("{s:o, s:b}", "names", array, "partial", list->partial);
	vmsig_name_list_free(list);
	return array;
}

/* Words that end with NUL each. */
static json_t *words_json(const char *text, size_t len, int r)
{
	json_t *array;

	if (r)
		return json_integer(-r);
	array = json_array();
	for (size_t at = 0; at < len; at += strlen(text + at) + 1)
		json_array_append_new(array, text_json(text + at));
	return array;
}

static json_t *threads_json(vmsig_os_handle *os, const vmsig_proc *process)
{
	vmsig_proc_list *list;
	json_t *array;
	int r = vmsig_os_threads(os, process, &list);

	if (r)
		return json_integer(-r);
	array = json_array();
	for (size_t i = 0; i < list->count; i++)
		json_array_append_new(array, json_integer(list->processes[i].pid));
	if (list->partial)
		json_array_append_new(array, json_string("partial"));
	vmsig_proc_list_free(list);
	return array;
}

static json_t *maps_json(vmsig_os_handle *os, const vmsig_proc *process)
{
	vmsig_map_list *list;
	json_t *array;
	int r = vmsig_os_maps(os, process, &list);

	if (r)
		return json_integer(-r);
	array = json_array();
	for (size_t i = 0; i < list->count; i++) {
		const vmsig_map *map = &list->maps[i];
		char prot[8];

		snprintf(prot, sizeof(prot), "%s%s%s%s", map->prot & VMSIG_PROT_READ ? "r" : "",
			map->prot & VMSIG_PROT_WRITE ? "w" : "",
			map->prot & VMSIG_PROT_EXEC ? "x" : "",
			map->prot & VMSIG_MAP_SHARED ? "s" : "");
		json_array_append_new(array,
			json_pack("{s:I, s:I, s:s, s:o}", "start", (json_int_t)map->start, "end",
				(json_int_t)map->end, "prot", prot, "path", text_json(map->path)));
	}
	if (list->partial)
		json_array_append_new(array, json_string("partial"));
	vmsig_map_list_free(list);
	return array;
}

static json_t *image_json(vmsig_os_handle *os, const vmsig_proc *process, const vmsig_image *image)
{
	json_t *json = json_pack("{s:o, s:I, s:I, s:b, s:b, s:b}", "path", text_json(image->path),
		"base", (json_int_t)image->base, "size", (json_int_t)image->size, "program",
		(image->flags & VMSIG_IMAGE_PROGRAM) != 0, "listed",
		(image->flags & VMSIG_IMAGE_UNLISTED) == 0, "resident",
		(image->flags & VMSIG_IMAGE_ABSENT) == 0);
	vmsig_name_list *names;
	int r = vmsig_os_image_sections(os, process, image, &names);

	json_object_set_new(json, "sections", names_json(names, r));
	r = vmsig_os_image_exports(os, process, image, &names);
	json_object_set_new(json, "exports", names_json(names, r));
	r = vmsig_os_image_imports(os, process, image, &names);
	json_object_set_new(json, "imports", names_json(names, r));
	r = vmsig_os_image_needed(os, process, image, &names);
	json_object_set_new(json, "needed", names_json(names, r));
	return json;
}

static json_t *images_json(vmsig_os_handle *os, const vmsig_proc *process)
{
	vmsig_image_list *list;
	json_t *array;
	int r = vmsig_os_images(os, process, &list);

	if (r)
		return json_integer(-r);
	array = json_array();
	for (size_t i = 0; i < list->count; i++)
		json_array_append_new(array, image_json(os, process, &list->images[i]));
	if (list->partial)
		json_array_append_new(array, json_string("partial"));
	vmsig_image_list_free(list);
	return array;
}

static json_t *process_json(vmsig_os_handle *os, const vmsig_proc *process)
{
	static char text[TEXT_MAX + 1];
	size_t len = 0;
	json_t *json = json_pack("{s:I, s:I, s:o, s:I, s:I, s:I, s:b, s:b, s:I}", "pid",
		(json_int_t)process->pid, "parent", (json_int_t)process->parent, "name",
		text_json(process->name), "root", (json_int_t)process->root, "object",
		(json_int_t)process->object, "start_ns", (json_int_t)process->start_ns, "zombie",
		(process->flags & VMSIG_PROC_ZOMBIE) != 0, "kernel",
		(process->flags & VMSIG_PROC_KERNEL) != 0, "nthreads",
		(json_int_t)process->threads);
	int r;

	json_object_set_new(json, "threads", threads_json(os, process));
	json_object_set_new(json, "maps", maps_json(os, process));
	json_object_set_new(json, "images", images_json(os, process));
	r = vmsig_os_command_line(os, process, text, TEXT_MAX, &len);
	text[len] = 0;
	json_object_set_new(json, "command", words_json(text, len, r));
	r = vmsig_os_environment(os, process, text, TEXT_MAX, &len);
	text[len] = 0;
	json_object_set_new(json, "environment", words_json(text, len, r));
	return json;
}

static json_t *processes_json(vmsig_os_handle *os)
{
	vmsig_proc_list *list;
	json_t *array;
	int r = vmsig_os_processes(os, &list);

	if (r)
		return json_integer(-r);
	array = json_array();
	for (size_t i = 0; i < list->count; i++)
		json_array_append_new(array, process_json(os, &list->processes[i]));
	if (list->partial)
		json_array_append_new(array, json_string("partial"));
	vmsig_proc_list_free(list);
	return array;
}

static json_t *module_json(vmsig_os_handle *os, const vmsig_module *module)
{
	json_t *json = json_pack("{s:o, s:I, s:I}", "name", text_json(module->name), "base",
		(json_int_t)module->base, "size", (json_int_t)module->size);
	vmsig_name_list *names;
	int r = vmsig_os_sections(os, module, &names);

	json_object_set_new(json, "sections", names_json(names, r));
	r = vmsig_os_exports(os, module, &names);
	json_object_set_new(json, "exports", names_json(names, r));
	r = vmsig_os_imports(os, module, &names);
	json_object_set_new(json, "imports", names_json(names, r));
	return json;
}

static json_t *modules_json(vmsig_os_handle *os)
{
	vmsig_module_list *list;
	json_t *array;
	int r = vmsig_os_modules(os, &list);

	if (r)
		return json_integer(-r);
	array = json_array();
	for (size_t i = 0; i < list->count; i++)
		json_array_append_new(array, module_json(os, &list->modules[i]));
	if (list->partial)
		json_array_append_new(array, json_string("partial"));
	vmsig_module_list_free(list);
	return array;
}

static json_t *symbols_json(vmsig_os_handle *os)
{
	json_t *json = json_object();
	vmsig_symbol found;

	for (size_t i = 0; i < vmsig_os_symbol_count(os); i++) {
		vmsig_symbol symbol = vmsig_os_symbol(os, i);

		/* What there is twice is found once. */
		if (symbol.addr && vmsig_os_symbol_find(os, symbol.name, &found) &&
			vmsig_os_symbol_at(os, symbol.addr + 1, &found) &&
			found.addr >= symbol.addr)
			json_object_set_new(
				json, symbol.name, json_integer((json_int_t)symbol.addr));
	}
	return json;
}

static json_t *findings_json(vmsig_os_handle *os)
{
	static const char *const kinds[] = {"?", "process", "module", "call", "map", "thread"};
	vmsig_finding_list *list;
	json_t *array;
	int r = vmsig_os_check(os, &list);

	if (r)
		return json_integer(-r);
	array = json_array();
	for (size_t i = 0; i < list->count; i++) {
		const vmsig_finding *finding = &list->findings[i];

		json_array_append_new(
			array, json_pack("[s, I, I]", kinds[finding->kind],
				       (json_int_t)finding->pid, (json_int_t)finding->addr));
	}
	if (list->partial)
		json_array_append_new(array, json_string("partial"));
	vmsig_finding_list_free(list);
	return array;
}

static int count_page(void *ctx, uint64_t addr, const uint8_t *bytes, size_t len)
{
	*(size_t *)ctx += len;
	return 0;
}

static json_t *guest_json(vmsig_os_handle *os)
{
	size_t text = 0;
	int r = vmsig_os_text(os, count_page, &text);

	return json_pack("{s:i, s:s?, s:o, s:o, s:o, s:o, s:i, s:I}", "kind",
		(int)vmsig_os_kind(os), "caveat", vmsig_os_caveat(os), "symbols", symbols_json(os),
		"modules", modules_json(os), "processes", processes_json(os), "findings",
		findings_json(os), "text_error", r, "text", (json_int_t)text);
}

/* ---- spoiling ---- */

/* Of CPU time, as others may load the machine. */
static double now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* Whether there was a guest. */
static bool look(int fd, uint64_t size, uint64_t kcr3, bool say)
{
	char error[256];
	vmsig_os_handle *os;
	json_t *json;
	bool found = !vmsig_win32_open_ro_fd(&os, fd, size, kcr3, 4, error, sizeof(error));

	json = found ? guest_json(os) : json_null();
	if (say) {
		json_dumpf(json, stdout, JSON_COMPACT | JSON_ENCODE_ANY);
		putchar('\n');
	}
	json_decref(json);
	if (found)
		vmsig_os_close(os);
	return found;
}

/* Puts the bytes that the line names; what was there is kept. How many. */
static size_t put_bytes(
	char *line, uint8_t *ram, size_t size, size_t at[SPOILT_MAX], uint8_t old[SPOILT_MAX])
{
	char *rest = line;
	size_t n = 0;

	while (n < SPOILT_MAX) {
		char *end;
		size_t offset = strtoull(rest, &end, 0);

		if (end == rest || offset >= size)
			break;
		at[n] = offset;
		old[n++] = ram[offset];
		ram[offset] = (uint8_t)strtoul(end, &rest, 0);
	}
	return n;
}

/* A copy of the RAM that may be written; -1: it cannot be made. */
static int copy_of(int fd, size_t size, uint8_t **ret_ram)
{
	int copy = memfd_create("ram", MFD_CLOEXEC);
	off_t from = 0, to = 0;

	if (copy < 0 || ftruncate(copy, (off_t)size))
		return -1;
	/* Only what has data, as the file is sparse. */
	while ((from = lseek(fd, to, SEEK_DATA)) >= 0) {
		to = lseek(fd, from, SEEK_HOLE);
		for (off_t at = from; at < to;) {
			char buf[65536];
			size_t k =
				(size_t)(to - at) < sizeof(buf) ? (size_t)(to - at) : sizeof(buf);
			ssize_t n = pread(fd, buf, k, at);

			if (n <= 0 || pwrite(copy, buf, (size_t)n, at) != n)
				return -1;
			at += n;
		}
	}
	*ret_ram = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, copy, 0);
	return *ret_ram == MAP_FAILED ? -1 : copy;
}

static int spoil(int fd, size_t size, uint64_t kcr3, const char *path, bool say)
{
	FILE *file = fopen(path, "re");
	size_t at[SPOILT_MAX], lines = 0, guests = 0, longest_line = 0;
	uint8_t old[SPOILT_MAX], *ram = NULL;
	double longest = 0;
	int copy = copy_of(fd, size, &ram);
	char line[1024];

	if (!file || copy < 0)
		return EXIT_FAILURE;
	while (fgets(line, sizeof(line), file)) {
		size_t n = put_bytes(line, ram, size, at, old);
		double start = now_ms();

		guests += look(copy, size, kcr3, say);
		lines++;
		if (now_ms() - start > longest) {
			longest = now_ms() - start;
			longest_line = lines;
		}
		while (n--)
			ram[at[n]] = old[n];
	}
	printf("{\"lines\": %zu, \"guests\": %zu, \"longest_ms\": %.0f, \"longest_line\": %zu}\n",
		lines, guests, longest, longest_line);
	munmap(ram, size);
	close(copy);
	fclose(file);
	return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	char error[256] = "";
	vmsig_os_handle *os;
	struct stat st;
	int fd = argc > 2 ? open(argv[1], O_RDONLY | O_CLOEXEC) : -1, r;
	uint64_t kcr3 = argc > 2 ? strtoull(argv[2], NULL, 0) : 0;
	json_t *json;

	if (fd < 0 || fstat(fd, &st)) {
		fprintf(stderr, "usage: windows-dump RAM KCR3 [--spoil FILE [say]]\n");
		return 2;
	}
	if (argc >= 5 && strcmp(argv[3], "--spoil") == 0)
		return spoil(fd, (size_t)st.st_size, kcr3, argv[4], argc > 5);
	r = vmsig_win32_open_ro_fd(&os, fd, (uint64_t)st.st_size, kcr3, 4, error, sizeof(error));
	close(fd);
	if (r) {
		fprintf(stderr, "%d: %s\n", -r, error);
		return 3;
	}
	json = guest_json(os);
	vmsig_os_close(os);
	r = json_dumpf(json, stdout, JSON_COMPACT);
	json_decref(json);
	return r ? EXIT_FAILURE : EXIT_SUCCESS;
}
