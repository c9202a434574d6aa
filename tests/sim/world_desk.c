/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A host's desk in sim_world: bound to a simulated disk, to the host's part of the fleet, which
 * gives tokens and says who may write, and to guests' memory. Its broker is killed at any of its
 * calls and starts from what was durable; the power of its host is cut.
 */
#include <stdio.h>
#include <string.h>

#include "broker/policy/share.h"
#include "tests/sim/world_planes.h"
#include "vmsig/vmsig_error.h"

#define WALLS_APART (4000000 * MS) /* wall clocks of two hosts; a bump has room for more */
#define TURNS 400                  /* at one moment, after which it spins */

static const uint32_t full_sides = 400; /* of the dice that say that a disk is full */
static uint64_t wall_random;

int planes_seat(const struct disk *disk)
{
	for (int h = 0; h < HOSTS; h++) {
		if (seats[h].disk == disk)
			return h;
	}
	broken("a call of a desk that never was");
}

bool desks_is_ghost(struct seat *seat)
{
	if (!seat->ghost && seat->kill_in && --seat->kill_in == 0) {
		say("the broker of host %d is a ghost from here on", (int)(seat - seats));
		seat->ghost = true;
	}
	return seat->ghost;
}

/* ---- leases, of which the fleet has to know ---- */

static struct service *service_of(int h, uint32_t endpoint)
{
	return &world.hosts[h].services[endpoint - 1];
}

static uint64_t token_floor(int h, uint32_t endpoint)
{
	const struct service *service = service_of(h, endpoint);
	struct tenure_view view;

	if (!service->tenure || world_flaw == WORLD_OWN_TOKENS)
		return 0;
	tenure_look(service->tenure, &view);
	return view.token > service->token_floor ? view.token : service->token_floor;
}

static int lease_grant(
	void *ctx, const struct lease_view *lease, uint64_t now_ns, uint64_t *ret_token)
{
	int h = planes_seat(ctx);
	struct seat *seat = &seats[h];
	uint64_t token;
	int r;

	*ret_token = 0;
	disk_token_floor(ctx, lease->endpoint, token_floor(h, lease->endpoint));
	r = disk_leases.grant(ctx, lease, now_ns, &token);
	if (r)
		return r;
	if (seat->ngrants == DUE_GRANTS)
		broken("more grants in a batch than the simulator asks for");
	seat->grants[seat->ngrants++] = (struct due_grant){lease->id, token};
	return 0;
}

static int renew(void *ctx, const struct lease_view *lease)
{
	return disk_leases.renew(ctx, lease);
}

static int lease_end(void *ctx, const struct lease_view *lease)
{
	int h = planes_seat(ctx);
	struct service *service = lease->endpoint ? service_of(h, lease->endpoint) : NULL;

	if (service && service->tenure && !seats[h].ghost)
		tenure_end(service->tenure, planes_clock(h), lease->id, lease->token);
	return disk_leases.end(ctx, lease);
}

static int lease_load(void *ctx, int (*each)(void *arg, const struct lease_view *lease), void *arg)
{
	return disk_leases.load(ctx, each, arg);
}

/* No two hosts, and no two processes of one, count from the same one. */
static int lease_next_id(void *ctx, uint64_t *ret_id)
{
	int h = planes_seat(ctx);

	*ret_id = ((uint64_t)(h + 1) << 16 | world.hosts[h].brokers) << 20 | 1;
	return desks_is_ghost(&seats[h]) ? VMSIG_ERR_IO : 0;
}

static int find(void *ctx, uint64_t id, char tenant[static LEASE_NAME_MAX + 1], uint64_t *ret_token)
{
	return disk_leases.find(ctx, id, tenant, ret_token);
}

static const struct desk_lease_ops leases = {
	.grant = lease_grant,
	.renew = renew,
	.end = lease_end,
	.load = lease_load,
	.next_id = lease_next_id,
	.find = find,
};

/* ---- records ---- */

