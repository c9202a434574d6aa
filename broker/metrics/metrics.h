/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_METRICS_METRICS_H
#define BROKER_METRICS_METRICS_H

/*
 * What the broker counts, for whoever watches it: one table of stable names with type, help and the
 * label that tells a metric's samples apart, and a set of samples that is filled when somebody
 * asks. Names and labels are an interface: add, never rename. Pure.
 *
 *   metrics     the table, and sets of samples
 *   histogram   how long something took
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/metrics/histogram.h"

enum metrics_type { METRICS_COUNTER, METRICS_GAUGE, METRICS_HISTOGRAM };

/* Name, type, label of its samples ("": it has one sample without), help. The names are
 * Prometheus's: counters end with _total. Values of what ends with _seconds are nanoseconds all the
 * same, here and on the wire: whoever shows them divides. */
#define METRICS_TABLE(X)                                                                           \
	X(BUILD, "vmsig_build_info", GAUGE, "version", "Always 1; the label is the version")       \
	X(UPTIME, "vmsig_uptime_seconds", GAUGE, "", "Since the broker's start")                   \
	X(ENDPOINTS, "vmsig_endpoints", GAUGE, "state", "Endpoints, by state")                     \
	X(EPOCHS, "vmsig_epochs_total", COUNTER, "", "Epochs that began")                          \
	X(SUBSCRIBERS, "vmsig_subscribers", GAUGE, "",                                             \
		"Pairs of a reader and an endpoint that it is told of")                            \
	X(CONTEXTS, "vmsig_contexts_total", COUNTER, "", "MEMCTX that were handed out")            \
	X(INVALIDATIONS, "vmsig_invalidations_total", COUNTER, "", "Readers told of a new epoch")  \
	X(INFLIGHT, "vmsig_inflight_contexts", GAUGE, "",                                          \
		"Pairs of descriptors that readers are not known to have taken")                   \
	X(LEASES, "vmsig_leases", GAUGE, "state", "Leases, by state")                              \
	X(GRANTS, "vmsig_lease_grants_total", COUNTER, "", "Leases that were granted")             \
	X(LEASE_ENDS, "vmsig_lease_ends_total", COUNTER, "reason", "Leases that ended, by reason") \
	X(WRITES, "vmsig_writes_total", COUNTER, "outcome", "Write commands, by outcome")          \
	X(WRITTEN, "vmsig_written_bytes_total", COUNTER, "", "Bytes that writes changed")          \
	X(COMMANDS, "vmsig_commands", GAUGE, "", "Write commands without an outcome")              \
	X(REFUSALS, "vmsig_refusals_total", COUNTER, "reason",                                     \
		"Requests that were answered with an error, by its name")                          \
	X(CONNECTIONS, "vmsig_connections", GAUGE, "plane", "Open connections, by plane")          \
	X(ACCEPTED, "vmsig_connections_total", COUNTER, "plane", "Connections that were admitted") \
	X(HANDSHAKES, "vmsig_handshakes_total", COUNTER, "result", "TLS handshakes that ended")    \
	X(CLOSED, "vmsig_connections_closed_total", COUNTER, "reason",                             \
		"Connections that the broker ended, by error")                                     \
	X(RECEIVED, "vmsig_received_frames_total", COUNTER, "plane", "Frames from clients")        \
	X(SENT, "vmsig_sent_bytes_total", COUNTER, "plane", "Bytes of messages to clients")        \
	X(UNREAD, "vmsig_unread_bytes", GAUGE, "", "Bytes that clients have not read")             \
	X(TURNS, "vmsig_loop_turns_total", COUNTER, "", "Turns of the loop")                       \
	X(LONG_TURNS, "vmsig_loop_long_turns_total", COUNTER, "", "Turns above 20 ms")             \
	X(LONGEST_TURN, "vmsig_loop_longest_turn_seconds", GAUGE, "", "Longest turn so far")       \
	X(LOG_DROPS, "vmsig_log_dropped_total", COUNTER, "", "Records of the log that were lost")  \
	X(JOURNAL, "vmsig_journal_bytes", GAUGE, "", "Bytes of the journal on the disk")           \
	X(AUDIT_HEAD, "vmsig_audit_records_total", COUNTER, "", "Id of the newest audit record")   \
	X(POOL, "vmsig_pool_jobs", GAUGE, "state", "Jobs of the thread pool")                      \
	X(RELOADS, "vmsig_reloads_total", COUNTER, "result", "Reloads of the configuration")       \
	X(KEYS, "vmsig_key_expiry_timestamp_seconds", GAUGE, "key",                                \
		"When the broker's certificate, its authority's and the revocation list end, as "  \
		"Unix time")                                                                       \
	X(REVOCATIONS, "vmsig_revocations_issued_timestamp_seconds", GAUGE, "",                    \
		"When the oldest revocation list that is in use was issued, as Unix time")         \
	X(WARNINGS, "vmsig_warnings", GAUGE, "", "What `vmsigctl status` warns of")                \
	X(RECORDING, "vmsig_recording", GAUGE, "",                                                 \
		"Whether leases and writes can be recorded: 0 with a full or damaged disk")        \
	X(FLEET, "vmsig_fleet_guests", GAUGE, "state",                                             \
		"Guests of the fleet as this host has them, by state")                             \
	X(MOVED, "vmsig_fleet_moved", GAUGE, "host",                                               \
		"Guests that were migrated from here and have not come back, by the host that "    \
		"has taken them")                                                                  \
	X(ETCD, "vmsig_etcd_requests_total", COUNTER, "", "Requests to the fleet's etcd")          \
	X(ETCD_FAILURES, "vmsig_etcd_failures_total", COUNTER, "",                                 \
		"Times that a member of the fleet's etcd did not answer as it should")             \
	X(OPERATION, "vmsig_operation_duration_seconds", HISTOGRAM, "operation",                   \
		"From request to answer: subscribe, lease, write, bulk, handshake, admin; "        \
		"context: "                                                                        \
		"until its holder has acknowledged it, if it was asked to")

enum metrics_id {
#define METRICS_ID(id, name, type, label, help) METRICS_##id,
	METRICS_TABLE(METRICS_ID)
#undef METRICS_ID
		METRICS_IDS
};

struct metrics_kind {
	const char *name;
	enum metrics_type type;
	const char *label, *help;
};

struct metrics_sample {
	enum metrics_id id;
	const char *value_of_label; /* static, or borrowed from what was counted */
	uint64_t value;
	const struct histogram *histogram; /* HISTOGRAM; borrowed */
};

/* More than any broker has. */
#define METRICS_SAMPLES_MAX 256u

struct metrics {
	struct metrics_sample samples[METRICS_SAMPLES_MAX];
	size_t n;
};

const struct metrics_kind *metrics_kind(enum metrics_id id);
/* In any order; what does not fit is left out. */
void metrics_add(
	struct metrics *metrics, enum metrics_id id, const char *value_of_label, uint64_t value);
void metrics_add_histogram(struct metrics *metrics, enum metrics_id id, const char *value_of_label,
	const struct histogram *histogram);

/* ---- counted by error ---- */

#define METRICS_ERRORS 64u /* above every number of enum vmsig_error */

struct metrics_errors {
	uint64_t counts[METRICS_ERRORS];
};

/* Positive numbers of the enumeration; -errno is counted as INTERNAL. */
void metrics_errors_note(struct metrics_errors *errors, int error);
/* Those that occurred, by name. */
void metrics_add_errors(
	struct metrics *metrics, enum metrics_id id, const struct metrics_errors *errors);

#endif
