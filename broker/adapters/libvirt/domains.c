/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/adapters/libvirt/domains.h"

#include <errno.h>
#include <fnmatch.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <libvirt/libvirt.h>

#include "broker/adapters/libvirt/event_loop.h"
#include "broker/adapters/libvirt/labels.h"
#include "broker/adapters/libvirt/contact.h"
#include "broker/thread.h"
#include "broker/wakeup.h"

#define LOOK_MS 10000   /* events tell sooner; metadata changes raise none that is listened to */
#define TOGETHER_MS 100 /* what happens within it is listed once */
#define AGAIN_MS 1000   /* between two attempts to connect */
#define KEEPALIVE_S 5
#define KEEPALIVE_COUNT 3

/* Of the loop, the thread, and libvirt while it may call. */
struct domains {
	struct domains_env env; /* the strings are copies */
	atomic_uint refs;
	atomic_bool over;
	int poke; /* eventfd: something happened, or it is over */
	struct wakeup wakeup;
	pthread_mutex_t lock;
	bool deaf;                 /* `wakeup` must not be used any more */
	struct domains_list *list; /* the newest that the loop has not taken, or NULL */
	char why[CONTACT_WHY_MAX];

	virConnectPtr conn; /* the thread's */
};

static struct domains_list *list_free(struct domains_list *list)
{
	if (!list)
		return NULL;
	for (size_t i = 0; i < list->n; i++) {
		free(list->all[i].name);
		free(list->all[i].uuid);
		labels_free(list->all[i].labels, list->all[i].nlabels);
	}
	free(list->all);
	free(list);
	return NULL;
}

static void domains_unref(void *arg)
{
	struct domains *domains = arg;

	if (atomic_fetch_sub(&domains->refs, 1) > 1)
		return;
	if (domains->poke >= 0)
		close(domains->poke);
	list_free(domains->list);
	pthread_mutex_destroy(&domains->lock);
	free((char *)(uintptr_t)domains->env.uri);
	free((char *)(uintptr_t)domains->env.glob);
	free(domains);
}

/* ---- the thread ---- */

/* Takes the list. */
static void hand_over(struct domains *domains, struct domains_list *list, const char *why)
{
	pthread_mutex_lock(&domains->lock);
	if (list) {
		list_free(domains->list);
		domains->list = list;
	}
	snprintf(domains->why, sizeof(domains->why), "%s", why);
	if (!domains->deaf)
		wakeup_send(&domains->wakeup);
	pthread_mutex_unlock(&domains->lock);
}

static int on_life(virConnectPtr conn, virDomainPtr domain, int event, int detail, void *arg)
{
	const struct domains *domains = arg;
	uint64_t one = 1;

	(void)!write(domains->poke, &one, sizeof(one));
	return 0;
}

static int one_init(struct domains_one *one, virDomainPtr domain)
{
	char uuid[VIR_UUID_STRING_BUFLEN];
	char *metadata;
	int r;

	if (virDomainGetUUIDString(domain, uuid) < 0)
		return -ENOENT;
	one->name = strdup(virDomainGetName(domain));
	one->uuid = strdup(uuid);
	if (!one->name || !one->uuid)
		return -ENOMEM;
	/* First, so that neither a name nor metadata says another one. */
	r = labels_add_pair(&one->labels, &one->nlabels, "uuid", uuid);
	if (!r)
		r = labels_add_pair(&one->labels, &one->nlabels, "domain", one->name);
	metadata = r ? NULL
		     : virDomainGetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT, DOMAINS_LABELS,
			       VIR_DOMAIN_AFFECT_LIVE);
	if (metadata)
		r = labels_add_element(&one->labels, &one->nlabels, metadata);
	free(metadata);
	return r;
}

static int compare_uuid(const void *a, const void *b)
{
	const struct domains_one *x = a, *y = b;

	return strcmp(x->uuid, y->uuid);
}

static int fill(
	struct domains_list *list, const struct domains_env *env, virDomainPtr *found, size_t n)
{
	list->all = calloc(n + 1, sizeof(*list->all));
	if (!list->all)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		int r;

		if (fnmatch(env->glob, virDomainGetName(found[i]), 0) != 0)
			continue;
		if (list->n == env->limit) {
			list->more++;
			continue;
		}
		r = one_init(&list->all[list->n++], found[i]);
		if (r)
			return r;
	}
	qsort(list->all, list->n, sizeof(*list->all), compare_uuid);
	return 0;
}

