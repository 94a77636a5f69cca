#include "fovea/data/listops.h"

#include <algorithm>
#include <vector>

#include <xxhash.h>

#include "fovea/core/status.h"

namespace fovea::data {
namespace {

enum Operator { kMin, kMax, kMed, kSm, kOperators };
constexpr const char* kNames[kOperators] = {"[MIN", "[MAX", "[MED", "[SM"};

int value_of(Operator op, std::vector<int>& args) {
  switch (op) {
    case kMin:
      return *std::min_element(args.begin(), args.end());
    case kMax:
      return *std::max_element(args.begin(), args.end());
    case kMed: {
      std::sort(args.begin(), args.end());
      const size_t half = args.size() / 2;
      return args.size() % 2 == 1 ? args[half] : (args[half - 1] + args[half]) / 2;
    }
    default: {
      int sum = 0;
      for (const int arg : args) sum += arg;
      return sum % 10;
    }
  }
}

void append(std::string& text, const char* token) {
  if (!text.empty()) text += ' ';
  text += token;
}

}  // namespace

ListOpsGenerator::ListOpsGenerator(const ListOpsOptions& options)
    : options_(options), random_(options.seed) {
  const bool good = options.min_length >= 0 && options.max_length >= options.min_length + 2 &&
                    options.max_depth >= 1 && options.max_depth <= 1000 && options.max_args >= 2 &&
                    options.max_args <= 1000;
  if (!good) {
    throw InputError(
        "listops: expected 0 <= min-length <= max-length - 2, max-depth in [1, 1000] and max-args "
        "in "
        "[2, 1000]");
  }
}

// Writes the subtree; gives up (with any value) once the text is too long to be accepted.
int ListOpsGenerator::draw_node(int depth, ListOps& out) {
  constexpr double kDigitAbove = 0.25;
  if (depth == options_.max_depth || random_.uniform() > kDigitAbove) {
    const int digit = static_cast<int>(random_.below(10));
    const char token[2] = {static_cast<char>('0' + digit), '\0'};
    append(out.text, token);
    ++out.tokens;
    return digit;
  }
  const auto op = static_cast<Operator>(random_.below(kOperators));
  append(out.text, kNames[op]);
  std::vector<int> args(2 + random_.below(static_cast<uint32_t>(options_.max_args - 1)));
  for (int& arg : args) {
    if (out.tokens >= options_.max_length) return 0;
    arg = draw_node(depth + 1, out);
  }
  append(out.text, "]");
  out.tokens += 2;
  return value_of(op, args);
}

ListOps ListOpsGenerator::next() {
  constexpr int kTries = 20'000'000;
  for (int i = 0; i < kTries; ++i) {
    ListOps out;
    out.value = draw_node(1, out);
    if (out.tokens <= options_.min_length || out.tokens >= options_.max_length) continue;
    if (seen_.insert(XXH3_64bits(out.text.data(), out.text.size())).second) return out;
  }
  throw InputError("listops: no further tree of more than " + std::to_string(options_.min_length) +
                   " and fewer than " + std::to_string(options_.max_length) +
                   " tokens was found; widen the lengths, the depth or the arguments");
}

}  // namespace fovea::data
