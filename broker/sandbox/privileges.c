/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/sandbox/privileges.h"

#include <cap-ng.h>
#include <errno.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The whole set is built first: libcap-ng refuses one that the process does not have. */
static void choose(const struct privileges *privileges)
{
	capng_get_caps_process();
	for (int cap = 0; cap <= CAP_LAST_CAP; cap++) {
		bool keep = false;

		for (size_t i = 0; i < privileges->nkept; i++)
			keep |= privileges->kept[i] == cap;
		if (!keep)
			(void)capng_update(CAPNG_DROP,
				CAPNG_EFFECTIVE | CAPNG_PERMITTED | CAPNG_INHERITABLE,
				(unsigned)cap);
		else if (capng_have_capability(CAPNG_PERMITTED, (unsigned)cap))
			(void)capng_update(
				CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, (unsigned)cap);
		if (!keep || !capng_have_capability(CAPNG_PERMITTED, (unsigned)cap))
			(void)capng_update(CAPNG_DROP, CAPNG_BOUNDING_SET, (unsigned)cap);
	}
}

static int keep_user(char *error, size_t error_size)
{
	/* Nobody without CAP_SETPCAP may narrow it, nor needs to: nothing is executed. */
	capng_select_t what = geteuid() == 0 ? CAPNG_SELECT_BOTH : CAPNG_SELECT_CAPS;

	if (capng_apply(what) == 0 || capng_apply(CAPNG_SELECT_CAPS) == 0)
		return 0;
	snprintf(error, error_size, "cannot give up capabilities");
	return -EPERM;
}

int privileges_drop(
	const char *user, const struct privileges *privileges, char *error, size_t error_size)
{
	const struct passwd *entry;
	int r;

	choose(privileges);
	if (!user)
		return keep_user(error, error_size);
	errno = 0;
	entry = getpwnam(user);
	if (!entry) {
		snprintf(error, error_size,
			"there is no user '%s'; make it (useradd --system %s) or change "
			"sandbox.user",
			user, user);
		return errno ? -errno : -ENOENT;
	}
	if (entry->pw_uid == geteuid())
		return keep_user(error, error_size);
	r = capng_change_id((int)entry->pw_uid, (int)entry->pw_gid, CAPNG_INIT_SUPP_GRP);
	if (!r)
		return 0;
	snprintf(error, error_size,
		"cannot become the user '%s' (%d); start vmsigd as root or as that user", user, r);
	return -EPERM;
}

void privileges_make_folder(const char *user, const char *folder, unsigned mode)
{
	const struct passwd *entry = user ? getpwnam(user) : NULL;

	if (mkdir(folder, mode) < 0)
		return;
	if (entry && entry->pw_uid != geteuid())
		(void)!chown(folder, entry->pw_uid, entry->pw_gid);
	/* Whatever the umask. */
	(void)chmod(folder, mode);
}
