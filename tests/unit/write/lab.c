/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/write/lab.h"
#include "tests/support/scratch.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/adapters/memwrite_reg.h"
#include "broker/boot_clock.h"
#include "broker/jobs.h"
#include "broker/syncer.h"
#include "broker/memwrite/fault.h"
#include "broker/policy/share.h"
#include "broker/journal/journal.h"
#include "broker/journal/shared.h"
#include "broker/store/marks.h"
#include "vmsig/vmsig_error.h"

#define SESSION "the same"

static uint64_t passed_ns; /* since the first look at it */

/* The real one stands still: a slow machine changes nothing. */
uint64_t lab_now(void)
{
	static uint64_t start_ns;

	if (!start_ns)
		start_ns = boot_clock_ns();
	return start_ns + passed_ns;
}

void lab_pass(uint64_t ns)
{
	passed_ns += ns;
}

static uint64_t monotonic_ns(void *ctx)
{
	return uv_hrtime();
}

/* ---- the journal, which may be full ---- */

static bool full;
struct lab_tried lab_tried;

int __real_journal_append(struct journal *journal, enum journal_type type,
	const struct journal_keys *keys, size_t len, uint8_t **ret_body);
int __wrap_journal_append(struct journal *journal, enum journal_type type,
	const struct journal_keys *keys, size_t len, uint8_t **ret_body);
void __real_journal_commit(struct journal *journal);
void __wrap_journal_commit(struct journal *journal);

int __wrap_journal_append(struct journal *journal, enum journal_type type,
	const struct journal_keys *keys, size_t len, uint8_t **ret_body)
{
	lab_tried.appended++;
	return full ? VMSIG_ERR_IO : __real_journal_append(journal, type, keys, len, ret_body);
}

void __wrap_journal_commit(struct journal *journal)
{
	lab_tried.committed++;
	__real_journal_commit(journal);
}

/* ---- the adapter ---- */

static void describe(
	void *ctx, vmsig_memctx *out_pod, const vmsig_memseg **out_segs, uint32_t *out_nseg)
{
	*out_pod = (vmsig_memctx){.kcr3 = 0x2000, .low = LAB_RAM};
	*out_segs = NULL;
	*out_nseg = 0;
}

static int share_fd(void *ctx)
{
	return fcntl(((struct lab *)ctx)->ram, F_DUPFD_CLOEXEC, 3);
}

static void invalidate(void *ctx, uint32_t epoch)
{
	((struct lab *)ctx)->epoch = epoch;
}

static int may_write(void *ctx, const char **ret_why)
{
	return 0;
}

static void quiesce(void *ctx, uint64_t bound_ms, void (*done)(void *arg, int error), void *arg)
{
	struct lab *lab = ctx;

	assert_null(lab->quiesced);
	lab->quiesced = done;
	lab->quiesced_arg = arg;
}

static bool is_quiesced(void *ctx)
{
	return ((struct lab *)ctx)->quiesced;
}

static void resume(void *ctx)
{
	((struct lab *)ctx)->quiesced = NULL;
}

static void perform(struct lab *lab)
{
	struct core_action action;

	while (core_next_action(lab->core, &action)) {
		if (action.kind == CORE_ACT_BOOTSTRAP)
			action.reg.invalidate(action.reg.ctx, action.epoch);
		else if (action.kind == CORE_ACT_READY)
			desk_endpoint_ready(
				lab->desk, lab_now(), action.endpoint, action.epoch, &lab->page);
		else if (action.kind == CORE_ACT_REVOKE_LEASES)
			desk_endpoint_over(lab->desk, lab_now(), action.endpoint);
	}
}

static int boot(struct lab *lab)
{
	const vmsig_emit *seam = core_emit(lab->core);
	/* The guest's session outlives the broker's. */
	const struct core_endpoint_config config = {.id = lab->endpoint,
		.name = "w1",
		.adapter = "test",
		.epoch = lab->epoch,
		.session = lab->epoch ? SESSION : "",
		.page = &lab->page};
	const vmsig_memctx_reg reader = {.endpoint = lab->endpoint,
		.source = VMSIG_SRC_MEMCTX,
		.ctx = lab,
		.describe = describe,
		.share_fd = share_fd,
		.invalidate = invalidate};
	const vmsig_memwrite_reg writer = {.endpoint = lab->endpoint,
		.source = VMSIG_SRC_MEMWRITE,
		.ctx = lab,
		.share_writable = share_fd,
		.may_write = may_write,
		.quiesce = quiesce,
		.is_quiesced = is_quiesced,
		.resume = resume};
	vmsig_ram_facts facts = {.bytes = LAB_RAM, .guard = VMSIG_GUARD_SEALED, .owner = 7};
	vmsig_event ready = {.kind = VMSIG_EV_MEMCTX, .endpoint = lab->endpoint};
	vmsig_memctx pod = {0};
	int r = core_endpoint_add(lab->core, &config);

	strcpy(facts.session, SESSION);
	if (!r)
		r = seam->register_memctx(seam->core, &reader);
	if (!r)
		r = seam->register_memwrite(seam->core, &writer);
	if (!r)
		r = seam->ram_found(seam->core, lab->endpoint, &facts);
	if (r)
		return r;
	perform(lab);
	pod.epoch = lab->epoch;
	memcpy(ready.inln, &pod, sizeof(pod));
	r = seam->event(seam->core, &ready);
	perform(lab);
	return r;
}

