/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/config/keys.h"

#include <stddef.h>

#include "broker/config/settings.h"
#include "broker/log.h"
#include "broker/sandbox/syscalls.h"
#include "proto/wire/chan.h"
#include "proto/guest/pgwalk.h"
#include "proto/guest/physmap.h"

#define FOUR_GIB (1ull << 32)
#define SECOND_NS (1000ull * 1000 * 1000)
#define HOUR_MS (3600ull * 1000)

static const struct decode_choice adapters[] = {{"file", CONFIG_ADAPTER_FILE},
	{"qemu", CONFIG_ADAPTER_QEMU}, {"libvirt", CONFIG_ADAPTER_LIBVIRT}, {NULL, 0}};
static const struct decode_choice guards[] = {{"none", VMSIG_GUARD_NONE},
	{"mode", VMSIG_GUARD_MODE}, {"ro-mount", VMSIG_GUARD_RO_MOUNT},
	{"sealed", VMSIG_GUARD_SEALED}, {NULL, 0}};
static const struct decode_choice roles[] = {{"sensor", IDENTITY_SENSOR},
	{"operator", IDENTITY_OPERATOR}, {"admin", IDENTITY_ADMIN}, {"provider", IDENTITY_PROVIDER},
	{"monitor", IDENTITY_MONITOR}, {NULL, 0}};
static const struct decode_choice log_levels[] = {{"error", LOG_LEVEL_ERROR},
	{"warning", LOG_LEVEL_WARNING}, {"info", LOG_LEVEL_INFO}, {"debug", LOG_LEVEL_DEBUG},
	{NULL, 0}};
static const struct decode_choice log_formats[] = {{"logfmt", 0}, {"json", 1}, {NULL, 0}};

#define SEG(member) offsetof(vmsig_memseg, member)
static const struct decode_field segment_fields[] = {
	{"gpa", DECODE_SIZE, SEG(gpa), .max = UINT64_MAX, .required = true},
	{"len", DECODE_SIZE, SEG(len), .min = 1, .max = UINT64_MAX, .required = true},
	{"offset", DECODE_SIZE, SEG(file_off), .max = UINT64_MAX, .required = true},
	{.key = NULL},
};

#define EP(member) offsetof(struct config_endpoint, member)
const struct decode_field keys_endpoint[] = {
	{"name", DECODE_NAME, EP(name), .required = true},
	{"adapter", DECODE_ENUM, EP(adapter), .choices = adapters, .required = true},
	{"min_guard", DECODE_ENUM, EP(min_guard), .choices = guards, .standard = VMSIG_GUARD_NONE},
	{"writable", DECODE_BOOL, EP(writable), .max = 1},
	{"uuid", DECODE_STRING, EP(uuid)},
	{"labels", DECODE_LABELS, EP(labels), .count_offset = EP(nlabels), .max = 64},
	{"owner", DECODE_UINT32, EP(owner), .max = UINT32_MAX - 1, .standard = UINT32_MAX},
	{"path", DECODE_PATH, EP(path)},
	{"files", DECODE_PATH_LIST, EP(files), .count_offset = EP(nfiles), .min = 1,
		.max = VMSIG_MEMFILES_MAX},
	{"low", DECODE_SIZE, EP(low), .min = 4096, .max = FOUR_GIB},
	{"segments", DECODE_LIST, EP(segs), .count_offset = EP(nseg), .min = 1,
		.max = PHYSMAP_MAX_SEGS, .fields = segment_fields, .size = sizeof(vmsig_memseg)},
	{"kcr3", DECODE_UINT64, EP(kcr3), .given_offset = EP(kcr3_given), .min = 4096,
		.max = PGWALK_ADDR_MASK},
	{"levels", DECODE_UINT32, EP(levels), .min = 4, .max = 5, .standard = 4},
	{"poll", DECODE_MILLIS, EP(poll_ms), .min = 10, .max = HOUR_MS, .standard = 1000},
	{"qmp", DECODE_PATH, EP(qmp)},
	{"ram", DECODE_PATH, EP(ram)},
	{"reprove", DECODE_MILLIS, EP(reprove_ms), .min = 100, .max = HOUR_MS, .standard = 2000},
	{"retry", DECODE_MILLIS, EP(retry_ms), .min = 10, .max = HOUR_MS, .standard = 250},
	{"retry_max", DECODE_MILLIS, EP(retry_max_ms), .min = 10, .max = HOUR_MS, .standard = 5000},
	{"qmp_timeout", DECODE_MILLIS, EP(qmp_timeout_ms), .min = 100, .max = HOUR_MS,
		.standard = 5000},
	{"libvirt", DECODE_STRING, EP(libvirt)},
	{"domain", DECODE_STRING, EP(domain)},
	{"pids", DECODE_PATH, EP(pids)},
	{.key = NULL},
};

