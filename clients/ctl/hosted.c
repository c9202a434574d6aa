/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/ctl/hosted.h"

#include <stdlib.h>
#include <string.h>

#include "clients/ctl/message.h"

/* The answer is the handle's: packed and unpacked once more. */
static Vmsig__HostedInfos *page_copy(const Vmsig__HostedInfos *page)
{
	size_t len = protobuf_c_message_get_packed_size(&page->base);
	uint8_t *packed = malloc(len ? len : 1);
	Vmsig__HostedInfos *copy = NULL;

	if (packed) {
		protobuf_c_message_pack(&page->base, packed);
		copy = vmsig__hosted_infos__unpack(NULL, len, packed);
	}
	free(packed);
	return copy;
}

static int page_add(struct hosted_list *list, const Vmsig__HostedInfos *page)
{
	Vmsig__HostedInfos **pages =
		realloc(list->pages, (list->npages + 1) * sizeof(*list->pages));
	Vmsig__Hosted **endpoints;
	Vmsig__HostedInfos *copy;

	if (!pages)
		return ctl_fail(VMSIG_ERR_NO_MEMORY, "cannot list endpoints");
	list->pages = pages;
	endpoints = realloc(
		list->endpoints, (list->n + page->n_endpoints + 1) * sizeof(*list->endpoints));
	if (!endpoints)
		return ctl_fail(VMSIG_ERR_NO_MEMORY, "cannot list endpoints");
	list->endpoints = endpoints;
	copy = page_copy(page);
	if (!copy)
		return ctl_fail(VMSIG_ERR_NO_MEMORY, "cannot list endpoints");
	pages[list->npages++] = copy;
	for (size_t i = 0; i < copy->n_endpoints; i++)
		endpoints[list->n++] = copy->endpoints[i];
	return EXIT_OK;
}

int ctl_hosted_list(const struct ctl *ctl, vmsig_admin *admin, struct hosted_list *list)
{
	Vmsig__HostedList body = VMSIG__HOSTED_LIST__INIT;
	bool more = true;
	int code = EXIT_OK;

	while (!code && more) {
		const Vmsig__AdminMessage *answer;

		if (list->n)
			body.after = list->endpoints[list->n - 1]->name;
		code = ctl_admin_ask(ctl, admin, VMSIG__ADMIN_REQUEST__BODY_HOSTED_LIST, &body,
			VMSIG__ADMIN_MESSAGE__BODY_HOSTED_INFOS, &answer, "cannot list endpoints");
		if (code)
			break;
		more = answer->hosted_infos->more && answer->hosted_infos->n_endpoints;
		code = page_add(list, answer->hosted_infos);
	}
	return code;
}

json_t *ctl_hosted_json(const Vmsig__Hosted *endpoint)
{
	json_t *json = ctl_message_json(&endpoint->base);

	/* As `ls` has them. */
	json_object_set_new(json, "state", json_string(vmsig_state_name(endpoint->state)));
	json_object_set_new(json, "guard", json_string(vmsig_guard_name(endpoint->guard)));
	return json;
}

void ctl_hosted_clear(struct hosted_list *list)
{
	for (size_t i = 0; i < list->npages; i++)
		vmsig__hosted_infos__free_unpacked(list->pages[i], NULL);
	free(list->pages);
	free(list->endpoints);
	*list = (struct hosted_list){0};
}
