# What `cmake --install` gives: the library, its headers, and the files by which CMake and pkg-config
# find both, wherever the prefix is moved to. All in the component dev, which wheels leave out.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)
set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/ravine)

target_include_directories(ravine INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
get_target_property(type ravine TYPE)
string(COMPARE EQUAL ${type} STATIC_LIBRARY is_static)
string(COMPARE EQUAL ${cuda_backend} ON has_cuda)

install(TARGETS ravine EXPORT ravineTargets COMPONENT dev)
install(DIRECTORY include/ravine TYPE INCLUDE COMPONENT dev)
install(EXPORT ravineTargets NAMESPACE ravine:: DESTINATION ${package_folder} COMPONENT dev)

configure_package_config_file(ravineConfig.cmake.in ravineConfig.cmake
  INSTALL_DESTINATION ${package_folder}
  NO_SET_AND_CHECK_MACRO NO_CHECK_REQUIRED_COMPONENTS_MACRO)
write_basic_package_version_file(ravineConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(
  FILES ${CMAKE_CURRENT_BINARY_DIR}/ravineConfig.cmake
    ${CMAKE_CURRENT_BINARY_DIR}/ravineConfigVersion.cmake
  DESTINATION ${package_folder}
  COMPONENT dev)

# Relative to where the file lies; a folder that was given with its whole path stays as it is.
cmake_path(RELATIVE_PATH CMAKE_INSTALL_PREFIX
  BASE_DIRECTORY ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig OUTPUT_VARIABLE pc_prefix)
cmake_path(ABSOLUTE_PATH CMAKE_INSTALL_LIBDIR
  BASE_DIRECTORY "\${prefix}" OUTPUT_VARIABLE pc_libdir)
cmake_path(ABSOLUTE_PATH CMAKE_INSTALL_INCLUDEDIR
  BASE_DIRECTORY "\${prefix}" OUTPUT_VARIABLE pc_includedir)
set(pc_cflags "")
set(pc_libs "")
if(NOT is_static)
  set(pc_cflags " -DRAVINE_SHARED")
elseif(has_cuda)
  cmake_path(GET RAVINE_CUDART PARENT_PATH folder)
  set(pc_libs " -L${folder} -lcudart_static -ldl -lrt -pthread")
else()
  set(pc_libs " -pthread")
endif()
configure_file(ravine.pc.in ravine.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/ravine.pc
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig
  COMPONENT dev)
