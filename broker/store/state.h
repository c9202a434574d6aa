/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_STORE_STATE_H
#define BROKER_STORE_STATE_H

/*
 * The store's inside: shared by store.c, opening.c and schema.c, and by nobody else. It belongs to
 * the loop thread; one of the pool's only reads `keeper` and `asks`, which stand before it begins.
 */

#include <limits.h>

#include <sqlite3.h>

#include "broker/store/keeper.h"
#include "broker/store/store.h"
#include "broker/store/watermark.h"

#define STORE_DB_FILE "vmsig.db"
#define STORE_RESERVE_FILE "reserve"

enum store_statement {
	STMT_ENDPOINT_GET,
	STMT_ENDPOINT_ADD,
	STMT_EPOCH_GET,
	STMT_EPOCH_SET,
	STMT_SESSION_SET,
	STMT_BEGIN,
	STMT_COMMIT,
	STMTS,
};

struct store {
	sqlite3 *db; /* the database, or its stand-in in memory */
	struct keeper *keeper;
	sqlite3_stmt *stmts[STMTS];
	char dir[PATH_MAX];
	struct watermark_file lock, run;
	struct watermark mark;  /* what both say */
	struct watermark found; /* what they said when the database was opened */
	int reserve;            /* room that is given back to a full disk; -1: none is wanted */
	bool low;               /* it was given back */
	char unusable[512];     /* why a stand-in is used; "" */
	char damage[512];       /* what an inspection has found; "" */
	bool inspected;         /* all of it */
	uint64_t wal_pages;     /* after the last commit */
	uint32_t unsynced;      /* commits since the last that was synced */
	bool asks;              /* the keeper holds writers only when store_grant() lets it */
	bool wants_sync;        /* store_wants_sync() */
	bool full;              /* commits wait for the disk, as while opening */
	void (*flush)(void *arg);
	void *flush_arg;
};

/* VMSIG_ERR_IO or -ENOMEM; a full disk is noted. */
int store_sql_error(struct store *store, int rc);
/* SQL without rows. */
__attribute__((warn_unused_result)) int store_exec(struct store *store, const char *sql);
/* One number; VMSIG_ERR_IO when there is none. */
__attribute__((warn_unused_result)) int store_number(
	struct store *store, const char *sql, uint64_t *ret_value);
/* Notes how far the store has come; what fails is not worth more than that. */
void store_note(struct store *store);

/* ---- schema.c ---- */

/* Brings the database to the newest version. `error` gets a sentence when it is newer than
 * that: VMSIG_ERR_UNSUPPORTED. */
__attribute__((warn_unused_result)) int schema_apply(
	struct store *store, char *error, size_t error_size);
/* What was lost is skipped, see store.h. */
__attribute__((warn_unused_result)) int schema_account_for_losses(struct store *store);

#endif
