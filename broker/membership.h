/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_MEMBERSHIP_H
#define BROKER_MEMBERSHIP_H

/* This host in its fleet: what the fleet says becomes epochs and leases of its endpoints. */

struct broker;

/* Nothing, without `fleet` in the configuration. What fails is logged. */
__attribute__((warn_unused_result)) int membership_start(struct broker *broker);
/* Nobody writes any more: guests are given up. Calls `closed` (or NULL) from the loop, or at once.
 */
void membership_close(struct broker *broker, void (*closed)(struct broker *broker));

#endif
