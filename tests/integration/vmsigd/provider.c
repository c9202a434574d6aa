/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/integration/vmsigd/provider.h"

#include <sys/mman.h>
#include <unistd.h>

struct pki_cert provider_maker, provider_other, provider_ops;

void provider_configure(struct scene *scene, const char *limits, const char *names, unsigned uid)
{
	daemon_configure(scene->daemon,
		"limits: %s\n"
		"endpoints:\n"
		"  - {name: a1, path: a1.ram, adapter: file, low: 1MiB, kcr3: 0x2000}\n"
		"tenants:\n"
		"  - {name: acme, role: sensor, uids: [%u], endpoints: ['*']}\n"
		"  - {name: acme, role: admin, uids: [%u], endpoints: ['*']}\n"
		"  - {name: ops, role: operator, uids: [%u], endpoints: ['*'], write: [{endpoints: "
		"['*']}]}\n"
		"  - {name: other, role: provider, uids: [%u], endpoints: ['m*', a1]}\n"
		"  - {name: maker, role: provider, uids: [%u], endpoints: %s}\n",
		limits, getuid(), getuid(), getuid(), getuid(), uid, names);
}

int provider_setup(void **state)
{
	struct scene *scene;
	struct pki *pki;
	int r = scene_setup(state);

	scene = *state;
	pki = daemon_pki(scene->daemon);
	pki_issue_uri(pki, "maker", "vmsig://provider/maker", &provider_maker);
	pki_issue_uri(pki, "other", "vmsig://provider/other", &provider_other);
	pki_issue_uri(pki, "ops", "vmsig://operator/ops", &provider_ops);
	provider_configure(scene, PROVIDER_LONG, "['m*']", getuid());
	scene_reload(scene);
	return r;
}

int provider_memfd(off_t size)
{
	int fd = memfd_create("guest", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	return fd;
}

/* The error's code, or 0; -1: the connection has ended. */
int provider_answer(struct write_client *client, bool *ret_resumed)
{
	Vmsig__AdminMessage *message = write_client_receive_admin(client);
	int code;

	if (!message)
		return -1;
	code = message->body_case == VMSIG__ADMIN_MESSAGE__BODY_ERROR ? (int)message->error->code
								      : 0;
	if (ret_resumed && message->body_case == VMSIG__ADMIN_MESSAGE__BODY_PROVIDED)
		*ret_resumed = message->provided->resumed;
	vmsig__admin_message__free_unpacked(message, NULL);
	return code;
}

int provider_offer(
	struct write_client *client, const struct provider_guest *guest, bool *ret_resumed)
{
	Vmsig__AdminRequest request = VMSIG__ADMIN_REQUEST__INIT;
	Vmsig__Provide body = VMSIG__PROVIDE__INIT;
	Vmsig__Descriptor files[2], *pointers[2] = {&files[0], &files[1]};

	for (size_t i = 0; i < guest->nfds; i++) {
		write_client_describe(&files[i], guest->fds[i]);
		files[i].purpose = VMSIG__DESCRIPTOR__PURPOSE__GUEST_RAM;
	}
	body.name = (char *)(uintptr_t)guest->name;
	body.files = pointers;
	body.n_files = guest->nfds;
	body.low = guest->low;
	body.segments = (Vmsig__Segment **)(uintptr_t)guest->segments;
	body.n_segments = guest->nsegments;
	body.writable = guest->writable;
	body.kcr3 = guest->find ? 0 : PROVIDER_KCR3;
	body.levels = guest->find ? 0 : 4;
	request.body_case = VMSIG__ADMIN_REQUEST__BODY_PROVIDE;
	request.provide = &body;
	write_client_send_admin_with(client, &request, guest->fds, guest->nfds);
	return provider_answer(client, ret_resumed);
}

int provider_offer_one(struct write_client *client, const char *name, int fd)
{
	const struct provider_guest guest = {
		.name = name, .low = SCENE_RAM, .fds = {fd}, .nfds = 1};

	return provider_offer(client, &guest, NULL);
}

int provider_say(struct write_client *client, bool invalidate, const char *name)
{
	Vmsig__AdminRequest request = VMSIG__ADMIN_REQUEST__INIT;
	Vmsig__ProvideInvalidate reset = VMSIG__PROVIDE_INVALIDATE__INIT;
	Vmsig__ProvideEnd end = VMSIG__PROVIDE_END__INIT;

	reset.name = end.name = (char *)(uintptr_t)name;
	reset.kcr3 = PROVIDER_KCR3 + 0x1000;
	reset.levels = 4;
	request.body_case = invalidate ? VMSIG__ADMIN_REQUEST__BODY_PROVIDE_INVALIDATE
				       : VMSIG__ADMIN_REQUEST__BODY_PROVIDE_END;
	if (invalidate)
		request.provide_invalidate = &reset;
	else
		request.provide_end = &end;
	write_client_send_admin(client, &request);
	return provider_answer(client, NULL);
}

void provider_dial(struct scene *scene, struct write_client *client, const struct pki_cert *cert)
{
	write_client_open(client, scene->daemon, "admin.sock", cert);
}

uint32_t provider_epoch(struct scene *scene, const char *name)
{
	return ctx_client_epoch(scene->daemon, &scene->acme, name);
}
