#pragma once

#include <list>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include "fovea/io/config.h"

namespace fovea::cli {

/// Flags for settings of a training run (fovea/train/run_config.h), named as their keys:
/// `--train.lr 3e-4`; the most used have a short name too: `--attention` for `--model.attention`.
class SettingFlags {
 public:
  /// Declares a flag for each setting whose key starts with one of `prefixes`, but not for
  /// `except`.
  void add(CLI::App& command, const std::vector<std::string>& prefixes,
           const std::vector<std::string>& except = {});

  /// Key and text, as TOML where it is a list, of each flag that was given.
  std::vector<std::pair<std::string, std::string>> given() const;

  /// Puts them over what `config` holds.
  void apply(io::Config& config) const;

 private:
  struct Flag {
    std::string key;
    bool list;
    std::string text;
    CLI::Option* option;
  };
  std::list<Flag> flags_;  // CLI11 keeps addresses
};

}  // namespace fovea::cli
