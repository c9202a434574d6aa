/* SPDX-License-Identifier: Apache-2.0 */
/* The public calls that compare what a system says with what else there is. */
#include <stdlib.h>

#include "clients/os/fault.h"
#include "clients/os/finding.h"
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

/* What one cannot compare does not hinder the others. */
static int check_all(vmsig_os_handle *os, vmsig_finding_list *list)
{
	bool partial = false;
	int r = 0;

	for (size_t i = 0; i < os->system->check_count && !r; i++) {
		r = os->system->check(os, i, list);
		if (r == VMSIG_ERR_UNSUPPORTED || fault_again(r)) {
			partial = true;
			r = 0;
		}
	}
	list->partial |= partial;
	return r;
}

int vmsig_os_check(vmsig_os_handle *os, vmsig_finding_list **ret_list)
{
	vmsig_finding_list *list = calloc(1, sizeof(*list));
	int r = list ? check_all(os, list) : VMSIG_ERR_NO_MEMORY;

	if (r) {
		vmsig_finding_list_free(list);
		list = NULL;
	}
	*ret_list = list;
	return -r;
}

int vmsig_os_text(vmsig_os_handle *os, vmsig_text_fn visit, void *ctx)
{
	return os->system->text(os, visit, ctx);
}