/* ---- life ---- */

static char star[] = "*", alice[] = "alice";
static char *all[] = {star};
static uint32_t uid = 1000;

struct grant_rule lab_rule = {
	.endpoints = all,
	.nendpoints = 1,
	.ttl_min_ns = 1000 * LAB_MS,
	.ttl_max_ns = 3600000 * LAB_MS,
	.hold_max_ns = UINT64_MAX,
	.wait_max_ns = 10000 * LAB_MS,
	.leases = 64,
	.waits = 64,
	.writes_rate = 1000000,
	.bytes_rate = 1ull << 40,
	.bulk_max = LAB_RAM,
	.quiesce_max_ms = 1000,
};

static struct grant_tenant tenant = {
	.tenant = {.name = alice,
		.endpoints = all,
		.nendpoints = 1,
		.quota = {.connections = 8, .subscriptions = 8, .globs = 8, .pending = 16384}},
	.role = IDENTITY_OPERATOR,
	.uids = &uid,
	.nuids = 1,
	.queued_max = 1ull << 30,
	.rules = &lab_rule,
	.nrules = 1,
};

static const struct grant_tenant *by_identity[] = {&tenant};

struct lab *lab_new(void)
{
	struct lab *lab = calloc(1, sizeof(*lab));

	assert_non_null(lab);
	lab->events = calloc(LAB_EVENTS, sizeof(*lab->events));
	assert_non_null(lab->events);
	strcpy(lab->dir, "/tmp/vmsig-desk-XXXXXX");
	scratch_make(lab->dir);
	lab->ram = memfd_create("ram", MFD_CLOEXEC);
	assert_true(lab->ram >= 0);
	assert_int_equal(ftruncate(lab->ram, LAB_RAM), 0);
	lab->config = (struct config){.state_dir = lab->dir,
		.core = {.endpoints = 4, .sessions = 4, .inflight = 4, .take_timeout_ns = 1},
		.bulk_old = 8ull << 20,
		.leases = {.leases = 64,
			.waiters = 64,
			.ranges = 256,
			.preempt_grace_ns = 1000 * LAB_MS,
			.resume_grace_ns = 2000 * LAB_MS},
		.audit = {.size_max = 1ull << 30, .age_max_ms = UINT64_MAX},
		.tenants = &tenant,
		.by_identity = by_identity,
		.ntenants = 1};
	assert_int_equal(fault_setup(), 0);
	return lab;
}

static int open_parts(struct lab *lab)
{
	const struct selector_subject w1 = selector_named("w1");
	struct store_endpoint row;
	char error[512] = "";
	const struct store_options options = {
		.dir = lab->dir, .loop = &lab->loop, .strict = true, .marks = true};
	int r = store_open_with(&lab->store, &options, error, sizeof(error));
	struct desk_shell_env env = {
		.config = &lab->config, .events = &lab_operator_events, .now_ns = lab_now};

	if (!r)
		r = store_endpoint(lab->store, "w1", &row);
	if (!r)
		r = core_new(&lab->core, &lab->config.core);
	if (!r)
		r = shares_new(&lab->shares, &SHARE_LIMITS_DEFAULT, monotonic_ns, NULL);
	if (!r)
		r = jobs_new(&lab->jobs, &lab->loop, 1);
	if (!r)
		r = syncer_new(&lab->syncer, lab->store);
	if (r)
		return r;
	lab->endpoint = row.id;
	env.core = lab->core;
	env.store = lab->store;
	env.shares = lab->shares;
	env.jobs = lab->jobs;
	env.syncer = lab->syncer;
	r = desk_shell_new(&lab->shell, &env, error, sizeof(error));
	if (r)
		return r;
	lab->desk = lab->shell->desk;
	r = desk_endpoint_add(lab->desk, row.id, &w1);
	return r ? r : boot(lab);
}

int lab_open(struct lab *lab)
{
	int r;

	assert_int_equal(uv_loop_init(&lab->loop), 0);
	r = open_parts(lab);
	if (r)
		return r;
	lab->op = (struct desk_operator){.tenant = &tenant, .uid = uid, .client = lab};
	lab->writer = 1;
	r = desk_operator_open(lab->desk, &lab->op);
	if (r)
		lab->op.session = 0;
	return r;
}

