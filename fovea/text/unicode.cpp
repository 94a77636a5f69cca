#include "fovea/text/unicode.h"

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <map>

namespace fovea {
namespace {

struct LowerRun {
  uint32_t first;
  uint32_t last;
  uint32_t step;
  int32_t delta;
};

#include "fovea/text/unicode_tables.inc"

}  // namespace

void append_utf8(std::string& text, uint32_t code) {
  if (code < 0x80) {
    text.push_back(static_cast<char>(code));
  } else if (code < 0x800) {
    const char bytes[] = {static_cast<char>(0xC0 | code >> 6),
                          static_cast<char>(0x80 | (code & 0x3F))};
    text.append(bytes, 2);
  } else if (code < 0x10000) {
    const char bytes[] = {static_cast<char>(0xE0 | code >> 12),
                          static_cast<char>(0x80 | (code >> 6 & 0x3F)),
                          static_cast<char>(0x80 | (code & 0x3F))};
    text.append(bytes, 3);
  } else {
    const char bytes[] = {
        static_cast<char>(0xF0 | code >> 18), static_cast<char>(0x80 | (code >> 12 & 0x3F)),
        static_cast<char>(0x80 | (code >> 6 & 0x3F)), static_cast<char>(0x80 | (code & 0x3F))};
    text.append(bytes, 4);
  }
}

CharTable::CharTable() {
  std::map<std::string, uint16_t> known;
  const uint32_t* run = std::begin(kClassRuns);
  for (uint32_t block = 0; block < block_of_.size(); ++block) {
    std::string classes(256, '\0');
    for (uint32_t i = 0; i < 256; ++i) {
      const uint32_t code = block << 8 | i;
      while (run + 1 != std::end(kClassRuns) && run[1] >> 8 <= code) ++run;
      classes[i] = static_cast<char>(*run & 0xFF);
    }
    const auto [place, added] = known.try_emplace(classes, static_cast<uint16_t>(known.size()));
    if (added) blocks_.insert(blocks_.end(), classes.begin(), classes.end());
    block_of_[block] = place->second;
  }
}

const CharTable& CharTable::get() {
  static const CharTable table;
  return table;
}

void append_lower(std::string& text, uint32_t code) {
  if (code < 0x80) {
    text.push_back(static_cast<char>(code >= 'A' && code <= 'Z' ? code + 32 : code));
    return;
  }
  if (code == 0x130) {  // the only character whose lower case is two: i and a dot above
    text.append("i\xCC\x87");
    return;
  }
  const LowerRun* run = std::partition_point(std::begin(kLowerRuns), std::end(kLowerRuns),
                                             [code](const LowerRun& r) { return r.last < code; });
  const bool upper =
      run != std::end(kLowerRuns) && run->first <= code && (code - run->first) % run->step == 0;
  append_utf8(text, upper ? code + static_cast<uint32_t>(run->delta) : code);
}

std::string regex_set(CharClass char_class) {
  std::string set;
  const auto add = [&](uint32_t first, uint32_t last) {
    char range[32];
    std::snprintf(range, sizeof range, "\\x{%X}-\\x{%X}", first, last);
    set += range;
  };
  uint32_t first = kInvalidChar;  // of the range that is open
  for (const uint32_t run : kClassRuns) {
    const bool inside = (run & char_class) != 0;
    if (inside && first == kInvalidChar) first = run >> 8;
    if (!inside && first != kInvalidChar) {
      add(first, (run >> 8) - 1);
      first = kInvalidChar;
    }
  }
  if (first != kInvalidChar) add(first, 0x10FFFF);
  return set;
}

}  // namespace fovea
