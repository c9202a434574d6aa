/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/windows/clock.h"

#include "clients/os/windows/reader.h"

/* KUSER_SHARED_DATA, at one address in every Windows. */
#define SHARED 0xfffff78000000000ull
#define SHARED_UPTIME 0x08u /* InterruptTime */
#define SHARED_TIME 0x14u   /* SystemTime */

#define UNITS_MAX (UINT64_MAX / 100)

uint64_t windows_clock_start(struct windows_kernel *kernel)
{
	uint64_t uptime, time;

	windows_read(kernel, SHARED + SHARED_UPTIME, &uptime, sizeof(uptime));
	windows_read(kernel, SHARED + SHARED_TIME, &time, sizeof(time));
	windows_forgive(kernel);
	return uptime && time > uptime ? time - uptime : 0;
}

uint64_t windows_clock_since(uint64_t start, uint64_t time)
{
	return start && time > start && time - start < UNITS_MAX ? (time - start) * 100 : 0;
}
