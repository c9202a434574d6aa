/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/common/exits.h"

#include <stddef.h>

#include "vmsig/vmsig_error.h"

static const struct {
	enum vmsig_error error;
	enum exit_status status;
} statuses[] = {
	{VMSIG_ERR_OK, EXIT_OK},
	{VMSIG_ERR_NO_SUCH_ENDPOINT, EXIT_NOT_FOUND},
	{VMSIG_ERR_FORBIDDEN, EXIT_NOT_FOUND},
	{VMSIG_ERR_WEAK_GUARD, EXIT_NOT_FOUND},
	{VMSIG_ERR_NOT_READY, EXIT_NOT_READY},
	{VMSIG_ERR_TIMEOUT, EXIT_NOT_READY},
	{VMSIG_ERR_GONE, EXIT_NOT_READY},
	{VMSIG_ERR_UNAUTHENTICATED, EXIT_CONNECT},
	{VMSIG_ERR_DISCONNECTED, EXIT_CONNECT},
	{VMSIG_ERR_SHUTTING_DOWN, EXIT_CONNECT},
	{VMSIG_ERR_STALE_EPOCH, EXIT_STALE},
	{VMSIG_ERR_TORN, EXIT_STALE},
	{VMSIG_ERR_NOT_MAPPED, EXIT_ADDRESS},
	{VMSIG_ERR_OUT_OF_RANGE, EXIT_ADDRESS},
	{VMSIG_ERR_BAD_PAGE_TABLE, EXIT_ADDRESS},
	{VMSIG_ERR_LEASE_HELD, EXIT_HELD},
	{VMSIG_ERR_LEASE_EXPIRED, EXIT_LEASE},
	{VMSIG_ERR_LEASE_REVOKED, EXIT_LEASE},
	{VMSIG_ERR_NO_LEASE, EXIT_LEASE},
	{VMSIG_ERR_COMPARE_FAILED, EXIT_COMPARE},
	{VMSIG_ERR_PARTIAL, EXIT_PARTIAL},
	{VMSIG_ERR_UNKNOWN_OUTCOME, EXIT_UNKNOWN},
	{VMSIG_ERR_NO_WRITE_PATH, EXIT_NO_WRITE},
	{VMSIG_ERR_BUSY, EXIT_BUSY},
	{VMSIG_ERR_QUOTA, EXIT_BUSY},
	{VMSIG_ERR_MOVED, EXIT_MOVED},
};

enum exit_status exit_status(int error)
{
	int number = error < 0 ? -error : error;

	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
		if ((int)statuses[i].error == number)
			return statuses[i].status;
	}
	return EXIT_ERROR;
}
