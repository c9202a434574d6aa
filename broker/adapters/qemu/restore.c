/* SPDX-License-Identifier: Apache-2.0 */
/* Evidence of RAM that went back in time; see restore.h. */
#include "broker/adapters/qemu/restore.h"

#include <stddef.h>

#define NS_PER_MS 1000000ll
/* The clock stops before the STOP event is sent: vCPUs have to come out of the guest first. */
#define SLACK_NS (100 * NS_PER_MS)
/* A clock that has run as it should for so long is one. */
#define TRUST_NS (3 * SLACK_NS)
/* A snapshot that was younger than this when it was loaded is within the slack of the clock and
 * the resolution of its own date. */
#define YOUNG_US 3000000ll
#define ONE_STOP 2 /* its STOP and its RESUME */

enum clock { CLOCK_NONE, CLOCK_AGREES, CLOCK_DIFFERS };

/* How long the guest can have run between two readings. */
struct restore_span {
	int64_t least, most;
};

static struct restore_span span_of(const struct restore *restore, const struct restore_look *look)
{
	uint64_t from = restore->since_ns ? restore->since_ns : look->asked_ns;
	uint64_t to = restore->since_ns ? restore->since_ns : look->answered_ns;
	int64_t stopped = (int64_t)restore->stopped_ns;

	return (struct restore_span){
		.least = (int64_t)(from - restore->answered_ns) - stopped,
		.most = (int64_t)(to - restore->asked_ns) - stopped,
	};
}

static enum clock clock_judge(struct restore *restore, const struct restore_look *look)
{
	int64_t slack = SLACK_NS * (1 + (int64_t)restore->stops);
	struct restore_span span;
	int64_t ran;
	bool agrees;

	if (!look->clock || !restore->based)
		return CLOCK_NONE;
	span = span_of(restore, look);
	ran = (int64_t)(look->value_ns - restore->value_ns);
	/* A guest that stood still at both looks leaves no room. */
	if (restore->since_ns && !restore->stops && !restore->stopped_ns)
		agrees = ran == 0;
	else
		agrees = ran >= span.least - slack && ran <= span.most + slack;
	if (agrees && span.least >= TRUST_NS && ran > 0)
		restore->trusted = true;
	if (!restore->trusted)
		return CLOCK_NONE;
	return agrees ? CLOCK_AGREES : CLOCK_DIFFERS;
}

/* Looks that follow each other soon are one trial. */
static bool is_on_trial(const struct restore *restore, const struct restore_look *look)
{
	return restore->based && look->clock && !restore->trusted && !restore->stops &&
	       !restore->since_ns && look->asked_ns < restore->answered_ns + (uint64_t)TRUST_NS;
}

/* The next look starts from this one. */
static void settle(struct restore *restore, const struct restore_look *look)
{
	if (!is_on_trial(restore, look)) {
		restore->based = look->clock;
		restore->value_ns = look->value_ns;
		restore->asked_ns = look->asked_ns;
		restore->answered_ns = look->answered_ns;
	}
	restore->since_ns = look->running ? 0 : look->answered_ns;
	restore->stopped_ns = 0;
	restore->stops = restore->foreign = 0;
	restore->missed = restore->differed = false;
	if (!look->listed)
		return;
	restore->restorable = look->restorable;
	restore->newest_us = look->newest_us;
}

void restore_begin(struct restore *restore, const struct restore_look *look)
{
	/* A clock that stands still with its guest cannot be seen to run. */
	bool trusted = restore->trusted && !look->running;

	*restore = (struct restore){.restorable = true, .trusted = trusted};
	settle(restore, look);
}

void restore_stopped(struct restore *restore, uint64_t now_ns, bool ours)
{
	restore->stops++;
	restore->foreign += !ours;
	if (!restore->since_ns)
		restore->since_ns = now_ns;
}

void restore_resumed(struct restore *restore, uint64_t now_ns, bool ours)
{
	restore->foreign += !ours;
	if (restore->since_ns && now_ns > restore->since_ns)
		restore->stopped_ns += now_ns - restore->since_ns;
	restore->since_ns = 0;
}

void restore_missed(struct restore *restore)
{
	restore->missed = true;
}

void restore_distrust(struct restore *restore)
{
	restore->based = restore->trusted = false;
}

bool restore_in_doubt(const struct restore *restore)
{
	return restore->foreign || restore->missed || restore->differed;
}

/* One stop, and there was nothing to load before it: it made the first snapshot. */
static bool is_first_save(const struct restore *restore)
{
	return !restore->restorable && restore->foreign <= ONE_STOP && !restore->missed;
}

/* The stop made a snapshot; or the youngest one is old enough for the clock to tell. */
static bool is_told_by_clock(const struct restore *restore, const struct restore_look *look)
{
	bool saved = look->listed && look->newest_us != restore->newest_us;
	int64_t age = (int64_t)(look->now_us - look->newest_us);

	return (saved && restore->foreign <= ONE_STOP) || !look->listed || age > YOUNG_US;
}

static enum restore_verdict judge(
	struct restore *restore, const struct restore_look *look, const char **ret_why)
{
	bool restorable = look->listed ? look->restorable : restore->restorable;
	enum clock clock = clock_judge(restore, look);

	if ((!restore->restorable && !restorable) || is_first_save(restore))
		return RESTORE_SAME;
	if (clock == CLOCK_DIFFERS) {
		*ret_why = "QEMU's virtual clock has gone another way than the guest: a snapshot "
			   "was loaded";
		return restore->differed ? RESTORE_REPLACED : RESTORE_AGAIN;
	}
	if (!restore->foreign && !restore->missed)
		return RESTORE_SAME;
	if (clock == CLOCK_AGREES && is_told_by_clock(restore, look))
		return RESTORE_SAME;
	*ret_why =
		restore->missed
			? "contact was lost, QEMU has snapshots of the guest, and nothing says "
			  "that none was loaded meanwhile"
			: "QEMU stopped and continued the guest, has snapshots of it, and nothing "
			  "says that none was loaded";
	return RESTORE_REPLACED;
}

enum restore_verdict restore_judge(
	struct restore *restore, const struct restore_look *look, const char **ret_why)
{
	enum restore_verdict verdict = judge(restore, look, ret_why);

	if (verdict == RESTORE_SAME)
		settle(restore, look);
	else
		restore->differed = true;
	return verdict;
}
