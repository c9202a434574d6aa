/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/ctl/output.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "clients/ctl/ctl.h"

int ctl_output_open(struct ctl_output *output, const char *path)
{
	*output = (struct ctl_output){.path = path, .fd = STDOUT_FILENO};
	if (strcmp(path, "-") == 0)
		return EXIT_OK;
	output->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (output->fd < 0)
		return ctl_fail(VMSIG_ERR_IO, "cannot make %s: %s", path,
			errno == EEXIST ? "it is there already; name a new file" : strerror(errno));
	output->is_file = true;
	return EXIT_OK;
}

int ctl_output_close(struct ctl_output *output, int code)
{
	if (!output->is_file)
		return code;
	if (close(output->fd) < 0 && !code)
		code = ctl_fail(VMSIG_ERR_IO, "cannot write %s: %s", output->path, strerror(errno));
	if (code)
		unlink(output->path);
	return code;
}