#define RG(member) offsetof(struct grant_range, member)
static const struct decode_field range_fields[] = {
	{"gpa", DECODE_SIZE, RG(gpa), .max = UINT64_MAX, .required = true},
	{"len", DECODE_SIZE, RG(len), .min = 1, .max = UINT64_MAX, .required = true},
	{.key = NULL},
};

#define WR(member) offsetof(struct grant_rule, member)
static const struct decode_field write_fields[] = {
	{"endpoints", DECODE_STRING_LIST, WR(endpoints), .count_offset = WR(nendpoints), .min = 1,
		.max = 4096, .required = true},
	{"ranges", DECODE_LIST, WR(ranges), .count_offset = WR(nranges), .min = 1,
		.max = LEASE_RANGES_MAX, .fields = range_fields,
		.size = sizeof(struct grant_range)},
	{"ttl_min", DECODE_NANOS, WR(ttl_min_ns), .min = SECOND_NS / 10, .max = 3600 * SECOND_NS,
		.standard = SECOND_NS},
	{"ttl_max", DECODE_NANOS, WR(ttl_max_ns), .min = SECOND_NS / 10, .max = 3600 * SECOND_NS,
		.standard = 30 * SECOND_NS},
	{"hold_max", DECODE_NANOS, WR(hold_max_ns), .min = SECOND_NS / 10,
		.max = 24 * 3600 * SECOND_NS, .standard = 3600 * SECOND_NS},
	{"wait_max", DECODE_NANOS, WR(wait_max_ns), .max = 24 * 3600 * SECOND_NS,
		.standard = 60 * SECOND_NS},
	{"priority_max", DECODE_UINT32, WR(priority_max), .max = UINT32_MAX, .standard = 0},
	{"leases", DECODE_UINT32, WR(leases), .min = 1, .max = 65536, .standard = 64},
	{"waits", DECODE_UINT32, WR(waits), .min = 1, .max = 65536, .standard = 64},
	{"writes_per_second", DECODE_UINT32, WR(writes_rate), .min = 1, .max = UINT32_MAX,
		.standard = 100000},
	/* About what bulk data of one tenant reaches on a machine that does other things too. */
	{"bytes_per_second", DECODE_SIZE, WR(bytes_rate), .min = 4096, .max = UINT64_MAX >> 10,
		.standard = 256 << 20},
	{"bulk", DECODE_SIZE, WR(bulk_max), .max = 1ull << 40, .standard = 64 << 20},
	{"quiesce", DECODE_MILLIS, WR(quiesce_max_ms), .max = 60000, .standard = 0},
	{"keep_bytes", DECODE_BOOL, WR(keep_bytes), .max = 1},
	{.key = NULL},
};

#define TE(member) offsetof(struct grant_tenant, member)
static const struct decode_field quota_fields[] = {
	{"connections", DECODE_UINT32, TE(tenant.quota.connections), .min = 1, .max = 100000,
		.standard = 64},
	{"connects_per_second", DECODE_UINT32, TE(connects), .min = 1, .max = 100000,
		.standard = 1000},
	{"subscriptions", DECODE_UINT32, TE(tenant.quota.subscriptions), .min = 1, .max = 100000,
		.standard = 256},
	{"globs", DECODE_UINT32, TE(tenant.quota.globs), .max = 100000, .standard = 16},
	{"pending", DECODE_UINT32, TE(tenant.quota.pending), .min = 1, .max = 4096, .standard = 64},
	{"audit", DECODE_SIZE, TE(audit_rate), .min = 1024, .max = 1ull << 40, .standard = 1 << 20},
	{"queued", DECODE_SIZE, TE(queued_max), .min = 1 << 20, .max = 1 << 30,
		.standard = 16 << 20},
	{.key = NULL},
};

