/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmsig-bench-restart FOLDER RING WRITES: how long a store takes to open that was killed after so
 * many writes, each of which is two records and two changes of what the ledger knows. FOLDER (to be
 * empty, on the disk in question) and RING (a path on a tmpfs) are left as they are.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "broker/store/audit.h"
#include "broker/store/ledger.h"
#include "broker/store/store.h"

#define LEASES 16u
#define AUDIT_BYTES (8ull << 30)
#define TURN 64u /* writes */

static double now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

__attribute__((noreturn)) static void die(const char *what, const char *why)
{
	fprintf(stderr, "vmsig-bench-restart: %s: %s\n", what, why);
	exit(1);
}

static struct store *open_store(const char *folder, const char *ring)
{
	const struct store_options options = {
		.dir = folder, .run = ring, .audit_bytes = AUDIT_BYTES, .strict = true};
	char error[512] = "";
	struct store *store;

	if (store_open_with(&store, &options, error, sizeof(error)))
		die(folder, error);
	return store;
}

/* The journal's ring is full when the disk is slower. */
static void begin(struct store *store)
{
	const struct timespec pause = {.tv_nsec = 1000000};

	while (store_refusal(store)) {
		store_turn(store);
		nanosleep(&pause, NULL);
	}
	if (store_begin(store))
		die("begin", store_error(store));
}

static uint64_t record(struct audit *audit, uint32_t kind)
{
	Vmsig__AuditRecord record = VMSIG__AUDIT_RECORD__INIT;
	char endpoint[] = "vm", tenant[] = "operator";

	record.kind = kind;
	record.endpoint = endpoint;
	record.tenant = tenant;
	if (audit_append(audit, &record))
		die("append", "failed");
	return record.id;
}

static void write_once(
	struct store *store, struct audit *audit, struct ledger *ledger, unsigned number)
{
	const struct ledger_key key = {1 + number % LEASES, 1, 1 + number / LEASES};
	static const uint8_t reply[16];
	uint8_t digest[LEDGER_DIGEST] = {0};
	uint64_t intent;

	memcpy(digest, &number, sizeof(number));
	begin(store);
	intent = record(audit, VMSIG__AUDIT_RECORD__KIND__WRITE_INTENT);
	if (ledger_intend(ledger, &key, digest, intent))
		die("intend", store_error(store));
	(void)record(audit, VMSIG__AUDIT_RECORD__KIND__WRITE_RESULT);
	if (ledger_settle(ledger, &key, reply, sizeof(reply)) || store_commit(store))
		die("settle", store_error(store));
	if (number % TURN == 0)
		store_turn(store);
}

__attribute__((noreturn)) static void fill(const char *folder, const char *ring, unsigned writes)
{
	struct store *store = open_store(folder, ring);
	struct audit *audit;
	struct ledger *ledger;

	if (audit_new(&audit, store) || ledger_new(&ledger, store))
		die(folder, "out of memory");
	for (unsigned i = 0; i < writes; i++)
		write_once(store, audit, ledger, i);
	_exit(0);
}

int main(int argc, char **argv)
{
	int status = 1;
	double began;
	pid_t pid;

	if (argc != 4)
		die("usage", "vmsig-bench-restart FOLDER RING WRITES");
	pid = fork();
	if (pid == 0)
		fill(argv[1], argv[2], (unsigned)strtoul(argv[3], NULL, 10));
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
		die(argv[1], "could not be filled");
	began = now_s();
	(void)open_store(argv[1], argv[2]);
	printf("%.3f s\n", now_s() - began);
	fflush(stdout);
	_exit(0);
}
