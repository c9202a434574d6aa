/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/common/moment.h"

#include <limits.h>
#include <stddef.h>

#define NS_PER_S 1000000000
#define NS_PER_MS 1000000

int64_t moment_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

int64_t moment_in_ms(uint32_t ms)
{
	return moment_now() + (int64_t)ms * NS_PER_MS;
}

int moment_left_ms(int64_t moment)
{
	int64_t left = moment == MOMENT_NEVER ? 0 : moment - moment_now();

	if (moment == MOMENT_NEVER)
		return -1;
	if (left <= 0)
		return 0;
	left = (left + NS_PER_MS - 1) / NS_PER_MS;
	return left < INT_MAX ? (int)left : INT_MAX;
}

const struct timespec *moment_left(int64_t moment, struct timespec *buf)
{
	int64_t left = moment == MOMENT_NEVER ? 0 : moment - moment_now();

	if (moment == MOMENT_NEVER)
		return NULL;
	left = left > 0 ? left : 0;
	*buf = (struct timespec){left / NS_PER_S, left % NS_PER_S};
	return buf;
}
