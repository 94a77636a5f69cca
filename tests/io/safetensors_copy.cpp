// safetensors_copy IN OUT: reads a file and writes its tensors and metadata again; for
// tests/python/test_safetensors_parity.py.
#include <cstdio>

#include "fovea/core/status.h"
#include "fovea/io/safetensors.h"

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  try {
    const fovea::io::SafetensorsFile file(argv[1]);
    fovea::io::write_safetensors(argv[2], file.tensors(), file.metadata());
  } catch (const fovea::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return fovea::exit_code(error.code());
  }
  return 0;
}
