# Finds LibTorch 2.6 or newer and defines LibTorch::LibTorch.
#
# Looks in, by order: -DTorch_ROOT=DIR (an unpacked LibTorch, or a Python package folder `torch`),
# the environment variable Torch_ROOT, and the .venv that scripts/setup makes in the source tree.
#
# find_package(Torch) is not used: the one in PyPI's wheel demands a CUDA toolkit even for programs
# that only link libtorch_cpu.so.
set(_hints "${Torch_ROOT}" "$ENV{Torch_ROOT}")
file(GLOB _venv "${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch")
list(APPEND _hints ${_venv})

set(LibTorch_INCLUDE_DIR "LibTorch_INCLUDE_DIR-NOTFOUND" CACHE PATH "LibTorch's include folder" FORCE)
find_path(LibTorch_INCLUDE_DIR torch/csrc/api/include/torch/torch.h HINTS ${_hints}
          PATH_SUFFIXES include NO_DEFAULT_PATH)
find_library(LibTorch_CPU_LIBRARY torch_cpu HINTS ${_hints} PATH_SUFFIXES lib NO_DEFAULT_PATH)
find_library(LibTorch_C10_LIBRARY c10 HINTS ${_hints} PATH_SUFFIXES lib NO_DEFAULT_PATH)

if(LibTorch_INCLUDE_DIR)
  # torch/headeronly/version.h in new releases, torch/csrc/api/include/torch/version.h in older ones.
  foreach(_file torch/headeronly/version.h torch/csrc/api/include/torch/version.h)
    if(EXISTS "${LibTorch_INCLUDE_DIR}/${_file}" AND NOT LibTorch_VERSION)
      file(STRINGS "${LibTorch_INCLUDE_DIR}/${_file}" _lines
           REGEX "#define TORCH_VERSION_(MAJOR|MINOR|PATCH) [0-9]+")
      string(REGEX MATCHALL "[0-9]+" _numbers "${_lines}")
      list(JOIN _numbers "." LibTorch_VERSION)
    endif()
  endforeach()
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch
  REQUIRED_VARS LibTorch_CPU_LIBRARY LibTorch_C10_LIBRARY LibTorch_INCLUDE_DIR
  VERSION_VAR LibTorch_VERSION
  REASON_FAILURE_MESSAGE "run scripts/setup, or pass -DTorch_ROOT=DIR of a LibTorch 2.6 or newer")

if(LibTorch_FOUND AND NOT TARGET LibTorch::LibTorch)
  get_filename_component(LibTorch_LIBRARY_DIR "${LibTorch_CPU_LIBRARY}" DIRECTORY)
  get_filename_component(LibTorch_ROOT "${LibTorch_LIBRARY_DIR}" DIRECTORY)
  add_library(LibTorch::c10 SHARED IMPORTED)
  set_target_properties(LibTorch::c10 PROPERTIES IMPORTED_LOCATION "${LibTorch_C10_LIBRARY}")
  add_library(LibTorch::LibTorch SHARED IMPORTED)
  set_target_properties(LibTorch::LibTorch PROPERTIES IMPORTED_LOCATION "${LibTorch_CPU_LIBRARY}")
  target_include_directories(LibTorch::LibTorch SYSTEM INTERFACE
    "${LibTorch_INCLUDE_DIR}" "${LibTorch_INCLUDE_DIR}/torch/csrc/api/include")
  target_link_libraries(LibTorch::LibTorch INTERFACE LibTorch::c10)
  # The wheel's libraries name CUDA libraries that need not be installed.
  target_link_options(LibTorch::LibTorch INTERFACE -Wl,--no-as-needed
                      -Wl,--allow-shlib-undefined "-Wl,-rpath,${LibTorch_LIBRARY_DIR}")
endif()
