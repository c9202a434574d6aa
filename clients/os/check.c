/* SPDX-License-Identifier: Apache-2.0 */
/* The public calls that compare what a system says with what else there is. */
#include <stdlib.h>

#include "clients/os/finding.h"
#include "clients/os/linux/hidden.h"
#include "clients/os/linux/intact.h"
#include "clients/os/os.h"
#include "vmsig/vmsig_error.h"

void vmsig_finding_list_free(vmsig_finding_list *list)
{
	if (!list)
		return;
	finding_clear(list);
	free(list->findings);
	free(list);
}

static int check_all(struct linux_kernel *kernel, vmsig_finding_list *list)
{
	static int (*const checks[])(struct linux_kernel *, vmsig_finding_list *) = {
		linux_hidden_processes, linux_hidden_modules, linux_intact_calls,
		linux_intact_maps};
	bool partial = false;
	int r = 0;

	for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]) && !r; i++) {
		r = checks[i](kernel, list);
		partial |= r == VMSIG_ERR_UNSUPPORTED || linux_again(r);
		if (r == VMSIG_ERR_UNSUPPORTED || linux_again(r))
			r = 0;
	}
	list->partial |= partial;
	return r;
}

int vmsig_os_check(vmsig_os_handle *os, vmsig_finding_list **ret_list)
{
	vmsig_finding_list *list = calloc(1, sizeof(*list));
	int r = list ? check_all(&os->linux_kernel, list) : VMSIG_ERR_NO_MEMORY;

	if (r) {
		vmsig_finding_list_free(list);
		list = NULL;
	}
	*ret_list = list;
	return -r;
}

int vmsig_os_text(vmsig_os_handle *os, vmsig_text_fn visit, void *ctx)
{
	return linux_intact_text(&os->linux_kernel, visit, ctx);
}
