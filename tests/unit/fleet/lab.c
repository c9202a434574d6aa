/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/fleet/lab.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "broker/etcd/etcd.h"
#include "broker/fleet_memory.h"
#include "vmsig/vmsig_error.h"

#define KEYS 32
#define ANSWERS 64

struct lab lab;

/* ---- the store ---- */

struct key {
	char name[160];
	uint8_t *value;
	size_t len;
	int64_t create, mod, lease;
};

static struct {
	struct key keys[KEYS];
	size_t n;
	int64_t revision;
} store;

static struct key *key_find(const char *name)
{
	for (size_t i = 0; i < store.n; i++) {
		if (strcmp(store.keys[i].name, name) == 0)
			return &store.keys[i];
	}
	return NULL;
}

static void key_put(const char *name, const void *value, size_t len, int64_t lease)
{
	struct key *key = key_find(name);

	if (!key) {
		assert_true(store.n < KEYS);
		key = &store.keys[store.n++];
		*key = (struct key){.create = store.revision};
		snprintf(key->name, sizeof(key->name), "%s", name);
	}
	free(key->value);
	key->value = calloc(1, len + 1);
	assert_non_null(key->value);
	memcpy(key->value, value, len);
	key->len = len;
	key->mod = store.revision;
	key->lease = lease;
}

static void key_drop(struct key *key)
{
	free(key->value);
	*key = store.keys[--store.n];
}

static bool holds(const struct txn_compare *compare)
{
	static const struct key none;
	const struct key *key = key_find((const char *)compare->key.data);

	if (compare->what == TXN_VALUE)
		return key && key->len == compare->value.len &&
		       memcmp(key->value, compare->value.data, key->len) == 0;
	key = key ? key : &none;
	if (compare->what == TXN_LEASE)
		return compare->number == key->lease;
	return compare->number == (compare->what == TXN_CREATE_REVISION ? key->create : key->mod);
}

static struct txn_bytes copy(const void *data, size_t len)
{
	struct txn_bytes bytes = {.data = calloc(1, len + 1), .len = len};

	assert_non_null(bytes.data);
	memcpy(bytes.data, data, len);
	return bytes;
}

static void operate(const struct txn_op *op, struct txn_result *result)
{
	const char *name = (const char *)op->key.data;
	struct key *key = key_find(name);

	result->kind = op->kind;
	if (op->kind == TXN_PUT)
		key_put(name, op->value.data, op->value.len, op->lease);
	if (op->kind == TXN_DELETE && !op->range_end.len && key)
		key_drop(key);
	for (size_t i = store.n; op->kind == TXN_DELETE && op->range_end.len && i-- > 0;) {
		if (strncmp(store.keys[i].name, name, strlen(name)) == 0)
			key_drop(&store.keys[i]);
	}
	if (op->kind != TXN_GET || !key)
		return;
	result->n = 1;
	result->entries = calloc(1, sizeof(*result->entries));
	assert_non_null(result->entries);
	*result->entries = (struct txn_entry){.key = copy(key->name, strlen(key->name)),
		.value = copy(key->value, key->len),
		.create_revision = key->create,
		.mod_revision = key->mod,
		.lease = key->lease};
}

static void commit(const struct txn *txn, struct txn_answer *answer)
{
	const struct txn_ops *ops = &txn->branches[TXN_THEN];

	for (size_t i = 0; i < txn->ncompares; i++) {
		if (!holds(&txn->compares[i]))
			answer->outcome = TXN_GUARD_FAILED;
	}
	if (answer->outcome != TXN_OK)
		return;
	store.revision++;
	answer->n = ops->n;
	answer->results = calloc(ops->n + 1, sizeof(*answer->results));
	assert_non_null(answer->results);
	for (size_t i = 0; i < ops->n; i++)
		operate(&ops->ops[i], &answer->results[i]);
}

/* ---- what the linker sends here ---- */

static struct waiting {
	struct lab_host *host;
	struct txn_answer answer;
} answers[ANSWERS];
static size_t nanswers;

int __wrap_etcd_send(struct etcd *etcd, const struct txn_request *request);
int __wrap_etcd_send(struct etcd *etcd, const struct txn_request *request)
{
	struct txn_answer answer = {.number = request->number,
		.outcome = lab.deaf ? TXN_UNAVAILABLE : TXN_OK,
		.cluster_id = 7,
		.lease = request->lease,
		.ttl_s = LAB_TTL_S};

	if (request->kind >= TXN_WATCH)
		return 0;
	if (request->kind == TXN_COMMIT && !lab.deaf)
		commit(&request->txn, &answer);
	answer.revision = store.revision;
	assert_true(nanswers < ANSWERS);
	answers[nanswers++] =
		(struct waiting){.host = (struct lab_host *)(void *)etcd, .answer = answer};
	return 0;
}

