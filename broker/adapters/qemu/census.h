/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ADAPTERS_QEMU_CENSUS_H
#define BROKER_ADAPTERS_QEMU_CENSUS_H

/*
 * QMP sockets, one by one, and what their QEMUs say that they are called: asked some at a time,
 * those who do not answer again and later each time, those who say nothing over the one connection
 * that waits for them. Belongs to the loop thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "broker/adapters/qemu/interview.h"
#include "broker/config/config.h"

#define CENSUS_NEVER UINT64_MAX

struct shares;

struct census_one {
	struct census *census;
	char *path;
	const char *file; /* in `path` */
	int fd;           /* O_PATH */
	dev_t dev;
	ino_t ino;
	int64_t born_ns;

	bool known; /* QEMU has said: */
	char name[INTERVIEW_NAME_MAX], uuid[INTERVIEW_UUID_MAX];
	char *why; /* it has not, a sentence; or NULL */

	/* private */
	bool told;                   /* that, in the log */
	struct interview *interview; /* under way; it frees itself */
	bool waits;                  /* ... for one that says nothing */
	bool queued;
	uint64_t due_ms; /* when it is asked again */
	uint64_t backoff_ms;
	struct census_one *prev, *next; /* in the queue; else the owner's */
};

/* All but what is private is the owner's to set; that starts as zeroes. */
struct census {
	uv_loop_t *loop;
	struct shares *shares;
	const struct config_discover *config;
	void (*changed)(void *arg); /* somebody is known, or no more, or says something else */
	void (*soon)(void *arg);    /* due_ms is another one */
	void (*closed)(void *arg);  /* an interview is through; `open` is one less */
	void *arg;
	uint64_t due_ms; /* when census_take() has something to do; CENSUS_NEVER at the start */
	unsigned open;   /* interviews whose handles are not closed yet */

	/* private */
	struct census_one *queue;
	unsigned asking; /* interviews that count */
};

/* Takes over `path`, which malloc() made, and the descriptor. NULL: out of memory; they are not
 * taken then. */
struct census_one *census_one_new(struct census *census, char *path, int fd);
void census_one_free(struct census_one *one);
/* To be asked when it is its turn; census_go_on() follows. */
void census_ask(struct census_one *one);
/* It is not asked any more. */
void census_leave(struct census_one *one);
/* Begins with those whose turn it is. */
void census_go_on(struct census *census);
/* Those of `all` that are due are asked. */
void census_take(struct census *census, struct census_one *const *all, size_t n);
/* Somebody is being asked from whom an answer can be expected soon. */
bool census_is_busy(const struct census *census);

#endif
