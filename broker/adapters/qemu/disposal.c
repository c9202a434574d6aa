/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/adapters/qemu/disposal.h"

#include <stdlib.h>
#include <unistd.h>

#include "broker/adapters/errand.h"

struct disposal {
	struct errand errand; /* first */
	int *fds;
	size_t n;
};

static void close_all(int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
		fds[i] = -1;
	}
}

static int run(struct errand *errand)
{
	struct disposal *disposal = (struct disposal *)errand;

	close_all(disposal->fds, disposal->n);
	return 0;
}

/* One that was cancelled has them still. */
static void disposal_free(struct errand *errand)
{
	struct disposal *disposal = (struct disposal *)errand;

	close_all(disposal->fds, disposal->n);
	free(disposal->fds);
	free(disposal);
}

void disposal_start(int *fds, size_t n, struct job_line *line)
{
	static const struct errand_ops ops = {.run = run, .free = disposal_free};
	static const struct errand_owner nobody;
	struct disposal *disposal = calloc(1, sizeof(*disposal));

	if (!disposal || job_line_is_closed(line)) {
		close_all(fds, n);
		free(fds);
		free(disposal);
		return;
	}
	disposal->fds = fds;
	disposal->n = n;
	errand_start(&disposal->errand, &ops, &nobody, line);
}
