/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_COMMON_PAGE_H
#define CLIENTS_COMMON_PAGE_H

/*
 * Text of a program about itself, for terminals of 80 columns. A paragraph with a longer line is
 * filled anew: text at the margin, a row of a list ("  --option   what it does"), with the lines
 * below its second column, and "usage: ...". Commands, which are indented and have no second
 * column, and paragraphs that fit are printed as they are.
 */

#include <stdio.h>

#define PAGE_WIDTH 80u

/* Without memory the lines are as long as they are. */
__attribute__((format(printf, 2, 3))) void page_print(FILE *to, const char *format, ...);

#endif
