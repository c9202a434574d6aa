/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/windows/image.h"

#include <string.h>

#include "clients/os/windows/reader.h"
#include "vmsig/vmsig_error.h"

#define DOS_MAGIC 0x5a4du
#define NT_SIGNATURE 0x4550u
#define MACHINE_I386 0x14cu
#define MACHINE_AMD64 0x8664u
#define PE32 0x10bu
#define PE32_PLUS 0x20bu

#define LFANEW 0x3cu
#define NT_MACHINE 4u /* from the NT headers on */
#define NT_SECTIONS 6u
#define NT_OPTIONAL_SIZE 20u
#define NT_OPTIONAL 24u
#define OPTIONAL_IMAGE_SIZE 56u /* from the optional header on */
#define OPTIONAL_SMALL 96u      /* bytes in front of the directories' table, PE32 */
#define OPTIONAL_WIDE 112u
#define HEADERS_MAX (NT_OPTIONAL + OPTIONAL_WIDE + 8 * WINDOWS_DIRECTORIES)
#define LFANEW_MAX (WINDOWS_PAGE - HEADERS_MAX) /* linkers put them in the first page */
#define SECTIONS_MAX 96u                        /* as the loader has it */

static uint16_t half(const uint8_t *at)
{
	uint16_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static uint32_t word(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static void take_directories(const uint8_t *optional, struct windows_image *image)
{
	const uint8_t *at = optional + (image->wide ? OPTIONAL_WIDE : OPTIONAL_SMALL);
	uint32_t n = word(at - 4);

	for (uint32_t i = 0; i < n && i < WINDOWS_DIRECTORIES; i++)
		image->directories[i] = (struct windows_directory){
			.at = word(at + 8 * (size_t)i), .size = word(at + 8 * (size_t)i + 4)};
}

static bool take_headers(const uint8_t *nt, uint32_t lfanew, struct windows_image *image)
{
	const uint8_t *optional = nt + NT_OPTIONAL;
	uint16_t machine = half(nt + NT_MACHINE), magic = half(optional);

	image->wide = machine == MACHINE_AMD64 && magic == PE32_PLUS;
	if (word(nt) != NT_SIGNATURE ||
		(!image->wide && (machine != MACHINE_I386 || magic != PE32)))
		return false;
	image->size = word(optional + OPTIONAL_IMAGE_SIZE);
	image->sections = half(nt + NT_SECTIONS);
	image->sections_at = lfanew + NT_OPTIONAL + half(nt + NT_OPTIONAL_SIZE);
	take_directories(optional, image);
	return image->size >= WINDOWS_PAGE && image->size <= WINDOWS_IMAGE_MAX &&
	       image->sections <= SECTIONS_MAX;
}

int windows_image_open(struct windows_kernel *kernel, uint64_t root, uint64_t base,
	struct windows_image *ret_image)
{
	struct windows_image image = {.root = root, .base = base};
	uint8_t dos[LFANEW + 4], nt[HEADERS_MAX];
	uint32_t lfanew;

	windows_read_under(kernel, root, base, dos, sizeof(dos));
	lfanew = word(dos + LFANEW);
	if (kernel->fault || half(dos) != DOS_MAGIC || lfanew > LFANEW_MAX)
		return kernel->fault ? kernel->fault : VMSIG_ERR_UNSUPPORTED;
	windows_read_under(kernel, root, base + lfanew, nt, sizeof(nt));
	if (kernel->fault || !take_headers(nt, lfanew, &image))
		return kernel->fault ? kernel->fault : VMSIG_ERR_UNSUPPORTED;
	*ret_image = image;
	return 0;
}

static bool is_inside(const struct windows_image *image, uint64_t at, size_t len)
{
	return at <= image->size && len <= image->size - at;
}

void windows_image_read(struct windows_kernel *kernel, const struct windows_image *image,
	uint64_t at, void *ret_bytes, size_t len)
{
	if (!is_inside(image, at, len) && !kernel->fault)
		kernel->fault = VMSIG_ERR_NOT_MAPPED;
	windows_read_under(kernel, image->root, image->base + at, ret_bytes, len);
}

void windows_image_some(struct windows_kernel *kernel, const struct windows_image *image,
	uint64_t at, void *ret_bytes, size_t len, bool *ret_missing)
{
	if (is_inside(image, at, len)) {
		windows_read_some(
			kernel, image->root, image->base + at, ret_bytes, len, ret_missing);
		return;
	}
	memset(ret_bytes, 0, len);
	*ret_missing = true;
}

bool windows_image_text(struct windows_kernel *kernel, const struct windows_image *image,
	uint64_t at, char *ret_text, size_t size)
{
	size_t len = 0;
	bool missing = false;

	while (len + 1 < size && at + len < image->size && !missing && !kernel->fault) {
		/* What follows on the next page may not be there. */
		size_t n = WINDOWS_PAGE - (image->base + at + len) % WINDOWS_PAGE;

		n = n < size - 1 - len ? n : size - 1 - len;
		n = n < image->size - (at + len) ? n : image->size - (at + len);
		windows_image_some(kernel, image, at + len, ret_text + len, n, &missing);
		if (!missing && memchr(ret_text + len, 0, n))
			return true;
		len += n;
	}
	ret_text[len] = 0;
	return !missing && !kernel->fault && at < image->size;
}
