/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a fuzz target over files and the files of directories, for builds without libFuzzer.
 * Each input is tried whole, at every prefix of its first bytes and with each of these
 * flipped, so that a small corpus reaches the error paths too.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MUTATED_BYTES 256u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* In an allocation of exactly its size, so that a sanitizer sees the first byte too much. */
static void run(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size ? size : 1);

	if (!copy)
		abort();
	if (size)
		memcpy(copy, data, size);
	LLVMFuzzerTestOneInput(copy, size);
	free(copy);
}

static void run_around(uint8_t *data, size_t size)
{
	size_t n = size < MUTATED_BYTES ? size : MUTATED_BYTES;

	run(data, size);
	for (size_t i = 0; i < n; i++) {
		run(data, i);
		for (unsigned bit = 0; bit < 8; bit++) {
			data[i] ^= (uint8_t)(1u << bit);
			run(data, size);
			data[i] ^= (uint8_t)(1u << bit);
		}
	}
}

static unsigned replay_file(const char *path)
{
	FILE *file = fopen(path, "rb");
	struct stat st;
	uint8_t *data;
	size_t size;

	if (!file || fstat(fileno(file), &st) < 0) {
		perror(path);
		exit(1);
	}
	data = malloc((size_t)st.st_size + 1);
	if (!data)
		abort();
	size = fread(data, 1, (size_t)st.st_size, file);
	fclose(file);
	run_around(data, size);
	free(data);
	return 1;
}

static unsigned replay_dir(const char *path)
{
	DIR *dir = opendir(path);
	const struct dirent *entry;
	unsigned n = 0;

	if (!dir) {
		perror(path);
		exit(1);
	}
	while ((entry = readdir(dir))) {
		char name[4096];

		if (entry->d_name[0] == '.')
			continue;
		if ((size_t)snprintf(name, sizeof(name), "%s/%s", path, entry->d_name) <
			sizeof(name))
			n += replay_file(name);
	}
	closedir(dir);
	return n;
}

int main(int argc, char **argv)
{
	unsigned n = 0;

	for (int i = 1; i < argc; i++) {
		struct stat st;

		if (stat(argv[i], &st) < 0) {
			perror(argv[i]);
			return 1;
		}
		n += S_ISDIR(st.st_mode) ? replay_dir(argv[i]) : replay_file(argv[i]);
	}
	if (n == 0) {
		fprintf(stderr, "usage: %s CORPUS...: no input was found\n", argv[0]);
		return 1;
	}
	printf("%u inputs replayed\n", n);
	return 0;
}
