/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/net/account.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "broker/log.h"
#include "vmsig/vmsig_error.h"

#define STRANGER_CONNECTIONS 4u /* of one uid that the policy does not name */
#define STRANGERS_CONNECTS 10u  /* times limits.stranger_connects, all of them together */
#define ACCOUNTS_MAX 8192u      /* a user may have 65536 uids of its own (subuid(5)) */
#define RECORDS_PER_SECOND 10u  /* of one uid */
#define STRANGERS_RECORDS 50u   /* of all that the policy does not name */
#define SUMMARY_NS 1000000000u  /* between summaries of what was left out */
#define SUMMARY_UIDS 16         /* named in one of them */

static bool take(struct rate *rate, double per_second, uint64_t now_ns)
{
	if (rate_wait(rate, now_ns, per_second, 1))
		return false;
	rate_spend(rate, 1);
	return true;
}

/* ---- the policy ---- */

static const struct named_uid *named_find(const struct named_uid *named, uint32_t uid)
{
	struct named_uid *found = NULL;

	HASH_FIND(hh, named, &uid, sizeof(uid), found);
	return found;
}

static struct named_uid *named_free(struct named_uid *named)
{
	struct named_uid *entry, *next;

	HASH_ITER (hh, named, entry, next) {
		HASH_DEL(named, entry);
		free(entry);
	}
	return NULL;
}

static int named_add(struct named_uid **named, uint32_t uid, uint32_t connections)
{
	struct named_uid *entry = (struct named_uid *)(uintptr_t)named_find(*named, uid);

	if (!entry) {
		entry = calloc(1, sizeof(*entry));
		if (!entry)
			return -ENOMEM;
		entry->uid = uid;
		HASH_ADD(hh, *named, uid, sizeof(entry->uid), entry);
		if (!entry->hh.tbl) {
			free(entry);
			return -ENOMEM;
		}
	}
	entry->connections += connections;
	return 0;
}

int accounts_set_policy(struct accounts *accounts, const struct config *config)
{
	struct named_uid *named = NULL;

	for (size_t i = 0; i < config->ntenants; i++) {
		const struct config_tenant *tenant = &config->tenants[i];

		for (size_t k = 0; k < tenant->nuids; k++) {
			if (named_add(&named, tenant->uids[k], tenant->tenant.quota.connections)) {
				named_free(named);
				return -ENOMEM;
			}
		}
	}
	named_free(accounts->named);
	accounts->named = named;
	return 0;
}

static double strangers_connects(const struct config *config)
{
	return (double)config->stranger_connects * STRANGERS_CONNECTS;
}

int accounts_init(struct accounts *accounts, const struct config *config, uint64_t now_ns)
{
	*accounts = (struct accounts){.summary_ns = now_ns};
	rate_init(&accounts->strangers, now_ns, strangers_connects(config));
	rate_init(&accounts->stranger_log, now_ns, STRANGERS_RECORDS);
	return accounts_set_policy(accounts, config);
}

bool account_is_named(const struct accounts *accounts, uid_t uid)
{
	return named_find(accounts->named, uid) != NULL;
}

/* ---- coming and going ---- */

static struct account *account_find(const struct accounts *accounts, uid_t uid)
{
	struct account *account = NULL;

	HASH_FIND(hh, accounts->table, &uid, sizeof(uid), account);
	return account;
}

static uint32_t connects_of(const struct accounts *accounts, const struct config *config, uid_t uid)
{
	return account_is_named(accounts, uid) ? config->connects : config->stranger_connects;
}

static struct account *account_new(
	struct accounts *accounts, const struct config *config, uid_t uid, uint64_t now_ns)
{
	struct account *account;

	if (HASH_COUNT(accounts->table) >= ACCOUNTS_MAX)
		return NULL;
	account = calloc(1, sizeof(*account));
	if (!account)
		return NULL;
	account->uid = uid;
	rate_init(&account->connects, now_ns, connects_of(accounts, config, uid));
	rate_init(&account->records, now_ns, RECORDS_PER_SECOND);
	HASH_ADD(hh, accounts->table, uid, sizeof(account->uid), account);
	if (account->hh.tbl)
		return account;
	free(account);
	return NULL;
}

