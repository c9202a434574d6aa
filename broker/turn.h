/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_TURN_H
#define BROKER_TURN_H

/*
 * A turn of the loop: before each sleep, all that its callbacks have brought about is carried out,
 * in order, and leaves in as few system calls as possible. What a part brings about for another
 * (acknowledgements, connections that are closed) is carried out as well, until nothing is left or,
 * after some rounds, the loop has looked for events again. Then it is found out how long the loop
 * may sleep.
 */

struct broker;

/* With the loop, the shares, the core, the state, upkeep and the watchdog there; the desk and the
 * net may not be. */
void turn_run(struct broker *broker);

#endif
