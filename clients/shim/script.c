/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/common/moment.h"
#include "clients/shim/script.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients/common/exits.h"
#include "clients/shim/command.h"
#include "clients/shim/shim.h"

#define CHUNK 4096u
#define LINE_MAX_BYTES (1u << 20) /* room for the longest `poke` */

struct script {
	char *bytes;
	size_t len, size;
	bool ended; /* there is no more to read */
};

/* Room for a chunk and a NUL. */
static int script_grow(struct shim *shim, struct script *script)
{
	char *bytes;

	if (script->size - script->len > CHUNK)
		return EXIT_OK;
	if (script->len > LINE_MAX_BYTES)
		return shim_output_usage(&shim->output, "a line has more than 1 MiB");
	bytes = realloc(script->bytes, 2 * script->size + 2 * CHUNK);
	if (!bytes)
		return shim_output_fail(&shim->output, VMSIG_ERR_NO_MEMORY, "out of memory");
	script->bytes = bytes;
	script->size = 2 * script->size + 2 * CHUNK;
	return EXIT_OK;
}

/* Waits for more, with the connections driven. */
static int script_read(struct shim *shim, struct script *script)
{
	int status = script_grow(shim, script);
	ssize_t n;

	if (status)
		return status;
	while (!shim_session_step(shim, STDIN_FILENO, MOMENT_NEVER)) {
		if (shim_session_is_stopped(&shim->session))
			return shim_session_stop(shim);
	}
	n = read(STDIN_FILENO, script->bytes + script->len, CHUNK);
	if (n < 0 && errno != EINTR && errno != EAGAIN)
		return shim_output_fail(&shim->output, VMSIG_ERR_IO, "cannot read the commands: %s",
			strerror(errno));
	script->ended = n == 0;
	script->len += n > 0 ? (size_t)n : 0;
	return EXIT_OK;
}

static char *line_end(const struct script *script)
{
	return script->bytes ? memchr(script->bytes, '\n', script->len) : NULL;
}

/* The next line, without its end, into *ret_line; NULL when there is none. It stays until the
 * next call, which `taken` bytes are dropped by. */
static int script_line(struct shim *shim, struct script *script, size_t *taken, char **ret_line)
{
	char *end = NULL;
	int status = EXIT_OK;
	size_t len;

	script->len -= *taken;
	if (script->len)
		memmove(script->bytes, script->bytes + *taken, script->len);
	*taken = 0;
	*ret_line = NULL;
	while (!status && !script->ended && !(end = line_end(script)))
		status = script_read(shim, script);
	if (status || !script->len)
		return status;
	if (!end)
		end = line_end(script);
	if (!end)
		end = script->bytes + script->len;
	len = (size_t)(end - script->bytes);
	*taken = len + (len < script->len);
	*end = '\0';
	*ret_line = script->bytes;
	shim->output.line++;
	return memchr(script->bytes, '\0', len)
		       ? shim_output_usage(&shim->output, "there is a NUL in the line")
		       : EXIT_OK;
}

static int run_lines(struct shim *shim, struct script *script)
{
	size_t taken = 0;
	int first = EXIT_OK;

	while (!shim->quits) {
		char *line;
		int status = script_line(shim, script, &taken, &line);

		if (status)
			return status;
		if (!line)
			break;
		status = shim_command_run(shim, line);
		first = first ? first : status;
		if (shim_session_is_stopped(&shim->session))
			return status;
		if (status && !shim->options.keep_going)
			break;
	}
	return first;
}

int script_run(struct shim *shim)
{
	struct script script = {0};
	int status = script_grow(shim, &script);

	if (!status)
		status = run_lines(shim, &script);
	free(script.bytes);
	shim->output.line = 0;
	return status;
}
