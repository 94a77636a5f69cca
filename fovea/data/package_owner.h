#pragma once

#include <string>
#include <unordered_map>
#include <unordered_set>

namespace fovea::data {

/// Tells which installed package a file belongs to: the Debian package that lists it
/// (`/var/lib/dpkg/info/*.list`), the Python distribution whose RECORD lists it, or else the first
/// folder below the root where the search began.
class PackageOwner {
 public:
  /// `dpkg_info` is the folder of the lists; a missing one is a system without dpkg.
  explicit PackageOwner(const std::string& dpkg_info = "/var/lib/dpkg/info");

  /// "deb:cmake-data", "python:torch" or "folder:<root>/<first>". `path` starts with `root`.
  std::string owner_of(const std::string& path, const std::string& root);

 private:
  void read_records(const std::string& packages_folder);

  std::string dpkg_info_;
  std::unordered_map<std::string, std::string> owners_;
  std::unordered_set<std::string> records_read_;
};

}  // namespace fovea::data
