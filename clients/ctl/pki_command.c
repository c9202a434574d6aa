/* SPDX-License-Identifier: Apache-2.0 */
/* `vmsigctl pki`: its command line. What it does is in pki.h. */
#include <stdio.h>
#include <string.h>

#include "clients/ctl/ctl.h"
#include "clients/ctl/pki.h"

#define CA_DAYS 3650
#define IDENTITY_DAYS 365
#define CRL_DAYS 3650 /* the list stands until the next revocation, or pki renew --crl */
#define DAYS_MAX 36500

struct pki_options {
	const char *ca, *name, *serial;
	uint64_t days, within;
	bool crl;
	struct pki_how how;
};

enum {
	OPT_CA = CTL_OPT_FIRST,
	OPT_NAME,
	OPT_DAYS,
	OPT_KEY_TYPE,
	OPT_PASSPHRASE_FILE,
	OPT_ENCRYPT,
	OPT_WITHIN,
	OPT_CRL,
	OPT_SERIAL,
	OPT_ROLE,
};

static bool parse_days(const char *value, uint64_t *ret_days)
{
	return text_number(value, ret_days) && *ret_days && *ret_days <= DAYS_MAX;
}

static bool handle(void *ctx, int code, const char *value)
{
	struct pki_options *options = ctx;

	switch (code) {
	case OPT_DAYS:
		return parse_days(value, &options->days);
	case OPT_WITHIN:
		return parse_days(value, &options->within);
	case OPT_ENCRYPT:
		options->how.encrypt = true;
		return true;
	case OPT_CRL:
		options->crl = true;
		return true;
	case OPT_CA:
		options->ca = value;
		return true;
	case OPT_NAME:
		options->name = value;
		return true;
	case OPT_KEY_TYPE:
		options->how.key_type = value;
		return true;
	case OPT_ROLE:
		options->how.role = value;
		return true;
	case OPT_PASSPHRASE_FILE:
		options->how.passphrase_file = value;
		return true;
	default:
		options->serial = value;
		return true;
	}
}

static struct pki_how how_of(const struct pki_options *options, unsigned days)
{
	struct pki_how how = options->how;

	how.days = options->days ? (unsigned)options->days : days;
	how.within = (unsigned)options->within;
	return how;
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
	const struct pki_how how = how_of(options, CA_DAYS);
	char error[512] = "";
	int r;

	if (n != 1)
		return ctl_usage(&ctl_pki, "init takes DIR");
	r = pki_init(args[0], options->name ? options->name : "vmsig host CA", &how, error,
		sizeof(error));
	return report(ctl, r, error, "authority", args[0]);
}

static int run_issue(const struct ctl *ctl, const struct pki_options *options, char **args, int n)
{
	const struct pki_how how = how_of(options, IDENTITY_DAYS);
	char error[512] = "";
	int r;

	if (n != 3 || !options->ca)
		return ctl_usage(&ctl_pki, "issue takes --ca DIR ROLE NAME OUTDIR");
	r = pki_issue(options->ca, args[0], args[1], args[2], &how, error, sizeof(error));
	return report(ctl, r, error, "identity", args[2]);
}

static int run_csr(const struct ctl *ctl, const struct pki_options *options, char **args, int n)
{
	char error[512] = "";
	int r;

	if (n != 3)
		return ctl_usage(&ctl_pki, "csr takes ROLE NAME OUTDIR");
	r = pki_request(args[0], args[1], args[2], &options->how, error, sizeof(error));
	return report(ctl, r, error, "request", args[2]);
}

static int run_sign(const struct ctl *ctl, const struct pki_options *options, char **args, int n)
{
	const struct pki_how how = how_of(options, IDENTITY_DAYS);
	char error[512] = "";
	int r;

	if (n != 4 || !options->ca)
		return ctl_usage(&ctl_pki, "sign takes --ca DIR REQUEST ROLE NAME OUTDIR");
	r = pki_sign(options->ca, args[0], args[1], args[2], args[3], &how, error, sizeof(error));
	return report(ctl, r, error, "certificate", args[3]);
}

static int run_renew(const struct ctl *ctl, const struct pki_options *options, char **args, int n)
{
	const struct pki_how how = how_of(options, options->crl ? CRL_DAYS : IDENTITY_DAYS);
	const char *what = options->crl ? options->ca : args[0];
	char error[512] = "";
	bool done = false;
	int r;

	if (!options->ca || n != !options->crl)
		return ctl_usage(&ctl_pki, "renew takes --ca DIR and either an identity's folder "
					   "or --crl");
	r = options->crl ? pki_renew_crl(options->ca, &how, &done, error, sizeof(error))
			 : pki_renew(options->ca, what, &how, &done, error, sizeof(error));
	return report(ctl, r, error, done ? "renewed" : "current", what);
}

static int run_revoke(const struct ctl *ctl, const struct pki_options *options, char **args, int n)
{
	const struct pki_how how = how_of(options, CRL_DAYS);
	char error[512] = "";
	int r;

	if (!options->ca || n != !options->serial)
		return ctl_usage(&ctl_pki, "revoke takes --ca DIR and either CERT, an identity's "
					   "folder, or --serial HEX");
	r = pki_revoke(options->ca, options->serial ? NULL : args[0], options->serial, &how, error,
		sizeof(error));
	return report(ctl, r, error, "revoked", options->serial ? options->serial : args[0]);
}

/* ---- ls ---- */

static const char *const states[] = {
	[PKI_VALID] = "valid", [PKI_EXPIRED] = "expired", [PKI_REVOKED] = "revoked"};

