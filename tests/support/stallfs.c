/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file system that stands still: stallfs BACKING FLAG MOUNTPOINT shows the folder BACKING, and
 * while the file FLAG exists whoever asks for anything waits. Ends when it is unmounted.
 */
#define FUSE_USE_VERSION 31

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define LOOK_US 2000 /* between two looks whether it goes on */

static const char *backing, *flag;

static void stand(void)
{
	while (access(flag, F_OK) == 0)
		usleep(LOOK_US);
}

static const char *real(const char *path, char to[static PATH_MAX])
{
	stand();
	snprintf(to, PATH_MAX, "%s%s", backing, path);
	return to;
}

static int result(int r)
{
	return r < 0 ? -errno : r;
}

static int on_getattr(const char *path, struct stat *st, struct fuse_file_info *info)
{
	char to[PATH_MAX];

	return result(lstat(real(path, to), st));
}

static int on_readdir(const char *path, void *buf, fuse_fill_dir_t fill, off_t offset,
	struct fuse_file_info *info, enum fuse_readdir_flags flags)
{
	char to[PATH_MAX];
	DIR *dir = opendir(real(path, to));
	struct dirent *entry;

	if (!dir)
		return -errno;
	while ((entry = readdir(dir)))
		fill(buf, entry->d_name, NULL, 0, 0);
	closedir(dir);
	return 0;
}

static int on_open(const char *path, struct fuse_file_info *info)
{
	char to[PATH_MAX];
	int fd = open(real(path, to), info->flags & ~O_NOFOLLOW);

	info->fh = (uint64_t)fd;
	return fd < 0 ? -errno : 0;
}

static int on_create(const char *path, mode_t mode, struct fuse_file_info *info)
{
	char to[PATH_MAX];
	int fd = open(real(path, to), info->flags | O_CREAT, mode);

	info->fh = (uint64_t)fd;
	return fd < 0 ? -errno : 0;
}

static int on_read(
	const char *path, char *buf, size_t size, off_t offset, struct fuse_file_info *info)
{
	stand();
	return result((int)pread((int)info->fh, buf, size, offset));
}

static int on_write(
	const char *path, const char *buf, size_t size, off_t offset, struct fuse_file_info *info)
{
	stand();
	return result((int)pwrite((int)info->fh, buf, size, offset));
}

static int on_release(const char *path, struct fuse_file_info *info)
{
	return result(close((int)info->fh));
}

static int on_fsync(const char *path, int data, struct fuse_file_info *info)
{
	stand();
	return result(fdatasync((int)info->fh));
}

static int on_truncate(const char *path, off_t size, struct fuse_file_info *info)
{
	char to[PATH_MAX];

	return result(truncate(real(path, to), size));
}

static int on_fallocate(
	const char *path, int mode, off_t offset, off_t len, struct fuse_file_info *info)
{
	stand();
	return result(fallocate((int)info->fh, mode, offset, len));
}

static int on_unlink(const char *path)
{
	char to[PATH_MAX];

	return result(unlink(real(path, to)));
}

static int on_mkdir(const char *path, mode_t mode)
{
	char to[PATH_MAX];

	return result(mkdir(real(path, to), mode));
}

static int on_rmdir(const char *path)
{
	char to[PATH_MAX];

	return result(rmdir(real(path, to)));
}

static int on_rename(const char *from, const char *to, unsigned flags)
{
	char old[PATH_MAX], new[PATH_MAX];

	return result(renameat2(AT_FDCWD, real(from, old), AT_FDCWD, real(to, new), flags));
}

static int on_chmod(const char *path, mode_t mode, struct fuse_file_info *info)
{
	char to[PATH_MAX];

	return result(chmod(real(path, to), mode));
}

static int on_statfs(const char *path, struct statvfs *fs)
{
	char to[PATH_MAX];

	return result(statvfs(real(path, to), fs));
}

static void *on_init(struct fuse_conn_info *conn, struct fuse_config *config)
{
	config->use_ino = 1;
	/* What the kernel keeps would not stand still. */
	config->entry_timeout = config->attr_timeout = config->negative_timeout = 0;
	return NULL;
}

static const struct fuse_operations operations = {
	.init = on_init,
	.getattr = on_getattr,
	.readdir = on_readdir,
	.open = on_open,
	.create = on_create,
	.read = on_read,
	.write = on_write,
	.release = on_release,
	.fsync = on_fsync,
	.fsyncdir = NULL,
	.truncate = on_truncate,
	.fallocate = on_fallocate,
	.unlink = on_unlink,
	.mkdir = on_mkdir,
	.rmdir = on_rmdir,
	.rename = on_rename,
	.chmod = on_chmod,
	.statfs = on_statfs,
};

int main(int argc, char **argv)
{
	char name[] = "stallfs", foreground[] = "-f";
	char *arguments[] = {name, foreground, NULL, NULL};

	if (argc != 4) {
		fprintf(stderr, "usage: stallfs BACKING FLAG MOUNTPOINT\n");
		return 2;
	}
	backing = argv[1];
	flag = argv[2];
	arguments[2] = argv[3];
	return fuse_main(3, arguments, &operations, NULL);
}
