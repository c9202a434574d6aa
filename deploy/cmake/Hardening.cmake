# Compiler policy for the whole tree: warnings, hardening, sanitizers.

include(CheckPIESupported)
check_pie_supported()

# Assertions guard teardown balances and internal invariants; every build keeps them.
string(REPLACE "-DNDEBUG" "" CMAKE_C_FLAGS_RELWITHDEBINFO "${CMAKE_C_FLAGS_RELWITHDEBINFO}")
string(REPLACE "-DNDEBUG" "" CMAKE_C_FLAGS_RELEASE "${CMAKE_C_FLAGS_RELEASE}")

add_compile_definitions(_GNU_SOURCE)
add_compile_options(
  -Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers -Wshadow -Wformat=2 -Wvla -Wundef -Wpointer-arith
  -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition
  -Wunused-result -Wwrite-strings
  -fno-strict-aliasing -fno-common -fvisibility=hidden)
# In the macros of uthash and protobuf-c, Clang finds fall-throughs and casts where GCC sees
# a comment or a system header.
if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
  add_compile_options(-Wimplicit-fallthrough -Wcast-qual)
endif()

if(VMSIG_WERROR)
  add_compile_options(-Werror)
endif()

if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  add_compile_options(-fcf-protection=full)
endif()

if(VMSIG_SANITIZE)
  add_compile_options(-fsanitize=${VMSIG_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${VMSIG_SANITIZE})
else()
  add_compile_options(-fstack-protector-strong -fstack-clash-protection)
  if(NOT CMAKE_BUILD_TYPE STREQUAL "Debug")
    # Debian's compilers may predefine the macro.
    add_compile_options(-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
  endif()
endif()

add_link_options(-Wl,-z,relro,-z,now,-z,noexecstack -Wl,--as-needed)

if(VMSIG_COVERAGE)
  # Atomic: threads that count the same line lose counts, or get below zero.
  add_compile_options(--coverage -O0 -fprofile-update=atomic)
  add_link_options(--coverage)
endif()

if(VMSIG_FUZZ)
  if(NOT CMAKE_C_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "VMSIG_FUZZ needs clang: configure with the 'fuzz' preset")
  endif()
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