static const struct decode_field tenant_fields[] = {
	{"name", DECODE_NAME, TE(tenant.name), .required = true},
	{"role", DECODE_ENUM, TE(role), .choices = roles, .required = true},
	{"uids", DECODE_UINT32_LIST, TE(uids), .count_offset = TE(nuids), .min = 1, .max = 1024,
		.required = true},
	{"endpoints", DECODE_STRING_LIST, TE(tenant.endpoints),
		.count_offset = TE(tenant.nendpoints), .max = 4096},
	{"fleet", DECODE_STRING_LIST, TE(tenant.fleet), .count_offset = TE(tenant.nfleet),
		.max = 4096},
	{"min_guard", DECODE_ENUM, TE(tenant.min_guard), .choices = guards,
		.standard = VMSIG_GUARD_NONE},
	{"quota", DECODE_MAP, .fields = quota_fields},
	{"write", DECODE_LIST, TE(rules), .count_offset = TE(nrules), .max = 1024,
		.fields = write_fields, .size = sizeof(struct grant_rule)},
	{.key = NULL},
};

#define CF(member) offsetof(struct config, member)
static const struct decode_field tls_fields[] = {
	{"ca", DECODE_PATH, CF(ca), .required = true},
	{"cert", DECODE_PATH, CF(cert), .required = true},
	{"key", DECODE_PATH, CF(key), .required = true},
	{"crl", DECODE_PATH, CF(crl)},
	{.key = NULL},
};

static const struct decode_field ctx_fields[] = {
	{"path", DECODE_PATH, CF(ctx.path), .standard_string = "/run/vmsig/ctx.sock"},
	{"mode", DECODE_MODE, CF(ctx.mode), .max = 0777, .standard = 0666},
	{.key = NULL},
};

static const struct decode_field write_listen_fields[] = {
	{"path", DECODE_PATH, CF(write.path), .standard_string = "/run/vmsig/write.sock"},
	{"mode", DECODE_MODE, CF(write.mode), .max = 0777, .standard = 0666},
	{.key = NULL},
};

static const struct decode_field admin_fields[] = {
	{"path", DECODE_PATH, CF(admin.path), .standard_string = "/run/vmsig/admin.sock"},
	{"mode", DECODE_MODE, CF(admin.mode), .max = 0777, .standard = 0600},
	{.key = NULL},
};

static const struct decode_field listen_fields[] = {
	{"ctx", DECODE_MAP, .given_offset = CF(ctx.given), .fields = ctx_fields},
	{"write", DECODE_MAP, .given_offset = CF(write.given), .fields = write_listen_fields},
	{"admin", DECODE_MAP, .given_offset = CF(admin.given), .fields = admin_fields},
	{.key = NULL},
};

static const struct decode_choice durabilities[] = {{"process", 0}, {"power", 1}, {NULL, 0}};

static const struct decode_field audit_fields[] = {
	{"durability", DECODE_ENUM, CF(audit.power), .choices = durabilities, .standard = 0},
	{"size", DECODE_SIZE, CF(audit.size_max), .min = 1 << 20, .max = 1ull << 40,
		.standard = 1 << 30},
	{"age", DECODE_MILLIS, CF(audit.age_max_ms), .min = 60 * 1000, .max = 87600 * HOUR_MS,
		.standard = 2160 * HOUR_MS},
	{.key = NULL},
};

static const struct decode_choice syscalls_modes[] = {
	{"enforce", SYSCALLS_ENFORCE}, {"log", SYSCALLS_LOG}, {"off", SYSCALLS_OFF}, {NULL, 0}};

static const struct decode_field sandbox_fields[] = {
	{"enabled", DECODE_BOOL, CF(sandbox.enabled), .max = 1, .standard = 1},
	{"user", DECODE_NAME, CF(sandbox.user)},
	{"syscalls", DECODE_ENUM, CF(sandbox.syscalls), .choices = syscalls_modes,
		.standard = SYSCALLS_ENFORCE},
	{"landlock", DECODE_BOOL, CF(sandbox.landlock), .max = 1, .standard = 1},
	{.key = NULL},
};

