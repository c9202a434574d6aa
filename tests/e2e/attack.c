/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile holder. Run by `vmsigctl exec`, with guest RAM on descriptor 3 and the coherence
 * page on 4, it tries every technique we know to get a writable descriptor or mapping of
 * either one, and says of each how it ended.
 *
 *   attack [--allow TECHNIQUE]... [BROKER_PID]
 *
 * A technique counts as won only when a byte could really be stored (the same value again,
 * so a guest survives it). Exit: 0 nothing was won beyond what --allow names, 1 otherwise,
 * 2 the descriptors are not there. deploy/THREATS.md lists what is allowed to whom, and why.
 *
 * It has to be exec'ed: a forked child of a process that is not dumpable is not dumpable
 * either and fails for the wrong reason.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096

static pid_t broker_pid;

/* Stores the byte that is there through a writable mapping or pwrite(2). */
static bool can_store(int fd)
{
	char byte;
	char *map;

	if (pread(fd, &byte, 1, 0) != 1)
		byte = 0;
	if (pwrite(fd, &byte, 1, 0) == 1)
		return true;
	map = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return false;
	*(volatile char *)map = byte;
	munmap(map, PAGE);
	return true;
}

static bool won_and_close(int fd)
{
	int saved = errno;
	bool won = fd >= 0 && can_store(fd);

	if (fd >= 0) {
		if (!won)
			saved = errno;
		close(fd);
	}
	errno = saved;
	return won;
}

static bool reopen_at(const char *folder, int fd, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/%d", folder, fd);
	return won_and_close(open(path, flags | O_CLOEXEC));
}

/* ---- on the descriptor itself ---- */

static bool store_directly(int fd)
{
	return can_store(fd);
}

static bool set_flags(int fd)
{
	return fcntl(fd, F_SETFL, O_RDWR) == 0 && can_store(fd);
}

static bool raise_mapping(int fd)
{
	char *map = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	bool won;

	if (map == MAP_FAILED)
		return false;
	won = mprotect(map, PAGE, PROT_READ | PROT_WRITE) == 0;
	munmap(map, PAGE);
	return won;
}

static bool resize(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && ftruncate(fd, st.st_size) == 0;
}

static bool punch(int fd)
{
	return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE) == 0;
}

static bool advise_remove(int fd)
{
	char *map = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	bool won;

	if (map == MAP_FAILED)
		return false;
	won = madvise(map, PAGE, MADV_REMOVE) == 0;
	munmap(map, PAGE);
	return won;
}

/* The kernel's own ways of storing into memory that the page tables call read-only. */
static bool force_store(int fd)
{
	char *map = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	int mem = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	struct iovec local, remote;
	char byte;
	bool won = false;

	if (map == MAP_FAILED || mem < 0)
		goto out;
	byte = *map;
	local = (struct iovec){.iov_base = &byte, .iov_len = 1};
	remote = (struct iovec){.iov_base = map, .iov_len = 1};
	won = pwrite(mem, &byte, 1, (off_t)(uintptr_t)map) == 1 ||
	      process_vm_writev(getpid(), &local, 1, &remote, 1, 0) == 1;
out:
	if (map != MAP_FAILED)
		munmap(map, PAGE);
	if (mem >= 0)
		close(mem);
	return won;
}

static bool traced_store(int fd)
{
	char *map = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	bool won = false;
	long word;
	pid_t child;

	if (map == MAP_FAILED)
		return false;
	child = fork();
	if (child == 0) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		_exit(0);
	}
	if (child > 0) {
		waitpid(child, NULL, 0);
		errno = 0;
		word = ptrace(PTRACE_PEEKDATA, child, map, NULL);
		won = errno == 0 && ptrace(PTRACE_POKEDATA, child, map, (void *)word) == 0;
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
	}
	munmap(map, PAGE);
	return won;
}

static bool copy_into(int fd)
{
	int src = memfd_create("attack", MFD_CLOEXEC);
	off_t from = 0, to = 0;
	bool won;

	if (src < 0 || ftruncate(src, PAGE) < 0)
		return false;
	won = copy_file_range(src, &from, fd, &to, 1, 0) > 0 || sendfile(fd, src, NULL, 1) > 0;
	close(src);
	return won;
}

