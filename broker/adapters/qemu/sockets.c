/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/adapters/qemu/sockets.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "broker/adapters/qemu/census.h"
#include "broker/adapters/qemu/disposal.h"
#include "broker/adapters/qemu/glance.h"
#include "broker/adapters/qemu/vigil.h"
#include "broker/error_text.h"
#include "broker/log.h"
#include "broker/policy/rate.h"

#define LOOK_MS 10000u   /* without an event: mounts, and folders that were moved, raise none */
#define TOGETHER_MS 100u /* what happens within it is looked at once */
#define PATIENT_MS 1000u /* a list waits no longer for those who are being asked */
#define NS_PER_MS 1000000u
#define LINES_BURST 20u /* lines at once, and from then on one a second */
#define NEVER CENSUS_NEVER

struct sockets {
	struct sockets_env env;
	struct globpath glob;
	struct job_line *line;
	struct glance *glance; /* under way */
	struct vigil vigil;
	uv_timer_t timer;
	uint64_t look_ms, tell_ms; /* when; NEVER */
	uint64_t lost_ms;          /* who is lost is asked again from then on */
	uint64_t thorough_ms;      /* a look opens all from then on */
	uint64_t changed_ms;       /* since when the list is another one */
	bool again;                /* something happened during the look */
	bool over;
	unsigned open; /* handles */

	struct census census;
	struct census_one **all; /* sorted by file */
	size_t n;
	struct census_one *gone; /* held until they are listed no more */
	struct glance_one *refused;
	size_t nrefused;
	struct rate lines; /* about what is not served */
	uint64_t left_out; /* of them */
	size_t more;
	uint64_t overflows;       /* that were told */
	char why[GLANCE_WHY_MAX]; /* the folder cannot be looked through */
};

static uint64_t now(const struct sockets *sockets)
{
	return uv_now(sockets->env.loop);
}

static void arm(struct sockets *sockets);

static struct census_one *one_new(struct sockets *sockets, struct glance_one *found)
{
	size_t size = strlen(sockets->glob.folder) + strlen(found->file) + 2;
	char *path = malloc(size);
	struct census_one *one;

	if (!path || found->known) {
		free(path);
		return NULL;
	}
	snprintf(path, size, "%s/%s", sockets->glob.folder, found->file);
	one = census_one_new(&sockets->census, path, found->fd);
	if (!one) {
		free(path);
		return NULL;
	}
	found->fd = -1;
	one->file = one->path + strlen(sockets->glob.folder) + 1;
	one->dev = found->dev;
	one->ino = found->ino;
	one->born_ns = found->born_ns;
	return one;
}

static struct sockets_found found_of(const struct census_one *one)
{
	return (struct sockets_found){.path = one->path,
		.file = one->file,
		.dev = one->dev,
		.ino = one->ino,
		.born_ns = one->born_ns,
		.name = one->name,
		.uuid = one->uuid};
}

/* ---- the list ---- */

static void on_known(void *arg)
{
	struct sockets *sockets = arg;

	if (sockets->tell_ms != NEVER)
		return;
	sockets->changed_ms = now(sockets);
	sockets->tell_ms = now(sockets) + TOGETHER_MS;
	arm(sockets);
}

static void tell(struct sockets *sockets)
{
	struct sockets_found *all = calloc(sockets->n + 1, sizeof(*all));
	struct sockets_list list = {.all = all, .more = sockets->more};
	struct census_one *one, *next;

	if (!all) {
		sockets->tell_ms = now(sockets) + PATIENT_MS;
		return;
	}
	sockets->tell_ms = NEVER;
	for (size_t i = 0; i < sockets->n; i++) {
		if (sockets->all[i]->known)
			all[list.n++] = found_of(sockets->all[i]);
	}
	sockets->env.listed(sockets->env.arg, &list);
	free(all);
	DL_FOREACH_SAFE (sockets->gone, one, next)
		census_one_free(one);
	sockets->gone = NULL;
}

/* Whoever came first is the elder of those that are listed together, so they are listed when all
 * have had the time to answer. */
static void tell_in_time(struct sockets *sockets)
{
	if (census_is_busy(&sockets->census) && now(sockets) - sockets->changed_ms < PATIENT_MS)
		sockets->tell_ms = now(sockets) + TOGETHER_MS;
	else
		tell(sockets);
}

/* ---- what is in the folder ---- */

static bool is_same(const struct census_one *one, const struct glance_one *found)
{
	return one->dev == found->dev && one->ino == found->ino;
}

static void leave(struct sockets *sockets, struct census_one *one)
{
	census_leave(one);
	DL_APPEND(sockets->gone, one);
}