/* A holder of a guest applies for ttl x (1 - rho) - margin after a renewal. */
static const struct decode_field fleet_fields[] = {
	{"name", DECODE_NAME, CF(fleet.name)},
	{"host", DECODE_NAME, CF(fleet.host)},
	{"etcd", DECODE_STRING_LIST, CF(fleet.etcd), .count_offset = CF(fleet.netcd), .min = 1,
		.max = 16},
	{"ca", DECODE_PATH, CF(fleet.ca)},
	{"cert", DECODE_PATH, CF(fleet.cert)},
	{"key", DECODE_PATH, CF(fleet.key)},
	{"ttl", DECODE_MILLIS, CF(fleet.ttl_ms), .min = 2000, .max = HOUR_MS, .standard = 10000},
	{"rho", DECODE_UINT32, CF(fleet.rho_ppm), .max = 100000, .standard = 1000},
	{"margin", DECODE_NANOS, CF(fleet.margin_ns), .min = SECOND_NS / 100, .max = 60 * SECOND_NS,
		.standard = SECOND_NS / 2},
	{"timeout", DECODE_MILLIS, CF(fleet.timeout_ms), .min = 100, .max = 60000,
		.standard = 2000},
	{"allow_old_etcd", DECODE_BOOL, CF(fleet.allow_old_etcd), .max = 1},
	{.key = NULL},
};

static const struct decode_field log_fields[] = {
	{"level", DECODE_ENUM, CF(log_level), .choices = log_levels, .standard = LOG_LEVEL_INFO},
	{"format", DECODE_ENUM, CF(log_json), .choices = log_formats, .standard = 0},
	{.key = NULL},
};

static const struct decode_field limit_fields[] = {
	{"endpoints", DECODE_UINT32, CF(core.endpoints), .min = 1, .max = 100000, .standard = 4096},
	{"connections", DECODE_UINT32, CF(max_connections), .min = 1, .max = 1000000,
		.standard = 16384},
	{"inflight_contexts", DECODE_UINT32, CF(core.inflight), .min = 1, .max = 100000,
		.standard = 4096},
	{"take_timeout", DECODE_NANOS, CF(core.take_timeout_ns), .min = SECOND_NS / 10,
		.max = 3600 * SECOND_NS, .standard = 30 * SECOND_NS},
	{"handshakes", DECODE_UINT32, CF(max_handshakes), .min = 1, .max = 100000, .standard = 256},
	{"connects_per_second", DECODE_UINT32, CF(connects), .min = 1, .max = 100000,
		.standard = 1000},
	{"stranger_connects_per_second", DECODE_UINT32, CF(stranger_connects), .min = 1,
		.max = 100000, .standard = 20},
	{"handshake_timeout", DECODE_MILLIS, CF(handshake_timeout_ms), .min = 100, .max = HOUR_MS,
		.standard = 10000},
	{"frame", DECODE_UINT32, CF(max_frame), .min = 4096, .max = CHAN_FRAME_MAX,
		.standard = CHAN_FRAME_MAX},
	{"send_queue", DECODE_SIZE, CF(tx_max), .min = 64 << 10, .max = 1 << 30,
		.standard = 4 << 20},
	{"send_queue_soft", DECODE_SIZE, CF(tx_soft), .min = 4 << 10, .max = 1 << 30,
		.standard = 256 << 10},
	{"send_queue_soft_time", DECODE_MILLIS, CF(soft_ms), .min = 100, .max = HOUR_MS,
		.standard = 30000},
	{"vouch", DECODE_NANOS, CF(vouch_ns), .min = SECOND_NS / 2, .max = 600 * SECOND_NS,
		.standard = 3 * SECOND_NS},
	{"send_queues", DECODE_SIZE, CF(tx_all), .min = 4 << 20, .max = 1ull << 40,
		.standard = 256 << 20},
	/* A bulk write of each of two tenants; or of one of them, while the one before is hashed.
	 */
	{"bulk_old", DECODE_SIZE, CF(bulk_old), .max = 1ull << 40, .standard = 128 << 20},
	{"leases", DECODE_UINT32, CF(leases.leases), .min = 1, .max = 1000000, .standard = 65536},
	{"waiters", DECODE_UINT32, CF(leases.waiters), .min = 1, .max = 100000, .standard = 1024},
	{"lease_ranges", DECODE_UINT32, CF(leases.ranges), .min = 1, .max = LEASE_RANGES_MAX,
		.standard = 64},
	{"provided", DECODE_UINT32, CF(provided), .max = 4096, .standard = 64},
	{"names", DECODE_UINT32, CF(names), .min = 1, .max = 1000000, .standard = 65536},
	{"provider_grace", DECODE_MILLIS, CF(provider_grace_ms), .max = HOUR_MS, .standard = 10000},
	{"preempt_grace", DECODE_NANOS, CF(leases.preempt_grace_ns), .max = 3600 * SECOND_NS,
		.standard = 2 * SECOND_NS},
	{"resume_grace", DECODE_NANOS, CF(leases.resume_grace_ns), .max = 3600 * SECOND_NS,
		.standard = 2 * SECOND_NS},
	{.key = NULL},
};

