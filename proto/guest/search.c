/* SPDX-License-Identifier: Apache-2.0 */
/* What a search for a kernel says of itself (strategy.h): strategies say it, and who runs them. */
#include "proto/guest/strategy.h"

#include <stdarg.h>
#include <stdio.h>

void search_say(struct kcr3_search *search, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(search->why, search->why_size, format, args);
	va_end(args);
}
