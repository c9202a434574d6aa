/* SPDX-License-Identifier: Apache-2.0 */
/* `vmsigctl pki`: its command line. What it does is in pki.h. */
#include <stdio.h>
#include <string.h>

#include "clients/ctl/ctl.h"
#include "clients/ctl/pki.h"

#define CA_DAYS 3650
#define IDENTITY_DAYS 365
#define DAYS_MAX 36500

struct pki_options {
	const char *ca;
	const char *name;
	uint64_t days;
};

enum { OPT_CA = CTL_OPT_FIRST, OPT_NAME, OPT_DAYS };

static bool handle(void *ctx, int code, const char *value)
{
	struct pki_options *options = ctx;

	switch (code) {
	case OPT_CA:
		options->ca = value;
		return true;
	case OPT_NAME:
		options->name = value;
		return true;
	default:
		return text_number(value, &options->days) && options->days &&
		       options->days <= DAYS_MAX;
	}
}

static unsigned days(const struct pki_options *options, unsigned standard)
{
	return options->days ? (unsigned)options->days : standard;
}

static int report(
	const struct ctl *ctl, int r, const char *error, const char *what, const char *where)
{
	if (r)
		return ctl_fail(r, "%s", error);
	if (ctl->json)
		return ctl_print_json(json_pack("{s:s}", what, where));
	printf("%s: %s\n", what, where);
	return EXIT_OK;
}

static int run_init(const struct ctl *ctl, const struct pki_options *options, char **args, int n)
{
	char error[512] = "";
	int r;

	if (n != 1)
		return ctl_usage(&ctl_pki, "init takes DIR");
	r = pki_init(args[0], options->name ? options->name : "vmsig host CA",
		days(options, CA_DAYS), error, sizeof(error));
	return report(ctl, r, error, "ca", args[0]);
}

static int run_issue(const struct ctl *ctl, const struct pki_options *options, char **args, int n)
{
	char error[512] = "";
	int r;

	if (n != 3 || !options->ca)
		return ctl_usage(&ctl_pki, "issue takes --ca DIR ROLE NAME OUTDIR");
	r = pki_issue(options->ca, args[0], args[1], args[2], days(options, IDENTITY_DAYS), error,
		sizeof(error));
	return report(ctl, r, error, "identity", args[2]);
}

static int run_revoke(const struct ctl *ctl, const struct pki_options *options, char **args, int n)
{
	char error[512] = "";
	int r;

	if (n != 1 || !options->ca)
		return ctl_usage(&ctl_pki, "revoke takes --ca DIR CERT");
	r = pki_revoke(options->ca, args[0], error, sizeof(error));
	return report(ctl, r, error, "revoked", args[0]);
}

static const struct {
	const char *name;
	int (*run)(const struct ctl *ctl, const struct pki_options *options, char **args, int n);
} actions[] = {{"init", run_init}, {"issue", run_issue}, {"revoke", run_revoke}};

static int run_pki(struct ctl *ctl, int argc, char **argv)
{
	static const struct option own[] = {{"ca", required_argument, NULL, OPT_CA},
		{"name", required_argument, NULL, OPT_NAME},
		{"days", required_argument, NULL, OPT_DAYS}, {NULL, 0, NULL, 0}};
	struct pki_options options = {0};
	int code = ctl_options(ctl, &ctl_pki, argc, argv, own, handle, &options);

	if (code)
		return code;
	for (size_t i = 0; optind < argc && i < sizeof(actions) / sizeof(actions[0]); i++) {
		if (strcmp(actions[i].name, argv[optind]) == 0)
			return actions[i].run(ctl, &options, argv + optind + 1, argc - optind - 1);
	}
	return ctl_usage(&ctl_pki, "say init, issue or revoke");
}

const struct ctl_command ctl_pki = {
	.name = "pki",
	.arguments = "init DIR | issue --ca DIR ROLE NAME OUTDIR | revoke --ca DIR CERT",
	.summary = "Make the host's certificate authority and identities",
	.help = "  init DIR       make a CA in DIR: ca.pem, and ca.key that only you can read\n"
		"  issue          make an identity in OUTDIR: key.pem, cert.pem, ca.pem\n"
		"                 ROLE is sensor, operator, admin, provider or broker\n"
		"  revoke         add a certificate to crl.pem in the CA's folder\n"
		"  --ca DIR       folder of the CA\n"
		"  --name NAME    the CA's common name\n"
		"  --days N       validity (default 3650 for a CA, 365 for identities)\n"
		"\n"
		"Examples:\n"
		"  vmsigctl pki init /etc/vmsig/ca\n"
		"  vmsigctl pki issue --ca /etc/vmsig/ca broker $(hostname) /etc/vmsig/broker\n"
		"  vmsigctl pki issue --ca /etc/vmsig/ca sensor acme ./acme\n",
	.run = run_pki,
};
