#include "tools/cli/setting_flags.h"

#include <algorithm>
#include <map>
#include <sstream>

#include "fovea/core/status.h"
#include "fovea/io/json.h"
#include "fovea/train/run_config.h"

namespace fovea::cli {
namespace {

const std::map<std::string, std::string> kShortNames = {
    {"data.train", "--train"},
    {"data.valid", "--valid"},
    {"data.format", "--format"},
    {"data.encoding_errors", "--encoding-errors"},
    {"data.truncate", "--truncate"},
    {"model.attention", "--attention"},
    {"model.max_length", "--max-length"},
    {"train.task", "--task"},
    {"train.init", "--init"},
    {"train.seed", "--seed"},
    {"train.save_every", "--save-every"},
    {"train.keep", "--keep"},
};

bool starts_with_any(const std::string& key, const std::vector<std::string>& prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(),
                     [&](const std::string& prefix) { return key.starts_with(prefix); });
}

// title,text as ["title", "text"]; a TOML list stays.
std::string as_toml_list(const std::string& text) {
  if (text.starts_with("[")) return text;
  io::Json items = io::Json::array();
  std::istringstream in(text);
  for (std::string item; std::getline(in, item, ',');) items.push_back(item);
  return items.dump();
}

}  // namespace

void SettingFlags::add(CLI::App& command, const std::vector<std::string>& prefixes,
                       const std::vector<std::string>& except) {
  for (const train::Field& field : train::run_config_fields()) {
    const std::string key = field.key;
    if (!starts_with_any(key, prefixes) ||
        std::find(except.begin(), except.end(), key) != except.end()) {
      continue;
    }
    Flag& flag = flags_.emplace_back(Flag{key, field.list, "", nullptr});
    std::string names = "--" + key;
    if (const auto found = kShortNames.find(key); found != kShortNames.end()) {
      names = found->second + "," + names;
    }
    std::string help = field.help;
    for (size_t i = 0; i < field.choices.size(); ++i) {
      help += (i == 0 ? ": " : ", ") + field.choices[i];
    }
    flag.option = command.add_option(names, flag.text, help + " [" + field.default_text + "]")
                      ->type_name("")
                      ->take_last()
                      ->group("[" + key.substr(0, key.find('.')) + "]");
  }
}

std::vector<std::pair<std::string, std::string>> SettingFlags::given() const {
  std::vector<std::pair<std::string, std::string>> given;
  for (const Flag& flag : flags_) {
    if (flag.option->count() == 0) continue;
    if (flag.option->count() > 1 && flag.key == "data.train") {  // a file would be lost
      throw InputError("--" + flag.key + " is given " + std::to_string(flag.option->count()) +
                       " times; expected once (join files, or give a folder with one for each "
                       "class)");
    }
    given.emplace_back(flag.key, flag.list ? as_toml_list(flag.text) : flag.text);
  }
  return given;
}

void SettingFlags::apply(io::Config& config) const {
  for (const auto& [key, text] : given()) config.set(key, text, "--" + key);
}

}  // namespace fovea::cli