static void ask_fleet(int h, const struct due_grant *grant)
{
	struct seat *seat = &seats[h];
	struct lease_view lease;
	struct tenure_lease record = {.id = grant->lease,
		.token = grant->token,
		.ttl_ns = LEASE_TTL,
		.record = "record",
		.record_len = 6};
	struct service *service;

	if (!desk_lease_find(seat->desk, grant->lease, &lease)) {
		desk_lease_failed(seat->desk, seat->now_ns, grant->lease, VMSIG_ERR_BUSY);
		return;
	}
	service = service_of(h, lease.endpoint);
	if (world_flaw == WORLD_OWN_TOKENS)
		desk_lease_stored(seat->desk, seat->now_ns, grant->lease, grant->token);
	else if (!service->tenure || tenure_grant(service->tenure, seat->now_ns, &record))
		desk_lease_failed(seat->desk, seat->now_ns, grant->lease, VMSIG_ERR_BUSY);
}

/* What the fleet has to know too is known here. */
static int record_commit(void *ctx, bool waits, uint64_t *ret_ticket)
{
	struct seat *seat = &seats[planes_seat(ctx)];
	int r = disk_records.commit(ctx, waits, ret_ticket);
	size_t n = seat->ngrants;

	if (r)
		return r;
	seat->ngrants = 0;
	for (size_t i = 0; i < n; i++)
		ask_fleet((int)(seat - seats), &seat->grants[i]);
	return 0;
}

static void record_rollback(void *ctx)
{
	seats[planes_seat(ctx)].ngrants = 0;
	disk_records.rollback(ctx);
}

static struct desk_record_ops records;

/* ---- what there is none of ---- */

static int bulk_check(void *ctx, int fd, uint64_t offset, uint64_t len, const char **ret_why)
{
	broken("a command has bulk data, of which there is none");
}

static int no_line(void *ctx, struct desk_line **ret_line)
{
	*ret_line = NULL;
	return 0;
}

static void no_line_close(void *ctx, struct desk_line *line)
{
}

static const struct desk_bulk_ops bulk = {
	.check = bulk_check, .line_open = no_line, .line_close = no_line_close};

static void fd_close(void *ctx, int fd, uint32_t uid)
{
}

/* ---- a hash that is quick and no more ---- */

static int digest(void *ctx, const void *data, size_t len, uint8_t ret_digest[static DESK_HASH])
{
	const uint8_t *at = data;
	uint64_t hash[4] = {len, 1, 2, 3};

	for (size_t i = 0; i < len; i++)
		hash[i % 4] = (hash[i % 4] ^ at[i]) * 0x100000001b3ull;
	for (unsigned i = 0; i < 4; i++)
		hash[i] ^= hash[(i + 1) % 4] >> 17;
	memcpy(ret_digest, hash, DESK_HASH);
	return 0;
}

static int digests(void *ctx, const struct multihash_message *messages, size_t n)
{
	for (size_t i = 0; i < n; i++)
		(void)!digest(ctx, messages[i].data, messages[i].len, messages[i].ret_hash);
	return 0;
}

/* ---- the policy ---- */

#define NAME_MAX_ 16

static char names[TENANTS][NAME_MAX_], globs[TENANTS][NAME_MAX_];
static char *glob_lists[TENANTS][1];
static uint32_t uids[TENANTS];
static struct grant_rule rules[TENANTS];
static struct grant_tenant tenants[TENANTS];
static const struct grant_tenant *by_identity[TENANTS];
static char state_dir[] = "/nowhere";
static struct config config = {.state_dir = state_dir,
	.leases = {.leases = 16 * GUESTS,
		.waiters = 8,
		.ranges = 4,
		.preempt_grace_ns = 200 * MS,
		.resume_grace_ns = 2000 * MS},
	.bulk_old = RAM,
	.audit = {.size_max = 1ull << 40, .age_max_ms = UINT64_MAX},
	.tenants = tenants,
	.ntenants = TENANTS,
	.by_identity = by_identity};

/* All guests, half of them, and those whose number begins so. */
static void glob_make(unsigned i)
{
	if (i == 0)
		strcpy(globs[i], "*");
	else if (i == 1)
		strcpy(globs[i], "guest-*[02468]");
	else
		snprintf(globs[i], sizeof(globs[i]), "guest-%u*", (i - 1) % GUESTS);
}

