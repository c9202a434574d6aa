/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_FAULT_WIRE_H
#define TESTS_FAULT_WIRE_H

/*
 * A wire between a client and the broker's write plane that is faulty at one byte: the first
 * connection after wire_spoil() is, those behind it are not. A thread of the test carries what both
 * say; descriptors are not carried.
 */

#include <stdbool.h>
#include <stddef.h>

enum wire_fault { WIRE_FLIP, WIRE_CUT, WIRE_STOP };
enum wire_way { WIRE_TO_BROKER, WIRE_TO_CLIENT };

struct wire;

/* Listens at `path`, and carries to `target`. What goes wrong fails the test. */
struct wire *wire_open(const char *path, const char *target);
/* Ends all connections. Accepts NULL, returns NULL. */
struct wire *wire_close(struct wire *wire);

/* The next connection has the fault at this byte of this way, from 0 on. The one before is ended.
 */
void wire_spoil(struct wire *wire, enum wire_fault fault, enum wire_way way, size_t at);
/* Whether it came so far. */
bool wire_was_spoilt(struct wire *wire);

#endif
