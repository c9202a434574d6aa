/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_RAM_ATTACK_H
#define BROKER_RAM_ATTACK_H

/*
 * What a holder without the broker's privileges, or root in a namespace of its own, would
 * try on a read-only descriptor alone. tests/e2e/attack.c has the full list, from outside.
 */

/* Tries everything on `fd` and leaves the file as it was. NULL: it withstands; else the name
 * of what gave write access, for people. */
const char *ram_attack(int fd);

#endif