static bool add_row(void *ctx, const struct pki_entry *entry)
{
	struct table *table = ctx;

	table_add(table, "%s", entry->role);
	table_add(table, "%s", entry->name);
	table_add(table, "%s", entry->until);
	table_add(table, "%s", states[entry->state]);
	table_colour(table, entry->state == PKI_VALID ? TABLE_GOOD : TABLE_ODD);
	table_add(table, "%s", entry->serial);
	return !table->failed;
}

static bool print_entry(void *ctx, const struct pki_entry *entry)
{
	int *code = ctx;

	*code = ctl_print_json(json_pack("{s:s, s:s, s:s, s:s, s:s}", "role", entry->role, "name",
		entry->name, "until", entry->until, "state", states[entry->state], "serial",
		entry->serial));
	return *code == EXIT_OK;
}

static int print_all(const char *ca, char *error, size_t error_size, int *ret_code)
{
	static const struct table_column columns[] = {{"ROLE", 0, false}, {"NAME", 0, false},
		{"UNTIL", 0, false}, {"STATE", 0, false}, {"SERIAL", 0, false}};
	struct table table;
	int r;

	table_init(&table, columns, sizeof(columns) / sizeof(columns[0]));
	r = pki_list(ca, add_row, &table, error, error_size);
	if (!r)
		*ret_code = ctl_print_table(&table);
	table_deinit(&table);
	return r;
}

static int run_ls(const struct ctl *ctl, const struct pki_options *options, char **args, int n)
{
	char error[512] = "";
	int code = EXIT_OK, r;

	if (n || !options->ca)
		return ctl_usage(&ctl_pki, "ls takes --ca DIR");
	r = ctl->json ? pki_list(options->ca, print_entry, &code, error, sizeof(error))
		      : print_all(options->ca, error, sizeof(error), &code);
	return r ? ctl_fail(r, "%s", error) : code;
}

static const struct {
	const char *name;
	int (*run)(const struct ctl *ctl, const struct pki_options *options, char **args, int n);
} actions[] = {{"init", run_init}, {"issue", run_issue}, {"csr", run_csr}, {"sign", run_sign},
	{"renew", run_renew}, {"revoke", run_revoke}, {"ls", run_ls}};

static int run_pki(struct ctl *ctl, int argc, char **argv)
{
	static const struct option own[] = {{"ca", required_argument, NULL, OPT_CA},
		{"name", required_argument, NULL, OPT_NAME},
		{"days", required_argument, NULL, OPT_DAYS},
		{"key-type", required_argument, NULL, OPT_KEY_TYPE},
		{"passphrase-file", required_argument, NULL, OPT_PASSPHRASE_FILE},
		{"encrypt", no_argument, NULL, OPT_ENCRYPT},
		{"within", required_argument, NULL, OPT_WITHIN},
		{"crl", no_argument, NULL, OPT_CRL},
		{"serial", required_argument, NULL, OPT_SERIAL},
		{"role", required_argument, NULL, OPT_ROLE}, {NULL, 0, NULL, 0}};
	struct pki_options options = {0};
	int code = ctl_options(ctl, &ctl_pki, argc, argv, own, handle, &options);

	if (code)
		return code;
	for (size_t i = 0; optind < argc && i < sizeof(actions) / sizeof(actions[0]); i++) {
		if (strcmp(actions[i].name, argv[optind]) == 0)
			return actions[i].run(ctl, &options, argv + optind + 1, argc - optind - 1);
	}
	return ctl_usage(&ctl_pki, "say init, issue, csr, sign, renew, revoke or ls");
}

const struct ctl_command ctl_pki = {
	.name = "pki",
	.arguments =
		"init DIR | issue --ca DIR ROLE NAME OUTDIR | csr ROLE NAME OUTDIR | sign --ca "
		"DIR REQUEST ROLE NAME OUTDIR | renew --ca DIR OUTDIR|--crl | revoke --ca DIR "
		"CERT|OUTDIR | ls --ca DIR",
	.summary = "Make the host's certificate authority and identities",
	.help = "  init DIR       make a CA in DIR: ca.pem, and ca.key that only you can read\n"
		"  issue          make an identity in OUTDIR: key.pem, cert.pem, ca.pem\n"
		"                 ROLE is sensor, operator, admin, monitor, provider or broker\n"
		"  csr            make key.pem and request.pem in OUTDIR, for a CA that is "
		"elsewhere\n"
		"  sign           turn a request into cert.pem and ca.pem in OUTDIR\n"
		"  renew          a new certificate for the key in OUTDIR, in place of the old "
		"one\n"
		"  renew --crl    sign crl.pem in the CA's folder anew\n"
		"  revoke         add a certificate to crl.pem in the CA's folder\n"
		"  ls             what the CA has issued\n"
		"  --ca DIR       folder of the CA\n"
		"  --name NAME    the CA's common name\n"
		"  --days N       validity (default 3650 for a CA and its list, 365 for "
		"identities)\n"
		"  --within N     renew only what ends within N days\n"
		"  --role ROLE    renew only a certificate of this role\n"
		"  --serial HEX   revoke by serial\n"
		"  --key-type T   p256 (default) or ed25519\n"
		"  --encrypt      init: encrypt ca.key\n"
		"  --passphrase-file FILE  its first line decrypts ca.key; without it you are "
		"asked\n"
		"\n"
		"Examples:\n"
		"  vmsigctl pki init /etc/vmsig/ca\n"
		"  vmsigctl pki issue --ca /etc/vmsig/ca broker $(hostname) /etc/vmsig/broker\n"
		"  vmsigctl pki issue --ca /etc/vmsig/ca sensor acme ./acme\n"
		"  vmsigctl pki renew --ca /etc/vmsig/ca --within 30 /etc/vmsig/broker\n"
		"  vmsigctl pki renew --ca /etc/vmsig/ca --within 30 --crl\n",
	.run = run_pki,
};
