/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/common/moment.h"
#include "clients/shim/prompt.h"

#include <errno.h>
#include <inttypes.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

#include <histedit.h>

#include "clients/common/exits.h"
#include "clients/common/folder.h"
#include "clients/shim/command.h"
#include "clients/shim/complete.h"
#include "clients/shim/output.h"
#include "clients/shim/shim.h"

#define TEXT_MAX 160
#define HISTORY_MAX 1000
#define NS_PER_MS 1000000
#define TICK_MS 500 /* how often a lease that is not renewed counts down */
#define COLUMNS 80  /* of a terminal that does not say */

struct prompt {
	struct shim *shim;
	EditLine *el;
	History *history;
	char history_path[PATH_MAX]; /* "" keeps none */
	bool editing;                /* there is a line on the terminal */
	char text[TEXT_MAX];         /* what stands in front of it */
	mbstate_t state;             /* of a character that has not come as a whole */
};

/* ---- what stands in front ---- */

void prompt_text(const struct shim *shim, char *text, size_t size)
{
	const struct hold *hold = &shim->hold;
	const char *away = shim->session.write.up && shim->session.read.up ? "" : " offline";
	uint32_t epoch = shim->context.epoch > hold->epoch ? shim->context.epoch : hold->epoch;

	if (hold->usable)
		snprintf(text, size, "%s e%u %" PRId64 "s%s> ", shim->options.endpoint, epoch,
			(hold_remaining(hold) + 999) / 1000, away);
	else
		snprintf(text, size, "%s e%u %s%s> ", shim->options.endpoint, epoch,
			hold->error ? "lost" : "no lease", away);
}

static char *prompt_of(EditLine *el)
{
	struct prompt *prompt = NULL;

	el_get(el, EL_CLIENTDATA, &prompt);
	return prompt->text;
}

/* ---- giving way ---- */

static unsigned columns(void)
{
	struct winsize size;

	return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : COLUMNS;
}

/* Rows between the beginning of the prompt and the cursor. */
static unsigned cursor_row(const struct prompt *prompt)
{
	const LineInfoW *line = el_wline(prompt->el);
	size_t width = strlen(prompt->text);

	for (const wchar_t *c = line->buffer; c < line->cursor; c++) {
		int n = wcwidth(*c);

		width += n >= 0 ? (size_t)n : 2; /* ^X */
	}
	return (unsigned)(width / columns());
}

static void hide(void *terminal)
{
	struct prompt *prompt = terminal;
	char *up = NULL, *clear = NULL;

	if (!prompt->editing)
		return;
	el_get(prompt->el, EL_GETTC, "up", &up);
	el_get(prompt->el, EL_GETTC, "cd", &clear);
	if (up && clear) {
		putchar('\r');
		for (unsigned row = cursor_row(prompt); row > 0; row--)
			fputs(up, stdout);
		fputs(clear, stdout);
	} else {
		putchar('\n');
	}
	fflush(stdout);
}

static void show(void *terminal)
{
	struct prompt *prompt = terminal;

	if (!prompt->editing)
		return;
	prompt_text(prompt->shim, prompt->text, sizeof(prompt->text));
	el_set(prompt->el, EL_REFRESH);
}

/* ---- time ---- */

/* Seconds that go by while the lease is renewed are nobody's concern, and a line that is drawn
 * again and again cannot be copied from. */
static int64_t next_tick(const struct prompt *prompt)
{
	const struct hold *hold = &prompt->shim->hold;
	int64_t remaining = hold_remaining(hold), calm;
	vmsig_lease_info info;

	if (!hold->usable)
		return MOMENT_NEVER;
	vmsig_lease_get(hold->lease, &info);
	calm = remaining - info.ttl_ms / 2;
	return moment_now() + (calm > 0 ? calm : TICK_MS) * NS_PER_MS;
}

static bool is_calm(const struct prompt *prompt)
{
	const struct hold *hold = &prompt->shim->hold;
	vmsig_lease_info info;

	if (!hold->usable)
		return false;
	vmsig_lease_get(hold->lease, &info);
	return hold_remaining(hold) > info.ttl_ms / 2;
}

/* Draws the line again when what stands in front of it is not true any more. */
static void tick(struct prompt *prompt, bool was_usable)
{
	char text[TEXT_MAX];

	if (is_calm(prompt) && was_usable && prompt->shim->session.write.up)
		return;
	prompt_text(prompt->shim, text, sizeof(text));
	if (strcmp(text, prompt->text) == 0)
		return;
	hide(prompt);
	show(prompt);
}

/* ---- characters ---- */

/* Stops as the terminal's user wants it, with the terminal as it was. */
static void suspend(struct prompt *prompt)
{
	sigset_t set;

	el_set(prompt->el, EL_PREP_TERM, 0);
	sigemptyset(&set);
	sigaddset(&set, SIGTSTP);
	raise(SIGTSTP);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	/* Here it goes on again. */
	sigprocmask(SIG_BLOCK, &set, NULL);
	el_set(prompt->el, EL_PREP_TERM, 1);
	putchar('\n');
	show(prompt);
}

static void take_signals(struct prompt *prompt)
{
	struct shim_session *session = &prompt->shim->session;

	if (session->resized)
		el_resize(prompt->el);
	session->resized = false;
	if (session->suspended)
		suspend(prompt);
	session->suspended = false;
}

/* 1 with a character, 0 at the end of the input, -1 when nothing more shall be read, and 2 when
 * the character is not there as a whole. */
static int take_byte(struct prompt *prompt, wchar_t *ret_char)
{
	char byte;
	ssize_t n = read(STDIN_FILENO, &byte, 1);
	size_t length;

	if (n <= 0)
		return n < 0 && (errno == EINTR || errno == EAGAIN) ? 2 : (int)n;
	length = mbrtowc(ret_char, &byte, 1, &prompt->state);
	if (length == (size_t)-1)
		memset(&prompt->state, 0, sizeof(prompt->state));
	return length <= 1 ? 1 : 2;
}

