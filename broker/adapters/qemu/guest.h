/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ADAPTERS_QEMU_GUEST_H
#define BROKER_ADAPTERS_QEMU_GUEST_H

/*
 * A guest's RAM as the adapter serves it: the open files and the layout, plus the work on it
 * that takes time, as jobs. Counted references, because a job may outlive the adapter's interest;
 * references are taken and dropped on the loop thread only.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "broker/adapters/errand.h"
#include "broker/adapters/qemu/memmap.h"
#include "broker/adapters/qemu/vcpu.h"
#include "broker/config/config.h"
#include "proto/guest/kcr3.h"
#include "broker/ram/mapper.h"
#include "broker/ram/ramset.h"
#include "proto/guest/physmap.h"

#define GUEST_ERROR_MAX 400

struct guest {
	unsigned refs;
	pid_t pid;             /* QEMU's */
	struct mapper *mapper; /* QEMU, as what maps RAM; NULL: `ram_path` is the administrator's */
	char *ram_path;
	uid_t ram_owner;
	struct memmap map;
	struct physmap physmap; /* empty until RAM was opened */
	struct ramset *ram;     /* NULL until then */
	uint64_t notes_from;    /* of the next search: kcr3.h */
};

/* Takes the contents of `map`, and who is at the other end of the QMP socket for its QEMU; with -1
 * for a socket, the process `pid`, of which the caller knows that it is that one.
 * What fails leaves it with the caller: -errno, VMSIG_ERR_UNSUPPORTED; `error` gets a
 * sentence. */
__attribute__((warn_unused_result)) int guest_new(struct guest **ret_guest, struct memmap *map,
	const struct config_endpoint *config, pid_t pid, int socket, char *error,
	size_t error_size);
/* One RAM file, one endpoint: as ramset_claim(), once RAM is open. */
__attribute__((warn_unused_result)) const char *guest_claim(
	struct guest *guest, struct claims *claims, const char *name);
struct guest *guest_ref(struct guest *guest);
/* Accepts NULL, returns NULL. */
struct guest *guest_unref(struct guest *guest);

enum guest_job_kind {
	GUEST_FIND,  /* opens RAM if it is not open, then looks for a live kernel root */
	GUEST_CHECK, /* proves `proof` again */
};

struct guest_job {
	struct errand errand; /* first */
	enum guest_job_kind kind;
	struct guest *guest;
	struct vcpu_roots roots;
	struct kcr3_proof proof;

	enum ram_change change; /* not SAME: another guest has to be made */
	int memory;             /* CHECK: result of the proof from memory alone */
	char error[GUEST_ERROR_MAX];

	struct kcr3_scan *scan; /* FIND, under way */
	struct span files;      /* what it reads holes by */
};

/* Starts; takes the contents of `roots`, also when it fails. `proof` for CHECK. -ENOMEM. */
__attribute__((warn_unused_result)) int guest_job_start(struct guest_job **ret_job,
	enum guest_job_kind kind, struct guest *guest, struct vcpu_roots *roots,
	const struct kcr3_proof *proof, const struct errand_owner *owner, struct job_line *line);

#endif