void __wrap_etcd_status(const struct etcd *etcd, struct etcd_status *ret_status);
void __wrap_etcd_status(const struct etcd *etcd, struct etcd_status *ret_status)
{
	*ret_status = (struct etcd_status){0};
}

void __wrap_fleet_memory_keep(struct fleet_keeper *keeper, const struct fleet_memory *memory);
void __wrap_fleet_memory_keep(struct fleet_keeper *keeper, const struct fleet_memory *memory)
{
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *time)
{
	*time = (struct timespec){.tv_sec = (time_t)(lab.now_ns / LAB_SECOND),
		.tv_nsec = (long)(lab.now_ns % LAB_SECOND)};
	return 0;
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size)
{
	return lab.without_memory ? NULL : __real_malloc(size);
}

/* ---- a host's broker ---- */

static void on_owned(void *ctx, uint32_t endpoint, uint32_t epoch)
{
	((struct lab_host *)ctx)->owned++;
}

static void on_lost(void *ctx, uint32_t endpoint)
{
	((struct lab_host *)ctx)->lost++;
}

static void on_raise(void *ctx, uint32_t endpoint, uint32_t epoch)
{
	struct lab_host *host = ctx;

	if (host->epoch <= epoch)
		host->epoch = epoch + 1;
}

static void on_grant(void *ctx, uint64_t lease, uint64_t token)
{
}

static void on_no_grant(void *ctx, uint64_t lease)
{
}

static void on_left(void *ctx, uint32_t endpoint)
{
	((struct lab_host *)ctx)->left++;
}

static int on_pack(void *ctx, uint32_t endpoint, bool last, uint8_t **ret_data, size_t *ret_len)
{
	struct lab_host *host = ctx;

	host->packed++;
	if (host->pack)
		return host->pack;
	*ret_len = strlen(host->baggage);
	*ret_data = (uint8_t *)strdup(host->baggage);
	return 0;
}

static int on_unpack(void *ctx, struct baggage_intake *intake, const void *data, size_t len)
{
	struct lab_host *host = ctx;

	host->unpacked++;
	host->intake = *intake;
	if (host->unpack)
		return host->unpack;
	if (host->unpacked <= host->steps)
		return VMSIG_ERR_BUSY;
	assert_true(len < sizeof(host->got));
	memcpy(host->got, data, len);
	host->got_len = len;
	return 0;
}

static void on_moved(void *ctx, uint32_t endpoint, const char *name)
{
	struct lab_host *host = ctx;

	host->moved++;
	snprintf(host->went_to, sizeof(host->went_to), "%s", name);
}

static void on_awaited(void *ctx, uint32_t endpoint)
{
}

static const struct fleet_shell_events events = {.owned = on_owned,
	.lost = on_lost,
	.raise = on_raise,
	.granted = on_grant,
	.not_granted = on_no_grant,
	.left = on_left,
	.pack = on_pack,
	.unpack = on_unpack,
	.moved = on_moved,
	.awaited = on_awaited};

/* ---- life ---- */

static uv_loop_t loop;
static char here_name[] = "here", there_name[] = "there";

static void host_open(struct lab_host *host, char *name, uint64_t nonce)
{
	const struct fleet_options options = {.fleet = "f",
		.host = name,
		.boot = "boot",
		.nonce = nonce,
		.ttl_s = LAB_TTL_S,
		.timeout_ms = 1000};

	host->config.fleet.host = name;
	host->baggage = "what goes along";
	host->epoch = 1;
	host->shell = (struct fleet_shell){
		.env = {.loop = &loop, .config = &host->config, .events = &events, .ctx = host},
		.etcd = (struct etcd *)(void *)host,
		.look_ns = UINT64_MAX};
	assert_int_equal(uv_timer_init(&loop, &host->shell.timer), 0);
	assert_int_equal(fleet_new(&host->shell.fleet, lab.now_ns, &options), 0);
	fleet_shell_passage(&host->shell, &host->passage);
}

