/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/expiry.h"

#include <stdio.h>
#include <time.h>

#include "broker/metrics/metrics.h"

#define DAY_S 86400
#define NS_PER_S 1000000000ull

static void warn(
	struct expiry *expiry, const char *what, int64_t until_s, int64_t now_s, const char *remedy)
{
	time_t until = (time_t)until_s;
	char date[32] = "";
	struct tm tm;

	if (until_s == INT64_MAX || until_s - now_s > EXPIRY_WARN_DAYS * (int64_t)DAY_S)
		return;
	if (gmtime_r(&until, &tm))
		strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", &tm);
	snprintf(expiry->warnings[expiry->nwarnings++], EXPIRY_TEXT_MAX, "%s %s %s; %s", what,
		until_s < now_s ? "has ended on" : "ends on", date, remedy);
}

void expiry_look(struct expiry *expiry, const struct tls_dates *dates, int64_t now_s)
{
	expiry->dates = *dates;
	expiry->nwarnings = 0;
	warn(expiry, "the broker's certificate", dates->certificate, now_s,
		"run vmsigctl pki renew, and reload");
	warn(expiry, "the revocation list", dates->revocations, now_s,
		"nobody gets in after that; run vmsigctl pki renew --crl, and reload");
	warn(expiry, "the authority's certificate", dates->authority, now_s,
		"nobody gets in after that; make another authority");
}

bool expiry_is_due(struct expiry *expiry, int64_t now_s)
{
	if (now_s >= expiry->told_s && now_s - expiry->told_s < DAY_S)
		return false;
	expiry->told_s = now_s;
	return true;
}

static void add(struct metrics *metrics, enum metrics_id id, const char *key, int64_t at_s)
{
	if (at_s > 0 && at_s != INT64_MAX)
		metrics_add(metrics, id, key, (uint64_t)at_s * NS_PER_S);
}

void expiry_metrics(const struct expiry *expiry, struct metrics *metrics)
{
	add(metrics, METRICS_KEYS, "certificate", expiry->dates.certificate);
	add(metrics, METRICS_KEYS, "authority", expiry->dates.authority);
	add(metrics, METRICS_KEYS, "revocations", expiry->dates.revocations);
	add(metrics, METRICS_REVOCATIONS, "", expiry->dates.revocations_issued);
}
