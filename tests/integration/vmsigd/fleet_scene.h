/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_INTEGRATION_VMSIGD_FLEET_SCENE_H
#define TESTS_INTEGRATION_VMSIGD_FLEET_SCENE_H

/*
 * Two brokers as two hosts, host1 and host2, of one fleet, a real etcd between them, and one guest
 * (files, 1 MiB) under one identity on both. The operator alice may write to it, the sensor acme
 * sees it, root administers.
 */

#include "tests/support/cluster.h"
#include "tests/support/relay.h"
#include "tests/support/write_client.h"
#include "vmsig/vmsig_error.h"

#define FLEET_RAM (1u << 20)
#define FLEET_SHORT 6000u  /* ms */
#define FLEET_LONG 300000u /* longer than the test */
#define FLEET_ADDRESS 0x4000u
#define FLEET_OURS "this host has the guest"
#define FLEET_GUEST "6f1f2c1e-0000-4000-8000-0000000000aa"

struct fleet_host {
	struct daemon *daemon;
	struct pki_cert operator, admin, sensor, etcd;
	uint64_t sequence;
	struct relay way; /* to the first member, instead of all of them; zeroed: there is none */
};

struct fleet_stage {
	struct pki *pki; /* of etcd */
	struct cluster *cluster;
	unsigned members;
	const char *ttl;
	const char *tenants; /* more of them, as they are configured; NULL: none */
	struct fleet_host hosts[2];
};

extern struct fleet_stage fleet_scene;

#define FLEET_ENDPOINT(name)                                                                       \
	"{name: " name ", adapter: file, path: " name ".ram, low: 1MiB, kcr3: 0x2000,\n"           \
	"     writable: yes, uuid: " FLEET_GUEST "}"

/* With so many members of etcd, and this TTL of hosts. */
void fleet_scene_begin(unsigned members, const char *ttl);
/* cmocka fixtures, with one. */
int fleet_scene_setup(void **state);
int fleet_scene_teardown(void **state);
/* Writes the host's configuration, with this endpoint. */
void fleet_scene_configure(struct fleet_host *host, unsigned number, const char *endpoint);
/* Both run, and the first has the guest. */
void fleet_scene_start(void);

/* ---- operators ---- */

void fleet_scene_open(struct write_client *client, struct fleet_host *host);
/* Whoever takes over waits for the last lease's TTL too. */
uint64_t fleet_scene_ask(struct write_client *client, uint32_t ttl_ms);
struct write_lease fleet_scene_acquire(struct write_client *client, uint32_t ttl_ms);
/* A new connection takes the lease over: the answer's error, 0: it has it. */
int fleet_scene_resume(struct write_client *client, const struct write_lease *lease);
/* The refusal of a request for a lease: its code, and that it says these words. */
void fleet_scene_refused_at(
	struct write_client *client, const char *endpoint, int code, const char *words);
void fleet_scene_refused(struct write_client *client, int code, const char *words);
/* Writes a word; the answer. */
int fleet_scene_put(struct write_client *client, struct fleet_host *host,
	const struct write_lease *lease, uint64_t word);
/* What the guest of this host has in its memory. */
uint64_t fleet_scene_word(const struct fleet_host *host);

/* ---- administrators ---- */

/* The host's answer to a request; to be freed. */
Vmsig__AdminMessage *fleet_scene_ask_admin(
	struct fleet_host *host, Vmsig__AdminRequest *request, Vmsig__AdminMessage__BodyCase body);
/* The same, as another one. */
Vmsig__AdminMessage *fleet_scene_ask_as(struct fleet_host *host, const struct pki_cert *who,
	Vmsig__AdminRequest *request, Vmsig__AdminMessage__BodyCase body);
/* At another socket: what is asked of the fleet is the same bytes at both of its planes. */
Vmsig__AdminMessage *fleet_scene_ask_at(struct fleet_host *host, const char *socket,
	const struct pki_cert *who, Vmsig__AdminRequest *request,
	Vmsig__AdminMessage__BodyCase body);
/* What the host's broker says of its guest. */
void fleet_scene_view_is(struct fleet_host *host, const char *state, const char *holder);
/* The answer's error, 0: it was done. */
int fleet_scene_bump(struct fleet_host *host);
/* The `detail` of the audit's record of the kind, of which there is one, and whose it is. */
void fleet_scene_recorded(struct fleet_host *host, Vmsig__AuditRecord__Kind kind,
	const char *tenant, char ret_detail[static 256]);
void fleet_scene_add(struct fleet_host *host, const char *yaml);

#endif
