/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_FAULT_STARVING_H
#define TESTS_FAULT_STARVING_H

/*
 * A test that has one allocation of a program fail: starve.c, preloaded into the program, and the
 * file by which the two know of each other. For cmocka tests: what goes wrong fails the test.
 */

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "tests/fault/starve.h"

struct starving {
	char path[PATH_MAX];
	struct starve *shared;
};

/* Makes the file, in this directory. */
void starving_init(struct starving *starving, const char *dir);
void starving_deinit(struct starving *starving);
/* Programs that are executed from now on are among them, or are not any more. */
void starving_preload(const struct starving *starving, bool on);
/* This allocation fails, counted from now and from 1; 0: none. */
void starving_fail_at(struct starving *starving, uint32_t at);
/* Whether there were that many; none fails any more. */
bool starving_has_failed(struct starving *starving, uint32_t at);

#endif
