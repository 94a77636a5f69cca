#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/data/example.h"
#include "fovea/text/tokenizer.h"
#include "fovea/train/run_config.h"

namespace fovea::train {

/// How `data` says its files are read, by a model with that kind of tokenizer (Tokenizer::kind()).
data::DataOptions reader_options(const DataSection& data, std::string_view tokenizer_kind);

/// Kind of the tokenizer that `config` asks for: of its file, where it names one.
std::string tokenizer_kind(const TokenizerSection& config);

/// Which examples of a file are meant; null = all.
using Selection = std::function<bool(int64_t number)>;

/// The tokenizer that `config` asks for: read, or made from the texts of `source`, with
/// `special_tokens` where it is made. `name` tells where the texts are from.
Tokenizer make_tokenizer(const TokenizerSection& config, const std::string& name,
                         const TextSource& source, std::vector<std::string> special_tokens = {});

/// Token ids of an example, and a number that whoever made it understands.
struct Encoded {
  std::vector<int32_t> ids;
  int64_t note = 0;
};

/// Reads the selected examples of a file, encodes them on all threads and hands them over in file
/// order, with memory for a few megabytes of text.
void encode_in_order(const std::string& path, const data::DataOptions& options,
                     const Selection& selected,
                     const std::function<Encoded(const data::Example&)>& encode,
                     const std::function<void(const data::Example&, const Encoded&)>& take);

/// "file:line", or the file alone.
std::string place_of(const data::Example& example);

}  // namespace fovea::train
