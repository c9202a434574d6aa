/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/sandbox/fence.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/* linux/landlock.h of newer kernels than the one that this may be built with. */
#define REFER (1ull << 13) /* from version 2 */
#define NET_TCP 3ull       /* bind, connect; from version 4 */
#define CONNECT_TCP 2ull
#define RULE_NET_PORT 2
#define SCOPE_SIGNAL (2ull) /* from version 6 */

#define MAKING                                                                                     \
	(LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_DIR |                               \
		LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REMOVE_FILE |                    \
		LANDLOCK_ACCESS_FS_REMOVE_DIR)
#define NEVER                                                                                      \
	(LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_MAKE_CHAR |                               \
		LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |                     \
		LANDLOCK_ACCESS_FS_MAKE_SYM)

/* struct landlock_ruleset_attr as of version 6; older kernels take its beginning. */
struct rules {
	uint64_t fs, net, scoped;
};

static size_t size_of_rules(long version)
{
	if (version >= 6)
		return sizeof(struct rules);
	return version >= 4 ? 2 * sizeof(uint64_t) : sizeof(uint64_t);
}

static uint64_t making(long version)
{
	return MAKING | (version >= 2 ? REFER : 0);
}

static int open_ruleset(long version)
{
	const struct rules rules = {.fs = making(version) | NEVER,
		.net = version >= 4 ? NET_TCP : 0,
		.scoped = version >= 6 ? SCOPE_SIGNAL : 0};
	long fd = syscall(SYS_landlock_create_ruleset, &rules, size_of_rules(version), 0);

	return fd < 0 ? -errno : (int)fd;
}

static int allow(int ruleset, const char *folder, uint64_t access)
{
	struct landlock_path_beneath_attr rule = {.allowed_access = access};
	int r;

	rule.parent_fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (rule.parent_fd < 0)
		return errno == ENOENT ? 0 : -errno;
	r = syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0
		    ? -errno
		    : 0;
	close(rule.parent_fd);
	return r;
}

static int allow_port(int ruleset, unsigned port)
{
	/* struct landlock_net_port_attr. */
	const struct {
		uint64_t allowed_access, port;
	} rule = {CONNECT_TCP, port};

	return syscall(SYS_landlock_add_rule, ruleset, RULE_NET_PORT, &rule, 0) < 0 ? -errno : 0;
}

int fence_raise(const char *const *folders, size_t n, const unsigned *ports, size_t nports)
{
	long version =
		syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	int ruleset, r = 0;

	if (version < 0)
		return errno == ENOSYS || errno == EOPNOTSUPP ? -EOPNOTSUPP : -errno;
	ruleset = open_ruleset(version);
	if (ruleset < 0)
		return ruleset;
	for (size_t i = 0; !r && i < n; i++)
		r = allow(ruleset, folders[i], making(version));
	/* Older ones fence no TCP. */
	for (size_t i = 0; !r && version >= 4 && i < nports; i++)
		r = allow_port(ruleset, ports[i]);
	if (!r && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		r = -errno;
	close(ruleset);
	return r;
}
