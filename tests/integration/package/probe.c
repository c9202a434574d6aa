/* SPDX-License-Identifier: Apache-2.0 */

/* What somebody who installed the package writes first; valid C and C++. */
#include <stdio.h>
#include <string.h>

#include <vmsig/vmsig.h>
#include <vmsig/vmsig_mem.h>

int main(void)
{
	vmsig_options options;
	char error[256] = "";
	vmsig *v = NULL;

	memset(&options, 0, sizeof(options));
	options.identity_dir = "/nonexistent";
	if (vmsig_open(&v, &options, error, sizeof(error)) != -VMSIG_ERR_IO)
		return 1;
	if (vmsig_gva_write(NULL, 0, 0, NULL, 0) != -VMSIG_ERR_READ_ONLY)
		return 1;
	if (strcmp(vmsig_error_name(-VMSIG_ERR_TORN), "TORN") != 0)
		return 1;
	printf("%s: %s\n", vmsig_version(), error);
	return 0;
}