void policy_make(void)
{
	for (unsigned i = 0; i < TENANTS; i++) {
		glob_make(i);
		snprintf(names[i], sizeof(names[i]), "t%03u", i);
		glob_lists[i][0] = globs[i];
		uids[i] = 1000 + i;
		rules[i] = (struct grant_rule){.endpoints = glob_lists[i],
			.nendpoints = 1,
			.ttl_min_ns = 500 * MS,
			.ttl_max_ns = LEASE_TTL,
			.hold_max_ns = 40000 * MS,
			.wait_max_ns = 40000 * MS,
			.priority_max = 1,
			.leases = 2 * GUESTS,
			.waits = 2 * GUESTS,
			.writes_rate = 100000,
			.bytes_rate = 1ull << 30};
		tenants[i] = (struct grant_tenant){.tenant = {.name = names[i],
							   .endpoints = glob_lists[i],
							   .nendpoints = 1,
							   .quota = {.connections = 4 * OPERATORS,
								   .subscriptions = 4,
								   .globs = 4,
								   .pending = 64}},
			.role = IDENTITY_OPERATOR,
			.uids = &uids[i],
			.nuids = 1,
			.queued_max = 4u << 20,
			.rules = &rules[i],
			.nrules = 1};
		by_identity[i] = &tenants[i];
	}
}

const struct tenant *policy_of(unsigned tenant)
{
	return &tenants[tenant].tenant;
}

const struct grant_tenant *grants_of(unsigned tenant)
{
	return &tenants[tenant];
}

/* ---- its life ---- */

static uint64_t no_time(void *ctx)
{
	return 0;
}

static void on_log(
	void *ctx, enum desk_log level, const char *text, const struct desk_fact facts[static 2])
{
	say("host %d: %s", planes_seat(ctx), text);
}

static bool ask_ghost(void *arg)
{
	return desks_is_ghost(arg);
}

static void may_end(void *arg)
{
}

static void marked(void *arg, const struct ledger_key *key)
{
	model_marked(key);
}

void desks_make(int h)
{
	struct seat *seat = &seats[h];
	const struct disk_env env = {.now_ns = &seat->now_ns,
		.wall_ns = &seat->wall_ns,
		.faults = &world.faults,
		.fault_sides = &full_sides,
		.sync_sides = 5000,
		.desk = &seat->desk,
		.endpoints = GUESTS,
		.is_ghost = ask_ghost,
		.may_end = may_end,
		.marked = marked,
		.arg = seat};

	seat->disk = disk_new(&env);
	disk_alone(seat->disk);
	records = disk_records;
	records.commit = record_commit;
	records.rollback = record_rollback;
	wall_random = sim.seed + 1;
	seat->ahead_ns = sim_roll(&wall_random) % WALLS_APART;
}

void desks_free(int h)
{
	seats[h].disk = disk_free(seats[h].disk);
}

void desks_start(int h)
{
	struct seat *seat = &seats[h];
	char error[512];
	struct desk_env env = {.config = &config,
		.events = &wire_events,
		.lease_actions = dice(2) ? 0 : 3,
		.roams = true,
		.ops = {.records = &records,
			.leases = &leases,
			.ledger = &disk_ledger,
			.marks = &disk_marks,
			.guests = &world_guest_ops,
			.bulk = &bulk,
			.digest = digest,
			.digests = digests,
			.fd_close = fd_close,
			.log = on_log,
			.ctx = seat->disk}};

	(void)planes_clock(h);
	seat->ghost = seat->power = false;
	seat->kill_in = 0;
	seat->ngrants = 0;
	if (shares_new(&seat->shares, &SHARE_LIMITS_DEFAULT, no_time, NULL))
		broken("out of memory");
	env.shares = seat->shares;
	if (desk_new(&seat->desk, &env, seat->now_ns, error, sizeof(error))) {
		if (!world.faults)
			broken("the desk of host %d does not start: %s", h, error);
		seat->desk = NULL;
		seat->ghost = true;
		return;
	}
	for (int g = 0; g < GUESTS; g++) {
		const struct selector_subject subject = selector_named(world.guests[g].uuid);

		if (desk_endpoint_add(seat->desk, planes_endpoint(g), &subject))
			broken("an endpoint is refused");
	}
}

