/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes along with a guest of sim_world: its leases, with what is left of them as spans, and
 * the answers to what was written under each, as broker/store/baggage.h has it. The target stores
 * a lease and its answers in one batch, and may be killed between any two.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/sim/world_planes.h"
#include "vmsig/vmsig_error.h"

#define LEAST (2000 * MS)  /* of a lease that goes along */
#define UNSEEN (1000 * MS) /* between what the two QEMUs know of the end of the migration */
#define REPLY_MAX 512

struct packed_lease {
	struct lease_view view; /* its moments are spans */
	char tenant[LEASE_NAME_MAX + 1];
	struct lease_range range;
	uint32_t answers; /* that follow */
};

struct packed_answer {
	struct ledger_key key;
	uint8_t digest[LEDGER_DIGEST];
	uint32_t len;
	uint8_t reply[REPLY_MAX];
};

struct bag {
	uint8_t *data;
	size_t len, size;
};

/* ---- packing ---- */

static void *bag_add(struct bag *bag, size_t len)
{
	while (bag->len + len > bag->size) {
		bag->size = bag->size * 2 + 1024;
		bag->data = realloc(bag->data, bag->size);
		if (!bag->data)
			broken("out of memory");
	}
	bag->len += len;
	memset(bag->data + bag->len - len, 0, len);
	return bag->data + bag->len - len;
}

static uint64_t span(uint64_t from_ns, uint64_t to_ns)
{
	return to_ns > from_ns ? to_ns - from_ns : 0;
}

static uint32_t unknown_pack(uint8_t reply[static REPLY_MAX])
{
	Vmsig__WriteResult result = VMSIG__WRITE_RESULT__INIT;

	result.outcome = VMSIG_ERR_UNKNOWN_OUTCOME;
	return (uint32_t)vmsig__write_result__pack(&result, reply);
}

/* Of one without an outcome nobody knows; before `last` it is waited for. */
static int pack_answer(struct bag *bag, const struct disk_answer *answer, bool last)
{
	struct packed_answer *packed;

	if (!answer->done && !last)
		return VMSIG_ERR_BUSY;
	packed = bag_add(bag, sizeof(*packed));
	packed->key = answer->key;
	memcpy(packed->digest, answer->digest, LEDGER_DIGEST);
	if (answer->done && answer->reply_len > REPLY_MAX)
		broken("an answer is larger than the simulator packs");
	if (answer->done) {
		packed->len = (uint32_t)answer->reply_len;
		memcpy(packed->reply, answer->reply, answer->reply_len);
		return 0;
	}
	packed->len = unknown_pack(packed->reply);
	model_left(&answer->key);
	return 0;
}

static int pack_lease(struct bag *bag, int h, const struct lease_view *lease, bool last)
{
	uint64_t now = seats[h].now_ns;
	size_t at = bag->len, cursor = 0;
	struct packed_lease *packed = bag_add(bag, sizeof(*packed));
	struct disk_answer answer;
	uint32_t answers = 0;
	int r = 0;

	packed->view = *lease;
	packed->view.granted_ns = span(lease->granted_ns, now);
	packed->view.deadline_ns = span(now, lease->deadline_ns);
	packed->view.hold_until_ns = span(now, lease->hold_until_ns);
	strcpy(packed->tenant, lease->tenant);
	packed->range = lease->ranges[0];
	while (!r && world_flaw != WORLD_FORGOTTEN_ANSWERS &&
		disk_next_answer(seats[h].disk, lease->id, &cursor, &answer)) {
		r = pack_answer(bag, &answer, last);
		answers++;
	}
	((struct packed_lease *)(void *)(bag->data + at))->answers = answers;
	return r;
}

/* One that nobody was told of ends here, and one that is about to expire. */
static bool is_packed(const struct lease_view *lease, int g, uint64_t now)
{
	return lease->endpoint == planes_endpoint(g) && lease->state == LEASE_ACTIVE &&
	       lease->told && lease->deadline_ns > now + LEAST;
}

