#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace fovea::io {

/// Settings from one TOML file and from flags, addressed by dotted keys (`train.lr`).
///
///     Config config = Config::load("c.toml");          // or Config{} without a file
///     config.set("train.lr", "3e-4", "--train.lr");    // a flag wins over the file
///     config.read("train.lr", options.lr);             // options.lr keeps its default when unset
///     config.refuse_unknown();                         // a key nobody read is a typing error
///     config.dump();                                   // what is in force, as TOML
///
/// Every error is an InputError that names the place (file:line:column or the flag), the key, what
/// was expected and what was found.
class Config {
 public:
  using Value = std::variant<bool, int64_t, double, std::string, std::vector<int64_t>,
                             std::vector<double>, std::vector<std::string>>;

  Config() = default;

  /// Reads a TOML file. Dates, arrays of tables and mixed arrays are refused.
  static Config load(const std::string& path);
  static Config parse(std::string_view text, const std::string& name);

  /// Sets a key from a flag's text: TOML's reading of it where it has one (3, 2.5e-4, true, [1,
  /// 2]), otherwise the text itself.
  void set(const std::string& key, const std::string& text, const std::string& place);

  bool has(const std::string& key) const { return entries_.contains(key); }

  /// Where a key was set: "c.toml:3:6" or "--train.lr"; "default" when it was not.
  std::string place(const std::string& key) const;

  /// Assigns the key's value to `field` where set, and records what is in force for dump(). An
  /// integer is accepted for a double, a single value for a list, anything for a string set by a
  /// flag.
  void read(const std::string& key, bool& field);
  void read(const std::string& key, int& field);
  void read(const std::string& key, int64_t& field);
  void read(const std::string& key, uint64_t& field);
  void read(const std::string& key, double& field);
  void read(const std::string& key, std::string& field);
  void read(const std::string& key, std::vector<int64_t>& field);
  void read(const std::string& key, std::vector<double>& field);
  void read(const std::string& key, std::vector<std::string>& field);

  /// Throws for the first key that was set and never read, with the nearest key that was.
  void refuse_unknown() const;

  /// Every key read, with the value in force, as TOML that load() reads back to the same values.
  std::string dump() const;

  /// InputError at a key's place: "c.toml:3:6: train.lr: <what>".
  [[noreturn]] void fail(const std::string& key, const std::string& what) const;

 private:
  struct Entry {
    Value value;
    std::string text;  // as typed, for flags
    std::string place;
    bool from_flag = false;
  };
  template <typename T>
  void read_value(const std::string& key, T& field);

  std::map<std::string, Entry> entries_;
  std::vector<std::pair<std::string, Value>> in_force_;  // in the order read
};

}  // namespace fovea::io
