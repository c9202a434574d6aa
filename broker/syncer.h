/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_SYNCER_H
#define BROKER_SYNCER_H

/*
 * Who waits for the disk (durability: power): the loop never does, so a disk that hangs harms
 * only those who asked. What is asked for while a sync is under way shares the next one.
 *
 * A sync that failed is final: nobody knows what the kernel has dropped, and another try on the
 * same file would succeed without it. All later ones fail as well, until the journal has begun
 * another file (store_reopen()) or the broker is started anew.
 */

#include <stdint.h>

struct store;
struct syncer;

/* The store outlives it. -ENOMEM. */
__attribute__((warn_unused_result)) int syncer_new(struct syncer **ret_syncer, struct store *store);
/* Accepts NULL, returns NULL. */
struct syncer *syncer_free(struct syncer *syncer);

/* Who hears of the end of syncs: `number` and all below are on the disk, or (-errno) never will
 * be known to be. Called from the loop, never inside of syncer_ask(). NULL: nobody. */
void syncer_watch(
	struct syncer *syncer, void (*done)(void *arg, uint64_t number, int result), void *arg);
/* Asks for all that is committed by now; its number, from 1 on. */
uint64_t syncer_ask(struct syncer *syncer);
/* 0, or why no sync counts any more. */
int syncer_failed(const struct syncer *syncer);

#endif