/* What is in neither is closed with the glance. */
static void merge(struct sockets *sockets, struct glance_one *found, size_t n)
{
	struct census_one **all = calloc(n + 1, sizeof(struct census_one *));
	size_t i = 0, j = 0, count = 0;

	if (!all)
		return; /* the next look is soon enough */
	while (i < sockets->n || j < n) {
		struct census_one *one = i < sockets->n ? sockets->all[i] : NULL;
		int r = !one ? 1 : j == n ? -1 : strcmp(one->file, found[j].file);

		if (r == 0 && is_same(one, &found[j])) {
			all[count++] = one;
		} else if (r <= 0) {
			leave(sockets, one);
		}
		if (r > 0 || (r == 0 && !is_same(one, &found[j]))) {
			all[count] = one_new(sockets, &found[j]);
			if (all[count])
				census_ask(all[count++]);
		}
		i += r <= 0;
		j += r >= 0;
	}
	free(sockets->all);
	sockets->all = all;
	sockets->n = count;
}

static void refused_free(struct sockets *sockets)
{
	for (size_t i = 0; i < sockets->nrefused; i++) {
		free(sockets->refused[i].file);
		free(sockets->refused[i].why);
	}
	free(sockets->refused);
	sockets->refused = NULL;
	sockets->nrefused = 0;
}

static bool was_refused(const struct sockets *sockets, const struct glance_one *one)
{
	for (size_t i = 0; i < sockets->nrefused; i++) {
		if (strcmp(sockets->refused[i].why, one->why) == 0)
			return true;
	}
	return false;
}

/* Whoever may plant names may plant new ones for ever. A rate lets a second's worth be saved up:
 * here a second is one of LINES_BURST. */
static void log_refusal(struct sockets *sockets, const char *path, const char *why)
{
	if (rate_wait(&sockets->lines, now(sockets) * NS_PER_MS / LINES_BURST, LINES_BURST, 1)) {
		sockets->left_out++;
		return;
	}
	rate_spend(&sockets->lines, 1);
	if (sockets->left_out)
		log_warning("lines about QMP sockets that are not served were left out",
			LOG_STR("folder", sockets->glob.folder),
			LOG_INT("count", sockets->left_out));
	sockets->left_out = 0;
	log_warning("a QMP socket is not served", LOG_STR("qmp", path), LOG_STR("reason", why));
}

static void refuse(struct glance_one *refused, size_t *n, const struct glance_one *one)
{
	refused[*n] =
		(struct glance_one){.file = strdup(one->file), .fd = -1, .why = strdup(one->why)};
	if (refused[*n].file && refused[*n].why) {
		++*n;
		return;
	}
	free(refused[*n].file);
	free(refused[*n].why);
}

/* Sockets that are ours come first in `glance` after it. */
static void sort_out(struct sockets *sockets, struct glance *glance)
{
	struct glance_one *refused = calloc(GLANCE_REFUSED_MAX, sizeof(*refused));
	size_t n = 0, nrefused = 0;
	char path[PATH_MAX];

	for (size_t i = 0; i < glance->n; i++) {
		struct glance_one one = glance->all[i];

		snprintf(path, sizeof(path), "%s/%s", sockets->glob.folder, one.file);
		if ((one.fd >= 0 || one.known) && !sockets->env.is_taken(sockets->env.arg, path)) {
			glance->all[i] = glance->all[n];
			glance->all[n++] = one;
		} else if (one.fd < 0 && !one.known && refused) {
			if (!was_refused(sockets, &one))
				log_refusal(sockets, path, one.why);
			refuse(refused, &nrefused, &one);
		}
	}
	refused_free(sockets);
	sockets->refused = refused;
	sockets->nrefused = nrefused;
	merge(sockets, glance->all, n);
}

/* Those that are known, and whose endpoints have no use for that. Not at each event. */
static void ask_the_lost(struct sockets *sockets)
{
	if (now(sockets) < sockets->lost_ms)
		return;
	sockets->lost_ms = now(sockets) + LOOK_MS / 2;
	for (size_t i = 0; i < sockets->n; i++) {
		struct census_one *one = sockets->all[i];
		const struct sockets_found found = found_of(one);

		if (!one->known)
			continue;
		if (sockets->env.is_lost(sockets->env.arg, &found))
			census_ask(one);
		else
			census_leave(one);
	}
}

