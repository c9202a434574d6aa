/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_CTL_IMAGES_H
#define CLIENTS_CTL_IMAGES_H

/* The programs and libraries that a process of a guest has mapped: for `modules --pid` and the
 * commands that look into one. */

#include "clients/ctl/guest.h"

/* One that was found. */
struct ctl_image {
	vmsig_proc process;
	vmsig_image_list *list;
	const vmsig_image *image; /* in the list */
};

/* By its path, or the last part of that; NULL: what the process was started from. EXIT_OK, or the
 * exit code after a message, with nothing to close. */
int ctl_image_find(const struct ctl_guest *guest, const char *pid, const char *name,
	struct ctl_image *ret_image);
void ctl_image_close(struct ctl_image *image);
/* Says so when a list of it is not whole: EXIT_OK or EXIT_PARTIAL. */
int ctl_image_whole(
	const struct ctl_guest *guest, const vmsig_image *image, bool partial, const char *what);

/* Prints all. */
int ctl_images_print(const struct ctl *ctl, const struct ctl_guest *guest, const char *pid);

#endif
