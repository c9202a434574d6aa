/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_CTL_MESSAGE_H
#define CLIENTS_CTL_MESSAGE_H

/* A protobuf message as JSON, by its descriptor: every field by its name, lists as arrays, names of
 * enumerations in lower case. */

#include <jansson.h>
#include <protobuf-c/protobuf-c.h>

/* NULL without memory. */
json_t *ctl_message_json(const ProtobufCMessage *message);

#endif
