/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_CTL_MOUNT_TREE_H
#define CLIENTS_CTL_MOUNT_TREE_H

/*
 * What a mounted tree has, by its paths:
 *
 *	ENDPOINT/{mem,vmcore,kcore,memmap,kallsyms,btf,vmlinux,isf.json,epoch,kcr3}
 *	ENDPOINT/pid/N/{maps,mem,cmdline,environ,exe}
 *	ENDPOINT/pid/N/fd/M     a link that says what is open
 */

#include "clients/ctl/mount_guest.h"

/* Of a file: what a guest says beyond makes no sense. */
#define MOUNT_SIZE_MAX (1ull << 44)

enum mount_kind {
	MOUNT_ROOT,
	MOUNT_ENDPOINT,
	MOUNT_PIDS,
	MOUNT_PROCESS,
	MOUNT_FDS,
	MOUNT_FD,     /* a link */
	MOUNT_CORE,   /* guest memory in one of the formats of corefile.h */
	MOUNT_TEXT,   /* made once in an epoch */
	MOUNT_MEMORY, /* of a process, by its virtual addresses */
	MOUNT_FRESH,  /* made whenever it is opened */
	MOUNT_EXE,    /* what a process was started from, as far as that is resident */
};

struct mount_file; /* a row of the tree's table */

struct mount_node {
	enum mount_kind kind;
	struct mount_guest *guest;     /* NULL: MOUNT_ROOT */
	vmsig_proc process;            /* below pid/N */
	int32_t fd;                    /* MOUNT_FD */
	const struct mount_file *file; /* of files */
};

/* 0, -ENOENT, or what mount_guest_find() returns. */
int mount_tree_find(struct mount_guests *guests, const char *path, struct mount_node *ret_node);

/* Calls `add` for each name in a directory. 0 or -errno. */
int mount_tree_list(
	struct mount_guests *guests, const struct mount_node *node, mount_name_fn add, void *ctx);

/* Of MOUNT_CORE. */
enum corefile_format mount_tree_format(const struct mount_node *node);
/* Of MOUNT_TEXT; the guest keeps it. */
int mount_tree_text(const struct mount_node *node, const struct mount_text **ret_text);
/* Of MOUNT_FRESH; the caller frees it. */
int mount_tree_fresh(const struct mount_node *node, struct mount_text *ret_text);
/* Of MOUNT_EXE. -ENOENT: there is none, as of a thread of the kernel's. */
int mount_tree_program(const struct mount_node *node, vmsig_file *ret_file);
/* Of MOUNT_FD: what is open, as text. -ENOENT: nothing. */
int mount_tree_target(const struct mount_node *node, char *buf, size_t size);

#endif