static void dispose(struct sockets *sockets, struct glance *glance)
{
	int *fds = calloc(glance->n + 1, sizeof(*fds));

	for (size_t i = 0; fds && i < glance->n; i++) {
		fds[i] = glance->all[i].fd;
		glance->all[i].fd = -1;
	}
	if (fds)
		disposal_start(fds, glance->n, sockets->line);
}

static void take(struct sockets *sockets, struct glance *glance)
{
	if (glance->more && glance->more != sockets->more)
		log_warning(
			"more QMP sockets than may be served, and the oldest are; raise 'limit' "
			"or narrow 'qmp'",
			LOG_STR("qmp", sockets->env.config->qmp), LOG_INT("more", glance->more));
	sockets->more = glance->more;
	ask_the_lost(sockets);
	sort_out(sockets, glance);
	dispose(sockets, glance);
	/* What is gone is not to be served a moment longer, and neither held. */
	if (sockets->gone)
		tell(sockets);
	census_go_on(&sockets->census);
}

static void complain(struct sockets *sockets, const char *why)
{
	if (why[0] && strcmp(why, sockets->why) != 0)
		log_warning("a folder of QMP sockets cannot be looked through; those that were "
			    "there are served on, and it is tried again",
			LOG_STR("qmp", sockets->env.config->qmp), LOG_STR("reason", why));
	snprintf(sockets->why, sizeof(sockets->why), "%s", why);
}

static void complain_overflow(struct sockets *sockets)
{
	if (sockets->vigil.overflows == sockets->overflows)
		return;
	sockets->overflows = sockets->vigil.overflows;
	log_info("the kernel has lost events of a folder of QMP sockets, so all of it was looked "
		 "through",
		LOG_STR("qmp", sockets->env.config->qmp));
}

/* ---- looking ---- */

static void on_seen(struct errand *errand)
{
	struct glance *glance = (struct glance *)errand;
	struct sockets *sockets = errand->owner.arg;

	sockets->glance = NULL;
	sockets->look_ms = now(sockets) + (sockets->again ? TOGETHER_MS : LOOK_MS);
	sockets->again = false;
	if (errand->result != -ECANCELED) {
		vigil_set(&sockets->vigil, glance, sockets->line);
		complain_overflow(sockets);
		complain(sockets, glance->missing ? "" : glance->why);
		if (glance->missing || !glance->why[0])
			take(sockets, glance);
	}
	arm(sockets);
}

static void on_late(struct errand *errand)
{
	struct sockets *sockets = errand->owner.arg;

	errand_abandon(errand);
	sockets->glance = NULL;
	complain(sockets, "its file system does not answer");
	sockets->look_ms = now(sockets) + LOOK_MS;
	arm(sockets);
}

/* What the next look need not open. Its owner, or who may write to it, may change: now and then all
 * are opened again. NULL: none, or there is no memory. */
static struct glance_known *known_ones(struct sockets *sockets, size_t *ret_n)
{
	struct glance_known *known;

	*ret_n = 0;
	if (now(sockets) >= sockets->thorough_ms) {
		sockets->thorough_ms = now(sockets) + LOOK_MS;
		return NULL;
	}
	known = calloc(sockets->n + 1, sizeof(*known));
	for (size_t i = 0; known && i < sockets->n; i++) {
		const struct census_one *one = sockets->all[i];

		known[*ret_n] = (struct glance_known){strdup(one->file), one->dev, one->ino};
		*ret_n += known[*ret_n].file != NULL;
	}
	return known;
}

static void look(struct sockets *sockets)
{
	const struct errand_owner owner = {.done = on_seen, .late = on_late, .arg = sockets};
	struct glance_wanted wanted = {.path = sockets->env.config->qmp,
		.owner = sockets->env.config->endpoint.owner,
		.limit = sockets->env.config->limit,
		.inotify = sockets->vigil.fd};

	sockets->look_ms = NEVER;
	vigil_wait(&sockets->vigil);
	if (job_line_is_closed(sockets->line))
		return;
	if (job_line_is_stuck(sockets->line)) {
		sockets->look_ms = now(sockets) + LOOK_MS;
		return;
	}
	wanted.known = known_ones(sockets, &wanted.nknown);
	if (glance_start(&sockets->glance, &wanted, &owner, sockets->line))
		sockets->look_ms = now(sockets) + LOOK_MS;
}

static void on_changed(void *arg)
{
	sockets_look(arg);
}

static void on_due(void *arg)
{
	arm(arg);
}

void sockets_look(struct sockets *sockets)
{
	uint64_t soon = now(sockets) + TOGETHER_MS;

	sockets->again = sockets->glance != NULL;
	if (!sockets->again && soon < sockets->look_ms)
		sockets->look_ms = soon;
	arm(sockets);
}

