/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration. Whatever the file holds: it is taken, or refused with a sentence that
 * begins with the file's name; and what is taken is inside its bounds.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "broker/config/config.h"
#include "proto/wire/chan.h"
#include "vmsig/vmsig_error.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct config *config)
{
	if (!config->ca || !config->cert || !config->key || !config->state_dir ||
		!config->ctx.path || config->ctx.mode > 0777 || config->tx_soft > config->tx_max ||
		config->max_frame > CHAN_FRAME_MAX || !config->core.take_timeout_ns)
		abort();
	for (size_t i = 0; i < config->nendpoints; i++) {
		const struct config_endpoint *endpoint = &config->endpoints[i];

		if (!endpoint->name || (!endpoint->path && !endpoint->qmp))
			abort();
	}
	for (size_t i = 0; i < config->ntenants; i++) {
		if (!config->tenants[i].tenant.name || !config->tenants[i].nuids)
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd = memfd_create("config", MFD_CLOEXEC);
	struct config *config = NULL;
	char path[64], error[512] = "";
	int r;

	if (fd < 0 || write(fd, data, size) != (ssize_t)size)
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	r = config_load(&config, path, error, sizeof(error));
	if (r == 0)
		check(config);
	else if (r != VMSIG_ERR_BAD_REQUEST || strncmp(error, path, strlen(path)) != 0)
		abort();
	config_unref(config);
	close(fd);
	return 0;
}
