#include "fovea/core/status.h"

namespace fovea {

void throw_if_error(const Status& status) {
  if (!status.ok()) throw Error(status.code(), status.message());
}

int exit_code(ErrorCode code) {
  switch (code) {
    case ErrorCode::kOk:
      return 0;
    case ErrorCode::kInvalidInput:
    case ErrorCode::kUnsupported:
      return 2;
    case ErrorCode::kFailed:
      return 1;
  }
  return 1;
}

}  // namespace fovea
