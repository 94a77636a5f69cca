#include "fovea/data/language.h"

#include <algorithm>
#include <array>
#include <utility>

namespace fovea::data {
namespace {

using Entry = std::pair<std::string_view, std::string_view>;

constexpr auto kExtensions = std::to_array<Entry>(
    {{"py", "python"},     {"pyi", "python"},     {"c", "c"},           {"cc", "c++"},
     {"cpp", "c++"},       {"cxx", "c++"},        {"hh", "c++"},        {"hpp", "c++"},
     {"hxx", "c++"},       {"tcc", "c++"},        {"h", "header"},      {"pl", "perl"},
     {"pm", "perl"},       {"cmake", "cmake"},    {"sh", "shell"},      {"bash", "shell"},
     {"js", "javascript"}, {"mjs", "javascript"}, {"ts", "typescript"}, {"rb", "ruby"},
     {"tcl", "tcl"},       {"java", "java"},      {"lua", "lua"},       {"html", "html"},
     {"htm", "html"},      {"xml", "xml"},        {"xsl", "xml"},       {"css", "css"},
     {"rs", "rust"},       {"go", "go"},          {"php", "php"},       {"el", "elisp"},
     {"f90", "fortran"},   {"awk", "awk"},        {"m4", "m4"},         {"mk", "make"},
     {"S", "assembly"},    {"vim", "vim"},        {"yaml", "yaml"},     {"yml", "yaml"},
     {"rst", "rst"},       {"md", "markdown"},    {"sql", "sql"},       {"pod", "pod"},
     {"tex", "tex"},       {"sty", "tex"},        {"scm", "scheme"},    {"hs", "haskell"},
     {"ml", "ocaml"},      {"ps", "postscript"}});

constexpr auto kNames = std::to_array<Entry>({{"CMakeLists.txt", "cmake"},
                                              {"Makefile", "make"},
                                              {"makefile", "make"},
                                              {"GNUmakefile", "make"}});

constexpr auto kInterpreters = std::to_array<Entry>({{"sh", "shell"},
                                                     {"bash", "shell"},
                                                     {"dash", "shell"},
                                                     {"python", "python"},
                                                     {"perl", "perl"},
                                                     {"ruby", "ruby"},
                                                     {"tclsh", "tcl"},
                                                     {"wish", "tcl"},
                                                     {"lua", "lua"},
                                                     {"node", "javascript"},
                                                     {"php", "php"},
                                                     {"awk", "awk"},
                                                     {"gawk", "awk"},
                                                     {"mawk", "awk"}});

template <typename Table>
std::string look_up(const Table& table, std::string_view key) {
  for (const auto& [name, language] : table) {
    if (name == key) return std::string(language);
  }
  return "";
}

// "/usr/share/man/man3/printf.3.gz" and translations "/usr/share/man/de/man1/ls.1.gz".
bool is_manual_page(std::string_view path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return false;
  const std::string_view folder = path.substr(0, slash);
  const size_t parent = folder.rfind('/');
  return parent != std::string_view::npos && folder.size() - parent == 5 &&
         folder.substr(parent, 4) == "/man" && path.find("/man/") != std::string_view::npos;
}

}  // namespace

std::string language_of_name(std::string_view path) {
  if (is_manual_page(path)) return "roff";
  const std::string_view name = path.substr(path.rfind('/') + 1);
  if (std::string language = look_up(kNames, name); !language.empty()) return language;
  if (name.ends_with(".min.js") || name.ends_with(".min.css")) return "";  // not as written
  const size_t dot = name.rfind('.');
  return dot == std::string_view::npos ? "" : look_up(kExtensions, name.substr(dot + 1));
}

std::string language_of_content(std::string_view content) {
  const std::string_view line = content.substr(0, content.find('\n'));
  if (line.find("-*- C++ -*-") != std::string_view::npos) return "c++";
  if (!line.starts_with("#!")) return "";
  std::string_view rest = line.substr(2);
  while (!rest.empty()) {  // the last part of the first word that is not env or an option of it
    rest.remove_prefix(std::min(rest.find_first_not_of(" \t"), rest.size()));
    std::string_view word = rest.substr(0, rest.find_first_of(" \t\r"));
    if (word.empty()) break;
    rest.remove_prefix(word.size());
    word = word.substr(word.rfind('/') + 1);
    if (word == "env" || word.starts_with('-')) continue;
    word = word.substr(0, word.find_first_of("0123456789."));  // python3.11
    return look_up(kInterpreters, word);
  }
  return "";
}

}  // namespace fovea::data