int lab_setup(void **state)
{
	(void)state;
	lab = (struct lab){.now_ns = LAB_SECOND};
	store.revision = 1;
	assert_int_equal(uv_loop_init(&loop), 0);
	host_open(&lab.here, here_name, 1ull << 40);
	host_open(&lab.there, there_name, 2ull << 40);
	/* Until both have been in contact for so long, nobody is believed. */
	lab_run();
	lab_pass(4 * LAB_SECOND);
	lab_pass(4 * LAB_SECOND);
	lab_pass(4 * LAB_SECOND);
	return 0;
}

static void host_close(struct lab_host *host)
{
	fleet_seats_free(&host->shell);
	host->shell.fleet = fleet_free(host->shell.fleet);
	uv_close((uv_handle_t *)&host->shell.timer, NULL);
}

int lab_teardown(void **state)
{
	(void)state;
	while (nanswers)
		txn_answer_deinit(&answers[--nanswers].answer);
	host_close(&lab.here);
	host_close(&lab.there);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&loop), 0);
	while (store.n)
		key_drop(store.keys);
	return 0;
}

/* ---- time ---- */

static bool answer_all(void)
{
	size_t n = nanswers;

	for (size_t i = 0; i < n; i++) {
		fleet_answer(answers[i].host->shell.fleet, lab.now_ns, &answers[i].answer);
		txn_answer_deinit(&answers[i].answer);
	}
	nanswers -= n;
	memmove(answers, answers + n, nanswers * sizeof(*answers));
	return n;
}

static bool is_due(const struct lab_host *host)
{
	return host->shell.pending || host->shell.due_ns <= lab.now_ns ||
	       host->shell.changes != fleet_changes(host->shell.fleet);
}

void lab_run(void)
{
	unsigned rounds = 0;

	do {
		fleet_shell_turn(&lab.here.shell);
		fleet_shell_turn(&lab.there.shell);
		assert_true(rounds++ < 1000);
	} while (answer_all() || is_due(&lab.here) || is_due(&lab.there));
}

void lab_pass(uint64_t ns)
{
	lab.now_ns += ns;
	lab_run();
}

/* ---- what happens ---- */

void lab_add(struct lab_host *host)
{
	fleet_shell_add(&host->shell, LAB_ENDPOINT, "vm", LAB_UUID, host->epoch);
}

/* Again, if its epoch had to be raised. */
void lab_serve(struct lab_host *host, const char *kernel, bool lasts)
{
	uint32_t epoch;

	do {
		epoch = host->epoch;
		host->passage.kernel(host->passage.ctx, LAB_ENDPOINT, kernel, lasts);
		if (fleet_shell_ready(&host->shell, LAB_ENDPOINT, epoch, ""))
			host->owned++;
		lab_run();
	} while (epoch != host->epoch);
}

bool lab_over(struct lab_host *host)
{
	return fleet_shell_over(&host->shell, LAB_ENDPOINT);
}

bool lab_may_write(const struct lab_host *host)
{
	return !fleet_shell_may_write(&host->shell, LAB_ENDPOINT, lab.now_ns, NULL);
}

void lab_step(struct lab_host *host, enum passage_step step)
{
	host->passage.step(host->passage.ctx, LAB_ENDPOINT, step);
}

void lab_begin(void)
{
	lab_add(&lab.here);
	lab_add(&lab.there);
	lab_serve(&lab.here, "kernel", true);
	assert_true(lab_may_write(&lab.here));
	lab_step(&lab.there, PASSAGE_COMES);
	lab_step(&lab.here, PASSAGE_LEAVES);
	lab_run();
	assert_false(lab_may_write(&lab.here));
}

/* ---- looking ---- */

static void name_of(const char *leaf, char ret_name[static 160])
{
	snprintf(ret_name, 160, "/vmsig/f/vm/%s/%s", LAB_UUID, leaf);
}

const char *lab_value(const char *leaf, size_t *ret_len)
{
	char name[160];
	const struct key *key;

	name_of(leaf, name);
	key = key_find(name);
	*ret_len = key ? key->len : 0;
	return key ? (const char *)key->value : NULL;
}

void lab_put(const char *leaf, const void *value, size_t len)
{
	char name[160];

	name_of(leaf, name);
	store.revision++;
	key_put(name, value, len, 0);
}

void lab_deed(struct deed *ret_deed)
{
	size_t len;
	const char *text = lab_value("mark", &len);

	assert_true(text && deed_read(ret_deed, text, len));
}
