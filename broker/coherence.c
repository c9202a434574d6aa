/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/coherence.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "broker/obituary.h"

#define SEALS (F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

#define MAPPING ((size_t)2 * VMSIG_COHERENCE_SIZE)

struct coherence {
	int fd; /* once the page is mapped: read-only, what holders have are duplicates of it */
	uint8_t *mapping;      /* a private page for the obituary's node, then the shared one */
	vmsig_coherence *page; /* NULL: not mapped */
	bool owned;
};

static int map(struct coherence *coherence)
{
	void *mapping =
		mmap(NULL, MAPPING, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void *page;

	if (mapping == MAP_FAILED)
		return -errno;
	coherence->mapping = mapping;
	page = mmap(coherence->mapping + VMSIG_COHERENCE_SIZE, VMSIG_COHERENCE_SIZE,
		PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, coherence->fd, 0);
	if (page == MAP_FAILED)
		return -errno;
	coherence->page = page;
	return 0;
}

/* Sealing comes after mapping: F_SEAL_FUTURE_WRITE spares the mapping that exists. */
static int page_make(struct coherence *coherence, uint32_t endpoint)
{
	int r;

	coherence->fd = memfd_create("vmsig-coherence", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (coherence->fd < 0 || ftruncate(coherence->fd, VMSIG_COHERENCE_SIZE) < 0)
		return -errno;
	r = map(coherence);
	if (r)
		return r;
	/* Mapped: the analyser takes an errno of 0 for possible. */
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
	coherence->page->magic = VMSIG_COHERENCE_MAGIC;
	coherence->page->version = VMSIG_COHERENCE_VERSION;
	coherence->page->endpoint = endpoint;
	if (fcntl(coherence->fd, F_ADD_SEALS, SEALS) < 0 || fchmod(coherence->fd, 0400) < 0)
		return -errno;
	r = obituary_add(coherence->mapping, &coherence->page->owner);
	coherence->owned = !r;
	return r;
}

/* One open file for all holders: an offset and flags are all that they share by it, and a page that
 * is mapped has no use for either. To open it for each costs more than to tell it. */
static int read_only(struct coherence *coherence)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", coherence->fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	close(coherence->fd);
	coherence->fd = fd;
	return 0;
}

int coherence_new(struct coherence **ret_coherence, uint32_t endpoint)
{
	struct coherence *coherence = calloc(1, sizeof(*coherence));
	int r;

	if (!coherence)
		return -ENOMEM;
	coherence->fd = -1;
	r = page_make(coherence, endpoint);
	if (!r)
		r = read_only(coherence);
	if (r) {
		coherence_free(coherence);
		return r;
	}
	*ret_coherence = coherence;
	return 0;
}

struct coherence *coherence_free(struct coherence *coherence)
{
	if (!coherence)
		return NULL;
	if (coherence->owned) {
		obituary_remove(coherence->mapping, &coherence->page->owner);
		coherence_wake(coherence);
	}
	if (coherence->mapping)
		munmap(coherence->mapping, MAPPING);
	if (coherence->fd >= 0)
		close(coherence->fd);
	free(coherence);
	return NULL;
}

vmsig_coherence *coherence_page(struct coherence *coherence)
{
	return coherence->page;
}

int coherence_share(const struct coherence *coherence)
{
	int fd = fcntl(coherence->fd, F_DUPFD_CLOEXEC, 0);

	return fd < 0 ? -errno : fd;
}

void coherence_vouch(struct coherence *coherence, uint64_t until_ns)
{
	__atomic_store_n(&coherence->page->vouched_ns, until_ns, __ATOMIC_RELEASE);
}

void coherence_wake(struct coherence *coherence)
{
	/* Shared, not private: the sleepers are other processes. It fails for no reason that a
	 * caller could do anything about. */
	syscall(SYS_futex, &coherence->page->change, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}
