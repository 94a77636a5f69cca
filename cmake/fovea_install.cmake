# Installs the public headers and the CMake package: find_package(fovea) gives the layers without torch,
# find_package(fovea COMPONENTS torch) those with it too. Libraries are installed by fovea_library().
include(CMakePackageConfigHelpers)
set(_package "${CMAKE_INSTALL_LIBDIR}/cmake/fovea")

# kernels/ is reached through attention/ only.
foreach(layer IN LISTS FOVEA_LAYERS)
  if(NOT layer STREQUAL "kernels")
    install(DIRECTORY "fovea/${layer}" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/fovea"
            FILES_MATCHING PATTERN "*.h" PATTERN "*-inl.h" EXCLUDE)
  endif()
endforeach()

install(EXPORT foveaTargets NAMESPACE fovea:: DESTINATION "${_package}")
get_property(_has_torch_targets GLOBAL PROPERTY FOVEA_HAS_TORCH_TARGETS)
if(_has_torch_targets)
  install(EXPORT foveaTorchTargets NAMESPACE fovea:: DESTINATION "${_package}")
  install(FILES cmake/FindLibTorch.cmake DESTINATION "${_package}")
endif()
configure_package_config_file(cmake/foveaConfig.cmake.in "${CMAKE_CURRENT_BINARY_DIR}/foveaConfig.cmake"
                              INSTALL_DESTINATION "${_package}")
write_basic_package_version_file("${CMAKE_CURRENT_BINARY_DIR}/foveaConfigVersion.cmake"
                                 COMPATIBILITY SameMinorVersion)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/foveaConfig.cmake"
              "${CMAKE_CURRENT_BINARY_DIR}/foveaConfigVersion.cmake" DESTINATION "${_package}")