/* libedit's source of characters: the one place where the shim waits for a person. */
static int take_char(EditLine *el, wchar_t *ret_char)
{
	struct prompt *prompt = NULL;
	int taken = 2;

	el_get(el, EL_CLIENTDATA, &prompt);
	while (taken == 2) {
		bool was_usable = prompt->shim->hold.usable;
		bool ready = shim_session_step(prompt->shim, STDIN_FILENO, next_tick(prompt));

		if (shim_session_is_stopped(&prompt->shim->session)) {
			errno = EINTR;
			return -1;
		}
		take_signals(prompt);
		tick(prompt, was_usable);
		if (ready)
			taken = take_byte(prompt, ret_char);
	}
	return taken;
}

/* ---- completion ---- */

static void show_candidates(struct prompt *prompt, const struct completion *completion)
{
	hide(prompt);
	for (size_t i = 0; i < completion->count; i++)
		printf("%s%s", i ? "  " : "", completion->words[i]);
	putchar('\n');
	show(prompt);
}

static unsigned char take_tab(EditLine *el, int c)
{
	const LineInfo *line = el_line(el);
	struct prompt *prompt = NULL;
	struct completion completion;
	char more[COMPLETE_WORD + 1];
	size_t common;

	el_get(el, EL_CLIENTDATA, &prompt);
	complete(line->buffer, (size_t)(line->cursor - line->buffer), &completion);
	if (!completion.count)
		return CC_ERROR;
	common = complete_common(&completion);
	snprintf(more, sizeof(more), "%.*s%s", (int)(common - completion.typed),
		completion.words[0] + completion.typed, completion.count == 1 ? " " : "");
	if (!more[0]) {
		show_candidates(prompt, &completion);
		return CC_NORM;
	}
	return el_insertstr(el, more) ? CC_ERROR : CC_REFRESH;
}

/* ---- history ---- */

static void history_open(struct prompt *prompt)
{
	HistEvent event;
	char *slash;

	if (!folder_state("VMSIG_SHIM_HISTORY", "shim_history", prompt->history_path))
		prompt->history_path[0] = '\0';
	history(prompt->history, &event, H_SETSIZE, HISTORY_MAX);
	history(prompt->history, &event, H_SETUNIQUE, 1);
	el_set(prompt->el, EL_HIST, history, prompt->history);
	slash = strrchr(prompt->history_path, '/');
	if (!slash)
		return;
	*slash = '\0';
	/* Without the folder there is no history, and nothing is wrong. */
	(void)!folder_make(prompt->history_path);
	*slash = '/';
	history(prompt->history, &event, H_LOAD, prompt->history_path);
}

static void history_close(struct prompt *prompt)
{
	mode_t mask = umask(077);
	HistEvent event;

	if (prompt->history_path[0])
		history(prompt->history, &event, H_SAVE, prompt->history_path);
	umask(mask);
	history_end(prompt->history);
}

/* ---- lines ---- */

/* NULL at the end; "" after Ctrl-C. Valid until the next one. */
static const char *read_line(struct prompt *prompt)
{
	struct shim_session *session = &prompt->shim->session;
	const char *line;
	int count = 0;

	session->interrupted = session->suspended = false;
	prompt_text(prompt->shim, prompt->text, sizeof(prompt->text));
	prompt->editing = true;
	line = el_gets(prompt->el, &count);
	prompt->editing = false;
	if (session->interrupted) {
		session->interrupted = false;
		puts("^C");
		return "";
	}
	if (!line || count <= 0)
		putchar('\n');
	return count > 0 ? line : NULL;
}

static void run_line(struct prompt *prompt, const char *line)
{
	char *copy = strdup(line);
	HistEvent event;

	if (copy && copy[strspn(copy, " \t\n")])
		history(prompt->history, &event, H_ENTER, line);
	if (copy)
		(void)shim_command_run(prompt->shim, copy);
	free(copy);
}

static bool open_editor(struct prompt *prompt)
{
	prompt->el = el_init("vmsig-shim", stdin, stdout, stderr);
	prompt->history = prompt->el ? history_init() : NULL;
	if (!prompt->history) {
		if (prompt->el)
			el_end(prompt->el);
		return false;
	}
	el_set(prompt->el, EL_CLIENTDATA, prompt);
	el_set(prompt->el, EL_PROMPT, prompt_of);
	el_set(prompt->el, EL_EDITOR, "emacs");
	el_set(prompt->el, EL_GETCFN, take_char);
	el_set(prompt->el, EL_ADDFN, "vmsig-complete", "Complete the word", take_tab);
	el_set(prompt->el, EL_BIND, "^I", "vmsig-complete", NULL);
	el_source(prompt->el, NULL);
	history_open(prompt);
	return true;
}

int prompt_run(struct shim *shim)
{
	struct prompt prompt = {.shim = shim};
	struct shim_output *output = &shim->output;
	const char *line;

	setlocale(LC_CTYPE, "");
	if (!open_editor(&prompt))
		return shim_output_fail(
			output, VMSIG_ERR_IO, "cannot use the terminal; check TERM");
	output->hide = hide;
	output->show = show;
	output->terminal = &prompt;
	while (!shim->quits && !shim->session.ends && (line = read_line(&prompt)))
		run_line(&prompt, line);
	output->hide = output->show = NULL;
	history_close(&prompt);
	el_end(prompt.el);
	return shim->session.ends ? SHIM_OUTPUT_SIGNAL + shim->session.ends : EXIT_OK;
}
