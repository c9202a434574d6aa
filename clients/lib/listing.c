/* SPDX-License-Identifier: Apache-2.0 */
/* A list of endpoints that arrives in pages, bounded. */
#include "clients/lib/client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

vmsig_endpoint_list *vmsig_endpoint_list_free(vmsig_endpoint_list *list)
{
	if (!list)
		return NULL;
	/* The three strings of an endpoint are one allocation. */
	for (size_t i = 0; i < list->count; i++)
		free((char *)(uintptr_t)list->endpoints[i].name);
	free(list->endpoints);
	free(list);
	return NULL;
}

static void list_release(void *list)
{
	vmsig_endpoint_list_free(list);
}

static int listing_ask(vmsig *v, uint32_t after)
{
	Vmsig__List body = VMSIG__LIST__INIT;
	int r;

	body.after = after;
	r = uplink_request(
		&v->link, VMSIG__CTX_REQUEST__BODY_LIST, &body, NULL, 0, &v->listing.request_id);
	if (r == 0)
		v->listing.until = client_after(client_now(), v->link.settings.request_timeout_ms);
	return r;
}

int listing_start(vmsig *v, bool blocking)
{
	struct listing *listing = &v->listing;
	int r;

	if (v->link.phase != PHASE_READY)
		return client_fail(v, VMSIG_ERR_DISCONNECTED, "not connected to the broker");
	if (listing->request_id)
		return client_fail(v, VMSIG_ERR_BUSY, "a list is being fetched already");
	listing->list = calloc(1, sizeof(*listing->list));
	if (!listing->list)
		return -ENOMEM;
	r = listing_ask(v, 0);
	if (r) {
		listing->list = vmsig_endpoint_list_free(listing->list);
		return r == VMSIG_ERR_QUOTA ? VMSIG_ERR_BUSY : r;
	}
	listing->blocking = blocking;
	listing->error = -1;
	return 0;
}

static char *string_append(char **at, const char *text, size_t size)
{
	char *start = *at;

	client_clean_text(start, size, text);
	*at += size;
	return start;
}

static int endpoint_unpack(const Vmsig__EndpointInfo *info, vmsig_endpoint *ret_endpoint)
{
	size_t name = strlen(info->name) + 1;
	size_t adapter = strnlen(info->adapter, CLIENT_TEXT_MAX) + 1;
	size_t detail = strnlen(info->detail, CLIENT_TEXT_MAX) + 1;
	char *strings = malloc(name + adapter + detail);

	if (!strings)
		return -ENOMEM;
	*ret_endpoint = (vmsig_endpoint){
		.id = info->id,
		.epoch = info->epoch,
		.state = info->state,
		.guard = info->guard,
		.ram_bytes = info->ram_bytes,
		.subscribers = info->subscribers,
		.writable = info->writable,
	};
	system_take(&ret_endpoint->system, info->system);
	ret_endpoint->name = string_append(&strings, info->name, name);
	ret_endpoint->adapter = string_append(&strings, info->adapter, adapter);
	ret_endpoint->detail = string_append(&strings, info->detail, detail);
	return 0;
}

static int list_add(vmsig *v, vmsig_endpoint_list *list, const Vmsig__EndpointList *page)
{
	vmsig_endpoint *grown;

	if (page->n_endpoints > CLIENT_ENDPOINTS_MAX - list->count)
		return client_fail(v, VMSIG_ERR_PROTOCOL, "the broker lists more than %u endpoints",
			CLIENT_ENDPOINTS_MAX);
	if (!page->n_endpoints)
		return 0;
	grown = realloc(list->endpoints, (list->count + page->n_endpoints) * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	list->endpoints = grown;
	for (size_t i = 0; i < page->n_endpoints; i++) {
		int r;

		if (!system_name_ok(page->endpoints[i]->name))
			return client_fail(v, VMSIG_ERR_PROTOCOL,
				"the broker lists an endpoint without a proper name");
		r = endpoint_unpack(page->endpoints[i], &list->endpoints[list->count]);
		if (r)
			return r;
		list->count++;
	}
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const vmsig_endpoint *)a)->name, ((const vmsig_endpoint *)b)->name);
}

static void listing_done(vmsig *v)
{
	struct listing *listing = &v->listing;
	vmsig_endpoint_list *list = listing->list;

	listing->list = NULL;
	listing->request_id = 0;
	listing->error = 0;
	if (list->count)
		qsort(list->endpoints, list->count, sizeof(*list->endpoints), by_name);
	if (listing->blocking) {
		listing->result = list;
		return;
	}
	delivery_queue_add(&v->queue, VMSIG_EV_LISTED, "")->event.payload =
		(vmsig_payload){.data = list, .len = sizeof(*list), .release = list_release};
}

int listing_page(vmsig *v, const Vmsig__EndpointList *page)
{
	int r = list_add(v, v->listing.list, page);

	if (r)
		return r;
	if (!page->more) {
		listing_done(v);
		return 0;
	}
	if (!page->n_endpoints)
		return client_fail(
			v, VMSIG_ERR_PROTOCOL, "the broker sent an empty page of a list");
	return listing_ask(v, page->endpoints[page->n_endpoints - 1]->id);
}

void listing_fail(vmsig *v, int error, const char *text)
{
	struct listing *listing = &v->listing;

	if (!listing->request_id)
		return;
	listing->list = vmsig_endpoint_list_free(listing->list);
	listing->request_id = 0;
	listing->error = error;
	if (listing->blocking)
		client_fail(v, error, "list: %s", text);
	else
		delivery_queue_add(&v->queue, VMSIG_EV_LISTED, "")->error = -error;
}

void listing_deinit(vmsig *v)
{
	v->listing.list = vmsig_endpoint_list_free(v->listing.list);
	v->listing.result = vmsig_endpoint_list_free(v->listing.result);
}

int vmsig_request_list(vmsig *v)
{
	return client_result(listing_start(v, false));
}