void desks_end(int h)
{
	struct seat *seat = &seats[h];

	say("the broker of host %d ends%s%s", h, seat->ghost ? ", killed" : "",
		seat->power ? ", and its power is cut" : "");
	/* One that is told to end may be killed over that. */
	seat->ghost = true;
	world_tallies[W_KILLS]++;
	wires_end(h);
	seat->desk = desk_free(seat->desk);
	seat->shares = shares_free(seat->shares);
	disk_restart(seat->disk, seat->power);
	if (world_flaw == WORLD_FORGOTTEN_MARKS)
		disk_forget_marks(seat->disk);
	model_crash(h, seat->power);
	seat->ghost = seat->power = false;
	seat->kill_in = 0;
}

static bool turn(struct seat *seat)
{
	bool more = shares_run(seat->shares);

	desk_turn(seat->desk, seat->now_ns);
	if (sim.seed % 2 && !shares_pending(seat->shares))
		(void)!desk_rest(seat->desk, seat->now_ns);
	return desk_delay(seat->desk, seat->now_ns) == 0 || more || shares_pending(seat->shares);
}

void desks_turn(int h)
{
	struct seat *seat = &seats[h];
	unsigned turns = 0;

	(void)planes_clock(h);
	while (seat->desk && !seat->ghost && turns < TURNS && turn(seat))
		turns++;
	if (turns == TURNS)
		broken("spin: the desk of host %d wants %u turns at one moment", h, turns);
}

/* In the middle of something, or between two things. */
static void kill_some(struct seat *seat)
{
	static const uint32_t sides[] = {0, 4000, 1000, 300};
	uint32_t side = sides[sim.seed % 4];

	if (!side || !world.faults || world.now < world.calm_until || seat->kill_in || dice(side))
		return;
	if (dice(3))
		seat->kill_in = 1 + dice(dice(2) ? 10 : 100);
	else
		seat->ghost = true;
}

/* The wall clock has dice of its own, and decides nothing. */
static void wall_step(struct seat *seat)
{
	if (sim_roll(&wall_random) % 500 == 0)
		seat->ahead_ns = sim_roll(&wall_random) % WALLS_APART;
}

void desks_step(int h)
{
	struct seat *seat = &seats[h];

	wall_step(seat);
	if (!seat->desk || seat->ghost)
		return;
	(void)planes_clock(h);
	disk_step(seat->disk);
	desks_turn(h);
	if (dice(50) == 0 && !seat->ghost)
		desk_flush(seat->desk, seat->now_ns);
	if (disk_is_lost(seat->disk))
		seat->ghost = true; /* nothing but a restart helps */
	kill_some(seat);
}

/* ---- the end ---- */

/* Each intent has its result; what was told is marked as recorded. */
static void record_note(int h, const Vmsig__AuditRecord *record)
{
	const struct ledger_key key = {record->lease, record->writer, record->sequence};
	struct model_command *command = model_command(&key);

	if (command && record->outcome == command->outcome &&
		record->bytes == (command->outcome ? command->written : command->bytes))
		command->recorded = true;
}

static bool is_result(const Vmsig__AuditRecord *record)
{
	return record->kind == VMSIG__AUDIT_RECORD__KIND__WRITE_RESULT ||
	       record->kind == VMSIG__AUDIT_RECORD__KIND__WRITE_REFUSED;
}

void desks_check(int h)
{
	const struct disk *disk = seats[h].disk;
	size_t n = disk_committed(disk);
	uint8_t *results = calloc(n + 1, 1);

	if (!results)
		broken("out of memory");
	for (size_t i = 0; i < n; i++) {
		const Vmsig__AuditRecord *record = disk_record(disk, i);

		if (record->id != i + 1)
			broken("I12: record %llu of host %d stands where %zu should",
				(unsigned long long)record->id, h, i + 1);
		if (is_result(record) && record->intent && record->intent <= n)
			results[record->intent]++;
		if (is_result(record))
			record_note(h, record);
	}
	for (size_t i = 0; i < n; i++) {
		const Vmsig__AuditRecord *record = disk_record(disk, i);

		if (record->kind == VMSIG__AUDIT_RECORD__KIND__WRITE_INTENT && results[i + 1] != 1)
			broken("I5: intent %zu of host %d, lease %llu/%llu, has %u results", i + 1,
				h, (unsigned long long)record->lease,
				(unsigned long long)record->sequence, results[i + 1]);
	}
	free(results);
	if (disk_marks_used(disk))
		broken("charge: %u marks of host %d stay in use", disk_marks_used(disk), h);
}
