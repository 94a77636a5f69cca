#include "fovea/data/package_owner.h"

#include <algorithm>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "fovea/io/byte_source.h"

namespace fovea::data {
namespace {

namespace fs = std::filesystem;

// "libc6:amd64.list" -> "libc6"
std::string package_of_info_file(const fs::path& path) {
  const std::string name = path.stem().string();
  return name.substr(0, name.find(':'));
}

std::string distribution_of(const fs::path& dist_info) {
  std::string name = dist_info.filename().string();
  name = name.substr(0, name.find('-'));
  std::transform(name.begin(), name.end(), name.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return name;
}

}  // namespace

PackageOwner::PackageOwner(const std::string& dpkg_info) : dpkg_info_(dpkg_info) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(dpkg_info, error)) {
    if (entry.path().extension() != ".list") continue;
    const std::string package = "deb:" + package_of_info_file(entry.path());
    io::LineReader lines(entry.path().string());
    for (std::string_view line; lines.next(line);) {
      std::string path(line);
      // Lists of packages older than the merged /usr say /bin, /lib, /sbin.
      if (path.starts_with("/bin/") || path.starts_with("/lib") || path.starts_with("/sbin/")) {
        owners_.emplace("/usr" + path, package);
      }
      owners_.emplace(std::move(path), package);
    }
  }
}

void PackageOwner::read_records(const std::string& packages_folder) {
  if (!records_read_.insert(packages_folder).second) return;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(packages_folder, error)) {
    const fs::path record = entry.path() / "RECORD";
    if (entry.path().extension() != ".dist-info" || !fs::exists(record, error)) continue;
    const std::string package = "python:" + distribution_of(entry.path());
    io::LineReader lines(record.string());
    for (std::string_view line; lines.next(line);) {
      owners_.emplace(packages_folder + "/" + std::string(line.substr(0, line.find(','))), package);
    }
  }
}

std::string PackageOwner::owner_of(const std::string& path, const std::string& root) {
  if (const auto found = owners_.find(path); found != owners_.end()) return found->second;
  if (path.starts_with(dpkg_info_ + "/")) return "deb:" + package_of_info_file(path);
  for (const std::string_view marker : {"/site-packages/", "/dist-packages/"}) {
    const size_t at = path.find(marker);
    if (at == std::string::npos) continue;
    const std::string folder = path.substr(0, at + marker.size() - 1);
    read_records(folder);
    if (const auto found = owners_.find(path); found != owners_.end()) return found->second;
    const std::string rest = path.substr(folder.size() + 1);
    return "python:" + rest.substr(0, rest.find('/'));
  }
  const size_t first = path.find_first_not_of('/', root.size());
  const std::string rest = first == std::string::npos ? "" : path.substr(first);
  const size_t slash = rest.find('/');
  return "folder:" + root + (slash == std::string::npos ? "" : "/" + rest.substr(0, slash));
}

}  // namespace fovea::data
