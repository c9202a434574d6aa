/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_RAM_ROMOUNT_H
#define BROKER_RAM_ROMOUNT_H

/*
 * A read-only view of a directory that cannot be made writable again: a detached clone of
 * its mount, set read-only, whose tree descriptor is closed. What is opened through the view
 * stays on the read-only mount, also when it is re-opened through /proc/self/fd, so a holder
 * of such a descriptor gets EROFS for every attempt to write.
 *
 * Two orders matter. The *directory* is cloned: a file-rooted clone can be cloned again and
 * have the flag cleared. And the tree descriptor is closed before anything is handed out:
 * while it is open the mount belongs to a namespace and the flag can be cleared.
 */

/* `folder` (O_PATH will do) inside such a view, O_PATH; the caller closes it and must never
 * hand it to anybody. -errno; -EPERM without CAP_SYS_ADMIN over the mount namespace, -EINVAL
 * for a folder of another namespace, -ENOSYS on a kernel older than 5.12. */
__attribute__((warn_unused_result)) int romount_open(int folder);

#endif