/* Whether libvirt could be asked. */
static bool look(struct domains *domains)
{
	struct domains_list *list = calloc(1, sizeof(*list));
	virDomainPtr *found = NULL;
	int n = list ? virConnectListAllDomains(
			       domains->conn, &found, VIR_CONNECT_LIST_DOMAINS_ACTIVE)
		     : -1;
	bool ok = n >= 0 && fill(list, &domains->env, found, (size_t)n) == 0;

	for (int i = 0; i < n; i++)
		virDomainFree(found[i]);
	free(found);
	if (ok)
		hand_over(domains, list, "");
	else
		list_free(list);
	return n >= 0;
}

static void await(struct domains *domains, int ms)
{
	struct pollfd poked = {.fd = domains->poke, .events = POLLIN};
	uint64_t n;

	if (poll(&poked, 1, ms) > 0 && !atomic_load(&domains->over))
		(void)poll(NULL, 0, TOGETHER_MS);
	(void)!read(domains->poke, &n, sizeof(n));
}

static void follow(struct domains *domains)
{
	int events;

	(void)virConnectSetKeepAlive(domains->conn, KEEPALIVE_S, KEEPALIVE_COUNT);
	atomic_fetch_add(&domains->refs, 1); /* for libvirt */
	events =
		virConnectDomainEventRegisterAny(domains->conn, NULL, VIR_DOMAIN_EVENT_ID_LIFECYCLE,
			VIR_DOMAIN_EVENT_CALLBACK(on_life), domains, domains_unref);
	if (events < 0)
		atomic_fetch_sub(&domains->refs, 1); /* then it is looked now and then */
	while (!atomic_load(&domains->over) && look(domains))
		await(domains, LOOK_MS);
	if (events >= 0)
		(void)virConnectDomainEventDeregisterAny(domains->conn, events);
}

static void *run(void *arg)
{
	struct domains *domains = arg;
	char why[CONTACT_WHY_MAX];

	while (!atomic_load(&domains->over)) {
		domains->conn = event_loop_start() ? NULL : virConnectOpen(domains->env.uri);
		if (domains->conn) {
			follow(domains);
			virConnectClose(domains->conn);
		}
		if (atomic_load(&domains->over))
			break;
		snprintf(why, sizeof(why), "%s", contact_error());
		hand_over(domains, NULL, why);
		await(domains, AGAIN_MS);
	}
	domains_unref(domains);
	return NULL;
}

/* ---- the loop ---- */

static void on_woken(void *arg)
{
	struct domains *domains = arg;
	struct domains_list *list;
	char why[CONTACT_WHY_MAX];

	pthread_mutex_lock(&domains->lock);
	list = domains->list;
	domains->list = NULL;
	memcpy(why, domains->why, sizeof(why));
	pthread_mutex_unlock(&domains->lock);
	if (list || why[0])
		domains->env.listed(domains->env.arg, list, why);
	list_free(list);
}

static int make(struct domains **ret_domains, const struct domains_env *env)
{
	struct domains *domains = calloc(1, sizeof(*domains));

	if (!domains)
		return -ENOMEM;
	domains->env = *env;
	domains->env.uri = strdup(env->uri);
	domains->env.glob = strdup(env->glob);
	atomic_init(&domains->refs, 1);
	pthread_mutex_init(&domains->lock, NULL);
	domains->poke = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (domains->poke >= 0 && domains->env.uri && domains->env.glob) {
		*ret_domains = domains;
		return 0;
	}
	domains_unref(domains);
	return -ENOMEM;
}

int domains_watch(struct domains **ret_domains, const struct domains_env *env)
{
	struct domains *domains;
	pthread_t thread;
	int r = make(&domains, env);

	if (r)
		return r;
	r = wakeup_init(&domains->wakeup, env->loop, on_woken, domains);
	if (r) {
		domains_unref(domains);
		return r;
	}
	atomic_fetch_add(&domains->refs, 1); /* for the thread */
	r = thread_start(&thread, NULL, 0, run, domains);
	if (r) {
		atomic_fetch_sub(&domains->refs, 1);
		domains_forget(domains);
		return r;
	}
	pthread_detach(thread);
	*ret_domains = domains;
	return 0;
}

struct domains *domains_forget(struct domains *domains)
{
	uint64_t one = 1;

	if (!domains)
		return NULL;
	pthread_mutex_lock(&domains->lock);
	domains->deaf = true;
	pthread_mutex_unlock(&domains->lock);
	atomic_store(&domains->over, true);
	(void)!write(domains->poke, &one, sizeof(one));
	wakeup_close(&domains->wakeup, domains_unref);
	return NULL;
}
