/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/store/keeper.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <sqlite3.h>

#include "vmsig/vmsig_error.h"

/* How long the end of a checkpoint waits for a transaction of the loop, which lasts one turn;
 * who reads for longer than that is somebody else, and the log grows on. */
#define HOLD_PATIENCE_MS 100
/* An idle loop has a turn each second. */
#define GRANT_PATIENCE_MS 1500

enum keeper_state { KEEPER_RESTS, KEEPER_ASKS, KEEPER_HOLDS };

struct keeper {
	sqlite3 *db;
	atomic_int state; /* enum keeper_state */
};

int keeper_new(struct keeper **ret_keeper, struct sqlite3 *db)
{
	struct keeper *keeper = calloc(1, sizeof(*keeper));

	if (!keeper) {
		sqlite3_close(db);
		return -ENOMEM;
	}
	keeper->db = db;
	sqlite3_busy_timeout(db, HOLD_PATIENCE_MS);
	/* All of its descriptors are open from here on. */
	if (sqlite3_exec(db, "SELECT count(*) FROM meta", NULL, NULL, NULL) != SQLITE_OK) {
		keeper_free(keeper);
		return VMSIG_ERR_IO;
	}
	*ret_keeper = keeper;
	return 0;
}

struct keeper *keeper_free(struct keeper *keeper)
{
	if (!keeper)
		return NULL;
	sqlite3_close(keeper->db);
	free(keeper);
	return NULL;
}

bool keeper_holds(const struct keeper *keeper)
{
	return keeper && atomic_load(&keeper->state) == KEEPER_HOLDS;
}

void keeper_grant(struct keeper *keeper)
{
	int asks = KEEPER_ASKS;

	(void)atomic_compare_exchange_strong(&keeper->state, &asks, KEEPER_HOLDS);
}

/* Whether writers may be held now. */
static bool hold(struct keeper *keeper, bool asks)
{
	const struct timespec pause = {.tv_nsec = 1000000};
	int asked = KEEPER_ASKS;

	atomic_store(&keeper->state, asks ? KEEPER_ASKS : KEEPER_HOLDS);
	for (int i = 0; i < GRANT_PATIENCE_MS && !keeper_holds(keeper); i++)
		nanosleep(&pause, NULL);
	return !atomic_compare_exchange_strong(&keeper->state, &asked, KEEPER_RESTS);
}

int keeper_checkpoint(struct keeper *keeper, bool asks, bool *ret_complete)
{
	int rc = sqlite3_wal_checkpoint_v2(keeper->db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);

	*ret_complete = false;
	/* Nearly all is copied: what came meanwhile is little. */
	if ((rc == SQLITE_OK || rc == SQLITE_BUSY) && hold(keeper, asks)) {
		rc = sqlite3_wal_checkpoint_v2(
			keeper->db, NULL, SQLITE_CHECKPOINT_RESTART, NULL, NULL);
		atomic_store(&keeper->state, KEEPER_RESTS);
		*ret_complete = rc == SQLITE_OK;
	}
	return rc == SQLITE_OK || rc == SQLITE_BUSY ? 0 : VMSIG_ERR_IO;
}

int keeper_inspect(struct keeper *keeper, char *problem, size_t size)
{
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(keeper->db, "PRAGMA quick_check(1)", -1, &stmt, NULL);
	const char *text = NULL;

	problem[0] = '\0';
	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW)
		text = (const char *)sqlite3_column_text(stmt, 0);
	if (!text)
		snprintf(problem, size, "%s", sqlite3_errmsg(keeper->db));
	else if (strcmp(text, "ok") != 0)
		snprintf(problem, size, "%s", text);
	sqlite3_finalize(stmt);
	return text || rc == SQLITE_CORRUPT || rc == SQLITE_NOTADB ? 0 : VMSIG_ERR_IO;
}
