# Debian packages, made by `cpack` in the build folder: vmsigd, libvmsig1, libvmsig-dev, vmsig-tools,
# python3-vmsig, vmsig-exporter. What is installed names its package by COMPONENT.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME vmsig)
set(CPACK_PACKAGE_VENDOR vmsig)
set(CPACK_PACKAGE_CONTACT "vmsig maintainers <vmsig@localhost>")
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
# Each package has a line of its own, the first of its description.
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
# Only what is installed, not the tests.
set(CMAKE_SKIP_INSTALL_ALL_DEPENDENCY ON)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_ALL daemon library development python tools exporter)
set(CPACK_COMPONENTS_GROUPING ONE_PER_GROUP)

set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION admin)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${CMAKE_BINARY_DIR}/clients/package)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)

set(CPACK_DEBIAN_DAEMON_PACKAGE_NAME vmsigd)
set(CPACK_COMPONENT_DAEMON_DESCRIPTION "Host broker for guest memory
Hands the memory of the host's guests read-only to sensors, and applies
operators' writes under leases.")
set(CPACK_DEBIAN_DAEMON_PACKAGE_DEPENDS "adduser")
set(CPACK_DEBIAN_DAEMON_PACKAGE_RECOMMENDS "vmsig-tools (= ${PROJECT_VERSION})")
set(CPACK_DEBIAN_DAEMON_PACKAGE_CONTROL_EXTRA
  ${PROJECT_SOURCE_DIR}/deploy/debian/postinst
  ${PROJECT_SOURCE_DIR}/deploy/debian/prerm
  ${PROJECT_SOURCE_DIR}/deploy/debian/postrm)

set(CPACK_DEBIAN_LIBRARY_PACKAGE_NAME libvmsig1)
set(CPACK_DEBIAN_LIBRARY_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_LIBRARY_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_LIBRARY_PACKAGE_CONTROL_EXTRA ${PROJECT_SOURCE_DIR}/deploy/debian/triggers)
set(CPACK_COMPONENT_LIBRARY_DESCRIPTION "Library of programs that read guest memory through vmsigd
Contexts, coherent reads, leases and writes.")

set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_NAME libvmsig-dev)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS "libvmsig1 (= ${PROJECT_VERSION})")
set(CPACK_COMPONENT_DEVELOPMENT_DESCRIPTION "Headers of libvmsig
For programs that read guest memory through vmsigd.")

# The extension module uses the stable interface: any Python 3 that has cffi's support module.
set(CPACK_DEBIAN_PYTHON_PACKAGE_NAME python3-vmsig)
set(CPACK_DEBIAN_PYTHON_PACKAGE_SECTION python)
set(CPACK_DEBIAN_PYTHON_PACKAGE_DEPENDS
  "libvmsig1 (= ${PROJECT_VERSION}), python3 (>= 3.9), python3-cffi-backend")
set(CPACK_COMPONENT_PYTHON_DESCRIPTION "Python package that reads guest memory through vmsigd
Contexts, processes, leases and writes, on libvmsig.")

set(CPACK_DEBIAN_TOOLS_PACKAGE_NAME vmsig-tools)
set(CPACK_DEBIAN_TOOLS_PACKAGE_RECOMMENDS "fuse3")
set(CPACK_COMPONENT_TOOLS_DESCRIPTION "Command-line tools for vmsigd
vmsigctl, vmsig-banner and vmsig-shim.")

set(CPACK_DEBIAN_EXPORTER_PACKAGE_NAME vmsig-exporter)
set(CPACK_DEBIAN_EXPORTER_PACKAGE_SECTION net)
set(CPACK_DEBIAN_EXPORTER_PACKAGE_DEPENDS "adduser")
set(CPACK_DEBIAN_EXPORTER_PACKAGE_SUGGESTS "prometheus, vmsig-tools")
set(CPACK_DEBIAN_EXPORTER_PACKAGE_CONTROL_EXTRA
  ${PROJECT_SOURCE_DIR}/deploy/debian/exporter/postinst
  ${PROJECT_SOURCE_DIR}/deploy/debian/exporter/prerm
  ${PROJECT_SOURCE_DIR}/deploy/debian/exporter/postrm)
set(CPACK_COMPONENT_EXPORTER_DESCRIPTION "Metrics of vmsigd for Prometheus
An unprivileged HTTP server, with alert rules and a dashboard.")

include(CPack)
