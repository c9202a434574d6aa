/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_CONFIG_SETTINGS_H
#define BROKER_CONFIG_SETTINGS_H

/*
 * The settings: the structs that a configuration is decoded into, which keys.h describes and
 * config.h makes, counts and frees. All pointers belong to the struct config that they are in.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "broker/read/core.h"
#include "broker/policy/grant.h"
#include "lease/lease.h"
#include "vmsig/vmsig_memfile.h"

/* PROVIDER: never in a file; what a provider registers. */
enum config_adapter {
	CONFIG_ADAPTER_FILE,
	CONFIG_ADAPTER_QEMU,
	CONFIG_ADAPTER_PROVIDER,
	CONFIG_ADAPTER_LIBVIRT,
};

struct config_endpoint {
	char *name;
	int adapter;   /* enum config_adapter */
	int min_guard; /* enum vmsig_guard; the endpoint is not served below this */
	bool writable; /* has a write path */
	char *uuid;    /* who the guest is, across hosts; NULL: it is of this host alone */
	char **labels; /* "KEY=VALUE", sorted: what the policy may select it by (policy/selector.h)
			*/
	size_t nlabels;

	uint32_t owner; /* of the RAM file or QMP socket, where others may write to its folder:
			 * ram/beneath.h. UINT32_MAX: the folder's */

	/* adapter: file */
	char *path;         /* or: */
	char **files;       /* several, which lie end to end */
	size_t nfiles;      /* 0: `path` is the one */
	uint64_t low;       /* bytes; 0 when segments are given */
	vmsig_memseg *segs; /* file adapter's layout, or NULL */
	size_t nseg;
	bool kcr3_given; /* else it is found in the image */
	uint64_t kcr3;
	uint32_t levels;  /* 4 or 5, with kcr3_given */
	uint64_t poll_ms; /* how often the file is checked for replacement or shrinking */

	/* adapter: qemu */
	char *qmp;               /* path of the QMP socket */
	dev_t qmp_dev;           /* and which one it has to be, of one that was discovered; */
	ino_t qmp_ino;           /* 0: whichever lies there */
	char *ram;               /* the RAM file by the administrator's word, or NULL */
	uint64_t reprove_ms;     /* period of the cheap re-proof */
	uint64_t retry_ms;       /* first retry of a bootstrap or a connection; doubles */
	uint64_t retry_max_ms;   /* upper bound of the doubling */
	uint64_t qmp_timeout_ms; /* an unanswered QMP command ends the QMP connection */

	/* adapter: libvirt; also what stands from `reprove` on */
	char *libvirt; /* a URI */
	char *domain;  /* its name or UUID */
	char *pids;    /* the folder where libvirt notes its QEMUs' pids */
};

/* The RAM files of the adapter `file`, however they are written. */
static inline size_t config_endpoint_files(
	const struct config_endpoint *endpoint, char *const **ret_files)
{
	*ret_files = endpoint->nfiles ? endpoint->files : &endpoint->path;
	return endpoint->nfiles ? endpoint->nfiles : endpoint->path != NULL;
}

/* What the policy selects it by. */
static inline struct selector_subject config_endpoint_subject(
	const struct config_endpoint *endpoint)
{
	return (struct selector_subject){
		.name = endpoint->name, .labels = endpoint->labels, .nlabels = endpoint->nlabels};
}

/* What an endpoint is called that was found by its QMP socket. */
enum config_naming {
	CONFIG_NAMING_NAME, /* QEMU's -name; or, if that cannot be one: */
	CONFIG_NAMING_UUID, /* its -uuid */
	CONFIG_NAMING_FILE, /* what the glob stands for, without what follows its last dot */
};

#define CONFIG_GLOBS_MAX 8 /* components of `qmp`, from the first one with a glob on */

/* Where endpoints come from by themselves: domains of libvirt, or QMP sockets. */
struct config_discover {
	char *libvirt;                   /* a URI, or: */
	char *qmp;                       /* a folder, or a glob */
	char *domains;                   /* a glob of libvirt's names */
	int naming;                      /* enum config_naming */
	uint32_t limit;                  /* how many at once */
	struct config_endpoint endpoint; /* what all of them have */
};

struct config_listen {
	bool given; /* the configuration names the plane; ctx is always there */
	char *path;
	mode_t mode; /* of the socket file */
};

struct config_audit {
	int power;           /* each transaction waits for the disk */
	uint64_t size_max;   /* bytes of records; the oldest go beyond that */
	uint64_t age_max_ms; /* likewise */
};

/* Hosts among which guests move: broker/fleet/fleet.h. */
struct config_fleet {
	bool given;
	char *name, *host;
	char **etcd; /* URLs, with addresses as hosts */
	size_t netcd;
	char *ca, *cert, *key; /* for etcd; NULL with http:// */
	uint64_t ttl_ms;
	uint32_t rho_ppm;
	uint64_t margin_ns;
	uint64_t timeout_ms; /* of a request */
	bool allow_old_etcd;
};

/* What the broker gives up once it has started: sandbox/sandbox.h. */
struct config_sandbox {
	bool enabled;
	char *user;   /* that it becomes, or NULL: it stays who it is */
	int syscalls; /* enum syscalls_mode */
	bool landlock;
};

struct config {
	char *file; /* where it was read from */
	unsigned refs;
	char *state_dir;
	char *ca, *cert, *key, *crl; /* crl may be NULL */
	struct config_listen ctx, write, admin;
	int log_level; /* enum log_level */
	int log_json;  /* 0: logfmt */
	struct core_limits core;
	struct lease_limits leases;
	struct config_audit audit;
	struct config_sandbox sandbox;
	struct config_fleet fleet;
	uint32_t max_connections;
	uint32_t max_frame;      /* bytes of one frame from a client */
	uint32_t max_handshakes; /* in progress at once, on each plane */
	uint32_t connects;       /* a second, of a uid of the policy, before it has shaken hands */
	uint32_t stranger_connects; /* likewise, of any other uid */
	uint64_t handshake_timeout_ms;
	uint64_t tx_max;  /* bytes of a connection's send queue: hard limit */
	uint64_t tx_soft; /* held above this for soft_ms: disconnected */
	uint64_t soft_ms;
	uint64_t vouch_ns; /* how long holders take the broker's word after it was last heard of */
	uint64_t tx_all;   /* bytes of all send queues together; of a tenant's: a quarter */
	uint32_t provided; /* endpoints that one tenant may provide at once */
	uint32_t names;    /* in the state, from which on those that nobody configured get none */
	uint64_t provider_grace_ms; /* how long they outlive a lost connection */
	uint64_t bulk_old; /* bytes before of bulk data that are kept; of a tenant's: half */
	struct config_endpoint *endpoints;
	size_t nendpoints;
	struct config_discover *discover;
	size_t ndiscover;
	struct grant_tenant *tenants;
	size_t ntenants;
	const struct config_endpoint **by_name;  /* endpoints, sorted */
	const struct grant_tenant **by_identity; /* tenants, for grant_find() */
	bool ended;                              /* the file ends with a line "..." */
};

#endif
