/* SPDX-License-Identifier: Apache-2.0 */
/* `vmsigctl mount`: guests as a file system, read-only and live, for its owner only. */
#define FUSE_USE_VERSION 35 /* of the interface that is written for: 3.5 */
#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clients/ctl/mount_tree.h"

/* An open file. What was made for it is its own; memory is read of the guest, while that is in the
 * epoch in which the file was opened. */
struct opened {
	char name[VMSIG_NAME_MAX + 1];
	uint32_t epoch;
	struct mount_text text; /* MOUNT_TEXT, MOUNT_FRESH */
	enum mount_kind kind;
	enum corefile_format format; /* MOUNT_CORE */
	uint64_t root;               /* MOUNT_MEMORY */
	vmsig_proc process;          /* MOUNT_EXE */
	vmsig_file file;
};

static struct mount_guests *guests(void)
{
	return fuse_get_context()->private_data;
}

static void *on_init(struct fuse_conn_info *conn, struct fuse_config *config)
{
	(void)conn;
	/* Everything may be another thing a moment later. */
	config->direct_io = 1;
	config->attr_timeout = config->entry_timeout = config->negative_timeout = 0;
	config->use_ino = 0;
	config->nullpath_ok = 0;
	return guests();
}

/* ---- what is there ---- */

static int size_of(const struct mount_node *node, off_t *ret_size)
{
	const struct corefile *core;
	const struct mount_text *text;
	vmsig_file file;
	int r = 0;

	*ret_size = 0;
	if (node->kind == MOUNT_EXE) {
		r = mount_tree_program(node, &file);
		*ret_size = r ? 0 : (off_t)file.size;
	} else if (node->kind == MOUNT_CORE) {
		r = mount_guest_core(node->guest, mount_tree_format(node), &core);
		*ret_size = r ? 0 : (off_t)core->size;
	} else if (node->kind == MOUNT_TEXT) {
		r = mount_tree_text(node, &text);
		*ret_size = r ? 0 : (off_t)text->len;
	}
	return r;
}

static mode_t mode_of(enum mount_kind kind)
{
	if (kind <= MOUNT_FDS)
		return S_IFDIR | 0500;
	return kind == MOUNT_FD ? S_IFLNK | 0400 : S_IFREG | 0400;
}

static int on_getattr(const char *path, struct stat *stat, struct fuse_file_info *info)
{
	struct mount_node node;
	int r = mount_tree_find(guests(), path, &node);

	(void)info;
	if (r)
		return r;
	*stat = (struct stat){.st_mode = mode_of(node.kind),
		.st_nlink = 1,
		.st_uid = geteuid(),
		.st_gid = getegid()};
	return size_of(&node, &stat->st_size);
}

struct names {
	fuse_fill_dir_t fill;
	void *buf;
};

static void add_name(void *ctx, const char *name)
{
	const struct names *names = ctx;

	(void)names->fill(names->buf, name, NULL, 0, 0);
}

static int on_readdir(const char *path, void *buf, fuse_fill_dir_t fill, off_t off,
	struct fuse_file_info *info, enum fuse_readdir_flags flags)
{
	struct names names = {fill, buf};
	struct mount_node node;
	int r = mount_tree_find(guests(), path, &node);

	(void)off, (void)info, (void)flags;
	if (r)
		return r;
	add_name(&names, ".");
	add_name(&names, "..");
	return mount_tree_list(guests(), &node, add_name, &names);
}

static int on_readlink(const char *path, char *buf, size_t size)
{
	struct mount_node node;
	int r = mount_tree_find(guests(), path, &node);

	if (r)
		return r;
	return node.kind == MOUNT_FD ? mount_tree_target(&node, buf, size) : -EINVAL;
}

/* ---- files ---- */

static int copy_text(const struct mount_node *node, struct mount_text *ret_text)
{
	const struct mount_text *text;
	int r = mount_tree_text(node, &text);

	if (r)
		return r;
	*ret_text = (struct mount_text){.bytes = malloc(text->len + 1), .len = text->len};
	if (!ret_text->bytes)
		return -ENOMEM;
	memcpy(ret_text->bytes, text->bytes, text->len);
	return 0;
}