int luggage_pack(int h, int g, bool last, uint8_t **ret_data, size_t *ret_len)
{
	struct seat *seat = &seats[h];
	struct lease_view lease;
	struct bag bag = {0};
	uint64_t cursor = 0;
	int r = 0;

	(void)planes_clock(h);
	desk_settle(seat->desk, seat->now_ns);
	if (seat->ghost)
		r = VMSIG_ERR_BUSY;
	while (!r && desk_lease_next(seat->desk, &cursor, &lease)) {
		if (is_packed(&lease, g, seat->now_ns))
			r = pack_lease(&bag, h, &lease, last);
	}
	say("guest %d is packed at host %d: %zu bytes of leases%s", g, h, bag.len,
		r ? ", or not yet" : "");
	if (r) {
		free(bag.data);
		return r;
	}
	*ret_data = bag.data;
	*ret_len = bag.len;
	return 0;
}

/* ---- taking in ---- */

struct intake {
	int h;
	const struct packed_lease *lease;
	struct lease_view view;
};

static uint64_t less(uint64_t span_ns, uint64_t age_ns)
{
	return span_ns > age_ns ? span_ns - age_ns : 0;
}

/* Spans become moments again, of when that was begun. */
static void localise(struct intake *intake, const struct place *place)
{
	uint64_t began = place->brought_at, age = UNSEEN + (began - place->came_ns);
	struct lease_view *view = &intake->view;

	*view = intake->lease->view;
	view->tenant = intake->lease->tenant;
	view->ranges = &intake->lease->range;
	view->granted_ns = began > age + view->granted_ns ? began - age - view->granted_ns : 1;
	view->deadline_ns = began + less(view->deadline_ns, age);
	view->hold_until_ns = began + less(view->hold_until_ns, age);
}

static int store_answers(const struct intake *intake)
{
	const struct packed_answer *answers = (const void *)(intake->lease + 1);
	void *disk = seats[intake->h].disk;
	int r = 0;

	for (uint32_t i = 0; !r && i < intake->lease->answers; i++) {
		r = disk_ledger.intend(disk, &answers[i].key, answers[i].digest, 0);
		if (!r)
			r = disk_ledger.settle(
				disk, &answers[i].key, answers[i].reply, answers[i].len);
	}
	return r;
}

/* Its answers first, so that it is never there without them; and both at once, or neither. */
static int store_lease(const struct intake *intake)
{
	struct disk *disk = seats[intake->h].disk;
	uint64_t ticket;
	int r;

	if (disk_knows_lease(disk, intake->view.id))
		return 0;
	r = disk_records.begin(disk);
	if (!r)
		r = store_answers(intake);
	if (!r)
		r = disk_put_lease(disk, &intake->view);
	if (!r)
		r = disk_records.commit(disk, false, &ticket);
	if (r)
		disk_records.rollback(disk);
	return r;
}

static size_t packed_size(const struct packed_lease *lease)
{
	return sizeof(*lease) + lease->answers * sizeof(struct packed_answer);
}

static void take_one(int h, int g, const uint8_t *data)
{
	struct seat *seat = &seats[h];
	struct place *place = &seat->places[g];
	struct intake intake = {.h = h,
		.lease = (const struct packed_lease *)(const void *)(data + place->brought)};

	localise(&intake, place);
	/* What the desk has begun is not ours to take back. */
	desk_flush(seat->desk, seat->now_ns);
	if (store_lease(&intake) || seat->ghost)
		return;
	if (!disk_has_lease(seat->disk, intake.view.id)) {
		place->brought += packed_size(intake.lease);
		return;
	}
	say("lease %llu comes with guest %d to host %d", (unsigned long long)intake.view.id, g, h);
	model_adopted(h, &intake.view);
	/* Without memory it is tried again. */
	if (desk_lease_adopt(seat->desk, seat->now_ns, &intake.view))
		return;
	place->brought += packed_size(intake.lease);
	world_tallies[W_MOVED]++;
}

void luggage_step(int h, int g)
{
	struct seat *seat = &seats[h];
	struct place *place = &seat->places[g];
	struct tenure *tenure = world.hosts[h].services[g].tenure;
	const uint8_t *data;
	size_t len;

	(void)planes_clock(h);
	if (!place->brings || seat->ghost || (world.faults && dice(3) == 0))
		return;
	if (!tenure_baggage(tenure, &data, &len)) {
		place->brings = false;
		return;
	}
	if (!place->brought)
		place->brought = sizeof(struct luggage);
	if (!place->brought_at)
		place->brought_at = seat->now_ns;
	if (place->brought < len) {
		take_one(h, g, data);
		return;
	}
	place->brings = false;
	tenure_settled(tenure, seat->now_ns);
}
