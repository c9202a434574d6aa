/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/windows/accessor.h"

#include <string.h>

#include "clients/os/windows/image.h"
#include "clients/os/windows/symbols.h"

#define CODE_BYTES 24u
#define JUMPS_MAX 3u
#define OFFSET_MAX 0x2000u /* objects are smaller */

/* Instructions (Intel's manual, volume 2). */
#define JUMP_NEAR 0xe9u
#define JUMP_SHORT 0xebu
#define WIDE 0x48u /* REX.W */
#define MOVE 0x8bu
#define ADDRESS 0x8du
#define RETURN 0xc3u
#define ACCUMULATOR_NEAR 0x41u /* rax, [rcx + 8 bits] */
#define ACCUMULATOR_FAR 0x81u  /* rax, [rcx + 32 bits] */

static const uint8_t *after_padding(const uint8_t *code)
{
	static const uint8_t branch_target[] = {0xf3, 0x0f, 0x1e, 0xfa},
			     nop5[] = {0x0f, 0x1f, 0x44, 0x00, 0x00}, nop2[] = {0x66, 0x90};

	if (memcmp(code, branch_target, sizeof(branch_target)) == 0)
		code += sizeof(branch_target);
	if (memcmp(code, nop5, sizeof(nop5)) == 0)
		code += sizeof(nop5);
	if (memcmp(code, nop2, sizeof(nop2)) == 0)
		code += sizeof(nop2);
	return code;
}

/* A byte of a displacement. */
static int32_t sign_extended(uint8_t byte)
{
	return (int32_t)(byte ^ 0x80u) - 0x80;
}

/* One instruction that moves a member, or its address, from the object at rcx, and a return. */
static uint32_t offset_of(const uint8_t *code)
{
	bool wide = *code == WIDE;
	int32_t offset = 0;

	code += wide;
	if (*code != MOVE && !(wide && *code == ADDRESS))
		return 0;
	code++;
	if (*code == ACCUMULATOR_NEAR) {
		offset = sign_extended(code[1]);
		code += 2;
	} else if (*code == ACCUMULATOR_FAR) {
		memcpy(&offset, code + 1, sizeof(offset));
		code += 1 + sizeof(offset);
	}
	return *code == RETURN && offset > 0 && offset < (int32_t)OFFSET_MAX ? (uint32_t)offset : 0;
}

/* Where a jump leads, as an offset in the image; false: it is none. */
static bool follow(const uint8_t *code, uint64_t *at, size_t skipped)
{
	int32_t near;

	if (*code == JUMP_SHORT) {
		*at += skipped + 2 + (uint64_t)(int64_t)sign_extended(code[1]);
		return true;
	}
	if (*code != JUMP_NEAR)
		return false;
	memcpy(&near, code + 1, sizeof(near));
	*at += skipped + 1 + sizeof(near) + (uint64_t)(int64_t)near;
	return true;
}

uint32_t windows_accessor(struct windows_kernel *kernel, const char *function)
{
	uint64_t at = windows_symbols_addr(&kernel->symbols, function);
	uint8_t bytes[CODE_BYTES];
	const uint8_t *code;
	bool missing;

	if (!at)
		return 0;
	at -= kernel->image.base;
	for (unsigned i = 0; i < JUMPS_MAX; i++) {
		windows_image_some(kernel, &kernel->image, at, bytes, sizeof(bytes), &missing);
		if (missing)
			return 0;
		code = after_padding(bytes);
		if (!follow(code, &at, (size_t)(code - bytes)))
			return offset_of(code);
	}
	return 0;
}