static void close_core(struct lab *lab)
{
	const vmsig_emit *seam = core_emit(lab->core);
	struct core_endpoint_info info;
	struct core_action action;
	size_t cursor = 0;

	if (!core_endpoint_next(lab->core, NULL, &cursor, &info))
		return;
	/* Without the desk: nobody tells it that the broker was killed. */
	if (core_endpoint_memwrite(lab->core, info.id))
		seam->unregister_memwrite(seam->core, info.id);
	seam->unregister_memctx(seam->core, info.id);
	while (core_next_action(lab->core, &action))
		;
	core_endpoint_remove(lab->core, info.id);
}

void lab_close(struct lab *lab)
{
	if (lab->op.session)
		desk_operator_close(lab->desk, lab_now(), &lab->op);
	memset(&lab->op, 0, sizeof(lab->op));
	if (lab->desk)
		desk_shell_close(lab->shell, NULL, NULL);
	jobs_close(lab->jobs);
	if (lab->store)
		store_stop(lab->store);
	uv_run(&lab->loop, UV_RUN_DEFAULT);
	if (lab->core && lab->desk)
		close_core(lab);
	lab->shell = desk_shell_free(lab->shell);
	lab->desk = NULL;
	lab->core = core_free(lab->core);
	lab->syncer = syncer_free(lab->syncer);
	lab->jobs = jobs_free(lab->jobs);
	lab->shares = shares_free(lab->shares);
	lab->store = store_close(lab->store);
	assert_int_equal(uv_loop_close(&lab->loop), 0);
}

/* Where they are is noted in the directory. False: there are none. */
static bool marks_path(struct lab *lab, char path[static 512])
{
	char where[96];
	FILE *note;

	snprintf(where, sizeof(where), "%s/marks.where", lab->dir);
	note = fopen(where, "re");
	if (!note)
		return false;
	assert_int_equal(fscanf(note, "%*s %*s %*s %511[^\n]", path), 1);
	fclose(note);
	return true;
}

struct lab *lab_free(struct lab *lab)
{
	char path[512];

	/* What a write was under way in is kept for the next broker, and here there is none. */
	if (marks_path(lab, path))
		(void)unlink(path);
	scratch_remove(lab->dir);
	close(lab->ram);
	free(lab->events);
	free(lab);
	return NULL;
}

static uint8_t *marks_map(struct lab *lab, size_t size)
{
	char path[512];
	uint8_t *map;
	int fd;

	assert_true(marks_path(lab, path));
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	close(fd);
	return map;
}

static void lab_end(struct lab *lab)
{
	const size_t size = SHARED_PAGE + MARKS * 512;
	uint8_t *copy = malloc(size), *map = marks_map(lab, size);

	assert_non_null(copy);
	/* What was not committed is lost, and nothing that closing does has happened. */
	store_rollback(lab->store);
	lab_store_works(lab, false);
	memcpy(copy, map, size);
	lab_close(lab);
	/* One that had none in use has let them go. */
	memcpy(map, copy, size);
	munmap(map, size);
	free(copy);
	full = false;
}

void lab_kill(struct lab *lab)
{
	lab_end(lab);
	assert_int_equal(lab_open(lab), 0);
}

int lab_kill_while_marks_are_used(struct lab *lab)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	char path[512];
	int fd;

	lab_end(lab);
	assert_true(marks_path(lab, path));
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
	assert_int_equal(lab_open(lab), 0);
	return fd;
}

int lab_setup(void **state)
{
	struct lab *lab = lab_new();

	assert_int_equal(lab_open(lab), 0);
	*state = lab;
	return 0;
}

int lab_teardown(void **state)
{
	struct lab *lab = *state;

	full = false;
	lab_close(lab);
	lab_free(lab);
	return 0;
}

void lab_store_works(struct lab *lab, bool works)
{
	full = !works;
}

/* ---- turns ---- */

void lab_turn(struct lab *lab)
{
	uv_run(&lab->loop, UV_RUN_NOWAIT);
	(void)shares_run(lab->shares);
	desk_shell_turn(lab->shell);
}

void lab_errand(struct lab *lab)
{
	assert_true(store_errand_begin(lab->store));
	store_errand_run(lab->store);
	store_errand_end(lab->store);
}

void lab_settle(struct lab *lab)
{
	struct journal *journal = store_journal(lab->store);

	while (journal_drained(journal) < journal_committed(journal)) {
		journal_hurry(journal);
		usleep(100);
	}
}

void lab_await(struct lab *lab, size_t n)
{
	while (lab->nevents < n)
		lab_turn(lab);
}

uint64_t lab_word(struct lab *lab, uint64_t addr)
{
	uint64_t word;

	assert_int_equal(pread(lab->ram, &word, sizeof(word), (off_t)addr), sizeof(word));
	return word;
}

int lab_unpack(struct lab *lab, struct baggage_intake *intake, const void *data, size_t len)
{
	int r;

	do
		r = desk_shell_unpack(lab->shell, intake, data, len);
	while (r == VMSIG_ERR_BUSY);
	return r;
}
