#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace fovea {

/// What went wrong, as far as a caller or a script must tell cases apart.
enum class ErrorCode {
  kOk = 0,
  kInvalidInput,  ///< wrong usage, bad argument, bad file: the user can fix it (exit code 2)
  kUnsupported,   ///< valid, but this build, machine or engine cannot do it (exit code 2)
  kFailed,        ///< the system failed: disk full, out of memory, non-finite loss (exit code 1)
};

/// Result of a call that reports errors without throwing (kernels' entry points).
/// The message names the function, what was expected and what was found.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(ErrorCode code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == ErrorCode::kOk; }
  ErrorCode code() const { return code_; }
  const std::string& message() const { return message_; }

 private:
  ErrorCode code_ = ErrorCode::kOk;
  std::string message_;
};

/// The one exception type of every layer that throws. Only the command line catches, prints and
/// turns `code()` into an exit status.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const { return code_; }

 private:
  ErrorCode code_;
};

/// Bad input from a user or a file: `throw InputError("data.jsonl:7: field \"label\": ...")`.
class InputError : public Error {
 public:
  explicit InputError(const std::string& message) : Error(ErrorCode::kInvalidInput, message) {}
};

/// Throws `Error` when `status` is not ok.
void throw_if_error(const Status& status);

/// Process exit code of an error: 2 for what the user can fix, 1 otherwise, 0 for ok.
int exit_code(ErrorCode code);

}  // namespace fovea
