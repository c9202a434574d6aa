/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_SELFTESTS_H
#define BROKER_SELFTESTS_H

/*
 * Says in the log, once for each folder that RAM files are configured in, what descriptors from
 * there are worth. A self-test touches the file system, so it is a job.
 */

struct config_endpoint;
struct jobs;
struct selftests;

/* -ENOMEM. */
__attribute__((warn_unused_result)) int selftests_new(
	struct selftests **ret_selftests, struct jobs *jobs);
/* Accepts NULL, returns NULL. */
struct selftests *selftests_free(struct selftests *selftests);

/* Tests the folders of the endpoint that were not tested yet. */
void selftests_start(struct selftests *selftests, const struct config_endpoint *config);

#endif
