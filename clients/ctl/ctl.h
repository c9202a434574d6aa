/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_CTL_CTL_H
#define CLIENTS_CTL_CTL_H

/*
 * What the subcommands of vmsigctl share: global options, messages, opening a connection,
 * waiting for a context. Commands and what they call return an enum exit_status.
 *
 *   main           the table of commands
 *   ctl            what they share
 *   options        of command lines
 *   ls             ls, info
 *   watch          watch
 *   read           read
 *   scan           scan
 *   guest          what looks into a guest
 *   place          addresses, named
 *   ps             ps, threads, environ
 *   maps           maps, files
 *   modules        modules, symbols
 *   cat            cat
 *   check          check
 *   check_text     its part about the kernel's text
 *   parts          sections, exports, imports
 *   images         programs and libraries of a process
 *   rows           lists
 *   sockets        sockets
 *   mounted        mounts
 *   dmesg          dmesg
 *   dump           dump
 *   mount          mount
 *   mount_tree     what is in it
 *   mount_guest    of which guests
 *   output         where what is made of a guest goes
 *   exec           exec
 *   fleet          who may write to which guest, over hosts
 *   gdb            gdb
 *   gdb_link       how gdb gets to it
 *   gdb_write      what it writes
 *   operator       connections of operators
 *   lease          lease
 *   lease_acquire  lease acquire
 *   write          write
 *   write_data     what to write
 *   write_parts    in parts
 *   piece          a part
 *   undo           undo
 *   undo_record    what undoes a write
 *   admin          connections of administrators
 *   message        a message as JSON
 *   status         status, stats, reload
 *   clients        clients, disconnect
 *   endpoint       endpoint
 *   provide        provide
 *   hosted         the broker's endpoints
 *   top            top
 *   policy         policy
 *   audit          audit
 *   audit_list     audit ls, tail, show
 *   audit_table    records as a table
 *   audit_record   a record
 *   audit_export   audit export
 *   audit_sqlite   audit export --sqlite
 *   audit_import   exports, read again
 *   audit_verify   audit verify
 *   audit_verdict  what that has found
 *   pki            certificates
 *   pki_command    pki
 *   pki_how        in which way
 *   pki_folder     files of keys and certificates
 *   pki_key        private keys
 *   pki_cert       what is signed
 */

#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "clients/common/context.h"
#include "clients/common/exits.h"
#include "clients/common/failure.h"
#include "clients/common/table.h"
#include "clients/common/text.h"
#include "clients/common/value.h"
#include "vmsig/vmsig.h"
#include "vmsig/vmsig_mem.h"

struct ctl {
	const char *identity;
	const char *socket; /* of --socket, or NULL: see ctl_socket() */
	bool json;
	bool wait_given;
	uint32_t timeout_ms; /* of --timeout, for the broker's word on a write; 0: not given */
	uint32_t wait_ms;    /* for an endpoint that is not ready, or a lease that others hold */
};

#define CTL_AGAIN_MS 500 /* between two attempts to connect */
#define CTL_SYSTEM_MAX (VMSIG_RELEASE_MAX + 64)

enum ctl_plane { CTL_PLANE_CTX, CTL_PLANE_WRITE, CTL_PLANE_ADMIN };

struct ctl_command {
	const char *name;
	const char *arguments;
	const char *summary;
	const char *help; /* options and examples */
	bool has_command; /* from the first argument on it is another command's line */
	bool has_actions; /* ... of this program */
	int (*run)(struct ctl *ctl, int argc, char **argv);
};

/* One of the commands that a command is a group of: `vmsigctl GROUP NAME`. */
struct ctl_action {
	const char *name;
	const struct ctl_command *command;
};

/* Codes of options that commands add. One below is a character, and a short option too. */
enum { CTL_OPT_FIRST = 256 };

/* Parses a command's own options beside the global ones. `handle` gets the codes of `own`
 * and returns false for a bad value. EXIT_OK: optind is at the first argument; else what to
 * exit with, a message was printed. */
typedef bool (*ctl_option_fn)(void *ctx, int code, const char *value);
int ctl_options(struct ctl *ctl, const struct ctl_command *command, int argc, char **argv,
	const struct option *own, ctl_option_fn handle, void *ctx);
/* Those in front of a command. `show` prints what -h, or -V, asks for. NULL: optind is at the
 * command; else what is wrong, until the next call. */
const char *ctl_options_before(struct ctl *ctl, void (*show)(int code), int argc, char **argv);
/* What `help` says of those. */
extern const char ctl_options_help[];

