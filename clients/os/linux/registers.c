/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/linux/registers.h"

#include <string.h>

#include "clients/os/fault.h"
#include "clients/os/linux/task.h"
#include "vmsig/vmsig_error.h"

/* struct pt_regs, arch/x86/include/asm/ptrace.h: the last thing on a task's stack. */
enum saved {
	SAVED_R15,
	SAVED_R14,
	SAVED_R13,
	SAVED_R12,
	SAVED_RBP,
	SAVED_RBX,
	SAVED_R11,
	SAVED_R10,
	SAVED_R9,
	SAVED_R8,
	SAVED_RAX,
	SAVED_RCX,
	SAVED_RDX,
	SAVED_RSI,
	SAVED_RDI,
	SAVED_ORIG_RAX,
	SAVED_RIP,
	SAVED_CS,
	SAVED_RFLAGS,
	SAVED_RSP,
	SAVED_SS,
	SAVED
};

/* struct inactive_task_frame, arch/x86/include/asm/switch_to.h. */
enum switched {
	SWITCHED_R15,
	SWITCHED_R14,
	SWITCHED_R13,
	SWITCHED_R12,
	SWITCHED_RBX,
	SWITCHED_RBP,
	SWITCHED_RIP,
	SWITCHED
};

/* arch/x86/include/asm/segment.h */
#define USER_CS 0x33u
#define USER32_CS 0x23u
#define USER_SS 0x2bu
#define KERNEL_CS 0x10u
#define KERNEL_SS 0x18u
#define FLAGS_ALWAYS 0x2u
#define KERNEL_TEXT 0xffffffff80000000ull /* and that of modules */

/* In the order of vmsig_registers. */
static const enum saved general[] = {SAVED_RAX, SAVED_RBX, SAVED_RCX, SAVED_RDX, SAVED_RSI,
	SAVED_RDI, SAVED_RBP, SAVED_RSP, SAVED_R8, SAVED_R9, SAVED_R10, SAVED_R11, SAVED_R12,
	SAVED_R13, SAVED_R14, SAVED_R15};

static bool is_user(const uint64_t frame[static SAVED])
{
	return (frame[SAVED_CS] == USER_CS || frame[SAVED_CS] == USER32_CS) &&
	       frame[SAVED_SS] == USER_SS && (frame[SAVED_RFLAGS] & FLAGS_ALWAYS) &&
	       !(frame[SAVED_RIP] >> 56);
}

/* Where the stack ends depends on how the kernel was built: KASAN doubles it, FRED leaves 16 bytes
 * free. */
static int of_process(
	struct linux_kernel *kernel, const vmsig_proc *process, vmsig_registers *registers)
{
	static const uint64_t ends[] = {0x4000, 0x4000 - 16, 0x8000, 0x8000 - 16};
	uint64_t stack = linux_get(kernel, process->object, LINUX_TASK_STACK), frame[SAVED];

	for (size_t i = 0; stack && i < sizeof(ends) / sizeof(ends[0]) && !kernel->fault; i++) {
		linux_read(kernel, stack + ends[i] - sizeof(frame), frame, sizeof(frame));
		if (kernel->fault || !is_user(frame))
			continue;
		for (size_t j = 0; j < VMSIG_REGISTERS; j++)
			registers->general[j] = frame[general[j]];
		registers->known = (1u << VMSIG_REGISTERS) - 1;
		registers->rip = frame[SAVED_RIP];
		registers->rflags = frame[SAVED_RFLAGS];
		registers->cs = (uint16_t)frame[SAVED_CS];
		registers->ss = (uint16_t)frame[SAVED_SS];
		return 0;
	}
	return kernel->fault && !fault_again(kernel->fault) ? kernel->fault : VMSIG_ERR_NOT_MAPPED;
}

static int of_thread(
	struct linux_kernel *kernel, const vmsig_proc *thread, vmsig_registers *registers)
{
	static const struct {
		enum switched from;
		unsigned to;
	} kept[] = {{SWITCHED_RBX, 1}, {SWITCHED_RBP, 6}, {SWITCHED_R12, 12}, {SWITCHED_R13, 13},
		{SWITCHED_R14, 14}, {SWITCHED_R15, 15}};
	uint64_t sp = linux_get(kernel, thread->object, LINUX_TASK_SP), frame[SWITCHED];

	linux_read(kernel, sp, frame, sizeof(frame));
	if (kernel->fault)
		return kernel->fault;
	if (frame[SWITCHED_RIP] < KERNEL_TEXT)
		return VMSIG_ERR_NOT_MAPPED;
	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
		registers->general[kept[i].to] = frame[kept[i].from];
		registers->known |= 1u << kept[i].to;
	}
	registers->general[7] = sp + sizeof(frame);
	registers->known |= 1u << 7;
	registers->rip = frame[SWITCHED_RIP];
	registers->rflags = FLAGS_ALWAYS;
	registers->cs = KERNEL_CS;
	registers->ss = KERNEL_SS;
	return 0;
}

int linux_registers(
	struct linux_kernel *kernel, const vmsig_proc *process, vmsig_registers *ret_registers)
{
	bool is_thread = process->flags & VMSIG_PROC_KERNEL;
	vmsig_registers registers = {0};
	int r;

	if (!linux_has(kernel, is_thread ? LINUX_TASK_SP : LINUX_TASK_STACK))
		return VMSIG_ERR_UNSUPPORTED;
	linux_begin(kernel);
	vmsig_mem_flush(kernel->mem);
	r = is_thread ? of_thread(kernel, process, &registers)
		      : of_process(kernel, process, &registers);
	if (!r)
		r = linux_task_is(kernel, process);
	if (!r)
		*ret_registers = registers;
	return r;
}