static bool splice_into(int fd)
{
	loff_t at = 0;
	bool won = false;
	int ends[2];

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return false;
	if (write(ends[1], "x", 1) == 1)
		won = splice(ends[0], NULL, fd, &at, 1, SPLICE_F_NONBLOCK) > 0;
	close(ends[0]);
	close(ends[1]);
	return won;
}

/* By a thread of the kernel's. */
static bool ring_store(int fd)
{
	struct io_uring_params params = {0};
	int ring = (int)syscall(SYS_io_uring_setup, 1, &params);
	struct io_uring_sqe *sqes = MAP_FAILED;
	char *rings = MAP_FAILED;
	static char byte;
	bool won = false;

	if (ring < 0)
		return false;
	rings = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
	sqes = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
	if (rings == MAP_FAILED || sqes == MAP_FAILED ||
		!(params.features & IORING_FEAT_SINGLE_MMAP))
		goto out;
	sqes[0] = (struct io_uring_sqe){
		.opcode = IORING_OP_WRITE, .fd = fd, .addr = (uintptr_t)&byte, .len = 1};
	*(uint32_t *)(void *)(rings + params.sq_off.array) = 0;
	__atomic_store_n((uint32_t *)(void *)(rings + params.sq_off.tail), 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) == 1)
		won = ((const struct io_uring_cqe *)(const void *)(rings + params.cq_off.cqes))
			      ->res > 0;
out:
	if (rings != MAP_FAILED)
		munmap(rings, PAGE);
	if (sqes != MAP_FAILED)
		munmap(sqes, PAGE);
	close(ring);
	return won;
}

/* What a mapping may become goes along when it is moved, and when it is doubled. */
static bool move_mapping(int fd)
{
	char *map = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0), *moved;
	bool won;

	if (map == MAP_FAILED)
		return false;
	moved = mremap(map, 0, PAGE, MREMAP_MAYMOVE);
	won = moved != MAP_FAILED && mprotect(moved, PAGE, PROT_READ | PROT_WRITE) == 0;
	if (moved != MAP_FAILED)
		munmap(moved, PAGE);
	munmap(map, PAGE);
	return won;
}

static bool write_protect_fault(int fd)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register reg;
	char *map = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	bool won = false;

	if (map == MAP_FAILED || uffd < 0)
		goto out;
	reg = (struct uffdio_register){.range = {.start = (uintptr_t)map, .len = PAGE},
		.mode = UFFDIO_REGISTER_MODE_MISSING};
	won = ioctl(uffd, UFFDIO_API, &api) == 0 && ioctl(uffd, UFFDIO_REGISTER, &reg) == 0;
out:
	if (map != MAP_FAILED)
		munmap(map, PAGE);
	if (uffd >= 0)
		close(uffd);
	return won;
}

/* ---- opening the file once more ---- */

static bool reopen(int fd)
{
	return reopen_at("/proc/self/fd", fd, O_RDWR) ||
	       reopen_at("/proc/thread-self/fd", fd, O_RDWR) || reopen_at("/dev/fd", fd, O_WRONLY);
}

static bool reopen_from_path_descriptor(int fd)
{
	char path[64];
	int o_path;
	bool won;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	o_path = open(path, O_PATH | O_CLOEXEC);
	if (o_path < 0)
		return false;
	won = reopen_at("/proc/self/fd", o_path, O_RDWR);
	close(o_path);
	return won;
}

/* Where it succeeds the mode is put back: other attackers shall find what we found. */
static bool reopen_after_chmod(int fd)
{
	struct stat st;
	bool won;

	if (fstat(fd, &st) < 0 || fchmod(fd, 0666) < 0)
		return false;
	won = reopen(fd);
	if (fchmod(fd, st.st_mode & 07777) < 0)
		perror("attack: cannot restore the mode");
	return won;
}

static bool reopen_map_files(int fd)
{
	char path[96];
	char *map = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	bool won;

	if (map == MAP_FAILED)
		return false;
	snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", (unsigned long)map,
		(unsigned long)map + PAGE);
	won = won_and_close(open(path, O_RDWR | O_CLOEXEC));
	munmap(map, PAGE);
	return won;
}

