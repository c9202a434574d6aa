/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/windows/start.h"

#include <stdlib.h>
#include <string.h>

#include "clients/os/windows/process.h"
#include "clients/os/windows/reader.h"
#include "clients/os/windows/text.h"
#include "vmsig/vmsig_error.h"

/* PEB and RTL_USER_PROCESS_PARAMETERS of 64 bits, unchanged from 7 to 11. */
#define PEB_PARAMETERS 0x20u
#define PARAMETERS_COMMAND 0x70u
#define PARAMETERS_ENVIRONMENT 0x80u

#define UNITS_PER_PAGE (WINDOWS_PAGE / 2)
#define UNITS_MAX (VMSIG_OS_TEXT_MAX / 2)

/* Where the parameters are; 0: there are none, or a fault. */
static uint64_t parameters(struct windows_kernel *kernel, const vmsig_proc *process)
{
	uint64_t peb;

	if (!kernel->offset.peb) {
		kernel->fault = VMSIG_ERR_UNSUPPORTED;
		return 0;
	}
	peb = windows_word(kernel, process->object + kernel->offset.peb);
	return peb ? windows_word_user(kernel, process->root, peb + PEB_PARAMETERS) : 0;
}

/* What was read, as much of it as fits; `len` bytes of it there are. */
static int give_out(struct windows_kernel *kernel, const vmsig_proc *process, const char *text,
	size_t len, char *buf, size_t size, size_t *ret_len)
{
	int r = kernel->fault;

	if (!r) {
		len = len < VMSIG_OS_TEXT_MAX ? len : VMSIG_OS_TEXT_MAX;
		memcpy(buf, text, len < size ? len : size);
		r = windows_process_is(kernel, process);
	}
	*ret_len = r ? 0 : len;
	return r;
}

int windows_start_command(struct windows_kernel *kernel, const vmsig_proc *process, char *buf,
	size_t size, size_t *ret_len)
{
	int r = windows_process_is(kernel, process);
	char *text = r ? NULL : calloc(1, WINDOWS_TEXT_BYTES);
	size_t len = 0;
	uint64_t at;

	*ret_len = 0;
	if (!text)
		return r ? r : VMSIG_ERR_NO_MEMORY;
	at = parameters(kernel, process);
	if (at)
		windows_text(kernel, process->root, at + PARAMETERS_COMMAND, text,
			WINDOWS_TEXT_BYTES, &len);
	/* The word's NUL belongs to it. */
	r = give_out(kernel, process, text, len ? len + 1 : 0, buf, size, ret_len);
	free(text);
	return r;
}

/* Words in UTF-16 that end with a NUL each, and an empty one. How many units there are in front of
 * that; the last page is not read farther than it has to be. */
static size_t read_words(
	struct windows_kernel *kernel, const vmsig_proc *process, uint64_t at, uint16_t *units)
{
	size_t n = 0, start = 0;

	while (n < UNITS_MAX && !kernel->fault) {
		size_t k = UNITS_PER_PAGE - (at + 2 * n) % WINDOWS_PAGE / 2;

		k = k < UNITS_MAX - n ? k : UNITS_MAX - n;
		windows_read_user(kernel, process->root, at + 2 * n, units + n, 2 * k);
		for (size_t end = n + k; n < end; n++) {
			if (units[n])
				continue;
			if (n == start)
				return n;
			start = n + 1;
		}
	}
	return start;
}

static size_t convert_words(const uint16_t *units, size_t n, char *text, size_t size)
{
	size_t len = 0;

	for (size_t at = 0; at < n && len + 1 < size; at++) {
		len += windows_text_convert(units + at, n - at, text + len, size - len) + 1;
		while (at < n && units[at])
			at++;
	}
	return len;
}

int windows_start_environment(struct windows_kernel *kernel, const vmsig_proc *process, char *buf,
	size_t size, size_t *ret_len)
{
	int r = windows_process_is(kernel, process);
	size_t text_size = 3 * UNITS_MAX + 1, len = 0;
	uint16_t *units = r ? NULL : calloc(UNITS_MAX, sizeof(*units));
	char *text = units ? malloc(text_size) : NULL;
	uint64_t at;

	*ret_len = 0;
	if (!r && !text)
		r = VMSIG_ERR_NO_MEMORY;
	if (!r) {
		at = parameters(kernel, process);
		at = at ? windows_word_user(kernel, process->root, at + PARAMETERS_ENVIRONMENT) : 0;
		if (at && at % 2 == 0)
			len = convert_words(
				units, read_words(kernel, process, at, units), text, text_size);
		r = give_out(kernel, process, text, len, buf, size, ret_len);
	}
	free(units);
	free(text);
	return r;
}
