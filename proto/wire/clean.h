/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_WIRE_CLEAN_H
#define PROTO_WIRE_CLEAN_H

/*
 * Texts of a message that was received. In most of them somebody else has a word: a QEMU says why
 * it refuses, an etcd who has a guest, whoever makes files what they are called.
 */

#include <protobuf-c/protobuf-c.h>

/* Makes all of them, at any depth, well-formed UTF-8 without controls (proto/utf8.h), in place. */
void clean_texts(ProtobufCMessage *message);

#endif
