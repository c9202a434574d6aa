/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/cluster.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/scratch.h"

#define WAIT_MS 60000
#define POLL_MS 20
#define LOG_MAX (1u << 20)

struct member {
	char name[16], data[96], log[96], client[64], peer[64];
	pid_t pid; /* 0: it does not run */
	unsigned starts;
};

struct cluster {
	char dir[64];
	unsigned n;
	struct member members[CLUSTER_MAX];
	char all[CLUSTER_MAX * 96];
	struct pki *pki;
	struct pki_cert cert;
};

/* Ports are nobody else's in a namespace of one's own. */
static void isolate(void)
{
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	int fd;

	if (unshare(CLONE_NEWNET) < 0)
		return;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &request), 0);
	close(fd);
}

static unsigned free_port(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	close(fd);
	return ntohs(address.sin_port);
}

static void run(const struct cluster *cluster, const struct member *member)
{
	char keys[3 * PATH_MAX + 128] = "", command[4 * PATH_MAX + 512];

	if (cluster->pki)
		snprintf(keys, sizeof(keys),
			" --client-cert-auth --trusted-ca-file %s --cert-file %s --key-file %s",
			pki_ca(cluster->pki), cluster->cert.cert, cluster->cert.key);
	snprintf(command, sizeof(command),
		"exec etcd --name %s --data-dir %s --log-level info --listen-client-urls %s"
		" --advertise-client-urls %s --listen-peer-urls %s"
		" --initial-advertise-peer-urls %s --initial-cluster %s%s",
		member->name, member->data, member->client, member->client, member->peer,
		member->peer, cluster->all, keys);
	execl("/bin/sh", "sh", "-c", command, NULL);
	_exit(127);
}

static void start(struct cluster *cluster, struct member *member)
{
	int log = open(member->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	assert_true(log >= 0);
	member->starts++;
	member->pid = fork();
	assert_true(member->pid >= 0);
	if (!member->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(log, 1);
		dup2(log, 2);
		run(cluster, member);
	}
	close(log);
}

static void name_members(struct cluster *cluster)
{
	char dir[sizeof(cluster->dir)];
	size_t len = 0;

	memcpy(dir, cluster->dir, sizeof(dir));
	for (unsigned i = 0; i < cluster->n; i++) {
		struct member *member = &cluster->members[i];

		snprintf(member->name, sizeof(member->name), "m%u", i);
		snprintf(member->data, sizeof(member->data), "%s/m%u", dir, i);
		snprintf(member->log, sizeof(member->log), "%s/m%u.log", dir, i);
		snprintf(member->client, sizeof(member->client), "http%s://127.0.0.1:%u",
			cluster->pki ? "s" : "", free_port());
		snprintf(member->peer, sizeof(member->peer), "http://127.0.0.1:%u", free_port());
		len += (size_t)snprintf(cluster->all + len, sizeof(cluster->all) - len, "%s%s=%s",
			i ? "," : "", member->name, member->peer);
	}
}

void cluster_rekey(struct cluster *cluster, struct pki *pki)
{
	const struct pki_request request = {.loopback = true};

	cluster->pki = pki;
	pki_issue(pki, "etcd", &request, &cluster->cert);
}

struct cluster *cluster_new(unsigned members, struct pki *pki)
{
	struct cluster *cluster;

	if (system("command -v etcd >/dev/null") != 0)
		skip();
	isolate();
	cluster = calloc(1, sizeof(*cluster));
	assert_non_null(cluster);
	strcpy(cluster->dir, "/tmp/vmsig-etcd-XXXXXX");
	scratch_make(cluster->dir);
	cluster->n = members;
	if (pki)
		cluster_rekey(cluster, pki);
	name_members(cluster);
	for (unsigned i = 0; i < members; i++)
		start(cluster, &cluster->members[i]);
	for (unsigned i = 0; i < members; i++)
		cluster_await(cluster, i);
	return cluster;
}

const char *cluster_url(const struct cluster *cluster, unsigned member)
{
	return cluster->members[member].client;
}

void cluster_signal(struct cluster *cluster, unsigned member, int signal)
{
	struct member *which = &cluster->members[member];

	if (!which->pid)
		return;
	assert_int_equal(kill(which->pid, signal), 0);
	if (signal != SIGKILL)
		return;
	assert_int_equal(waitpid(which->pid, NULL, 0), which->pid);
	which->pid = 0;
}

void cluster_restart(struct cluster *cluster, unsigned member, bool forget)
{
	struct member *which = &cluster->members[member];

	assert_int_equal(which->pid, 0);
	if (forget)
		scratch_remove(which->data);
	start(cluster, which);
	cluster_await(cluster, member);
}

static unsigned count_words(const char *path, const char *words)
{
	char *text = calloc(1, LOG_MAX + 1);
	FILE *file = fopen(path, "r");
	unsigned n = 0;

	assert_non_null(text);
	if (file) {
		(void)!fread(text, 1, LOG_MAX, file);
		fclose(file);
	}
	for (const char *at = text; (at = strstr(at, words)); at++)
		n++;
	free(text);
	return n;
}

void cluster_await(struct cluster *cluster, unsigned member)
{
	const struct member *which = &cluster->members[member];

	for (unsigned waited = 0; waited < WAIT_MS; waited += POLL_MS) {
		if (count_words(which->log, "ready to serve client requests") >= which->starts)
			return;
		nanosleep(&(struct timespec){.tv_nsec = POLL_MS * 1000000l}, NULL);
	}
	fail_msg("etcd does not serve; see %s", which->log);
}

struct cluster *cluster_free(struct cluster *cluster)
{
	if (!cluster)
		return NULL;
	for (unsigned i = 0; i < cluster->n; i++)
		cluster_signal(cluster, i, SIGKILL);
	scratch_remove(cluster->dir);
	free(cluster);
	return NULL;
}