/* ---- time ---- */

static void on_timer(uv_timer_t *timer)
{
	struct sockets *sockets = timer->data;

	if (sockets->census.due_ms <= now(sockets))
		census_take(&sockets->census, sockets->all, sockets->n);
	if (sockets->tell_ms <= now(sockets))
		tell_in_time(sockets);
	if (sockets->look_ms <= now(sockets) && !sockets->glance)
		look(sockets);
	arm(sockets);
}

static void arm(struct sockets *sockets)
{
	uint64_t first = sockets->look_ms;

	if (sockets->over)
		return;
	if (sockets->census.due_ms < first)
		first = sockets->census.due_ms;
	if (sockets->tell_ms < first)
		first = sockets->tell_ms;
	if (first == NEVER)
		uv_timer_stop(&sockets->timer);
	else
		(void)uv_timer_start(&sockets->timer, on_timer,
			first > now(sockets) ? first - now(sockets) : 0, 0);
}

/* ---- life ---- */

static void maybe_free(struct sockets *sockets)
{
	if (!sockets->over || sockets->open || sockets->census.open)
		return;
	job_line_leave(sockets->line);
	globpath_deinit(&sockets->glob);
	free(sockets);
}

static void on_closed(void *arg)
{
	struct sockets *sockets = arg;

	sockets->open--;
	maybe_free(sockets);
}

static void on_interview_closed(void *arg)
{
	maybe_free(arg);
}

static void on_timer_closed(uv_handle_t *handle)
{
	on_closed(handle->data);
}

int sockets_watch(struct sockets **ret_sockets, const struct sockets_env *env)
{
	struct sockets *sockets = calloc(1, sizeof(*sockets));
	int r;

	if (!sockets)
		return -ENOMEM;
	sockets->env = *env;
	sockets->tell_ms = NEVER;
	rate_init(&sockets->lines, uv_now(env->loop) * NS_PER_MS / LINES_BURST, LINES_BURST);
	sockets->census = (struct census){.loop = env->loop,
		.shares = env->shares,
		.config = env->config,
		.changed = on_known,
		.soon = on_due,
		.closed = on_interview_closed,
		.arg = sockets,
		.due_ms = NEVER};
	r = globpath_init(&sockets->glob, env->config->qmp);
	if (!r)
		r = job_line_new(&sockets->line, env->jobs);
	if (r) {
		globpath_deinit(&sockets->glob);
		free(sockets);
		return r;
	}
	r = vigil_open(&sockets->vigil, env->loop, &sockets->glob, on_changed, sockets);
	if (r)
		log_warning("a folder of QMP sockets cannot be watched, and is looked through "
			    "every 10 s; raise fs.inotify.max_user_instances",
			LOG_STR("qmp", env->config->qmp), LOG_STR("error", error_text(r)));
	else
		sockets->open++;
	(void)uv_timer_init(env->loop, &sockets->timer); /* cannot fail */
	sockets->timer.data = sockets;
	sockets->open++;
	arm(sockets);
	*ret_sockets = sockets;
	return 0;
}

struct sockets *sockets_forget(struct sockets *sockets)
{
	struct census_one *one, *next;

	if (!sockets)
		return NULL;
	sockets->over = true;
	errand_abandon((struct errand *)sockets->glance);
	for (size_t i = 0; i < sockets->n; i++)
		census_one_free(sockets->all[i]);
	DL_FOREACH_SAFE (sockets->gone, one, next)
		census_one_free(one);
	free(sockets->all);
	refused_free(sockets);
	if (sockets->vigil.fd >= 0)
		vigil_close(&sockets->vigil, sockets->line, on_closed);
	uv_close((uv_handle_t *)&sockets->timer, on_timer_closed);
	return NULL;
}

void sockets_name(const struct sockets *sockets, const char *file, char *name, size_t size)
{
	globpath_name(&sockets->glob, file, name, size);
}

bool sockets_next_trouble(
	const struct sockets *sockets, size_t *cursor, struct sockets_trouble *ret_trouble)
{
	for (; *cursor < sockets->nrefused + sockets->n; ++*cursor) {
		size_t i = *cursor;

		if (i < sockets->nrefused) {
			*ret_trouble = (struct sockets_trouble){
				sockets->refused[i].file, sockets->refused[i].why};
		} else {
			const struct census_one *one = sockets->all[i - sockets->nrefused];

			if (one->known || !one->why)
				continue;
			*ret_trouble = (struct sockets_trouble){one->file, one->why};
		}
		++*cursor;
		return true;
	}
	return false;
}