static int open_node(const struct mount_node *node, struct opened *opened)
{
	opened->kind = node->kind;
	opened->epoch = node->guest->guest.context.pod.epoch;
	memcpy(opened->name, node->guest->name, sizeof(opened->name));
	switch (node->kind) {
	case MOUNT_CORE:
		opened->format = mount_tree_format(node);
		return 0;
	case MOUNT_MEMORY:
		opened->root = node->process.root;
		return opened->root ? 0 : -EOPNOTSUPP;
	case MOUNT_EXE:
		opened->process = node->process;
		return mount_tree_program(node, &opened->file);
	case MOUNT_TEXT:
		return copy_text(node, &opened->text);
	default:
		return mount_tree_fresh(node, &opened->text);
	}
}

static int on_open(const char *path, struct fuse_file_info *info)
{
	struct opened *opened;
	struct mount_node node;
	int r = mount_tree_find(guests(), path, &node);

	if (r)
		return r;
	if (node.kind < MOUNT_CORE)
		return -EISDIR;
	if ((info->flags & O_ACCMODE) != O_RDONLY)
		return -EROFS;
	opened = calloc(1, sizeof(*opened));
	r = opened ? open_node(&node, opened) : -ENOMEM;
	if (r) {
		free(opened);
		return r;
	}
	info->fh = (uint64_t)(uintptr_t)opened;
	return 0;
}

static int on_release(const char *path, struct fuse_file_info *info)
{
	struct opened *opened = (struct opened *)(uintptr_t)info->fh;

	(void)path;
	free(opened->text.bytes);
	free(opened);
	return 0;
}

/* At page borders, so that what is mapped before one that is not is told. */
static int read_memory(
	struct mount_guest *guest, uint64_t root, char *buf, size_t size, uint64_t at)
{
	size_t done = 0;

	while (done < size) {
		size_t piece = 4096 - (size_t)((at + done) % 4096);
		int r;

		piece = piece < size - done ? piece : size - done;
		r = vmsig_gva_read(guest->guest.context.mem, root, at + done, buf + done, piece);
		if (r)
			return done ? (int)done : mount_errno(r);
		done += piece;
	}
	return (int)done;
}

/* Pages that are not resident are no zeros, but EIO. */
static int read_file(const struct mount_guest *guest, const struct opened *opened, char *buf,
	size_t size, uint64_t at)
{
	const vmsig_file *file = &opened->file;
	size_t done = 0;
	vmsig_file now;
	/* Of a process that has ended the file may have become another. */
	int r = vmsig_os_program(guest->guest.os, &opened->process, &now);

	if (!r && (now.object != file->object || now.mapping != file->mapping))
		r = -VMSIG_ERR_STALE_EPOCH;
	size = at >= file->size ? 0 : size < file->size - at ? size : (size_t)(file->size - at);
	while (!r && done < size) {
		size_t in = (size_t)((at + done) % VMSIG_OS_PAGE), n = VMSIG_OS_PAGE - in;
		uint8_t page[VMSIG_OS_PAGE];

		n = n < size - done ? n : size - done;
		r = vmsig_os_file_page(guest->guest.os, file, (at + done) / VMSIG_OS_PAGE, page);
		if (r)
			break;
		memcpy(buf + done, page + in, n);
		done += n;
	}
	return done ? (int)done : mount_errno(r);
}

static int read_guest(const struct opened *opened, char *buf, size_t size, uint64_t at)
{
	struct mount_guest *guest;
	const struct corefile *core;
	int r = mount_guest_find(guests(), opened->name, &guest);
	ssize_t n;

	if (!r && guest->guest.context.pod.epoch != opened->epoch)
		r = -ESTALE;
	if (r)
		return r == -ENOENT ? -ESTALE : r;
	if (opened->kind == MOUNT_MEMORY)
		return read_memory(guest, opened->root, buf, size, at);
	if (opened->kind == MOUNT_EXE)
		return read_file(guest, opened, buf, size, at);
	r = mount_guest_core(guest, opened->format, &core);
	if (r)
		return r;
	n = corefile_read(core, &guest->guest.context, (uint8_t *)buf, size, at);
	/* Of another epoch by the time it was read? */
	r = mount_guest_check(guest);
	return r ? r : (int)n;
}

static int on_read(const char *path, char *buf, size_t size, off_t off, struct fuse_file_info *info)
{
	const struct opened *opened = (const struct opened *)(uintptr_t)info->fh;
	uint64_t at = (uint64_t)off;

	(void)path;
	if (opened->kind == MOUNT_CORE || opened->kind == MOUNT_MEMORY || opened->kind == MOUNT_EXE)
		return read_guest(opened, buf, size, at);
	if (at >= opened->text.len)
		return 0;
	size = size < opened->text.len - at ? size : (size_t)(opened->text.len - at);
	memcpy(buf, opened->text.bytes + at, size);
	return (int)size;
}

