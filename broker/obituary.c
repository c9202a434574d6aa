/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/obituary.h"

#include <assert.h>
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <utlist.h>

#include "broker/thread.h"

#define STACK_SIZE (64u << 10)

struct node {
	struct robust_list link; /* what the kernel walks */
	struct node *before;     /* NULL: the keeper's head */
	struct obituary_keeper *keeper;
};

_Static_assert(sizeof(struct node) <= OBITUARY_NODE, "the node has its room");

/* A thread whose robust list it is. It never ends before the process does: what it stands for
 * is just that. */
struct obituary_keeper {
	struct robust_list_head head;
	uint32_t tid;
	unsigned n;
	int result;
	sem_t ready;
	struct obituary_keeper *next;
};

static struct obituary_keeper *keepers;

static struct node *node_after(struct robust_list *link)
{
	return (struct node *)(void *)link->next;
}

/* ---- keepers ---- */

/* It takes none of libc's robust mutexes, so the list may be another one than libc's. */
static void *keep(void *arg)
{
	struct obituary_keeper *keeper = arg;
	sem_t never;

	if (syscall(SYS_set_robust_list, &keeper->head, sizeof(keeper->head)) < 0)
		keeper->result = -errno;
	keeper->tid = (uint32_t)gettid();
	sem_post(&keeper->ready);
	sem_init(&never, 0, 0);
	for (;;)
		(void)sem_wait(&never);
	return NULL;
}

static int keeper_start(struct obituary_keeper *keeper)
{
	pthread_attr_t attr;
	pthread_t thread;
	int r;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	r = thread_start(&thread, &attr, 0, keep, keeper);
	pthread_attr_destroy(&attr);
	if (r)
		return r;
	while (sem_wait(&keeper->ready) < 0)
		continue;
	return keeper->result;
}

static int keeper_new(struct obituary_keeper **ret_keeper)
{
	struct obituary_keeper *keeper = calloc(1, sizeof(*keeper));
	int r;

	if (!keeper)
		return -ENOMEM;
	keeper->head.list.next = &keeper->head.list;
	keeper->head.futex_offset = OBITUARY_OFFSET;
	sem_init(&keeper->ready, 0, 0);
	r = keeper_start(keeper);
	/* One whose thread runs stays, whatever it is good for. */
	if (r && !keeper->tid)
		free(keeper);
	if (r)
		return r;
	LL_PREPEND(keepers, keeper);
	*ret_keeper = keeper;
	return 0;
}

static int keeper_get(struct obituary_keeper **ret_keeper)
{
	struct obituary_keeper *keeper;

	LL_FOREACH (keepers, keeper) {
		if (keeper->n < OBITUARY_PER_THREAD) {
			*ret_keeper = keeper;
			return 0;
		}
	}
	return keeper_new(ret_keeper);
}

/* ---- words ---- */

int obituary_add(void *at, uint32_t *word)
{
	struct node *node = at, *after;
	struct obituary_keeper *keeper;
	int r = keeper_get(&keeper);

	if (r)
		return r;
	assert((char *)word - (char *)at == (ptrdiff_t)OBITUARY_OFFSET);
	*node = (struct node){.link.next = keeper->head.list.next, .keeper = keeper};
	after = node_after(&node->link);
	__atomic_store_n(word, keeper->tid, __ATOMIC_SEQ_CST);
	/* The process may die between any two of these: the list is whole at each. */
	__atomic_store_n(&keeper->head.list.next, &node->link, __ATOMIC_SEQ_CST);
	if (&after->link != &keeper->head.list)
		after->before = node;
	keeper->n++;
	return 0;
}

void obituary_remove(void *at, uint32_t *word)
{
	struct node *node = at, *after = node_after(&node->link);
	struct obituary_keeper *keeper = node->keeper;
	struct robust_list *before = node->before ? &node->before->link : &keeper->head.list;

	__atomic_store_n(word, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&before->next, &after->link, __ATOMIC_SEQ_CST);
	if (&after->link != &keeper->head.list)
		after->before = node->before;
	keeper->n--;
}
