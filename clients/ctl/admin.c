/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/ctl/admin.h"

#include <time.h>

#include "clients/lib/ask.h"

static int admin_connect(const struct ctl *ctl, bool patient, vmsig_admin **ret_admin)
{
	const struct timespec pause = {.tv_nsec = CTL_AGAIN_MS * 1000000l};
	char error[VMSIG_DETAIL_MAX + 1] = "";
	vmsig_options options;
	int code = ctl_connection(ctl, CTL_PLANE_ADMIN, &options), r;

	if (code)
		return code;
	options.flags = VMSIG_OPT_NO_RECONNECT;
	r = vmsig_admin_open(ret_admin, &options, error, sizeof(error));
	/* Nobody waits for what nobody reads. */
	while (patient && r == -VMSIG_ERR_DISCONNECTED && !ctl_output_is_gone()) {
		nanosleep(&pause, NULL);
		r = vmsig_admin_open(ret_admin, &options, error, sizeof(error));
	}
	return r ? ctl_connect_fail(r, options.socket_path, error) : EXIT_OK;
}

int ctl_admin_connect(const struct ctl *ctl, vmsig_admin **ret_admin)
{
	return admin_connect(ctl, false, ret_admin);
}

int ctl_admin_reconnect(const struct ctl *ctl, vmsig_admin **admin)
{
	*admin = vmsig_admin_close(*admin);
	return admin_connect(ctl, true, admin);
}

int ctl_admin_ask(const struct ctl *ctl, vmsig_admin *admin,
	Vmsig__AdminRequest__BodyCase body_case, void *body, Vmsig__AdminMessage__BodyCase wanted,
	const Vmsig__AdminMessage **ret_answer, const char *what)
{
	int r = ask_admin(admin, body_case, body, wanted, ret_answer, (int)ctl->wait_ms);

	if (!r)
		return EXIT_OK;
	if (r != -VMSIG_ERR_NO_SUCH_ENDPOINT)
		return ctl_fail(r, "%s: %s", what, vmsig_admin_last_error(admin));
	/* `ls` is on a plane that is closed to administrators. */
	ctl_fail_with(r, "see `vmsigctl endpoint ls` for what there is", "%s: %s", what,
		vmsig_admin_last_error(admin));
	return EXIT_NOT_FOUND;
}
