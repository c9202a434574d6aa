/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/integration/vmsigd/discover_scene.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAUSE_US 20000

struct discover_world discover;

/* Of the folder that is watched. */
const char *discover_at(const char *format, ...)
{
	static char paths[4][PATH_MAX];
	static unsigned next;
	char *path = paths[next++ % 4];
	int n = snprintf(path, PATH_MAX, "%s/", daemon_dir(discover.daemon));
	va_list args;

	va_start(args, format);
	vsnprintf(path + n, PATH_MAX - (size_t)n, format, args);
	va_end(args);
	return path;
}

void discover_configure(const char *endpoints, const char *source)
{
	daemon_configure(discover.daemon,
		"endpoints: [%s]\n"
		"discover:\n"
		"  - {%s, qmp_timeout: 500ms, retry: 50ms, retry_max: 200ms}\n"
		"tenants:\n"
		"  - {name: acme, role: sensor, uids: [%u], endpoints: ['*']}\n"
		"  - {name: boss, role: admin, uids: [%u], endpoints: ['*']}\n",
		endpoints, source, getuid(), getuid());
}

int discover_setup(void **state)
{
	discover.daemon = daemon_new();
	pki_issue_uri(daemon_pki(discover.daemon), "acme", "vmsig://sensor/acme", &discover.sensor);
	pki_issue_uri(daemon_pki(discover.daemon), "boss", "vmsig://admin/boss", &discover.admin);
	discover.crowd = crowd_new();
	assert_int_equal(mkdir(discover_at("q"), 0755), 0);
	discover_configure("", "qmp: 'q/*.qmp'");
	return 0;
}

void discover_start(void)
{
	daemon_start(discover.daemon);
	ctx_client_open(&discover.client, discover.daemon, &discover.sensor);
}

int discover_teardown(void **state)
{
	ctx_client_close(&discover.client);
	if (daemon_stop(discover.daemon, SIGTERM))
		fail_msg("%s", daemon_log(discover.daemon));
	discover.crowd = crowd_free(discover.crowd);
	discover.daemon = daemon_free(discover.daemon);
	return 0;
}

/* ---- what there is ---- */

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* "a b c": the endpoints' names in their order; how many. */
static size_t names(char *text, size_t size)
{
	Vmsig__CtxMessage *message;
	char *sorted[DISCOVER_MANY + 8];
	size_t n;

	ctx_client_list(&discover.client);
	message = ctx_client_expect(&discover.client, VMSIG__CTX_MESSAGE__BODY_ENDPOINT_LIST);
	n = message->endpoint_list->n_endpoints;
	assert_true(n <= DISCOVER_MANY + 8);
	for (size_t i = 0; i < n; i++)
		sorted[i] = message->endpoint_list->endpoints[i]->name;
	if (n)
		qsort(sorted, n, sizeof(char *), compare);
	text[0] = '\0';
	for (size_t i = 0; i < n && strlen(text) + 70 < size; i++)
		snprintf(text + strlen(text), size - strlen(text), "%s%s", i ? " " : "", sorted[i]);
	ctx_client_free_message(message);
	return n;
}

void discover_await_names(const char *wanted)
{
	char text[4096] = "";

	for (unsigned ms = 0; ms < DAEMON_WAIT_MS; ms += PAUSE_US / 1000) {
		(void)names(text, sizeof(text));
		if (strcmp(text, wanted) == 0)
			return;
		usleep(PAUSE_US);
	}
	fail_msg("endpoints are '%s' and not '%s'\n%s", text, wanted, daemon_log(discover.daemon));
}

void discover_await_count(size_t wanted)
{
	char text[256];
	size_t n = 0;

	for (unsigned ms = 0; ms < DAEMON_WAIT_MS; ms += PAUSE_US / 1000) {
		n = names(text, sizeof(text));
		if (n == wanted)
			return;
		usleep(PAUSE_US);
	}
	fail_msg("%zu endpoints and not %zu\n%s", n, wanted, daemon_log(discover.daemon));
}

void discover_await_printed(const char *asked, const char *pattern)
{
	static const char script[] =
		"cd '%s' && mkdir -p boss && ln -sf '%s' boss/key.pem && ln -sf '%s' boss/cert.pem "
		"&& ln -sf '%s' boss/ca.pem && for i in $(seq 600); do '%s' --identity boss "
		"--socket run/admin.sock %s > boss/list && grep -qE '%s' boss/list && "
		"exit 0; sleep 0.1; done; cat boss/list; exit 1";
	char command[8 * PATH_MAX];

	snprintf(command, sizeof(command), script, daemon_dir(discover.daemon), discover.admin.key,
		discover.admin.cert, pki_ca(daemon_pki(discover.daemon)), VMSIGCTL, asked, pattern);
	if (system(command))
		fail_msg("no line has '%s'\n%s", pattern, daemon_log(discover.daemon));
}

void discover_await_listed(const char *pattern)
{
	discover_await_printed("endpoint ls", pattern);
}

/* That the kernel remembers. */
static unsigned long most_events(void)
{
	static const char limit[] = "/proc/sys/fs/inotify/max_queued_events";
	FILE *file = fopen(limit, "re");
	unsigned long most = 16384;

	if (file) {
		assert_int_equal(fscanf(file, "%lu", &most), 1); /* NOLINT(cert-err34-c) */
		fclose(file);
	}
	return most;
}

void discover_make_events(const char *folder)
{
	unsigned long most = most_events();

	for (unsigned long i = 0; i <= most; i++) {
		const char *name = i % 2 ? "odd" : "even";
		int fd = open(
			discover_at("%s/%s", folder, name), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

		assert_true(fd >= 0);
		close(fd);
		assert_int_equal(unlink(discover_at("%s/%s", folder, name)), 0);
	}
}
