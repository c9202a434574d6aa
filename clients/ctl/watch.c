/* SPDX-License-Identifier: Apache-2.0 */
/* `vmsigctl watch`: one line for each event, over restarts of the broker. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "clients/ctl/ctl.h"

#define LOOK_MS 200 /* between two looks whether somebody still reads */

static uint32_t epoch_of(const vmsig_delivery *delivery)
{
	vmsig_memctx pod;
	vmsig_memctx_inv inv;
	vmsig_endpoint_status status;

	switch (delivery->event.kind) {
	case VMSIG_EV_MEMCTX:
		memcpy(&pod, delivery->event.inln, sizeof(pod));
		return pod.epoch;
	case VMSIG_EV_MEMCTX_INVALIDATED:
		memcpy(&inv, delivery->event.inln, sizeof(inv));
		return inv.epoch;
	case VMSIG_EV_ENDPOINT_STATE:
		memcpy(&status, delivery->event.inln, sizeof(status));
		return status.epoch;
	default:
		return 0;
	}
}

static const char *kind_text(const vmsig_delivery *delivery)
{
	vmsig_endpoint_status status;

	switch (delivery->event.kind) {
	case VMSIG_EV_MEMCTX:
		return "memctx";
	case VMSIG_EV_MEMCTX_INVALIDATED:
		return "invalidated";
	case VMSIG_EV_ENDPOINT_STATE:
		memcpy(&status, delivery->event.inln, sizeof(status));
		return vmsig_state_name(status.state);
	case VMSIG_EV_CONNECTED:
		return "connected";
	case VMSIG_EV_DISCONNECTED:
		return "disconnected";
	case VMSIG_EV_SUBSCRIBED:
		return delivery->error ? "refused" : "subscribed";
	default:
		return NULL;
	}
}

static int print_json(const vmsig_delivery *delivery, const char *kind, const char *when)
{
	json_t *json = json_pack("{s:s, s:s}", "time", when, "event", kind);
	vmsig_memctx pod;

	if (delivery->endpoint[0])
		json_object_set_new(json, "endpoint", json_string(delivery->endpoint));
	if (epoch_of(delivery))
		json_object_set_new(json, "epoch", json_integer(epoch_of(delivery)));
	if (delivery->event.kind == VMSIG_EV_MEMCTX) {
		memcpy(&pod, delivery->event.inln, sizeof(pod));
		json_object_set_new(json, "kcr3", value_hex(pod.kcr3));
		json_object_set_new(json, "low", value_hex(pod.low));
		json_object_set_new(json, "flags", json_integer(pod.flags));
		json_object_set_new(json, "nseg", json_integer(pod.nseg));
		json_object_set_new(json, "guard", json_string(vmsig_guard_name(delivery->guard)));
		json_object_set_new(json, "system", ctl_system_json(&delivery->system));
	}
	if (delivery->error)
		json_object_set_new(json, "error", json_string(vmsig_error_name(delivery->error)));
	if (delivery->event.kind != VMSIG_EV_MEMCTX && vmsig_delivery_text(delivery)[0])
		json_object_set_new(json, "detail", json_string(vmsig_delivery_text(delivery)));
	return ctl_print_json(json);
}

static int print_line(const vmsig_delivery *delivery, const char *kind, const char *when)
{
	char system[CTL_SYSTEM_MAX];
	vmsig_memctx pod;

	printf("%s  %-12s  %s", when, kind, delivery->endpoint[0] ? delivery->endpoint : "-");
	if (epoch_of(delivery))
		printf("  epoch %u", epoch_of(delivery));
	if (delivery->event.kind == VMSIG_EV_MEMCTX) {
		memcpy(&pod, delivery->event.inln, sizeof(pod));
		printf("  kcr3 0x%" PRIx64 "  guard %s  %s", pod.kcr3,
			vmsig_guard_name(delivery->guard),
			ctl_system_text(&delivery->system, system));
	} else if (vmsig_delivery_text(delivery)[0]) {
		printf("  %s", vmsig_delivery_text(delivery));
	}
	putchar('\n');
	return ctl_flush();
}

