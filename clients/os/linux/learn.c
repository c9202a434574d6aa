/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/linux/learn.h"

#include <stdio.h>
#include <string.h>

#include "clients/os/linux/image.h"
#include "clients/os/linux/infer.h"
#include "clients/os/linux/profile.h"
#include "clients/os/linux/types.h"
#include "vmsig/vmsig_error.h"

static int learn_symbols(struct linux_kernel *kernel, const struct linux_image *image, char *error,
	size_t error_size)
{
	int r = linux_symbols_find(&kernel->symbols, image);

	if (r == VMSIG_ERR_UNSUPPORTED)
		snprintf(error, error_size, "its kernel has no table of symbols (kallsyms)");
	return r;
}

/* From what the kernel says of its types, or else from its objects. */
static int learn_members(struct linux_kernel *kernel, const struct linux_image *image, char *error,
	size_t error_size)
{
	int r = linux_types_find(&kernel->fields, &kernel->symbols, image, error, error_size);

	if (r != VMSIG_ERR_UNSUPPORTED)
		return r;
	r = linux_infer(kernel);
	kernel->inferred = !r;
	if (!r && error_size)
		error[0] = 0;
	if (r == VMSIG_ERR_UNSUPPORTED && error_size)
		snprintf(error + strlen(error), error_size - strlen(error),
			", and no list of tasks was found");
	return r;
}

static int learn(struct linux_kernel *kernel, char *error, size_t error_size)
{
	struct linux_image image = {0};
	int r = linux_image_read(&image, kernel->mem, kernel->root);

	if (r == VMSIG_ERR_UNSUPPORTED)
		snprintf(error, error_size, "nothing is mapped where a Linux kernel would be");
	if (!r)
		r = learn_symbols(kernel, &image, error, error_size);
	if (!r)
		r = learn_members(kernel, &image, error, error_size);
	linux_image_deinit(&image);
	return r;
}

int linux_init(
	struct linux_kernel *kernel, vmsig_mem *mem, uint64_t root, char *error, size_t error_size)
{
	int r = 0;

	*kernel = (struct linux_kernel){.mem = mem, .root = root};
	linux_begin(kernel);
	if (linux_profile_find(kernel))
		return 0;
	r = learn(kernel, error, error_size);
	if (!r)
		r = linux_profile_keep(kernel);
	if (r)
		linux_deinit(kernel);
	return r;
}

void linux_deinit(struct linux_kernel *kernel)
{
	if (kernel->profile)
		linux_profile_release(kernel);
	else
		linux_symbols_deinit(&kernel->symbols);
}

bool linux_learn_more(struct linux_kernel *kernel, int r)
{
	struct linux_fields before = kernel->fields;

	if (r != VMSIG_ERR_UNSUPPORTED || !kernel->inferred || !kernel->missing)
		return false;
	if (linux_infer(kernel) == 0 &&
		linux_field_count(&kernel->fields) > linux_field_count(&before))
		return true;
	kernel->fields = before;
	return false;
}
