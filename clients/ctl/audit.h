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
#include "clients/ctl/audit_verdict.h"
#include "clients/ctl/ctl.h"
#include "vmsig/vmsig_admin.h"

struct ctl_audit_options {
	uint64_t after, limit; /* limit 0: none */
	uint64_t lines;        /* tail */
	bool follow;
	const char *endpoint, *tenant, *kind; /* NULL: any */
	uint64_t since_ns, until_ns;          /* CLOCK_REALTIME; 0: any */
	const char *head, *file;
	const char *sqlite; /* export; NULL: as JSON */
};

struct ctl_audit_action {
	const struct ctl *ctl;
	struct ctl_audit_options options;
	char **args;
	int n;
	vmsig_admin *admin; /* NULL for an action that needs no broker */
};

/* Actions; they return exit codes. */
int ctl_audit_ls(struct ctl_audit_action *action);
int ctl_audit_tail(struct ctl_audit_action *action);
int ctl_audit_show(struct ctl_audit_action *action);
int ctl_audit_export(struct ctl_audit_action *action);
int ctl_audit_verify(struct ctl_audit_action *action);

/* A page of records above `after`. EXIT_OK, or the exit code after a message; the caller frees
 * it with vmsig_audit_page_free(). */
int ctl_audit_page(struct ctl_audit_action *action, uint64_t after, uint32_t limit, bool newest,
	vmsig_audit_page **ret_page);
/* Whether retention has dropped records between `after` and the page's first one. */
bool ctl_audit_page_gap(const vmsig_audit_page *page, uint64_t after);
struct ctl_audit_entry ctl_audit_page_entry(const vmsig_audit_page *page, size_t i);

/* Reads an export, "-" being the standard input. `chain` knows the noted head. EXIT_OK: the
 * verdict is there; else what to exit with, a message was printed. */
int ctl_audit_import(const char *path, struct auditchain *chain, uint64_t noted,
	const uint8_t noted_hash[static AUDITCHAIN_HASH], struct ctl_audit_verdict *ret_verdict);

#endif