static int print_delivery(const struct ctl *ctl, const vmsig_delivery *delivery)
{
	const char *kind = kind_text(delivery);
	char when[TEXT_TIME_MAX];

	if (!kind)
		return EXIT_OK;
	text_time_now(3, when);
	return ctl->json ? print_json(delivery, kind, when) : print_line(delivery, kind, when);
}

/* What was never granted and will not be is not asked for again; when that is all, nothing
 * more would ever be printed. */
static int check_refused(const vmsig_delivery *delivery, int *pending)
{
	if (delivery->event.kind != VMSIG_EV_SUBSCRIBED || *pending == 0)
		return EXIT_OK;
	if (!delivery->error)
		*pending = 0;
	else if (!vmsig_error_retryable(delivery->error) && --*pending == 0)
		return ctl_fail(delivery->error, "nothing to watch");
	return EXIT_OK;
}

/* The next delivery; -VMSIG_ERR_DISCONNECTED with `*ret_gone` when nobody reads the output. */
static int next(vmsig *v, vmsig_delivery *delivery, bool *ret_gone)
{
	int r;

	do {
		*ret_gone = ctl_output_is_gone();
		r = *ret_gone ? -VMSIG_ERR_DISCONNECTED : vmsig_wait(v, delivery, LOOK_MS);
	} while (r == -VMSIG_ERR_TIMEOUT);
	return r;
}

/* `pending` patterns wait for their first answer. */
static int watch(const struct ctl *ctl, vmsig *v, uint64_t most, int pending)
{
	int code = EXIT_OK;

	for (uint64_t n = 0; !code && (!most || n < most); n++) {
		vmsig_delivery delivery = VMSIG_DELIVERY_INIT;
		bool gone;
		int r = next(v, &delivery, &gone);

		if (gone)
			return EXIT_OK;
		if (r)
			return ctl_fail(r, "%s", vmsig_last_error(v));
		code = print_delivery(ctl, &delivery);
		if (!code)
			code = check_refused(&delivery, &pending);
		vmsig_delivery_clear(&delivery);
	}
	return code;
}

enum { OPT_COUNT = CTL_OPT_FIRST };

static bool handle(void *ctx, int code, const char *value)
{
	return code == OPT_COUNT && text_number(value, ctx);
}

static int run_watch(struct ctl *ctl, int argc, char **argv)
{
	static const struct option own[] = {
		{"count", required_argument, NULL, OPT_COUNT}, {NULL, 0, NULL, 0}};
	static char everything[] = "*";
	char *all[] = {everything};
	char error[VMSIG_DETAIL_MAX + 1] = "";
	vmsig_options options;
	uint64_t most = 0;
	vmsig *v;
	int code = ctl_options(ctl, &ctl_watch, argc, argv, own, handle, &most), r;
	char **patterns = optind < argc ? argv + optind : all;
	int n = optind < argc ? argc - optind : 1;

	if (code)
		return code;
	code = ctl_connection(ctl, CTL_PLANE_CTX, &options);
	if (code)
		return code;
	r = vmsig_open(&v, &options, error, sizeof(error));
	if (r)
		return ctl_identity_fail(error);
	for (int i = 0; !code && i < n; i++) {
		r = vmsig_subscribe(v, patterns[i]);
		if (r)
			code = ctl_fail_about(patterns[i], r, vmsig_last_error(v));
	}
	if (!code)
		code = watch(ctl, v, most, n);
	vmsig_close(v);
	return code;
}

const struct ctl_command ctl_watch = {
	.name = "watch",
	.arguments = "[--count N] [ENDPOINT|GLOB]...",
	.summary = "Print one line for each event; goes on over restarts of the broker",
	.help = "  --count N  end after N events\n"
		"\n"
		"Events: memctx, invalidated, booting, gone, unreachable (QEMU does not answer;\n"
		"the epoch goes on), panicked (the guest's kernel; what it left can be read on), "
		"moved (the guest runs on the host that the detail names), "
		"ready (not served: the detail says why), connected, "
		"disconnected, subscribed, refused.\n"
		"\n"
		"Examples:\n"
		"  vmsigctl watch\n"
		"  vmsigctl watch 'web*' --json\n",
	.run = run_watch,
};
