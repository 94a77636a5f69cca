# Build options, compiler settings and sanitizers shared by every target.
option(FOVEA_TORCH "Build the layers that need LibTorch (ops, nn, models, train)" ON)
option(FOVEA_PROGRAM "Build the text, io and data layers and the program" ON)
option(FOVEA_TESTS "Build the tests" ON)
option(FOVEA_FUZZ "Build the libFuzzer targets (clang only)" OFF)
option(FOVEA_WERROR "Treat warnings as errors" OFF)
set(FOVEA_SANITIZE "" CACHE STRING "address, undefined, both with a comma, or thread; empty for none")

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/lib")
set(CMAKE_ARCHIVE_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/lib")
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()

include(GNUInstallDirs)
# An installed tree can be moved: programs and libraries find each other by relative paths.
set(CMAKE_INSTALL_RPATH "$ORIGIN" "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")
set(CMAKE_INSTALL_RPATH_USE_LINK_PATH ON)

find_program(FOVEA_CCACHE ccache)
if(FOVEA_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${FOVEA_CCACHE}")
endif()

add_compile_options(-Wall -Wextra -fno-math-errno)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  add_compile_options(-Wno-restrict)  # false alarm on `"text" + string`: GCC bug 105651
endif()
if(FOVEA_WERROR)
  add_compile_options(-Werror)
endif()
if(FOVEA_SANITIZE)
  add_compile_options(-fsanitize=${FOVEA_SANITIZE} -fno-sanitize-recover=all
                      -fno-omit-frame-pointer -g)
  add_link_options(-fsanitize=${FOVEA_SANITIZE})
endif()
if(FOVEA_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

find_package(Threads REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS CXX)
# By flag, not by path: LibTorch brings its own libgomp.so.1, and a process must have one only.
set_target_properties(OpenMP::OpenMP_CXX PROPERTIES INTERFACE_LINK_LIBRARIES "${OpenMP_CXX_FLAGS}")