extern const struct ctl_command ctl_ls, ctl_info, ctl_watch, ctl_read, ctl_translate, ctl_pmap,
	ctl_scan, ctl_ps, ctl_threads, ctl_maps, ctl_files, ctl_sockets, ctl_mounts, ctl_dmesg,
	ctl_modules, ctl_sections, ctl_exports, ctl_imports, ctl_symbols, ctl_environ, ctl_cat,
	ctl_check, ctl_dump, ctl_gdb, ctl_mount, ctl_exec, ctl_lease, ctl_lease_acquire,
	ctl_lease_resume, ctl_write, ctl_undo, ctl_audit, ctl_pki, ctl_version, ctl_help,
	ctl_status, ctl_stats, ctl_reload, ctl_clients, ctl_disconnect, ctl_endpoint, ctl_fleet,
	ctl_top, ctl_policy, ctl_provide;

/* What a group runs: the action that the arguments name; `say` is the complaint when they name
 * none. */
int ctl_run_action(struct ctl *ctl, const struct ctl_command *group,
	const struct ctl_action *actions, size_t n, const char *say, int argc, char **argv);

/* From here on messages are said to programs, as failure.h has them. */
void ctl_say_json(void);
bool ctl_says_json(void);
/* The same when --json is among words that nobody could make sense of. */
void ctl_find_json(int argc, char *const *argv);
/* Says what went wrong, and what to do next, and gives the exit code that fits. */
__attribute__((format(printf, 2, 3))) int ctl_fail(int error, const char *format, ...);
/* The same with a hint of one's own, or with NULL none. */
__attribute__((format(printf, 3, 4))) void ctl_fail_with(
	int error, const char *hint, const char *format, ...);
/* What has happened and is no failure of the command: on standard error, to programs as
 * {"note": ...}. */
__attribute__((format(printf, 1, 2))) void ctl_note(const char *format, ...);
/* The same for a usage error, with a pointer to -h. */
__attribute__((format(printf, 2, 3))) int ctl_usage(
	const struct ctl_command *command, const char *format, ...);
/* Prints a JSON value as one line and releases it. */
int ctl_print_json(json_t *json);
/* The rows that were added; they are out when it returns EXIT_OK. */
int ctl_print_table(struct table *table);
/* Output that did not get where it should, a full disk say, is no success: `code`, or what to exit
 * with instead. A command that failed has said so already. */
int ctl_output_end(int code);
/* What was printed is on its way, or a message says why it is not. */
int ctl_flush(void);
/* Whether nobody reads standard output any more: a command that follows something ends then,
 * and not only when it has something to say. */
bool ctl_output_is_gone(void);
/* Whether somebody sees on standard error how far a command is. */
bool ctl_shows_progress(void);
/* The message for what went wrong with something that the user named; `why` may name it too. */
int ctl_fail_about(const char *name, int error, const char *why);
/* Becomes the command. When it cannot be run: a message, and the exit status that shells
 * give. */
_Noreturn void ctl_become(char **command);
/* {"os", "proof", "release"} of what runs in a guest. */
json_t *ctl_system_json(const vmsig_system *system);
/* "linux 6.1.0-18-amd64, vmcoreinfo", into `buf`, which is returned; "" for nothing known. */
const char *ctl_system_text(const vmsig_system *system, char buf[static CTL_SYSTEM_MAX]);

/* Where the plane listens: --socket, or the plane's environment variable, or its default. */
const char *ctl_socket(const struct ctl *ctl, enum ctl_plane plane);
/* How to connect there. EXIT_OK, or EXIT_USAGE after a message: there is no identity. */
int ctl_connection(const struct ctl *ctl, enum ctl_plane plane, vmsig_options *ret_options);
/* The message for an identity that cannot be used, which no broker has seen, and its exit code. */
int ctl_identity_fail(const char *why);
/* The message for a connection that could not be made, and its exit code. */
int ctl_connect_fail(int error, const char *socket, const char *why);
/* Opens and connects to the read plane. EXIT_OK, or the exit code after a message. */
int ctl_connect(const struct ctl *ctl, vmsig **ret_vmsig);
/* The same after a connection was lost: waits for a broker for as long as there is none and
 * somebody reads the output. */
int ctl_reconnect(const struct ctl *ctl, vmsig **v);

/* Whether the endpoint's guest has gone to another host, and the broker's sentence about it; false
 * also when the read plane cannot be asked. Says nothing. */
bool ctl_moved(const struct ctl *ctl, const char *endpoint, char why[static VMSIG_DETAIL_MAX + 1]);

/* Subscribes to the endpoint and waits for its context, which the caller closes. */
int ctl_context_open(const struct ctl *ctl, const char *endpoint, struct context *ret_context);

#endif
