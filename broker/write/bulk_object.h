/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_WRITE_BULK_OBJECT_H
#define BROKER_WRITE_BULK_OBJECT_H

/* What the bulk data of a command is on its way, for all who have a part of it; bulk.h. */

#include "broker/policy/account.h"
#include "broker/policy/share.h"
#include "broker/write/command_object.h"
#include "broker/write/ops.h"
#include "broker/write/payer.h"

struct bulk_room {
	uint8_t *memory; /* DESK_ROOM bytes */
	bool fresh;
};

struct bulk {
	struct command *command;
	struct payer *payer;
	struct desk_source *source;
	struct share_task task;
	uint64_t len;

	/* Where it goes. */
	int plan_error;
	uint64_t plan_charge; /* bytes of the command's size that are for the plan */

	/* It is stored: a part is read by a thread while the one before it is stored. */
	struct desk_reading parts[2];
	bool ready[2];
	bool reading;
	unsigned current;           /* part that is stored */
	size_t used;                /* bytes of it that are */
	uint64_t asked;             /* bytes that were read, or are being */
	uint64_t done;              /* bytes that are stored, */
	uint32_t sum;               /* and their sum */
	struct memwrite_plan again; /* of a guest that stands still */
	struct memwrite_result result;

	/* What was there before: kept in rooms, or in the command when the operator wants it, or
	 * in the payer's memory until that part is hashed. */
	bool kept; /* it is paid for until all of it is hashed */
	struct kept charges;
	struct bulk_room *rooms;
	size_t nrooms;

	/* What was hashed: of what was there before, and of the data. */
	uint64_t old_hashed, data_hashed;
	struct desk_hashing hash;
	bool hashing;
	void (*part_done)(struct bulk *bulk);
	void (*made)(struct bulk *bulk);
	int hash_error;
	bool finished; /* stored, to the end or not */
};

#endif
