/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_CTL_MOUNT_GUEST_H
#define CLIENTS_CTL_MOUNT_GUEST_H

/*
 * The guests that a mounted tree has been asked about, each with a context of its own that is kept
 * until the guest is reset: what is asked for then is answered out of a new one. A file that is
 * open has the epoch that it is of, not the guest, which is not there any more then.
 */

#include "clients/common/corefile.h"
#include "clients/ctl/guest.h"

#define MOUNT_FORMATS 4u /* of enum corefile_format */

/* What was made of a guest for a file, and is the same for the whole epoch. */
struct mount_text {
	char *bytes; /* NULL: not made yet */
	size_t len;
};

#define MOUNT_TEXTS 8u

struct mount_guest {
	char name[VMSIG_NAME_MAX + 1];
	struct ctl_guest guest; /* os is NULL of a system that is not known */
	struct corefile cores[MOUNT_FORMATS];
	bool has_core[MOUNT_FORMATS];
	struct mount_text texts[MOUNT_TEXTS]; /* by what the tree calls them */
	struct mount_guest *next;
};

struct mount_guests {
	const struct ctl *ctl;
	struct mount_guest *first;
};

/* All of these return 0 or -errno: -ENOENT: no such endpoint, or one without a context; -ESTALE,
 * -EAGAIN, -EIO. */

/* The guest as it is now, opened if it was not. */
int mount_guest_find(struct mount_guests *guests, const char *name, struct mount_guest **ret_guest);
/* Names of all that this identity may see. */
typedef void (*mount_name_fn)(void *ctx, const char *name);
int mount_guests_list(const struct mount_guests *guests, mount_name_fn add, void *ctx);
/* Whether its context is still good. */
int mount_guest_check(const struct mount_guest *guest);
/* -EOPNOTSUPP: its system is not known, so that there is no such file. */
int mount_guest_core(
	struct mount_guest *guest, enum corefile_format format, const struct corefile **ret_core);
void mount_guests_free(struct mount_guests *guests);

/* -errno of a negated enum vmsig_error. */
int mount_errno(int error);

#endif
