/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A peer on the QMP socket: byte 0 is the size of the pieces. Each time the client is ready
 * it sends a command, so that replies have something to answer. A failure is final and has a
 * reason.
 */
#include <stdint.h>
#include <stdlib.h>

#include "broker/adapters/qemu/qmp.h"
#include "vmsig/vmsig_error.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int take_all(struct qmp *qmp)
{
	struct qmp_message m;
	uint64_t id;
	int r;

	while ((r = qmp_next(qmp, 0, &m)) == 0) {
		if (m.kind == QMP_EVENT && !m.name)
			abort();
		if (m.kind == QMP_READY && qmp_command(qmp, "query-status", NULL, 0, &id))
			abort();
		qmp_message_clear(&m);
	}
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct qmp_limits limits = {.max_message = 4096, .timeout_ms = 1};
	struct qmp *qmp;
	size_t piece;
	int r = VMSIG_ERR_WOULD_BLOCK;

	if (size < 1 || qmp_new(&qmp, &limits, 0))
		return 0;
	piece = data[0] ? data[0] : 1;
	for (size_t at = 1; at < size && r == VMSIG_ERR_WOULD_BLOCK; at += piece) {
		size_t n = size - at < piece ? size - at : piece;

		if (qmp_feed(qmp, data + at, n))
			abort();
		r = take_all(qmp);
	}
	if (r != VMSIG_ERR_WOULD_BLOCK && (!*qmp_reason(qmp) || take_all(qmp) != r))
		abort();
	qmp_free(qmp);
	return 0;
}
