/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/common/moment.h"
#include "clients/shim/journal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/shim/shim.h"

static struct shim_entry *entry_free(struct shim_entry *entry)
{
	if (!entry)
		return NULL;
	free(entry->data);
	free(entry->expect);
	free(entry->old);
	free(entry);
	return NULL;
}

static unsigned char *copy(const void *bytes, size_t len)
{
	unsigned char *to = malloc(len);

	return to ? memcpy(to, bytes, len) : NULL;
}

static struct shim_entry *entry_new(
	struct shim *shim, const char *verb, const struct write_arguments *what)
{
	struct shim_entry *entry = calloc(1, sizeof(*entry));

	if (!entry)
		return NULL;
	entry->shim = shim;
	entry->verb = verb;
	entry->when = time(NULL);
	entry->epoch = shim->hold.epoch;
	entry->addr = what->addr;
	entry->physical = what->physical;
	entry->root = what->root;
	entry->len = what->len;
	entry->data = copy(what->data, what->len);
	entry->expect = what->expect ? copy(what->expect, what->len) : NULL;
	if (!entry->data || (what->expect && !entry->expect))
		return entry_free(entry);
	return entry;
}

static void shim_journal_add(struct shim_journal *journal, struct shim_entry *entry)
{
	entry->older = journal->newest;
	entry->number = ++journal->count;
	journal->newest = entry;
}

/* ---- outcomes ---- */

static void settle(void *arg, const vmsig_write_result *result)
{
	struct shim_entry *entry = arg;

	entry->settled = true;
	entry->outcome = result->outcome;
	entry->written = result->written;
	if (entry->undoes && !entry->outcome)
		entry->undoes->undone = true;
	if (result->old && result->old_len == entry->len)
		entry->old = copy(result->old, entry->len);
	snprintf(entry->text, sizeof(entry->text), "%s",
		result->text[0] || !result->outcome ? result->text
						    : vmsig_error_text(result->outcome));
	if (entry->left)
		shim_output_news(&entry->shim->output, "outcome", entry->outcome,
			"write %u: %s%s%s", entry->number,
			entry->outcome ? vmsig_error_name(entry->outcome) : "done",
			entry->text[0] ? ": " : "", entry->text);
}

static int await(struct shim *shim, struct shim_entry *entry)
{
	while (!entry->settled && !shim_session_is_stopped(&shim->session))
		shim_session_step(shim, -1, MOMENT_NEVER);
	if (entry->settled)
		return entry->outcome;
	entry->left = true;
	return -VMSIG_ERR_WOULD_BLOCK;
}

int shim_journal_write(struct shim *shim, const char *verb, const struct write_arguments *what,
	struct shim_entry *undoes, struct shim_entry **ret_entry)
{
	struct shim_entry *entry = entry_new(shim, verb, what);
	vmsig_write_op op = {.addr = what->addr,
		.len = (uint32_t)what->len,
		.flags = what->physical ? 0 : VMSIG_OP_VIRTUAL,
		.cr3 = what->root};
	int r;

	*ret_entry = NULL;
	if (!entry)
		return -VMSIG_ERR_NO_MEMORY;
	entry->undoes = undoes;
	op.data = entry->data;
	op.expect = entry->expect;
	r = vmsig_write(shim->hold.lease, &op, 1, VMSIG_WRITE_WANT_OLD, settle, entry);
	if (r) {
		entry_free(entry);
		return r;
	}
	shim_journal_add(&shim->journal, entry);
	*ret_entry = entry;
	return await(shim, entry);
}

/* ---- looking back ---- */

struct shim_entry *shim_journal_undoable(const struct shim_journal *journal)
{
	struct shim_entry *entry = journal->newest;

	while (entry && (!entry->settled || entry->outcome || entry->undone || entry->undoes ||
				!entry->old))
		entry = entry->older;
	return entry;
}

void shim_journal_clear(struct shim_journal *journal)
{
	while (journal->newest) {
		struct shim_entry *older = journal->newest->older;

		entry_free(journal->newest);
		journal->newest = older;
	}
	journal->count = 0;
}
