/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_CTL_AUDIT_H
#define CLIENTS_CTL_AUDIT_H

/*
 * What the actions of `vmsigctl audit` share: their options, and how they go through the log
 * page by page.
 */

#include <stdbool.h>
#include <stdint.h>

#include "clients/ctl/audit_record.h"
#include "clients/ctl/ctl.h"
#include "vmsig/vmsig_admin.h"

struct audit_options {
	uint64_t after, limit; /* limit 0: none */
	uint64_t lines;        /* tail */
	bool follow;
	const char *endpoint, *tenant, *kind; /* NULL: any */
	const char *head, *file;
};

struct audit_action {
	const struct ctl *ctl;
	struct audit_options options;
	char **args;
	int n;
	vmsig_admin *admin; /* NULL for an action that needs no broker */
};

/* Actions; they return exit codes. */
int audit_ls(struct audit_action *action);
int audit_tail(struct audit_action *action);
int audit_show(struct audit_action *action);
int audit_export(struct audit_action *action);
int audit_verify(struct audit_action *action);

/* A page of records above `after`. EXIT_OK, or the exit code after a message; the caller frees
 * it with vmsig_audit_page_free(). */
int audit_page(struct audit_action *action, uint64_t after, uint32_t limit, bool newest,
	vmsig_audit_page **ret_page);
/* Whether retention has dropped records between `after` and the page's first one. */
bool audit_page_gap(const vmsig_audit_page *page, uint64_t after);
struct audit_entry audit_page_entry(const vmsig_audit_page *page, size_t i);

/* What verifying has found. */
struct audit_verdict {
	bool broken;
	uint64_t culprit; /* record that `error` is about; 0: none */
	char error[512];
	uint64_t records, first; /* intact: so many, from this one on */
	uint64_t lost;           /* the newest record that says that some were lost; 0: none */
	uint64_t head;
	uint8_t head_hash[AUDITCHAIN_HASH];
};

/* Reads an export, "-" being the standard input. `chain` knows the noted head. EXIT_OK: the
 * verdict is there; else what to exit with, a message was printed. */
int audit_import(const char *path, struct auditchain *chain, uint64_t noted,
	const uint8_t noted_hash[static AUDITCHAIN_HASH], struct audit_verdict *ret_verdict);
__attribute__((format(printf, 3, 4))) void audit_break(
	struct audit_verdict *verdict, uint64_t culprit, const char *format, ...);

#endif
