/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_WIRE_FEATURE_H
#define PROTO_WIRE_FEATURE_H

/*
 * Bits of Hello.features: what a side can do that version 1 of the protocol did not have from its
 * beginning. A bit is never used again for something else.
 */

/* Read plane. The client takes a Memctx whose RAM is in several files (Memctx.files); the broker
 * sends them to nobody else. */
#define FEATURE_RAM_FILES 0x1u

/* Read plane. The client answers a Memctx with MemctxTaken only if it has a number for that
 * (Memctx.delivery), and takes another one behind it; the broker may leave the number out. */
#define FEATURE_TAKEN_UNSAID 0x2u

#endif
