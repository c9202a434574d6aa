/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_COMMON_RSP_H
#define CLIENTS_COMMON_RSP_H

/*
 * The frames of gdb's remote serial protocol (gdb manual, appendix E): "$DATA#CHECKSUM", "+" and
 * "-" beside them, and a byte 3 that interrupts. Pure: bytes go in, packets come out. A packet
 * whose checksum is wrong is asked for again; one that is too long comes out empty, which
 * nobody understands: asked for again, it would be as long.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RSP_PACKET_MAX 0x4000u /* bytes of data, as we tell gdb */

enum rsp_event {
	RSP_NONE,      /* more bytes are needed */
	RSP_PACKET,    /* `data` is one, and ends with a NUL that is not of it */
	RSP_BAD,       /* one that has to be sent again */
	RSP_INTERRUPT, /* the user wants to stop the target */
	RSP_AGAIN,     /* the last answer has to be sent again */
};

struct rsp {
	char data[RSP_PACKET_MAX + 1];
	size_t len;
	enum { RSP_IDLE, RSP_DATA, RSP_SUM_HIGH, RSP_SUM_LOW } at;
	bool too_long;
	uint8_t sum, told;
};

/* Takes one byte. */
enum rsp_event rsp_take(struct rsp *rsp, uint8_t byte);

/* Whether `bytes`, which come behind a packet that was taken whole, begin with the same one again:
 * gdb sends again what nobody has acknowledged in time, and wants one answer to all of them. */
bool rsp_is_again(const struct rsp *rsp, const uint8_t *bytes, size_t len);

/* Two digits for each of `len` bytes into `ret_text`, which has room for 2 * len + 1. */
void rsp_hex(const uint8_t *bytes, size_t len, char *ret_text);
/* "$DATA#CHECKSUM" into `ret_frame`, which has room for 2 * len + 5: bytes that have a meaning are
 * escaped. Its length. */
size_t rsp_frame(const char *data, size_t len, char *ret_frame);
/* Numbers in hexadecimal: "ADDR,LEN". False: it is none. */
bool rsp_pair(const char *text, uint64_t *ret_first, uint64_t *ret_second);

#endif
