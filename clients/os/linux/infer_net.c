/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/linux/infer_net.h"

#include <stdlib.h>

#include "clients/os/linux/infer_probe.h"

#define SOCKETS_SEEN 32u
#define SOCK_BYTES 0x400u
#define FS_NAME_MAX 32u

/* include/linux/socket.h, include/linux/net.h, include/uapi/linux/in.h */
#define FAMILY_INET 2u
#define FAMILY_INET6 10u
#define TYPE_STREAM 1u
#define TYPE_DGRAM 2u
#define PROTOCOL_TCP 6u
#define PROTOCOL_UDP 17u

/* struct sock_common, unchanged from 4.19 to 7.3. */
enum {
	SOCK_REMOTE = 0,
	SOCK_LOCAL = 4,
	SOCK_REMOTE_PORT = 12,
	SOCK_LOCAL_PORT = 14,
	SOCK_FAMILY = 16,
	SOCK_STATE = 18
};

struct net_sample {
	const struct infer_file *file;
	uint64_t socket, sock;
	uint8_t bytes[SOCK_BYTES];
};

struct net_samples {
	struct net_sample sockets[SOCKETS_SEEN];
	size_t count;
};

static bool is_socket_file(struct infer *infer, const struct infer_file *file)
{
	uint64_t sb = infer_word(infer, file->mnt + 8);
	uint64_t type = infer_word(infer, sb + infer_offset(infer, LINUX_SB_TYPE));
	char name[FS_NAME_MAX];

	return infer_text(infer, infer_word(infer, type), name, sizeof(name)) &&
	       strcmp(name, "sockfs") == 0;
}

static void take_sockets(struct infer *infer, struct net_samples *samples)
{
	for (size_t i = 0; i < infer->file_count && samples->count < SOCKETS_SEEN; i++) {
		if (is_socket_file(infer, &infer->files[i]))
			samples->sockets[samples->count++].file = &infer->files[i];
	}
}

/* A socket leads back to its file, and behind that to what it is a socket of. */
static bool leads_back(
	struct infer *infer, const struct net_samples *samples, uint32_t private, uint32_t sk)
{
	for (size_t i = 0; i < samples->count; i++) {
		const struct infer_file *file = samples->sockets[i].file;
		uint64_t words[2];

		if (!infer_is_pointer(infer_load(file->bytes, private)) ||
			!infer_read(infer, infer_load(file->bytes, private) + sk - 8, words,
				sizeof(words)) ||
			words[0] != file->at || !infer_is_pointer(words[1]))
			return false;
	}
	return true;
}

static bool find_sock(struct infer *infer, const struct net_samples *samples)
{
	for (uint32_t private = 0; private < INFER_FILE_BYTES; private += 8) {
		for (uint32_t sk = 16; sk <= 64; sk += 8) {
			if (!leads_back(infer, samples, private, sk))
				continue;
			infer_set(infer, LINUX_FILE_PRIVATE, private, 8);
			infer_set(infer, LINUX_SOCKET_SOCK, sk, 8);
			return true;
		}
	}
	return false;
}

/* Those of the Internet's protocols stay. */
static void read_socks(struct infer *infer, struct net_samples *samples)
{
	size_t n = 0;

	for (size_t i = 0; i < samples->count; i++) {
		struct net_sample *sample = &samples->sockets[i];
		uint16_t family;

		sample->socket =
			infer_load(sample->file->bytes, infer_offset(infer, LINUX_FILE_PRIVATE));
		sample->sock =
			infer_word(infer, sample->socket + infer_offset(infer, LINUX_SOCKET_SOCK));
		infer_read_some(infer, sample->sock, sample->bytes, SOCK_BYTES);
		memcpy(&family, sample->bytes + SOCK_FAMILY, sizeof(family));
		if (family == FAMILY_INET || family == FAMILY_INET6)
			samples->sockets[n++] = *sample;
	}
	samples->count = n;
}

/* A type and its protocol, one after the other; from 6.18 on the protocol comes first. */
static bool is_type(const struct net_sample *sample, uint32_t at, bool protocol_first)
{
	uint32_t both = infer_load32(sample->bytes, at);

	if (protocol_first)
		both = both << 16 | both >> 16;
	return both == (TYPE_STREAM | PROTOCOL_TCP << 16) ||
	       both == (TYPE_DGRAM | PROTOCOL_UDP << 16);
}

static bool are_types(const struct net_samples *samples, uint32_t at, bool protocol_first)
{
	for (size_t i = 0; i < samples->count; i++) {
		if (!is_type(&samples->sockets[i], at, protocol_first))
			return false;
	}
	return true;
}

static void find_protocol(struct infer *infer, const struct net_samples *samples)
{
	for (uint32_t at = 0x80; at + 4 <= SOCK_BYTES; at += 2) {
		bool first = are_types(samples, at, true);

		if (!first && !are_types(samples, at, false))
			continue;
		infer_set(infer, LINUX_SOCK_PROTOCOL, first ? at : at + 2, 2);
		return;
	}
}

/* Behind the network namespace there are the addresses of IPv6. */
static void find_long_addresses(struct infer *infer, const struct net_samples *samples)
{
	uint64_t net = infer_symbol(infer, "init_net");

	for (uint32_t at = 0x18; net && at < 0x60; at += 8) {
		if (infer_load(samples->sockets[0].bytes, at) != net)
			continue;
		infer_set(infer, LINUX_SOCK_REMOTE6, at + 8, 16);
		infer_set(infer, LINUX_SOCK_LOCAL6, at + 24, 16);
		return;
	}
}

static void set_common(struct infer *infer)
{
	static const struct {
		enum linux_field field;
		uint32_t offset, size;
	} fields[] = {{LINUX_SOCK_REMOTE, SOCK_REMOTE, 4}, {LINUX_SOCK_LOCAL, SOCK_LOCAL, 4},
		{LINUX_SOCK_REMOTE_PORT, SOCK_REMOTE_PORT, 2},
		{LINUX_SOCK_LOCAL_PORT, SOCK_LOCAL_PORT, 2}, {LINUX_SOCK_FAMILY, SOCK_FAMILY, 2},
		{LINUX_SOCK_STATE, SOCK_STATE, 1}};

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		infer_set(infer, fields[i].field, fields[i].offset, fields[i].size);
}

void infer_sockets(struct infer *infer)
{
	struct net_samples *samples = calloc(1, sizeof(*samples));

	if (samples && infer_knows(infer, LINUX_SB_TYPE))
		take_sockets(infer, samples);
	if (samples && samples->count && find_sock(infer, samples)) {
		set_common(infer);
		read_socks(infer, samples);
		if (samples->count) {
			find_protocol(infer, samples);
			find_long_addresses(infer, samples);
		}
	}
	free(samples);
}
