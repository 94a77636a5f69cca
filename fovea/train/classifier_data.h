#pragma once

#include <string>
#include <vector>

#include "fovea/train/examples.h"
#include "fovea/train/text_data.h"

namespace fovea::train {

/// Labels of all examples of a file, in file order.
std::vector<std::string> read_labels(const std::string& path, const data::DataOptions& options);

/// Distinct labels in order: numbers by value where all are integers, by bytes otherwise. Throws
/// InputError for fewer than two.
std::vector<std::string> distinct_labels(const std::vector<std::string>& labels,
                                         const std::string& path);

/// Token ids of one text, cut to `max_length`, and how many tokens were cut. A text without tokens
/// becomes the unknown token, or a space: models take no empty document. `where` is for errors.
std::vector<int32_t> encode_text(const Tokenizer& tokenizer, const std::string& text,
                                 int64_t max_length, Truncate truncate, const std::string& where,
                                 int64_t& removed);

/// Reads and tokenizes the selected examples of a file; throws InputError with file and line for a
/// label that is not among `labels`.
Examples encode_examples(const std::string& path, const data::DataOptions& options,
                         const Tokenizer& tokenizer, const models::TextClassifierConfig& model,
                         Truncate truncate, const Selection& selected);

}  // namespace fovea::train
