/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ADAPTERS_FILE_IMAGE_H
#define BROKER_ADAPTERS_FILE_IMAGE_H

/*
 * A RAM image as the adapter serves it: the open files and their layout, plus the jobs that touch
 * the file system. Counted references, taken and dropped on the loop thread only, because a
 * job that hangs outlives the adapter's interest in it.
 *
 *   file   the adapter
 *   image  the file, its layout, and the jobs on it
 */

#include <stdbool.h>
#include <stdint.h>

#include "broker/adapters/errand.h"
#include "broker/adapters/provider/offer.h"
#include "broker/config/config.h"
#include "proto/guest/kcr3.h"
#include "broker/ram/ramset.h"
#include "proto/guest/physmap.h"

#define IMAGE_WHY_MAX 400

struct image {
	unsigned refs;
	struct offer *offer; /* whose descriptors are the files; or NULL: */
	char **paths;        /* of the configuration: copies, see above */
	size_t npaths;
	uid_t owner;
	uint64_t low;
	vmsig_memseg *segs;
	size_t nseg;

	struct ramset *ram; /* NULL until an OPEN job has ended */
	struct physmap map;
};

/* `offer` has the files, or is NULL. -ENOMEM. */
__attribute__((warn_unused_result)) int image_new(
	struct image **ret_image, const struct config_endpoint *config, struct offer *offer);
struct image *image_ref(struct image *image);
/* Accepts NULL, returns NULL. */
struct image *image_unref(struct image *image);

enum image_job_kind {
	IMAGE_OPEN,  /* and lay out */
	IMAGE_FIND,  /* the kernel's root, in many steps */
	IMAGE_CHECK, /* that the files, and what `proof` proves, are still there */
};

struct image_job {
	struct errand errand; /* first */
	enum image_job_kind kind;
	struct image *image;

	struct kcr3_proof proof; /* CHECK: levels 0, there is none to be checked */
	char why[IMAGE_WHY_MAX]; /* a sentence unless the result is 0 */

	/* FIND */
	uint64_t notes_from, notes_next; /* kcr3_scan_new(), kcr3_scan_notes_next() */
	struct kcr3_scan *scan;
	struct span files; /* what it reads holes by */
};

/* To be started with image_job_start(). -ENOMEM. */
__attribute__((warn_unused_result)) int image_job_new(struct image_job **ret_job,
	enum image_job_kind kind, struct image *image, const struct kcr3_proof *proof);
void image_job_start(
	struct image_job *job, const struct errand_owner *owner, struct job_line *line);

#endif
