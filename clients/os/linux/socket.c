/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/linux/socket.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "clients/os/fault.h"
#include "clients/os/grow.h"
#include "clients/os/linux/file.h"
#include "vmsig/vmsig_error.h"

#define SOCKET_PATH "socket:["

/* include/linux/socket.h */
#define FAMILY_INET 2u
#define FAMILY_INET6 10u

static int append(vmsig_socket_list *list, const vmsig_socket *socket)
{
	vmsig_socket *sockets = grow_array(list->sockets, list->count, sizeof(*sockets));

	if (!sockets)
		return VMSIG_ERR_NO_MEMORY;
	list->sockets = sockets;
	sockets[list->count++] = *socket;
	return 0;
}

static void read_addresses(struct linux_kernel *kernel, uint64_t sock, vmsig_socket *socket)
{
	bool six = socket->family == FAMILY_INET6;
	size_t len = six ? 16 : 4;
	const enum linux_field longer[] = {LINUX_SOCK_LOCAL6, LINUX_SOCK_REMOTE6};

	if (six)
		linux_need(kernel, longer, sizeof(longer) / sizeof(longer[0]));
	linux_read(kernel, linux_at(kernel, sock, six ? LINUX_SOCK_LOCAL6 : LINUX_SOCK_LOCAL),
		socket->local, len);
	linux_read(kernel, linux_at(kernel, sock, six ? LINUX_SOCK_REMOTE6 : LINUX_SOCK_REMOTE),
		socket->remote, len);
	socket->local_port = (uint16_t)linux_get(kernel, sock, LINUX_SOCK_LOCAL_PORT);
	/* That one alone is in the network's order. */
	socket->remote_port = be16toh((uint16_t)linux_get(kernel, sock, LINUX_SOCK_REMOTE_PORT));
}

/* False: it is closed by now, or none of the Internet's. */
static bool read_socket(struct linux_kernel *kernel, uint64_t file, vmsig_socket *socket)
{
	static const enum linux_field needed[] = {LINUX_FILE_PRIVATE, LINUX_FILE_INODE,
		LINUX_SOCKET_SOCK, LINUX_SOCK_FAMILY, LINUX_SOCK_STATE, LINUX_SOCK_LOCAL,
		LINUX_SOCK_REMOTE, LINUX_SOCK_LOCAL_PORT, LINUX_SOCK_REMOTE_PORT};
	uint64_t sock;

	linux_need(kernel, needed, sizeof(needed) / sizeof(needed[0]));
	sock = linux_get(kernel, linux_get(kernel, file, LINUX_FILE_PRIVATE), LINUX_SOCKET_SOCK);
	if (!sock || kernel->fault)
		return false;
	socket->object = sock;
	socket->inode =
		linux_get(kernel, linux_get(kernel, file, LINUX_FILE_INODE), LINUX_INODE_NUMBER);
	socket->family = (uint16_t)linux_get(kernel, sock, LINUX_SOCK_FAMILY);
	if (socket->family != FAMILY_INET && socket->family != FAMILY_INET6)
		return false;
	socket->state = (uint8_t)linux_get(kernel, sock, LINUX_SOCK_STATE);
	socket->protocol = (uint16_t)linux_get(kernel, sock, LINUX_SOCK_PROTOCOL);
	read_addresses(kernel, sock, socket);
	return !kernel->fault;
}

static int take(struct linux_kernel *kernel, const vmsig_proc *process, const vmsig_open_file *file,
	vmsig_socket_list *list)
{
	vmsig_socket socket = {.pid = process->pid, .fd = file->number};

	linux_begin(kernel);
	if (read_socket(kernel, file->object, &socket))
		return append(list, &socket);
	if (!fault_again(kernel->fault))
		return kernel->fault;
	list->partial = true;
	return 0;
}

int linux_socket_list(
	struct linux_kernel *kernel, const vmsig_proc *process, vmsig_socket_list *list)
{
	vmsig_file_list files = {0};
	int r = linux_file_list(kernel, process, &files);

	for (size_t i = 0; i < files.count && !r; i++) {
		if (strncmp(files.files[i].path, SOCKET_PATH, strlen(SOCKET_PATH)) == 0)
			r = take(kernel, process, &files.files[i], list);
	}
	list->partial |= files.partial;
	linux_file_clear(&files);
	free(files.files);
	return r;
}