static bool hard_link(int fd)
{
	char from[64], to[] = "/dev/shm/attack-XXXXXX";
	bool won = false;

	if (!mkdtemp(to))
		return false;
	snprintf(from, sizeof(from), "/proc/self/fd/%d", fd);
	if (chdir(to) == 0 &&
		(linkat(fd, "", AT_FDCWD, "ram", AT_EMPTY_PATH) == 0 ||
			linkat(AT_FDCWD, from, AT_FDCWD, "ram", AT_SYMLINK_FOLLOW) == 0)) {
		won = won_and_close(open("ram", O_RDWR | O_CLOEXEC));
		unlink("ram");
	}
	if (chdir("/") < 0 || rmdir(to) < 0)
		perror("attack: cannot remove my folder");
	return won;
}

/* ---- on the mount ---- */

static bool clear_mount_flag(int fd)
{
	struct mount_attr attr = {.attr_clr = MOUNT_ATTR_RDONLY};

	return mount_setattr(fd, "", AT_EMPTY_PATH, &attr, sizeof(attr)) == 0 && reopen(fd);
}

static bool clone_mount(int fd)
{
	struct mount_attr attr = {.attr_clr = MOUNT_ATTR_RDONLY};
	int tree = open_tree(fd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	bool won;

	if (tree < 0)
		return false;
	won = mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) == 0 &&
	      (won_and_close(openat(tree, "", O_RDWR | O_CLOEXEC)) ||
		      reopen_at("/proc/self/fd", tree, O_RDWR));
	close(tree);
	return won;
}

static bool bind_mount(int fd)
{
	char from[64], to[] = "/tmp/attack-XXXXXX";
	int file = mkostemp(to, O_CLOEXEC);
	bool won = false;

	if (file < 0)
		return false;
	close(file);
	snprintf(from, sizeof(from), "/proc/self/fd/%d", fd);
	if (mount(from, to, NULL, MS_BIND, NULL) == 0) {
		won = mount(NULL, to, NULL, MS_BIND | MS_REMOUNT, NULL) == 0 &&
		      won_and_close(open(to, O_RDWR | O_CLOEXEC));
		umount2(to, MNT_DETACH);
	}
	unlink(to);
	return won;
}

/* Runs `attack` in a child that has new namespaces, where it may be root. */
static bool in_namespaces(int flags, bool (*attack)(int fd), int fd)
{
	pid_t child = fork();
	int status = 0;

	if (child == 0) {
		if (unshare(flags) < 0)
			_exit(2);
		if (mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0)
			_exit(2);
		_exit(attack(fd) ? 0 : 1);
	}
	if (child < 0 || waitpid(child, &status, 0) < 0)
		return false;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool mount_tricks(int fd)
{
	return clear_mount_flag(fd) || clone_mount(fd) || bind_mount(fd) || reopen(fd) ||
	       reopen_after_chmod(fd);
}

static bool mount_namespace(int fd)
{
	return in_namespaces(CLONE_NEWNS, mount_tricks, fd);
}

static bool user_namespace(int fd)
{
	return in_namespaces(CLONE_NEWUSER | CLONE_NEWNS, mount_tricks, fd);
}

/* ---- around the descriptor ---- */

/* A file handle is looked up against another mount of the same file system. */
static bool file_handle(int fd)
{
	union {
		struct file_handle handle;
		char space[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} u = {.handle = {.handle_bytes = MAX_HANDLE_SZ}};
	char line[1024], where[512];
	struct stat st, mount_st;
	int id, dir;
	bool won = false;
	FILE *mounts;

	if (name_to_handle_at(fd, "", &u.handle, &id, AT_EMPTY_PATH) < 0 || fstat(fd, &st) < 0)
		return false;
	mounts = fopen("/proc/self/mounts", "re");
	while (mounts && !won && fgets(line, sizeof(line), mounts)) {
		if (sscanf(line, "%*s %511s", where) != 1 || stat(where, &mount_st) < 0 ||
			mount_st.st_dev != st.st_dev)
			continue;
		dir = open(where, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (dir < 0)
			continue;
		won = won_and_close(open_by_handle_at(dir, &u.handle, O_RDWR | O_CLOEXEC));
		close(dir);
	}
	if (mounts)
		fclose(mounts);
	return won;
}

static bool same_inode(int fd, int other)
{
	struct stat a, b;

	return fstat(fd, &a) == 0 && fstat(other, &b) == 0 && a.st_dev == b.st_dev &&
	       a.st_ino == b.st_ino;
}

static bool steal_descriptor(int fd)
{
	int pidfd, stolen;
	bool won = false;

	if (!broker_pid)
		return false;
	pidfd = (int)syscall(SYS_pidfd_open, broker_pid, 0);
	if (pidfd < 0)
		return false;
	for (int n = 0; n < 256 && !won; n++) {
		stolen = (int)syscall(SYS_pidfd_getfd, pidfd, n, 0);
		if (stolen < 0)
			continue;
		if (same_inode(fd, stolen))
			won = can_store(stolen) || reopen(stolen);
		close(stolen);
	}
	close(pidfd);
	return won;
}

static bool broker_descriptors(int fd)
{
	char path[64];
	struct stat st, other;
	bool won = false;

	if (!broker_pid || fstat(fd, &st) < 0)
		return false;
	for (int n = 0; n < 256 && !won; n++) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)broker_pid, n);
		if (stat(path, &other) == 0 && other.st_dev == st.st_dev &&
			other.st_ino == st.st_ino)
			won = won_and_close(open(path, O_RDWR | O_CLOEXEC));
	}
	return won;
}

