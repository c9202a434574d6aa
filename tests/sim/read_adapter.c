/* SPDX-License-Identifier: Apache-2.0 */
/* Adapters of the simulated read plane: they boot, lose, panic and end their guests as dice fall.
 */
#include "tests/sim/read_world.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

uint64_t kcr3_of(const struct adapter *adapter)
{
	return (uint64_t)adapter->id << 44 | adapter->generation << 12;
}

static void describe(
	void *ctx, vmsig_memctx *out_pod, const vmsig_memseg **out_segs, uint32_t *out_nseg)
{
	struct adapter *adapter = ctx;

	/* R3: whatever is left in epoch must be overwritten. */
	*out_pod = (vmsig_memctx){.kcr3 = kcr3_of(adapter), .epoch = dice(100)};
	*out_segs = NULL;
	*out_nseg = 0;
}

static int share_fd(void *ctx)
{
	static const int failures[] = {-EMFILE, -ENFILE, -ENOMEM, -EIO};

	if (world.faults && dice(10) == 0)
		return failures[dice(4)];
	return world.next_fd++;
}

static void invalidate(void *ctx, uint32_t epoch)
{
	struct adapter *adapter = ctx;

	adapter->bootstrapping = true;
	adapter->epoch = epoch;
}

static int emit(struct adapter *adapter, uint32_t kind, const void *inln, size_t size)
{
	const vmsig_emit *seam = core_emit(world.core);
	vmsig_event ev = {.kind = kind, .endpoint = adapter->id};

	memcpy(ev.inln, inln, size);
	if (dice(3) == 0) {
		ev.payload.data = "for a reason";
		ev.payload.len = dice(13);
	}
	return seam->event(seam->core, &ev);
}

static void emit_state(struct adapter *adapter, enum vmsig_endpoint_state state)
{
	vmsig_endpoint_status status = {.state = state};

	if (emit(adapter, VMSIG_EV_ENDPOINT_STATE, &status, sizeof(status)))
		broken("a state was refused");
}

/* Back with the same session later, unless it ends meanwhile. */
static void lose_contact(struct adapter *adapter)
{
	vmsig_endpoint_status status = {.state = VMSIG_STATE_UNREACHABLE};
	int r = emit(adapter, VMSIG_EV_ENDPOINT_STATE, &status, sizeof(status));

	if (r == 0)
		adapter->bootstrapping = true;
	else if (r != VMSIG_ERR_BAD_REQUEST)
		broken("the loss of contact was refused with %d", r);
}

/* Taken only while there is a context to keep. */
static void panic(struct adapter *adapter)
{
	vmsig_endpoint_status status = {.state = VMSIG_STATE_PANICKED};
	int r = emit(adapter, VMSIG_EV_ENDPOINT_STATE, &status, sizeof(status));

	if (r && r != VMSIG_ERR_BAD_REQUEST)
		broken("a panic was refused with %d", r);
}

static void emit_ready(struct adapter *adapter, uint32_t epoch)
{
	const vmsig_emit *seam = core_emit(world.core);
	vmsig_ram_facts facts = {.bytes = 4096, .owner = 7};
	vmsig_memctx pod = {.epoch = epoch};
	struct core_endpoint_info info;
	int r;

	facts.guard = dice(4);
	snprintf(facts.session, sizeof(facts.session), "%llu",
		(unsigned long long)adapter->generation);
	(void)seam->ram_found(seam->core, adapter->id, &facts);
	/* Before the event, which may end the epoch itself. */
	if (core_endpoint_find(world.core, NULL, names[adapter->id - 1], &info))
		broken("endpoint %u is lost", adapter->id);
	r = emit(adapter, VMSIG_EV_MEMCTX, &pod, sizeof(pod));
	if (info.epoch != epoch && r != VMSIG_ERR_STALE_EPOCH)
		broken("a context found for epoch %u was taken in %u", epoch, info.epoch);
}

static void adapter_add(struct adapter *adapter, size_t i)
{
	struct core_endpoint_config config = {.id = adapter->id,
		.name = names[i],
		.adapter = "sim",
		.epoch = adapter->persisted,
		.session = adapter->session,
		.min_guard = min_guards[i],
		.page = &adapter->page,
		.share_page = share_fd};

	if (core_endpoint_add(world.core, &config))
		broken("endpoint %s was refused", names[i]);
	adapter->added = true;
}

static void adapter_register(struct adapter *adapter)
{
	const vmsig_emit *seam = core_emit(world.core);
	vmsig_memctx_reg reg = {.endpoint = adapter->id,
		.ctx = adapter,
		.describe = describe,
		.share_fd = share_fd,
		.invalidate = invalidate};

	if (seam->register_memctx(seam->core, &reg))
		broken("registration was refused");
	adapter->registered = true;
}

void adapter_unregister(struct adapter *adapter)
{
	const vmsig_emit *seam = core_emit(world.core);

	if (!adapter->registered)
		return;
	seam->unregister_memctx(seam->core, adapter->id);
	adapter->registered = adapter->bootstrapping = false;
}

void adapter_remove(struct adapter *adapter)
{
	perform_all();
	core_endpoint_remove(world.core, adapter->id);
	adapter->added = false;
	/* Nobody sees a reset that comes now. */
	adapter->generation += dice(2);
}

void adapter_step(struct adapter *adapter, size_t i)
{
	vmsig_memctx_inv inv = {0};

	if (!adapter->added) {
		if (dice(4) == 0)
			adapter_add(adapter, i);
		return;
	}
	if (!adapter->registered) {
		if (dice(3) == 0) {
			adapter_register(adapter);
		} else if (world.faults && dice(8) == 0) {
			adapter_remove(adapter);
		}
		return;
	}
	switch (dice(world.faults ? 12 : 4)) {
	case 0:
	case 1:
	case 2:
		if (adapter->bootstrapping)
			emit_ready(adapter, adapter->epoch);
		adapter->bootstrapping = false;
		break;
	case 4:
		adapter->generation++;
		if (emit(adapter, VMSIG_EV_MEMCTX_INVALIDATED, &inv, sizeof(inv)))
			broken("the end of a session was refused");
		break;
	case 3:
		if (dice(2))
			panic(adapter);
		else if (world.faults)
			lose_contact(adapter);
		break;
	case 5: /* a stale bootstrap, or one of the future */
		emit_ready(adapter, adapter->epoch + dice(5) - 2u + (dice(5) ? 0 : 1));
		break;
	case 6:
		emit_state(adapter, dice(2) ? VMSIG_STATE_GONE : VMSIG_STATE_BOOTING);
		break;
	case 7:
		if (dice(2))
			(void)!emit(adapter, VMSIG_EV_MEMCTX_INVALIDATED, &inv, sizeof(inv));
		adapter_unregister(adapter);
		/* A reload takes it away in the same turn of the loop. */
		if (dice(3) == 0)
			adapter_remove(adapter);
		break;
	default:
		break;
	}
}