static const struct fuse_operations operations = {
	.init = on_init,
	.getattr = on_getattr,
	.readdir = on_readdir,
	.readlink = on_readlink,
	.open = on_open,
	.read = on_read,
	.release = on_release,
};

/* ---- the command ---- */

static int serve(struct fuse *fuse, const char *folder)
{
	int r = fuse_mount(fuse, folder);

	if (r)
		return ctl_fail(VMSIG_ERR_IO, "cannot mount at %s; see what it said above", folder);
	r = fuse_set_signal_handlers(fuse_get_session(fuse));
	if (!r) {
		r = fuse_loop(fuse);
		fuse_remove_signal_handlers(fuse_get_session(fuse));
	}
	fuse_unmount(fuse);
	/* A signal's number is how it was asked to end. */
	return r < 0 ? ctl_fail(VMSIG_ERR_IO, "%s: %s", folder, strerror(-r)) : EXIT_OK;
}

/* Whether a mount of guests is on that folder: a second one would only hide it. */
static bool is_shown(const char *folder)
{
	char *real = realpath(folder, NULL);
	FILE *mounts = real ? setmntent("/proc/self/mounts", "r") : NULL;
	struct mntent *mount;
	bool found = false;

	while (mounts && !found && (mount = getmntent(mounts)))
		found = strcmp(mount->mnt_type, "fuse.vmsig") == 0 &&
			strcmp(mount->mnt_dir, real) == 0;
	if (mounts)
		endmntent(mounts);
	free(real);
	return found;
}

static int run_mount(struct ctl *ctl, int argc, char **argv)
{
	char program[] = "vmsigctl", flag[] = "-o";
	char how[] = "ro,nosuid,nodev,noatime,default_permissions,fsname=vmsig,subtype=vmsig";
	char *words[] = {program, flag, how, NULL};
	struct fuse_args args = FUSE_ARGS_INIT(3, words);
	struct mount_guests own = {.ctl = ctl};
	struct fuse *fuse;
	int code = ctl_options(ctl, &ctl_mount, argc, argv, NULL, NULL, NULL);
	struct stat folder;
	vmsig *probe;

	if (code)
		return code;
	if (optind + 1 != argc)
		return ctl_usage(&ctl_mount, "it takes one DIR");
	if (stat(argv[optind], &folder) && errno == ENOTCONN)
		return ctl_fail(VMSIG_ERR_IO,
			"%s is left over from a mount whose program was killed; end it with "
			"`fusermount3 -u` first",
			argv[optind]);
	if (stat(argv[optind], &folder) || !S_ISDIR(folder.st_mode))
		return ctl_fail(VMSIG_ERR_IO, "%s is no folder; make one first", argv[optind]);
	if (is_shown(argv[optind]))
		return ctl_fail(VMSIG_ERR_IO,
			"guests are shown on %s already; end that with `fusermount3 -u`, or take "
			"another folder",
			argv[optind]);
	/* Said now and not by each look into it. */
	code = ctl_connect(ctl, &probe);
	if (code)
		return code;
	vmsig_close(probe);
	fuse = fuse_new(&args, &operations, sizeof(operations), &own);
	if (!fuse)
		return ctl_fail(VMSIG_ERR_IO, "FUSE does not work here; is /dev/fuse there?");
	code = serve(fuse, argv[optind]);
	fuse_destroy(fuse);
	mount_guests_free(&own);
	fuse_opt_free_args(&args);
	return code;
}

const struct ctl_command ctl_mount = {
	.name = "mount",
	.arguments = "DIR",
	.summary = "Show guests as files, read-only and live, until it is unmounted",
	.help = "DIR/ENDPOINT has mem, vmcore, kcore, memmap, kallsyms, btf, vmlinux, isf.json, "
		"epoch,\n"
		"kcr3 and pid/N with maps, mem, cmdline, environ, exe, fd. After a reset of the "
		"guest\n"
		"open files give ESTALE; opened anew they are of the new epoch. Only whoever runs "
		"it may\n"
		"look. It ends when it is unmounted (fusermount3 -u DIR) or by SIGTERM.\n"
		"\n"
		"Examples:\n"
		"  vmsigctl mount /mnt/guests &\n"
		"  drgn -c /mnt/guests/web1/vmcore\n",
	.run = run_mount,
};
