/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_WRITE_MESSAGE_H
#define BROKER_WRITE_MESSAGE_H

/* What a CmdMemwrite says: foreign input, until it has been looked at here. */

#include "broker/write/state.h"

struct command;

/* Fills in key, bytes and operations. VMSIG_ERR_BAD_REQUEST, with a sentence in `detail`;
 * -ENOMEM. */
__attribute__((warn_unused_result)) int message_read(struct command *command);

#endif
