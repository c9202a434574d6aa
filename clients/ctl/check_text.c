/* SPDX-License-Identifier: Apache-2.0 */
/* The file of digests: written once for an epoch, and compared with from then on. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "clients/common/folder.h"
#include "clients/ctl/check.h"

#define DIGEST 32u /* SHA-256 */
#define PAGES_MAX (1u << 16)
#define MAGIC 0x314745525854ull /* "TXREG1" */

/* The file: this, and a digest of each page. */
struct check_head {
	uint64_t magic, epoch, root, start, pages;
};

struct check_sight {
	struct check_head head;
	uint8_t (*digests)[DIGEST];
};

/* ---- now ---- */

static int take_page(void *ctx, uint64_t addr, const uint8_t *bytes, size_t len)
{
	struct check_sight *sight = ctx;

	if (!sight->head.pages)
		sight->head.start = addr;
	if (sight->head.pages == PAGES_MAX ||
		!EVP_Digest(
			bytes, len, sight->digests[sight->head.pages], NULL, EVP_sha256(), NULL))
		return -VMSIG_ERR_NO_MEMORY;
	sight->head.pages++;
	return 0;
}

static int take_sight(struct ctl_guest *guest, struct check_sight *sight)
{
	int r;

	*sight = (struct check_sight){.head = {.magic = MAGIC,
					      .epoch = guest->context.epoch,
					      .root = guest->context.pod.kcr3}};
	sight->digests = calloc(PAGES_MAX, DIGEST);
	if (!sight->digests)
		return ctl_fail(VMSIG_ERR_NO_MEMORY, "out of memory");
	r = vmsig_os_text(guest->os, take_page, sight);
	return r ? ctl_guest_fail(guest, r, "text of the kernel") : EXIT_OK;
}

/* ---- then ---- */

static bool read_all(int fd, void *bytes, size_t len)
{
	return read(fd, bytes, len) == (ssize_t)len;
}

/* False: it is of another epoch, or of another kernel, or none at all. */
static bool read_sight(const char *path, const struct check_sight *now, struct check_sight *then)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	size_t len = (size_t)now->head.pages * DIGEST;
	bool same;

	*then = (struct check_sight){0};
	if (fd < 0)
		return false;
	same = len && read_all(fd, &then->head, sizeof(then->head)) &&
	       memcmp(&then->head, &now->head, sizeof(now->head)) == 0;
	if (same)
		then->digests = malloc(len);
	same = same && then->digests && read_all(fd, then->digests, len);
	close(fd);
	return same;
}

static bool write_sight(const char *path, const struct check_sight *sight)
{
	char fresh[PATH_MAX + 8];
	size_t len = (size_t)sight->head.pages * DIGEST;
	bool done;
	int fd;

	(void)snprintf(fresh, sizeof(fresh), "%s.XXXXXX", path);
	fd = mkostemp(fresh, O_CLOEXEC);
	if (fd < 0)
		return false;
	done = write(fd, &sight->head, sizeof(sight->head)) == (ssize_t)sizeof(sight->head) &&
	       write(fd, sight->digests, len) == (ssize_t)len;
	done = close(fd) == 0 && done && rename(fresh, path) == 0;
	if (!done)
		(void)unlink(fresh);
	return done;
}

/* A file of its own for each endpoint, whatever that is called. */
static bool find_place(const char *endpoint, char ret_path[static PATH_MAX])
{
	size_t len;

	if (!folder_state("VMSIG_SIGHT_DIR", "sight", ret_path))
		return false;
	len = strlen(ret_path);
	if (len + 2 * strlen(endpoint) + sizeof("/.text") > PATH_MAX)
		return false;
	if (folder_make(ret_path))
		return false;
	ret_path[len++] = '/';
	for (; *endpoint; endpoint++) {
		if (isalnum((unsigned char)*endpoint) || *endpoint == '-')
			ret_path[len++] = *endpoint;
		else
			len += (size_t)sprintf(ret_path + len, "%02x.", (unsigned char)*endpoint);
	}
	memcpy(ret_path + len, ".text", sizeof(".text"));
	return true;
}

static void compare(const struct check_sight *now, const struct check_sight *then,
	check_text_fn changed, void *ctx)
{
	for (uint64_t i = 0; i < now->head.pages; i++) {
		if (memcmp(now->digests[i], then->digests[i], DIGEST) != 0)
			changed(ctx, now->head.start + i * VMSIG_OS_PAGE);
	}
}

int check_text(struct ctl_guest *guest, check_text_fn changed, void *ctx, bool *ret_first)
{
	struct check_sight now, then = {0};
	char path[PATH_MAX];
	int code = take_sight(guest, &now);

	*ret_first = false;
	if (!code && !find_place(guest->endpoint, path))
		code = ctl_fail(VMSIG_ERR_IO, "there is no folder for what the kernel's text was: "
					      "set VMSIG_SIGHT_DIR");
	if (!code && read_sight(path, &now, &then)) {
		compare(&now, &then, changed, ctx);
	} else if (!code) {
		*ret_first = true;
		if (!write_sight(path, &now))
			code = ctl_fail(VMSIG_ERR_IO, "cannot write %s: %s", path, strerror(errno));
	}
	free(now.digests);
	free(then.digests);
	return code;
}