/* Before anything is made for it. */
static bool stranger_may_connect(struct accounts *accounts, const struct config *config,
	struct account *account, uint64_t now_ns)
{
	if (account && !take(&account->connects, config->stranger_connects, now_ns))
		return false;
	return take(&accounts->strangers, strangers_connects(config), now_ns);
}

bool account_may_shake(struct accounts *accounts, const struct config *config,
	struct account *account, uint64_t now_ns)
{
	return !account_is_named(accounts, account->uid) ||
	       take(&account->connects, config->connects, now_ns);
}

int account_enter(struct accounts *accounts, const struct config *config, uid_t uid,
	uint64_t now_ns, struct account **ret_account, const char **ret_slot, uint32_t *ret_limit)
{
	const struct named_uid *named = named_find(accounts->named, uid);
	struct account *account = account_find(accounts, uid);
	uint32_t limit = named ? named->connections : STRANGER_CONNECTIONS;

	if (!named && !stranger_may_connect(accounts, config, account, now_ns)) {
		*ret_account = account;
		*ret_slot = "limits.stranger_connects_per_second";
		*ret_limit = config->stranger_connects;
		return VMSIG_ERR_QUOTA;
	}
	if (!account)
		account = account_new(accounts, config, uid, now_ns);
	if (!account)
		return -ENOMEM;
	*ret_account = account;
	*ret_slot = "connections of the uid";
	*ret_limit = limit;
	if (account->connections >= limit)
		return VMSIG_ERR_QUOTA;
	account->connections++;
	return 0;
}

void account_leave(struct account *account)
{
	if (account)
		account->connections--;
}

/* ---- the log ---- */

bool account_may_log(struct accounts *accounts, struct account *account, uint64_t now_ns)
{
	bool named = account && account_is_named(accounts, account->uid);

	if (account && !take(&account->records, RECORDS_PER_SECOND, now_ns)) {
		account->left_out++;
		return false;
	}
	if (named || take(&accounts->stranger_log, STRANGERS_RECORDS, now_ns))
		return true;
	if (account)
		account->left_out++;
	else
		accounts->left_out++;
	return false;
}

/* By uid, so that a flood of one does not hide the others in a number. */
static void summarize(struct accounts *accounts)
{
	struct account *account, *next;
	uint32_t uids = 0, more = accounts->left_out;

	HASH_ITER (hh, accounts->table, account, next) {
		if (!account->left_out)
			continue;
		if (++uids <= SUMMARY_UIDS)
			log_warning("records about connections were left out",
				LOG_INT("uid", account->uid), LOG_INT("count", account->left_out));
		else
			more += account->left_out;
		account->left_out = 0;
	}
	if (more)
		log_warning("records about connections of other uids were left out",
			LOG_INT("count", more));
	accounts->left_out = 0;
}

/* ---- time ---- */

static bool is_full(struct rate *rate, double per_second, uint64_t now_ns)
{
	return rate_wait(rate, now_ns, per_second, per_second) == 0;
}

static bool is_settled(const struct accounts *accounts, const struct config *config,
	struct account *account, uint64_t now_ns)
{
	return !account->connections && !account->left_out &&
	       is_full(&account->connects, connects_of(accounts, config, account->uid), now_ns) &&
	       is_full(&account->records, RECORDS_PER_SECOND, now_ns);
}

bool accounts_tick(struct accounts *accounts, const struct config *config, uint64_t now_ns)
{
	struct account *account, *next;
	bool expecting = accounts->left_out > 0;

	if (now_ns - accounts->summary_ns >= SUMMARY_NS) {
		summarize(accounts);
		accounts->summary_ns = now_ns;
	}
	HASH_ITER (hh, accounts->table, account, next) {
		if (is_settled(accounts, config, account, now_ns)) {
			HASH_DEL(accounts->table, account);
			free(account);
		} else if (!account->connections || account->left_out) {
			expecting = true;
		}
	}
	return expecting;
}

void accounts_deinit(struct accounts *accounts)
{
	struct account *account, *next;

	HASH_ITER (hh, accounts->table, account, next) {
		assert(!account->connections);
		for (size_t i = 0; i < NET_DOORS; i++)
			assert(!account->handshakes[i]);
		HASH_DEL(accounts->table, account);
		free(account);
	}
	accounts->named = named_free(accounts->named);
}
