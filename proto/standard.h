/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_STANDARD_H
#define PROTO_STANDARD_H

/*
 * Descriptors 0 to 2. A program that is started without one of them would get it for the first
 * file that it opens, and libraries that print would write into a guest's RAM or a socket.
 *
 *   nearest   which name was meant
 *   standard  descriptors 0 to 2
 *   error     names and sentences of errors
 *   system    names of systems and proofs
 *   mishap    where simulators let things go wrong
 *   utf8      text of others, for people
 */

/* Before anything else in main(): puts /dev/null where nothing is, opened in the wrong
 * direction, so that who needs the input or wants output to be kept still learns that there is
 * none (EBADF). 0 or -errno. */
__attribute__((warn_unused_result)) int standard_secure(void);

#endif