static bool broker_memory(int fd)
{
	char path[64];
	int mem;

	if (!broker_pid)
		return false;
	snprintf(path, sizeof(path), "/proc/%d/mem", (int)broker_pid);
	mem = open(path, O_RDWR | O_CLOEXEC);
	if (mem < 0)
		return false;
	close(mem);
	return true;
}

static const struct {
	const char *name;
	bool (*won)(int fd);
} techniques[] = {
	{"store", store_directly},
	{"set-flags", set_flags},
	{"raise-mapping", raise_mapping},
	{"resize", resize},
	{"punch-hole", punch},
	{"madvise-remove", advise_remove},
	{"force-store", force_store},
	{"traced-store", traced_store},
	{"copy-into", copy_into},
	{"splice-into", splice_into},
	{"io-uring", ring_store},
	{"move-mapping", move_mapping},
	{"userfaultfd", write_protect_fault},
	{"reopen", reopen},
	{"reopen-o-path", reopen_from_path_descriptor},
	{"reopen-after-chmod", reopen_after_chmod},
	{"reopen-map-files", reopen_map_files},
	{"hard-link", hard_link},
	{"clear-mount-flag", clear_mount_flag},
	{"clone-mount", clone_mount},
	{"mount-namespace", mount_namespace},
	{"user-namespace", user_namespace},
	{"file-handle", file_handle},
	{"pidfd-getfd", steal_descriptor},
	{"broker-proc-fd", broker_descriptors},
	{"broker-mem", broker_memory},
};
#define TECHNIQUES (sizeof(techniques) / sizeof(techniques[0]))

static bool is_technique(const char *name, size_t *ret_index)
{
	for (size_t i = 0; i < TECHNIQUES; i++) {
		if (strcmp(techniques[i].name, name) == 0) {
			*ret_index = i;
			return true;
		}
	}
	return false;
}

static int attack(const char *what, int fd, const bool *allowed)
{
	int lost = 0;

	for (size_t i = 0; i < TECHNIQUES; i++) {
		bool won;

		errno = 0;
		won = techniques[i].won(fd);
		printf("%s %s: %s%s%s\n", what, techniques[i].name,
			won ? (allowed[i] ? "won (allowed)" : "WON") : "refused",
			!won && errno ? ", " : "", !won && errno ? strerrorname_np(errno) : "");
		lost += won && !allowed[i];
	}
	return lost;
}

int main(int argc, char **argv)
{
	bool allowed[TECHNIQUES] = {false};
	int lost;

	for (int i = 1; i < argc; i++) {
		size_t index;

		if (strcmp(argv[i], "--allow") == 0 && i + 1 < argc &&
			is_technique(argv[i + 1], &index)) {
			allowed[index] = true;
			i++;
		} else if (argv[i][0] != '-' && i == argc - 1) {
			broker_pid = (pid_t)atoi(argv[i]);
		} else {
			fprintf(stderr, "usage: attack [--allow TECHNIQUE]... [BROKER_PID]\n");
			return 2;
		}
	}
	if (fcntl(3, F_GETFD) < 0 || fcntl(4, F_GETFD) < 0) {
		fprintf(stderr, "attack: run me with `vmsigctl exec ENDPOINT -- attack`\n");
		return 2;
	}
	lost = attack("ram", 3, allowed) + attack("coherence", 4, allowed);
	printf("%d techniques gave write access\n", lost);
	return lost ? 1 : 0;
}
