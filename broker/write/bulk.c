/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Data in a memfd: so much that no step of it may hold up others. A bulk command goes through
 *
 *   hashing    on a thread: the memfd is read, a piece at a time, for the hash of its data
 *   planning   on the loop, in parts: where in the guest it goes, and that it may go there
 *   (the intent, like that of any command)
 *   storing    some slices on the loop, one at a time, then on a thread: the hash of the bytes
 *              that were there, and the data of the next ones
 *
 * What is done on the loop is a task of the tenant's share of its time; what is done on threads
 * are jobs in a line of the tenant, so more commands do not make it more. Of one tenant one
 * command is stored at a time. Everything goes by pread(): mapping a memfd and reading it would
 * allocate the pages of its holes at our cost, and its owner decides how many there are.
 *
 * A slice is checked like a command: lease, token, epoch, policy, endpoint; and each of its
 * pieces is admitted again. A command whose lease has ended is over in the same turn, whatever
 * its tenant owes: others wait for that end.
 */
#include "broker/write/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "broker/jobs.h"
#include "vmsig/vmsig_error.h"

#define SLICE (256u << 10)     /* bytes that are stored in one go: some 100 us */
#define STEP (1u << 20)        /* bytes that a thread takes before another line has its turn */
#define PLAN_PART (4ull << 20) /* bytes whose addresses are looked up in one go: 1,024 pages */
#define SEALS (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW)

/* A tenant with bulk commands. */
struct bulk_payer {
	char tenant[LEASE_NAME_MAX + 1];
	struct desk *desk;
	unsigned refs;
	struct job_line *line;
	struct command *storing;
	uint8_t *read; /* for one step of hashing: jobs of a line do not overlap */
	uint8_t *data; /* the next STEP bytes of `storing` */
	uint8_t *old;  /* what was there */
	UT_hash_handle hh;
};

struct bulk {
	struct command *command;
	struct bulk_payer *payer;
	struct share_task task;
	struct job job;
	bool working; /* the job is under way */
	EVP_MD_CTX *hash;
	int error; /* of the job */

	uint64_t len, hashed;
	int plan_error;
	uint64_t plan_charge; /* bytes of the command's charge that are for the plan */
	uint64_t done;
	size_t data_len, old_len; /* what was read, and how much of it has been stored */
	bool last;                /* there is no further slice: `result` says why */
	struct memwrite_result result;
};

/* ---- tenants ---- */

static struct bulk_payer *payer_unref(struct bulk_payer *payer)
{
	if (!payer || --payer->refs)
		return NULL;
	HASH_DEL(payer->desk->payers, payer);
	job_line_free(payer->line);
	free(payer->read);
	free(payer->data);
	free(payer->old);
	free(payer);
	return NULL;
}

static int payer_fill(struct bulk_payer *payer)
{
	payer->read = malloc(SLICE);
	payer->data = malloc(STEP);
	payer->old = malloc(STEP);
	if (!payer->read || !payer->data || !payer->old)
		return -ENOMEM;
	return job_line_new(&payer->line, payer->desk->env.jobs);
}

static int payer_get(struct desk *desk, const char *tenant, struct bulk_payer **ret_payer)
{
	struct bulk_payer *payer = NULL;
	int r;

	/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
	HASH_FIND_STR(desk->payers, tenant, payer);
	if (payer) {
		payer->refs++;
		*ret_payer = payer;
		return 0;
	}
	payer = calloc(1, sizeof(*payer));
	if (!payer)
		return -ENOMEM;
	payer->desk = desk;
	payer->refs = 1;
	snprintf(payer->tenant, sizeof(payer->tenant), "%s", tenant);
	HASH_ADD_STR(desk->payers, tenant, payer);
	if (!payer->hh.tbl) {
		free(payer);
		return -ENOMEM;
	}
	r = payer_fill(payer);
	if (r)
		payer_unref(payer);
	else
		*ret_payer = payer;
	return r;
}

struct bulk *bulk_free(struct bulk *bulk)
{
	if (!bulk)
		return NULL;
	share_task_cancel(&bulk->task);
	if (bulk->payer && bulk->payer->storing == bulk->command)
		bulk->payer->storing = NULL;
	payer_unref(bulk->payer);
	EVP_MD_CTX_free(bulk->hash);
	free(bulk);
	return NULL;
}

/* ---- before it costs anything ---- */

