/* SPDX-License-Identifier: Apache-2.0 */
/* `vmsigctl sockets`: the network's endpoints that processes of a guest have open. */
#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>

#include "clients/ctl/guest.h"
#include "clients/ctl/rows.h"

#define ADDRESS_MAX (INET6_ADDRSTRLEN + sizeof("[]:65535"))
#define WORD_MAX 16

static const char *protocol_text(const vmsig_socket *socket, char buf[static WORD_MAX])
{
	static const struct {
		uint16_t number;
		const char *name;
	} names[] = {{IPPROTO_TCP, "tcp"}, {IPPROTO_UDP, "udp"}, {IPPROTO_ICMP, "icmp"},
		{IPPROTO_ICMPV6, "icmp"}, {IPPROTO_SCTP, "sctp"}, {IPPROTO_RAW, "raw"}};

	snprintf(buf, WORD_MAX, "%" PRIu16, socket->protocol);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (names[i].number == socket->protocol)
			snprintf(buf, WORD_MAX, "%s%s", names[i].name,
				socket->family == AF_INET6 ? "6" : "");
	}
	return buf;
}

/* include/net/tcp_states.h */
static const char *state_text(const vmsig_socket *socket)
{
	static const char *const names[] = {"", "established", "syn-sent", "syn-received",
		"fin-wait-1", "fin-wait-2", "time-wait", "closed", "close-wait", "last-ack",
		"listening", "closing", "syn-received"};

	if (socket->protocol != IPPROTO_TCP)
		return socket->state == 1 ? "connected" : "";
	return socket->state < sizeof(names) / sizeof(names[0]) ? names[socket->state] : "?";
}

static const char *address_text(
	uint16_t family, const uint8_t *bytes, uint16_t port, char buf[static ADDRESS_MAX])
{
	char address[INET6_ADDRSTRLEN] = "?";

	(void)inet_ntop(family, bytes, address, sizeof(address));
	snprintf(buf, ADDRESS_MAX, family == AF_INET6 ? "[%s]:%u" : "%s:%u", address,
		(unsigned)port);
	return buf;
}

static json_t *socket_json(const void *item)
{
	const vmsig_socket *socket = item;
	char word[WORD_MAX], local[ADDRESS_MAX], remote[ADDRESS_MAX];

	return json_pack("{s:I, s:I, s:s, s:s, s:s, s:s, s:I, s:o}", "pid", (json_int_t)socket->pid,
		"fd", (json_int_t)socket->fd, "protocol", protocol_text(socket, word), "state",
		state_text(socket), "local",
		address_text(socket->family, socket->local, socket->local_port, local), "remote",
		address_text(socket->family, socket->remote, socket->remote_port, remote), "inode",
		(json_int_t)socket->inode, "object", value_hex(socket->object));
}

static void add_row(struct table *table, const void *item)
{
	const vmsig_socket *socket = item;
	char text[ADDRESS_MAX], word[WORD_MAX];

	table_add(table, "%" PRIu32, socket->pid);
	table_add(table, "%" PRId32, socket->fd);
	table_add(table, "%s", protocol_text(socket, word));
	table_add(
		table, "%s", address_text(socket->family, socket->local, socket->local_port, text));
	table_add(table, "%s",
		address_text(socket->family, socket->remote, socket->remote_port, text));
	table_add(table, "%s", state_text(socket));
}

static int print_sockets(const struct ctl *ctl, const vmsig_socket_list *list)
{
	static const struct table_column columns[] = {{"PID", 0, true}, {"FD", 0, true},
		{"PROTOCOL", 0, false}, {"LOCAL", 0, false}, {"REMOTE", 0, false},
		{"STATE", 0, false}};
	static const struct ctl_rows rows = {.columns = columns,
		.ncolumns = sizeof(columns) / sizeof(columns[0]),
		.json = socket_json,
		.add = add_row};

	return ctl_rows_print(ctl, &rows, list->sockets, list->count, sizeof(*list->sockets));
}

static int look(const struct ctl *ctl, struct ctl_guest *guest, const char *pid)
{
	vmsig_socket_list *list;
	vmsig_proc process;
	int code = pid ? ctl_guest_process(guest, pid, &process) : EXIT_OK, r;

	if (code)
		return code;
	r = vmsig_os_sockets(guest->os, pid ? &process : NULL, &list);
	if (r)
		return ctl_guest_fail(guest, r, "sockets");
	code = print_sockets(ctl, list);
	code = code ? code : ctl_guest_whole(guest, list->partial, "sockets");
	vmsig_socket_list_free(list);
	return code;
}

static int run_sockets(struct ctl *ctl, int argc, char **argv)
{
	return ctl_guest_run(ctl, &ctl_sockets, argc, argv, look);
}

const struct ctl_command ctl_sockets = {
	.name = "sockets",
	.arguments = "[--pid PID] ENDPOINT",
	.summary = "List the network's endpoints that processes of a guest have open",
	.help = "  --pid PID  of that process only\n"
		"\n"
		"Examples:\n"
		"  vmsigctl sockets web1\n"
		"  vmsigctl sockets web1 --json |\n"
		"      jq -r '.[] | select(.state == \"listening\") | .local'\n",
	.run = run_sockets,
};
