/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/ctl/mount_guest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int mount_errno(int error)
{
	static const struct {
		int error, number;
	} numbers[] = {{VMSIG_ERR_STALE_EPOCH, ESTALE}, {VMSIG_ERR_NOT_READY, EAGAIN},
		{VMSIG_ERR_NO_BROKER, EAGAIN}, {VMSIG_ERR_TORN, EAGAIN}, {VMSIG_ERR_GONE, ENOENT},
		{VMSIG_ERR_NO_SUCH_ENDPOINT, ENOENT}, {VMSIG_ERR_UNSUPPORTED, EOPNOTSUPP},
		{VMSIG_ERR_NO_MEMORY, ENOMEM}, {VMSIG_ERR_FORBIDDEN, EACCES}};

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		if (numbers[i].error == -error)
			return -numbers[i].number;
	}
	return error ? -EIO : 0;
}

int mount_guest_check(const struct mount_guest *guest)
{
	uint64_t unused;
	int r = vmsig_mem_read_begin(guest->guest.context.mem, &unused);

	/* A read that races with a write is for who reads. */
	return r == -VMSIG_ERR_TORN || r == -VMSIG_ERR_UNSUPPORTED ? 0 : mount_errno(r);
}

static void guest_close(struct mount_guest *guest)
{
	for (size_t i = 0; i < MOUNT_FORMATS; i++) {
		if (guest->has_core[i])
			corefile_deinit(&guest->cores[i]);
	}
	for (size_t i = 0; i < MOUNT_TEXTS; i++)
		free(guest->texts[i].bytes);
	ctl_guest_close(&guest->guest);
	free(guest);
}

int mount_guests_list(const struct mount_guests *guests, mount_name_fn add, void *ctx)
{
	vmsig_endpoint_list *list;
	vmsig *v;
	int code = ctl_connect(guests->ctl, &v), r;

	if (code)
		return -EAGAIN;
	r = vmsig_list(v, &list, (int)guests->ctl->wait_ms);
	if (!r) {
		for (size_t i = 0; i < list->count; i++)
			add(ctx, list->endpoints[i].name);
		vmsig_endpoint_list_free(list);
	}
	vmsig_close(v);
	return mount_errno(r);
}

struct sought {
	const char *name;
	bool found;
};

static void compare_name(void *ctx, const char *name)
{
	struct sought *sought = ctx;

	sought->found |= strcmp(sought->name, name) == 0;
}

/* Programs ask each folder for names that they know (.git, .hidden): that such a guest is not there
 * is nothing to tell anybody. */
static int guest_look(const struct mount_guests *guests, const char *name)
{
	struct sought sought = {.name = name};
	int r = mount_guests_list(guests, compare_name, &sought);

	return r ? r : sought.found ? 0 : -ENOENT;
}

static int guest_open(
	const struct mount_guests *guests, const char *name, struct mount_guest **ret_guest)
{
	struct mount_guest *guest;
	int r = guest_look(guests, name), code;

	if (r)
		return r;
	guest = calloc(1, sizeof(*guest));
	if (!guest)
		return -ENOMEM;
	snprintf(guest->name, sizeof(guest->name), "%s", name);
	code = ctl_context_open(guests->ctl, guest->name, &guest->guest.context);
	if (code) {
		free(guest);
		return code == EXIT_NOT_READY ? -EAGAIN : -ENOENT;
	}
	guest->guest.endpoint = guest->name;
	/* Without what it knows there is memory alone. */
	if (vmsig_os_open(&guest->guest.os, guest->guest.context.mem, guest->guest.context.pod.kcr3,
		    NULL, 0))
		guest->guest.os = NULL;
	*ret_guest = guest;
	return 0;
}

int mount_guest_find(struct mount_guests *guests, const char *name, struct mount_guest **ret_guest)
{
	struct mount_guest **at = &guests->first, *guest;
	int r;

	while (*at && strcmp((*at)->name, name) != 0)
		at = &(*at)->next;
	if (*at && mount_guest_check(*at) == -ESTALE) {
		guest = *at;
		*at = guest->next;
		guest_close(guest);
	} else if (*at) {
		*ret_guest = *at;
		return 0;
	}
	r = guest_open(guests, name, &guest);
	if (r)
		return r;
	guest->next = guests->first;
	guests->first = *ret_guest = guest;
	return 0;
}

int mount_guest_core(
	struct mount_guest *guest, enum corefile_format format, const struct corefile **ret_core)
{
	bool needs_os = format == COREFILE_ELF || format == COREFILE_KCORE;
	char error[256];
	int r;

	if (needs_os && !guest->guest.os)
		return -EOPNOTSUPP;
	*ret_core = &guest->cores[format];
	if (guest->has_core[format])
		return 0;
	r = corefile_init(&guest->cores[format], &guest->guest.context, guest->guest.os, format,
		error, sizeof(error));
	guest->has_core[format] = !r;
	return mount_errno(-r);
}

void mount_guests_free(struct mount_guests *guests)
{
	while (guests->first) {
		struct mount_guest *guest = guests->first;

		guests->first = guest->next;
		guest_close(guest);
	}
}
