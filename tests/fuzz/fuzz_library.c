/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The library against a hostile broker: what it says on the read plane, envelope by envelope
 * (a length of two bytes, the envelope), with descriptors of every kind that a kernel could have
 * passed beside them. The linker sends the channel's part here.
 *
 * What the holder is told must be sound: a context has a descriptor that is there, segments inside
 * of their files, a name that can be printed; no step adds more than the queue has room for. All
 * that was opened is closed.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clients/lib/client.h"
#include "proto/wire/unpack.h"
#include "vmsig/vmsig_memctx.h"

#define QUEUE 16u
#define ASKED 4u /* requests that the library has sent, the second of them a list */
#define RAM_MOST (1u << 24)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int __wrap_chan_take_fds(
	struct chan *chan, const struct chan_fd_claim *claims, size_t n, int *ret_fds);
size_t __wrap_chan_pending_fds(const struct chan *chan);
int __wrap_uplink_request(struct uplink *link, int body_case, void *body, const int *fds,
	size_t nfds, uint64_t *ret_id);
const char *__wrap_chan_error(const struct chan *chan);

static const struct unpack_budget budget = {.parts = 4096, .bytes = 1u << 20};
static size_t pending;

/* As large as the message says, within reason: what is compared before is not tried here. */
static int foreign(const struct chan_fd_claim *claim)
{
	int fd;

	if (claim->access == O_RDONLY && claim->ino % 7 == 0)
		return claim->regular ? -1 : open("/dev/null", O_RDONLY | O_CLOEXEC);
	fd = memfd_create("foreign", MFD_CLOEXEC);
	if (fd >= 0 && claim->ino % 7)
		(void)!ftruncate(fd, (off_t)(claim->size % RAM_MOST));
	return fd;
}

/* What is no regular file is refused with all the others, as the real one does. */
int __wrap_chan_take_fds(
	struct chan *chan, const struct chan_fd_claim *claims, size_t n, int *ret_fds)
{
	(void)chan;
	for (size_t i = 0; i < n; i++) {
		ret_fds[i] = foreign(&claims[i]);
		if (ret_fds[i] >= 0)
			continue;
		while (i > 0)
			close(ret_fds[--i]);
		return VMSIG_ERR_PROTOCOL;
	}
	return 0;
}

size_t __wrap_chan_pending_fds(const struct chan *chan)
{
	(void)chan;
	return pending;
}

const char *__wrap_chan_error(const struct chan *chan)
{
	(void)chan;
	return "";
}

int __wrap_uplink_request(struct uplink *link, int body_case, void *body, const int *fds,
	size_t nfds, uint64_t *ret_id)
{
	(void)body_case, (void)body, (void)fds, (void)nfds;
	*ret_id = ++link->last_id;
	return 0;
}

/* The number that the next descriptor gets: of what is left open it would be another one. */
static int next_descriptor(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		abort();
	close(fd);
	return fd;
}

static void check_name(const char *name)
{
	size_t len = strnlen(name, VMSIG_NAME_MAX + 1);

	if (len > VMSIG_NAME_MAX)
		abort();
	for (size_t i = 0; i < len; i++)
		if (name[i] < ' ' || name[i] == 0x7f)
			abort();
}

/* Of one file each segment lies inside of it. */
static void check_context(const vmsig_delivery *delivery)
{
	const vmsig_memctx *pod = (const vmsig_memctx *)(const void *)delivery->event.inln;
	const vmsig_memseg *segs;
	struct stat st;
	uint32_t n;

	if (fstat(delivery->ram_fd, &st) < 0 || !S_ISREG(st.st_mode) || !pod->epoch)
		abort();
	segs = vmsig_memctx_segs(&delivery->event, &n);
	for (uint32_t i = 0; i < n && !(pod->flags & VMSIG_MEMCTX_FILES); i++)
		if (!segs[i].len || segs[i].gpa + segs[i].len < segs[i].gpa ||
			segs[i].len > (uint64_t)st.st_size ||
			segs[i].file_off > (uint64_t)st.st_size - segs[i].len)
			abort();
}

static void take_all(vmsig *v)
{
	vmsig_delivery delivery;

	while (vmsig_next(v, &delivery) == 0) {
		check_name(delivery.endpoint);
		if (delivery.event.kind == VMSIG_EV_MEMCTX)
			check_context(&delivery);
		vmsig_delivery_clear(&delivery);
	}
}

static int one(vmsig *v, const uint8_t *data, size_t len)
{
	ProtobufCMessage *message;
	int r;

	if (unpack_message(&message, &vmsig__ctx_message__descriptor, &budget, data, len))
		return 0;
	r = receive_message(v, (const struct envelope *)message);
	unpack_free(message);
	if (v->queue.count > v->queue.size)
		abort();
	return r;
}

static void talk(vmsig *v, const uint8_t *data, size_t size)
{
	for (size_t at = 0; size - at > 2;) {
		size_t len = (size_t)data[at] | (size_t)data[at + 1] << 8;

		at += 2;
		if (len > size - at)
			len = size - at;
		if (one(v, data + at, len))
			return;
		at += len;
		take_all(v);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vmsig v;
	int before;

	if (size < 2)
		return 0;
	before = next_descriptor();
	memset(&v, 0, sizeof(v));
	v.link.phase = PHASE_READY;
	v.link.last_id = ASKED;
	pending = data[0] == 0xff;
	if (delivery_queue_init(&v.queue, QUEUE))
		abort();
	v.listing.request_id = 2;
	v.listing.list = calloc(1, sizeof(*v.listing.list));
	v.listing.until = CLIENT_NEVER;
	talk(&v, data + 1, size - 1);
	take_all(&v);
	listing_deinit(&v);
	delivery_queue_deinit(&v.queue);
	epochs_deinit(&v);
	if (next_descriptor() != before)
		abort();
	return 0;
}