__attribute__((format(printf, 3, 4))) static int complain(
	struct command *command, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(command->detail, sizeof(command->detail), format, args);
	va_end(args);
	return error;
}

/* Without the seals its owner could change the data after it was recorded. They come first: what
 * has some is a memfd, whose fstat() cannot hang. */
int bulk_check(struct command *command)
{
	const Vmsig__WriteBulk *body = command->body->bulk;
	int seals = fcntl(command->bulk_fd, F_GET_SEALS);
	struct stat st;

	if (seals < 0 || (seals & SEALS) != SEALS)
		return complain(command, VMSIG_ERR_BAD_REQUEST,
			"bulk data needs a memfd with F_SEAL_WRITE, F_SEAL_SHRINK and F_SEAL_GROW");
	if (fstat(command->bulk_fd, &st) < 0)
		return -errno;
	if (body->offset > (uint64_t)st.st_size || body->len > (uint64_t)st.st_size - body->offset)
		return complain(
			command, VMSIG_ERR_BAD_REQUEST, "the memfd ends before the bulk data does");
	/* Nobody but a holder has work done. */
	return replay_authorise(command);
}

/* ---- reading ---- */

static int read_data(const struct bulk *bulk, uint64_t at, uint8_t *buf, size_t len)
{
	uint64_t offset = bulk->command->body->bulk->offset + at;

	for (size_t done = 0; done < len;) {
		ssize_t n = pread(
			bulk->command->bulk_fd, buf + done, len - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		/* It cannot have shrunk. */
		if (n <= 0)
			return VMSIG_ERR_IO;
		done += (size_t)n;
	}
	return 0;
}

static size_t at_most(uint64_t left, size_t most)
{
	return left < most ? (size_t)left : most;
}

/* On a thread, as what follows it up to the next heading's first function. */
static int hash_piece(struct bulk *bulk)
{
	size_t len = at_most(bulk->len - bulk->hashed, SLICE);
	int r = read_data(bulk, bulk->hashed, bulk->payer->read, len);

	if (!r && EVP_DigestUpdate(bulk->hash, bulk->payer->read, len) != 1)
		r = VMSIG_ERR_INTERNAL;
	bulk->hashed += len;
	return r;
}

static enum job_step hash_work(struct job *job)
{
	struct bulk *bulk = job->arg;

	for (unsigned i = 0; i < STEP / SLICE && bulk->hashed < bulk->len; i++) {
		bulk->error = hash_piece(bulk);
		if (bulk->error)
			return JOB_DONE;
	}
	return bulk->hashed < bulk->len ? JOB_AGAIN : JOB_DONE;
}

static int hash_end(struct bulk *bulk, uint8_t ret_hash[static AUDIT_HASH])
{
	unsigned length;

	return EVP_DigestFinal_ex(bulk->hash, ret_hash, &length) == 1 &&
			       EVP_DigestInit_ex(bulk->hash, NULL, NULL) == 1
		       ? 0
		       : VMSIG_ERR_INTERNAL;
}

static void plan_start(struct bulk *bulk);

static void on_hashed(struct job *job)
{
	struct bulk *bulk = job->arg;
	struct command *command = bulk->command;
	int r = job->finished ? bulk->error : VMSIG_ERR_SHUTTING_DOWN;

	bulk->working = false;
	if (!r)
		r = hash_end(bulk, command->data_hash);
	if (r)
		command_reject(command, r, NULL);
	else
		plan_start(bulk);
}

static const struct job_ops hash_ops = {.work = hash_work, .done = on_hashed};

static void work_start(struct bulk *bulk, const struct job_ops *ops)
{
	bulk->job = (struct job){.ops = ops, .arg = bulk};
	bulk->working = true;
	job_start(&bulk->job, bulk->payer->line);
}

int bulk_open(struct command *command)
{
	struct bulk *bulk = command->bulk = calloc(1, sizeof(*bulk));
	int r;

	if (!bulk)
		return -ENOMEM;
	bulk->command = command;
	bulk->len = command->body->bulk->len;
	bulk->hash = EVP_MD_CTX_new();
	if (!bulk->hash || EVP_DigestInit_ex(bulk->hash, EVP_sha256(), NULL) != 1)
		return -ENOMEM;
	r = payer_get(command->desk, command->tenant, &bulk->payer);
	if (!r)
		work_start(bulk, &hash_ops);
	return r;
}

/* ---- where it goes ---- */

static int admit_from(struct command *command, size_t first)
{
	const struct memwrite_plan *plan = &command->plan;

	for (size_t i = first; i < plan->n; i++) {
		const struct memwrite_piece *piece = &plan->pieces[i];
		const struct lease_range range = {piece->gpa, piece->gpa + (piece->len - 1)};
		int r = command_admit(command, &range);

		if (r)
			return r;
	}
	return 0;
}

/* The next part of it, the last piece of the one before included: it may have grown. */
static int plan_part(struct command *command)
{
	const Vmsig__WriteBulk *body = command->body->bulk;
	const struct memwrite_op op = {.addr = body->addr,
		.cr3 = body->cr3,
		.is_virtual = body->virtual_address,
		.len = body->len};
	size_t known = command->plan.n;
	int r;

	if (!command->site->target)
		return VMSIG_ERR_NOT_READY;
	r = memwrite_resolve_part(command->site->target, &op, PLAN_PART, &command->plan);
	return r ? r : admit_from(command, known ? known - 1 : 0);
}

/* The pieces are memory that the connection pays for, like its requests. */
static void plan_charge(struct command *command)
{
	struct bulk *bulk = command->bulk;
	uint64_t session = command->session;

	command_charge(command, 0);
	command->charge -= bulk->plan_charge;
	bulk->plan_charge = command->plan.size * sizeof(*command->plan.pieces);
	command->charge += bulk->plan_charge;
	command_charge(command, session);
}

static void plan_step(struct share_task *task)
{
	struct bulk *bulk = (struct bulk *)(void *)((char *)task - offsetof(struct bulk, task));
	struct command *command = bulk->command;

	bulk->plan_error = plan_part(command);
	if (!bulk->plan_error && command->plan.bytes < bulk->len) {
		share_task_ready(task);
		return;
	}
	plan_charge(command);
	DL_APPEND(command->desk->ready, command);
}

static void plan_start(struct bulk *bulk)
{
	struct command *command = bulk->command;

	memwrite_plan_deinit(&command->plan);
	share_task_init(&bulk->task, command->share, plan_step);
	share_task_ready(&bulk->task);
}

static int plan_complain(struct command *command, int error)
{
	if (error == VMSIG_ERR_QUOTA)
		return complain(command, error,
			"the bulk data goes to more than %u separate pieces of guest memory; send "
			"it in parts",
			MEMWRITE_PIECES_MAX);
	return complain(command, error, "planned up to byte %llu: %s",
		(unsigned long long)command->plan.bytes, vmsig_error_text(error));
}

int bulk_planned(struct command *command, bool *ret_again)
{
	struct bulk *bulk = command->bulk;
	int r = bulk->plan_error;

	/* Its memory was not there, or is another one by now. */
	*ret_again = r == VMSIG_ERR_NOT_READY || r == VMSIG_ERR_STALE_EPOCH ||
		     (!r && !memwrite_plan_fits(&command->plan, command->site->target));
	if (*ret_again) {
		bulk->plan_error = 0;
		plan_start(bulk);
		return 0;
	}
	return r > 0 ? plan_complain(command, r) : r;
}

/* ---- slices ---- */

/* On a thread. */
static enum job_step slice_work(struct job *job)
{
	struct bulk *bulk = job->arg;
	struct bulk_payer *payer = bulk->payer;

	bulk->error = 0;
	if (bulk->old_len && EVP_DigestUpdate(bulk->hash, payer->old, bulk->old_len) != 1)
		bulk->error = VMSIG_ERR_INTERNAL;
	bulk->old_len = 0;
	bulk->data_len = bulk->last ? 0 : at_most(bulk->len - bulk->done, STEP);
	if (!bulk->error)
		bulk->error = read_data(bulk, bulk->done, payer->data, bulk->data_len);
	return JOB_DONE;
}

static void store_next(struct bulk_payer *payer);

/* What ends it before its next slice. */
static int stop_reason(struct command *command)
{
	return command->desk->closing ? VMSIG_ERR_SHUTTING_DOWN : command_check(command);
}

static void finish(struct bulk *bulk, struct memwrite_result result)
{
	struct command *command = bulk->command;
	enum vmsig_error cause = result.cause ? result.cause : result.error;

	if (result.error && !command->detail[0])
		snprintf(command->detail, sizeof(command->detail), "after %llu bytes: %s",
			(unsigned long long)bulk->done, vmsig_error_text((int)cause));
	if (result.error && bulk->done)
		result.error = VMSIG_ERR_PARTIAL;
	result.written = bulk->done;
	result.failed_op = 0;
	command->result = result;
	/* Not of all of it when a thread was stopped before it had looked: then of nothing. */
	if (bulk->old_len || hash_end(bulk, command->old_hash))
		memset(command->old_hash, 0, AUDIT_HASH);
	DL_DELETE(command->desk->slicing, command);
	command_finish(command);
	if (bulk->payer->storing == command) {
		bulk->payer->storing = NULL;
		store_next(bulk->payer);
	}
}

static void end_by(struct bulk *bulk, int error)
{
	bulk->last = true;
	bulk->result = (struct memwrite_result){
		.error = error > 0 ? (enum vmsig_error)error : VMSIG_ERR_INTERNAL};
}

static void on_sliced(struct job *job)
{
	struct bulk *bulk = job->arg;
	int r = job->finished ? bulk->error : VMSIG_ERR_SHUTTING_DOWN;

	bulk->working = false;
	if (!r)
		r = stop_reason(bulk->command);
	if (r && !bulk->last)
		end_by(bulk, r);
	if (bulk->last)
		finish(bulk, bulk->result);
	else
		share_task_ready(&bulk->task);
}

static const struct job_ops slice_ops = {.work = slice_work, .done = on_sliced};

/* There is nothing more to store; a thread still has to look at what was there before. */
static void wind_up(struct bulk *bulk)
{
	share_task_cancel(&bulk->task);
	if (bulk->old_len)
		work_start(bulk, &slice_ops);
	else
		finish(bulk, bulk->result);
}

/* The last one ends it, though its result has still to be made. */
static void slice_mark(struct bulk *bulk, uint64_t done)
{
	struct command *command = bulk->command;

	command->result = (struct memwrite_result){.written = done};
	if (!bulk->result.error && done == bulk->len)
		command_mark(command);
	else
		marks_pause(command->desk->marks, command->mark, done);
}

static void slice_apply(struct bulk *bulk)
{
	struct command *command = bulk->command;
	struct memwrite_op op = {.data = bulk->payer->data + bulk->old_len};
	size_t len = at_most(bulk->data_len - bulk->old_len, SLICE);
	struct memwrite_slice slice;
	int r = stop_reason(command);

	if (r) {
		end_by(bulk, r);
		return;
	}
	memwrite_plan_cut(&command->plan, bulk->done, len, &slice);
	op.len = slice.plan.bytes;
	marks_begin(command->desk->marks, command->mark);
	memwrite_apply(command->site->target, &op, &slice.plan, command_admit, command,
		bulk->payer->old + bulk->old_len, &bulk->result);
	slice_mark(bulk, bulk->done + bulk->result.written);
}

static void store_step(struct share_task *task)
{
	struct bulk *bulk = (struct bulk *)(void *)((char *)task - offsetof(struct bulk, task));

	slice_apply(bulk);
	bulk->done += bulk->result.written;
	bulk->old_len += (size_t)bulk->result.written;
	bulk->last = bulk->result.error || bulk->done == bulk->len;
	if (bulk->last)
		wind_up(bulk);
	else if (bulk->old_len == bulk->data_len)
		work_start(bulk, &slice_ops);
	else
		share_task_ready(task);
}

/* The next one of the tenant, in the order in which they were recorded. */
static void store_next(struct bulk_payer *payer)
{
	struct command *command;

	if (payer->storing)
		return;
	DL_FOREACH (payer->desk->slicing, command) {
		if (command->bulk->payer != payer)
			continue;
		payer->storing = command;
		share_task_init(&command->bulk->task, command->share, store_step);
		work_start(command->bulk, &slice_ops);
		return;
	}
}

void bulk_store(struct command *command)
{
	DL_APPEND(command->desk->slicing, command);
	store_next(command->bulk->payer);
}

void bulks_look(struct desk *desk)
{
	struct command *command, *next;

	DL_FOREACH_SAFE (desk->slicing, command, next) {
		int r = command->bulk->working ? 0 : stop_reason(command);

		if (!r)
			continue;
		end_by(command->bulk, r);
		wind_up(command->bulk);
	}
}
