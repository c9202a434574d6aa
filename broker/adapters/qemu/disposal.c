/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/adapters/qemu/disposal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "broker/adapters/errand.h"
#include "vmsig/vmsig_error.h"

#define PIECE 256u /* watches in one step */

struct disposal {
	struct errand errand; /* first */
	int inotify;          /* whose watches `numbers` are; -1: they are descriptors */
	int *numbers;
	size_t n, done; /* of them */
};

static void close_all(int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
		fds[i] = -1;
	}
}

/* One that the kernel has ended is not there any more. */
static void end_all(int inotify, const int *watches, size_t n)
{
	for (size_t i = 0; i < n; i++)
		(void)!inotify_rm_watch(inotify, watches[i]);
}

static int end_some(struct disposal *disposal)
{
	size_t left = disposal->n - disposal->done, n = left < PIECE ? left : PIECE;

	end_all(disposal->inotify, disposal->numbers + disposal->done, n);
	disposal->done += n;
	return n < left ? VMSIG_ERR_WOULD_BLOCK : 0;
}

static int run(struct errand *errand)
{
	struct disposal *disposal = (struct disposal *)errand;

	if (disposal->inotify >= 0)
		return end_some(disposal);
	close_all(disposal->numbers, disposal->n);
	return 0;
}

/* One that was cancelled has them still; watches end with their instance. */
static void disposal_free(struct errand *errand)
{
	struct disposal *disposal = (struct disposal *)errand;

	if (disposal->inotify >= 0)
		close(disposal->inotify);
	else
		close_all(disposal->numbers, disposal->n);
	free(disposal->numbers);
	free(disposal);
}

static void start(struct disposal *disposal, struct job_line *line)
{
	static const struct errand_ops ops = {.run = run, .free = disposal_free};
	static const struct errand_owner nobody;

	errand_start(&disposal->errand, &ops, &nobody, line);
}

void disposal_start(int *fds, size_t n, struct job_line *line)
{
	struct disposal *disposal = calloc(1, sizeof(*disposal));

	if (!disposal || job_line_is_closed(line)) {
		close_all(fds, n);
		free(fds);
		free(disposal);
		return;
	}
	disposal->inotify = -1;
	disposal->numbers = fds;
	disposal->n = n;
	start(disposal, line);
}

void disposal_watches(int inotify, int *watches, size_t n, struct job_line *line)
{
	struct disposal *disposal = NULL;
	int fd = -1;

	if (n && !job_line_is_closed(line))
		fd = fcntl(inotify, F_DUPFD_CLOEXEC, 0);
	if (fd >= 0)
		disposal = calloc(1, sizeof(*disposal));
	if (!disposal) {
		end_all(inotify, watches, n);
		if (fd >= 0)
			close(fd);
		free(watches);
		return;
	}
	disposal->inotify = fd;
	disposal->numbers = watches;
	disposal->n = n;
	start(disposal, line);
}
