/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ADAPTERS_LIBVIRT_DOMAINS_H
#define BROKER_ADAPTERS_LIBVIRT_DOMAINS_H

/*
 * The domains that run at a URI of libvirt, by a thread of its own: listed at each event of their
 * life, some together, and now and then without one. While libvirtd is away the last list stays.
 *
 * A domain's labels are what stands in its metadata for DOMAINS_LABELS, as KEY=VALUE between
 * spaces; and uuid=UUID, and domain=NAME unless the name has spaces or is too long for a label.
 */

#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#define DOMAINS_LABELS "urn:vmsig:labels"

struct domains;

struct domains_one {
	char *name; /* libvirt's */
	char *uuid;
	char **labels; /* "KEY=VALUE" */
	size_t nlabels;
};

struct domains_list {
	struct domains_one *all; /* sorted by uuid */
	size_t n;
	size_t more; /* that matched and were beyond the limit */
};

struct domains_env {
	uv_loop_t *loop;
	const char *uri, *glob;
	uint32_t limit;
	/* A new list, from the loop; borrowed. `why` is not "": libvirt cannot be asked, and `list`
	 * is NULL. */
	void (*listed)(void *arg, const struct domains_list *list, const char *why);
	void *arg;
};

/* Strings are copied. -errno. */
__attribute__((warn_unused_result)) int domains_watch(
	struct domains **ret_domains, const struct domains_env *env);
/* Nothing is called any more. Never waits. Accepts NULL, returns NULL. */
struct domains *domains_forget(struct domains *domains);

#endif
