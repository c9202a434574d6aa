/* SPDX-License-Identifier: Apache-2.0 */
/* What is taken for a label of a domain, and what becomes of it in an endpoint. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/adapters/libvirt/labels.h"
#include "broker/config/config.h"

static void words_with_a_key_are_labels(void **state)
{
	char **labels = NULL;
	size_t n = 0;

	assert_int_equal(
		labels_add(&labels, &n, " team=blue\n tier= =x word .a=b team=red a=b=c"), 0);
	assert_int_equal(n, 3);
	assert_string_equal(labels[0], "team=blue");
	assert_string_equal(labels[1], "tier=");
	assert_string_equal(labels[2], "a=b=c");
	labels_free(labels, n);
}

static void what_is_too_long_or_too_many_is_left_out(void **state)
{
	char text[LABELS_MAX * 16], value[LABELS_VALUE_MAX + 4] = "k=";
	char **labels = NULL;
	size_t n = 0;

	memset(value + 2, 'v', sizeof(value) - 3);
	assert_int_equal(labels_add(&labels, &n, value), 0);
	assert_int_equal(n, 0);
	text[0] = '\0';
	for (int i = 0; i < LABELS_MAX + 1; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "k%d=v ", i);
	assert_int_equal(labels_add(&labels, &n, text), 0);
	assert_int_equal(n, LABELS_MAX);
	labels_free(labels, n);
}

/* The name of a domain may have spaces: what follows them is no label, and not the name of another
 * domain that ends there. */
static void a_pair_is_one_label_or_none(void **state)
{
	char long_one[LABELS_VALUE_MAX + 2];
	char **labels = NULL;
	size_t n = 0;

	memset(long_one, 'v', sizeof(long_one) - 1);
	long_one[sizeof(long_one) - 1] = '\0';
	assert_int_equal(labels_add_pair(&labels, &n, "domain", "web1 uuid=x"), 0);
	assert_int_equal(labels_add_pair(&labels, &n, "domain", "web1\ttier=gold"), 0);
	assert_int_equal(labels_add_pair(&labels, &n, "domain", long_one), 0);
	assert_int_equal(n, 0);
	assert_int_equal(labels_add_pair(&labels, &n, "domain", long_one + 1), 0);
	assert_int_equal(labels_add_pair(&labels, &n, "uuid", "a-b"), 0);
	assert_int_equal(labels_add(&labels, &n, "uuid=c domain=d"), 0);
	assert_int_equal(n, 2);
	assert_string_equal(labels[1], "uuid=a-b");
	labels_free(labels, n);
}

static void only_plain_text_of_an_element_counts(void **state)
{
	static const char *const none[] = {
		"", "<l/>", "<l></l>", "<l>a=b<c/></l>", "<l>a=&lt;</l>", "<", ">", "><", "<l>a=b"};
	char **labels = NULL;
	size_t n = 0;

	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
		assert_int_equal(labels_add_element(&labels, &n, none[i]), 0);
		assert_int_equal(n, 0);
	}
	assert_int_equal(labels_add_element(&labels, &n, "<l x='y'>\n a=b c=d\n</l>"), 0);
	assert_int_equal(n, 2);
	labels_free(labels, n);
}

static void an_endpoint_has_the_configured_labels_first(void **state)
{
	char *own[] = {(char[]){"team=ours"}},
	     *found[] = {(char[]){"team=theirs"}, (char[]){"a=b"}};
	const struct config_discover discover = {.libvirt = (char[]){"qemu:///system"},
		.endpoint = {.labels = own, .nlabels = 1, .reprove_ms = 7}};
	const struct config_found one = {
		.name = "web", .domain = "uuid", .labels = found, .nlabels = 2};
	struct config *config;

	assert_int_equal(config_discovered(&config, &discover, &one), 0);
	assert_int_equal(config->nendpoints, 1);
	assert_int_equal(config->endpoints->adapter, CONFIG_ADAPTER_LIBVIRT);
	assert_int_equal(config->endpoints->reprove_ms, 7);
	assert_string_equal(config->endpoints->domain, "uuid");
	assert_int_equal(config->endpoints->nlabels, 2);
	assert_string_equal(config->endpoints->labels[0], "a=b");
	assert_string_equal(config->endpoints->labels[1], "team=ours");
	config_unref(config);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words_with_a_key_are_labels),
		cmocka_unit_test(what_is_too_long_or_too_many_is_left_out),
		cmocka_unit_test(a_pair_is_one_label_or_none),
		cmocka_unit_test(only_plain_text_of_an_element_counts),
		cmocka_unit_test(an_endpoint_has_the_configured_labels_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