static const struct decode_choice namings[] = {{"name", CONFIG_NAMING_NAME},
	{"uuid", CONFIG_NAMING_UUID}, {"file", CONFIG_NAMING_FILE}, {NULL, 0}};

#define DS(member) offsetof(struct config_discover, member)
const struct decode_field keys_discover[] = {
	{"libvirt", DECODE_STRING, DS(libvirt)},
	{"qmp", DECODE_PATH, DS(qmp)},
	{"name", DECODE_ENUM, DS(naming), .choices = namings, .standard = CONFIG_NAMING_NAME},
	{"owner", DECODE_UINT32, DS(endpoint.owner), .max = UINT32_MAX - 1, .standard = UINT32_MAX},
	{"domains", DECODE_STRING, DS(domains), .standard_string = "*"},
	{"limit", DECODE_UINT32, DS(limit), .min = 1, .max = 4096, .standard = 1024},
	{"pids", DECODE_PATH, DS(endpoint.pids)},
	{"min_guard", DECODE_ENUM, DS(endpoint.min_guard), .choices = guards,
		.standard = VMSIG_GUARD_NONE},
	{"writable", DECODE_BOOL, DS(endpoint.writable), .max = 1},
	{"labels", DECODE_LABELS, DS(endpoint.labels), .count_offset = DS(endpoint.nlabels),
		.max = 64},
	{"reprove", DECODE_MILLIS, DS(endpoint.reprove_ms), .min = 100, .max = HOUR_MS,
		.standard = 2000},
	{"retry", DECODE_MILLIS, DS(endpoint.retry_ms), .min = 10, .max = HOUR_MS, .standard = 250},
	{"retry_max", DECODE_MILLIS, DS(endpoint.retry_max_ms), .min = 10, .max = HOUR_MS,
		.standard = 5000},
	{"qmp_timeout", DECODE_MILLIS, DS(endpoint.qmp_timeout_ms), .min = 100, .max = HOUR_MS,
		.standard = 5000},
	{.key = NULL},
};

const struct decode_field keys_config[] = {
	{"state_dir", DECODE_PATH, CF(state_dir), .standard_string = "/var/lib/vmsig"},
	{"tls", DECODE_MAP, .fields = tls_fields, .required = true},
	{"listen", DECODE_MAP, .fields = listen_fields},
	{"log", DECODE_MAP, .fields = log_fields},
	{"limits", DECODE_MAP, .fields = limit_fields},
	{"audit", DECODE_MAP, .fields = audit_fields},
	{"sandbox", DECODE_MAP, .fields = sandbox_fields},
	{"fleet", DECODE_MAP, .given_offset = CF(fleet.given), .fields = fleet_fields},
	{"endpoints", DECODE_LIST, CF(endpoints), .count_offset = CF(nendpoints), .max = 100000,
		.fields = keys_endpoint, .size = sizeof(struct config_endpoint)},
	{"discover", DECODE_LIST, CF(discover), .count_offset = CF(ndiscover), .max = 64,
		.fields = keys_discover, .size = sizeof(struct config_discover)},
	{"tenants", DECODE_LIST, CF(tenants), .count_offset = CF(ntenants), .max = 10000,
		.fields = tenant_fields, .size = sizeof(struct grant_tenant)},
	{.key = NULL},
};
