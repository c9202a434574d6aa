/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of the report about reading. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/sensor.h"
#include "tests/support/guest.h"

#define IMAGE (256ull << 20) /* bytes of RAM, none of them a hole */
#define MAPPED (16ull << 20) /* the image's tables map so much of it */
#define READ_AT 0x400000ull  /* guest-physical, and behind BENCH_GVA */
#define PAGE 4096u

/* A guest's RAM with page tables in it, as a file. */
void row_image(const struct bench *bench)
{
	struct guest guest;
	char path[256];
	int fd;

	guest_init(&guest, IMAGE, 4, BENCH_TABLES);
	for (uint64_t at = 0; at < MAPPED; at += PAGE)
		guest_map(&guest, BENCH_GVA + at, at, GUEST_4K, GUEST_W);
	guest_fill(&guest, READ_AT, PAGE);
	fd = open(bench_path(path, sizeof(path), bench->ram, "vm.ram"),
		O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	for (uint64_t at = 0; at < IMAGE; at += PAGE) {
		if (write(fd, guest.ram + at, PAGE) != PAGE)
			bench_die("%s: %s", path, strerror(errno));
	}
	close(fd);
	guest_deinit(&guest);
}

vmsig_mem *sensor_context(const struct bench *bench, uint64_t *ret_kcr3)
{
	vmsig_delivery delivery = VMSIG_DELIVERY_INIT;
	char socket[108], identity[256], error[256];
	const vmsig_options options = {
		.socket_path = bench_path(socket, sizeof(socket), bench->run, "ctx.sock"),
		.identity_dir = bench_path(identity, sizeof(identity), bench->pki, "sensor"),
		.flags = VMSIG_OPT_NO_RECONNECT};
	vmsig_memctx pod;
	vmsig_mem *mem;
	vmsig *v;

	if (vmsig_open(&v, &options, error, sizeof(error)))
		bench_die("%s", error);
	if (vmsig_subscribe_wait(v, "vm", BENCH_WAIT_MS))
		bench_die("subscribe: %s", vmsig_last_error(v));
	while (delivery.event.kind != VMSIG_EV_MEMCTX) {
		vmsig_delivery_clear(&delivery);
		if (vmsig_wait(v, &delivery, BENCH_WAIT_MS))
			bench_die("no context: %s", vmsig_last_error(v));
	}
	memcpy(&pod, delivery.event.inln, sizeof(pod));
	*ret_kcr3 = pod.kcr3;
	if (delivery.coherence_fd < 0 ||
		vmsig_mem_from_event(&mem, &delivery.event, delivery.ram_fd, delivery.coherence_fd))
		bench_die("the context cannot be opened");
	vmsig_delivery_clear(&delivery);
	vmsig_close(v);
	return mem;
}

static const uint8_t *map_page(const struct bench *bench)
{
	char path[256];
	void *at;
	int fd = open(bench_path(path, sizeof(path), bench->ram, "vm.ram"), O_RDONLY | O_CLOEXEC);

	at = mmap(NULL, PAGE, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, READ_AT);
	if (fd < 0 || at == MAP_FAILED)
		bench_die("%s: %s", path, strerror(errno));
	close(fd);
	return at;
}

/* The compiler must not know that nobody looks. */
static inline void use(const void *buf)
{
	__asm__ volatile("" : : "r"(buf) : "memory");
}

/* Where all reads go: how a copy's end lies in its page makes it fast or slow. */
static _Alignas(PAGE) uint8_t buf[PAGE];

static uint64_t read_coherent(vmsig_mem *mem, uint64_t kcr3, size_t len, unsigned n)
{
	uint64_t began = bench_now();

	for (unsigned i = 0; i < n; i++) {
		if (vmsig_gva_read(mem, kcr3, BENCH_GVA + READ_AT, buf, len))
			bench_die("a read failed");
		use(buf);
	}
	return bench_now() - began;
}

static uint64_t copy(const uint8_t *from, size_t len, unsigned n)
{
	uint64_t began = bench_now();

	for (unsigned i = 0; i < n; i++) {
		use(from);
		memcpy(buf, from, len);
		use(buf);
	}
	return bench_now() - began;
}

/* And what says until when the page is vouched for, against a clock. */
static uint64_t copy_in_time(const uint8_t *from, size_t len, unsigned n)
{
	uint64_t began = bench_now();

	for (unsigned i = 0; i < n; i++) {
		struct timespec now;

		clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
		if (now.tv_sec < 0)
			bench_die("the clock runs backwards");
		use(from);
		memcpy(buf, from, len);
		use(buf);
	}
	return bench_now() - began;
}

void row_floor_read_4k(const struct bench *bench)
{
	unsigned n = bench_count(bench, 1000000, 1000);
	const uint8_t *page = map_page(bench);

	copy(page, PAGE, n / 10);
	for (unsigned i = 0; i < bench->rounds; i++) {
		double bare = (double)copy(page, PAGE, n) / n;

		bench_report(bench->row, (double)copy_in_time(page, PAGE, n) / n, bare);
	}
	munmap((void *)(uintptr_t)page, PAGE);
}

static void row_read(const struct bench *bench, size_t len, bool has_baseline)
{
	unsigned n = bench_count(bench, 1000000, 1000);
	const uint8_t *page = map_page(bench);
	uint64_t kcr3;
	vmsig_mem *mem = sensor_context(bench, &kcr3);

	if (vmsig_gva_read(mem, kcr3, BENCH_GVA + READ_AT, buf, len) || memcmp(buf, page, len) != 0)
		bench_die("the library reads something else than what is there");
	copy(page, len, n / 10);
	for (unsigned i = 0; i < bench->rounds; i++) {
		double bare = (double)copy(page, len, n) / n;

		bench_report(bench->row, (double)read_coherent(mem, kcr3, len, n) / n,
			has_baseline ? bare : -1);
	}
	vmsig_mem_close(mem);
	munmap((void *)(uintptr_t)page, PAGE);
}

void row_read_4k(const struct bench *bench)
{
	row_read(bench, PAGE, true);
}

void row_read_8b(const struct bench *bench)
{
	row_read(bench, sizeof(uint64_t), false);
}
