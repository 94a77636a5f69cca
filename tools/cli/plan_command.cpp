// fovea plan: draws who attends to whom, with counts.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "tools/cli/commands.h"
#include <nlohmann/json.hpp>
#include <png.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "fovea/core/status.h"
#include "fovea/io/atomic_file.h"
#include "fovea/pattern/block_plan.h"
#include "fovea/pattern/layer_attention.h"
#include "fovea/pattern/plan_drawing.h"

namespace fovea::cli {
namespace {

struct PlanOptions {
  std::string attention, align = "bottom-right", svg, png;
  int64_t length = 0, kv_length = 0, layers = 0, heads = 0, key_length = -1;
  std::vector<int32_t> segments;
  bool json = false, explain = false, ascii = false;
};

// One picture: a distinct attention of the layer list or of its heads.
struct Drawn {
  LayerAttention attention;
  std::string where;  // "layers 0, 1, 3; heads 0 of 2"; may be empty
  std::shared_ptr<const BlockPlan> plan;
  double build_ms = 0;
};

std::string grouped(int64_t number) {
  std::string digits = std::to_string(number);
  for (auto at = std::ssize(digits) - 3; at > 0; at -= 3) digits.insert(at, 1, ',');
  return digits;
}

void add_drawn(const LayerAttention& attention, const std::string& where,
               const std::string& separator, std::vector<Drawn>& all) {
  for (Drawn& drawn : all) {
    if (!(drawn.attention == attention)) continue;
    if (!where.empty()) drawn.where += separator + where;
    return;
  }
  all.push_back({attention, where, nullptr, 0});
}

// The distinct patterns of the list, each for the layers and heads that have it.
std::vector<Drawn> distinct_patterns(const PlanOptions& options) {
  std::vector<Drawn> by_layer, all;
  if (options.layers > 0) {
    const std::vector<LayerAttention> layers = parse_layers(options.attention, options.layers);
    for (size_t i = 0; i < layers.size(); ++i) {
      add_drawn(layers[i], std::to_string(i), ", ", by_layer);
    }
    for (Drawn& drawn : by_layer) drawn.where = "layers " + drawn.where;
  } else {
    for (const LayerRun& run : parse_layer_period(options.attention)) {
      add_drawn(run.attention, "", "", by_layer);
    }
  }
  for (const Drawn& layer : by_layer) {
    if (options.heads > 0) check_heads({layer.attention}, options.heads);
    const int64_t period = layer.attention.pattern.head_period();
    for (int64_t h = 0; h < period; ++h) {
      std::string where = layer.where;
      if (period > 1) {
        where += (where.empty() ? "head " : "; head ") + std::to_string(h) + " of every " +
                 std::to_string(period);
      }
      LayerAttention of_head = layer.attention;
      of_head.pattern = layer.attention.pattern.for_head(h);
      add_drawn(of_head, where, "; ", all);
    }
  }
  return all;
}

std::vector<int32_t> cumulative(const std::vector<int32_t>& lengths) {
  std::vector<int32_t> cu(lengths.size() + 1);
  std::partial_sum(lengths.begin(), lengths.end(), cu.begin() + 1);
  return cu;
}

void build(const PlanOptions& options, std::vector<Drawn>& all) {
  const std::vector<int32_t> cu = cumulative(options.segments);
  const std::vector<int32_t> key_length = {static_cast<int32_t>(options.key_length)};
  PatternInputs inputs;
  if (!options.segments.empty()) inputs.cu_seqlens_q = inputs.cu_seqlens_k = cu;
  if (options.key_length >= 0) inputs.key_lengths = key_length;
  const int64_t kv_length = options.kv_length > 0 ? options.kv_length : options.length;
  const PatternScope scope{
      options.length,
      kv_length,
      options.align == "top-left" ? Alignment::kTopLeft : Alignment::kBottomRight,
      0,
      0,
      &inputs};
  for (Drawn& drawn : all) {
    const Pattern& pattern = drawn.attention.pattern;
    if (!pattern.unmet(scope, 1, 1).empty() && pattern.uses_inputs()) {
      std::string unmet;
      for (const std::string& u : pattern.unmet(scope, 1, 1)) unmet += "\n  " + u;
      throw InputError("plan: \"" + pattern.to_string() +
                       "\" takes facts of a batch that the command line does not give:" + unmet +
                       "\n  --segments N,N,… gives lengths of packed documents, --key-length N the "
                       "valid keys; intervals, block_mask and global_tokens without arguments "
                       "cannot be drawn here");
    }
    const auto begin = std::chrono::steady_clock::now();
    drawn.plan = build_plan(pattern, scope);
    drawn.build_ms =
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  }
}

double share_of(const BlockPlan& plan) {
  return static_cast<double>(plan.counts().pairs) /
         (static_cast<double>(plan.q_len()) * static_cast<double>(plan.kv_len()));
}

void print_json(const Drawn& drawn) {
  const BlockPlan::Counts& c = drawn.plan->counts();
  nlohmann::ordered_json line = {{"pattern", drawn.attention.to_string()},
                                 {"q_len", drawn.plan->q_len()},
                                 {"kv_len", drawn.plan->kv_len()},
                                 {"pairs", c.pairs},
                                 {"share", share_of(*drawn.plan)},
                                 {"tiles",
                                  {{"full", c.full},
                                   {"banded", c.banded},
                                   {"interval", c.interval},
                                   {"bitmap", c.bitmap},
                                   {"empty", c.empty}}},
                                 {"plan_bytes", drawn.plan->bytes()},
                                 {"build_ms", drawn.build_ms}};
  if (!drawn.where.empty()) line["where"] = drawn.where;
  std::printf("%s\n", line.dump().c_str());
}

int terminal_columns() {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

bool terminal_has_unicode() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const char* value = std::getenv(name);
    if (!value || !*value) continue;
    return std::strstr(value, "UTF-8") || std::strstr(value, "utf8") || std::strstr(value, "UTF8");
  }
  return false;
}

void print_explanation(const Drawn& drawn) {
  std::printf("\n");
  for (const std::string& line : explain(drawn.attention)) std::printf("%s\n", line.c_str());
}

void print_text(const Drawn& drawn, const PlanOptions& options) {
  const BlockPlan& plan = *drawn.plan;
  const BlockPlan::Counts& c = plan.counts();
  std::printf("%s   %s queries x %s keys%s%s\n\n", drawn.attention.to_string().c_str(),
              grouped(plan.q_len()).c_str(), grouped(plan.kv_len()).c_str(),
              drawn.where.empty() ? "" : "   ", drawn.where.c_str());
  const int margin = static_cast<int>(std::to_string(plan.q_len()).size()) + 10;
  const int64_t columns = std::clamp(terminal_columns() - margin, 16, 72);
  // A character is about twice as tall as wide.
  const double ratio = static_cast<double>(plan.q_len()) / static_cast<double>(plan.kv_len());
  const auto rows = static_cast<int64_t>(
      std::clamp(static_cast<double>(std::min(columns, plan.kv_len())) * ratio / 2, 1.0, 72.0));
  const bool all_pairs = plan.q_len() <= 32 && plan.kv_len() <= columns;
  const PlanImage image = plan_image(plan, all_pairs ? plan.q_len() : rows, columns);
  std::fputs(plan_text(image, terminal_has_unicode() && !options.ascii).c_str(), stdout);
  std::printf("\npairs  %s, %.3g %% of %s\n", grouped(c.pairs).c_str(), 100 * share_of(plan),
              grouped(plan.q_len() * plan.kv_len()).c_str());
  if (drawn.attention.mechanism != Mechanism::kSoftmax) {
    std::printf("cost   %s\n", describe_cost(drawn.attention, plan.q_len(), plan.kv_len()).c_str());
    if (options.explain) print_explanation(drawn);
    return;
  }
  std::printf("tiles  %s full, %s banded, %s interval, %s bitmap; %s empty, of %d x %d\n",
              grouped(c.full).c_str(), grouped(c.banded).c_str(), grouped(c.interval).c_str(),
              grouped(c.bitmap).c_str(), grouped(c.empty).c_str(), kTile, kTile);
  if (!drawn.attention.memory.none()) {
    std::printf("cost   and linear: %s keys into and %s queries from a memory of fixed size%s\n",
                grouped(plan.kv_len()).c_str(), grouped(plan.q_len()).c_str(),
                drawn.attention.memory.causal ? "" : ", for each side");
  }
  std::printf("plan   %s bytes, built in %.3g ms\n", grouped(plan.bytes()).c_str(), drawn.build_ms);
  if (!options.explain) return;
  print_explanation(drawn);
  std::printf(
      "\nA kernel skips empty tiles, does no mask work in full ones, compares with four integers "
      "in\n"
      "banded ones, with a key range for each row in interval ones, and reads one bit for each\n"
      "pair in bitmap ones.\n");
}

std::string encoded_png(const GreyPixels& pixels) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = static_cast<png_uint_32>(pixels.width);
  image.height = static_cast<png_uint_32>(pixels.height);
  image.format = PNG_FORMAT_GRAY;
  png_alloc_size_t bytes = 0;
  std::string file;
  bool ok = png_image_write_to_memory(&image, nullptr, &bytes, 0, pixels.values.data(), 0, nullptr);
  if (ok) {
    file.resize(bytes);
    ok =
        png_image_write_to_memory(&image, file.data(), &bytes, 0, pixels.values.data(), 0, nullptr);
  }
  if (!ok) throw Error(ErrorCode::kFailed, std::string("plan: png: ") + image.message);
  file.resize(bytes);
  return file;
}

void write_pictures(const std::vector<Drawn>& all, const PlanOptions& options) {
  constexpr int kSvgCells = 128, kPngCells = 512;
  const auto panels_of = [&](int64_t cells) {
    std::vector<PlanPanel> panels;
    for (const Drawn& drawn : all) {
      const double ratio =
          static_cast<double>(drawn.plan->q_len()) / static_cast<double>(drawn.plan->kv_len());
      const auto rows = static_cast<int64_t>(
          std::clamp(static_cast<double>(cells) * ratio, 1.0, 8.0 * static_cast<double>(cells)));
      panels.push_back({drawn.attention.to_string(), plan_image(*drawn.plan, rows, cells)});
    }
    return panels;
  };
  if (!options.svg.empty()) {
    const int per_row = all.size() > 4 ? 4 : static_cast<int>(all.size());
    io::write_file(options.svg,
                   plan_svg(panels_of(kSvgCells), per_row, all.size() > 1 ? 220 : 512));
  }
  if (!options.png.empty()) {
    io::write_file(options.png, encoded_png(plan_pixels(panels_of(kPngCells), kPngCells)));
  }
}

void run_plan(PlanOptions options) {
  if (options.length == 0) {
    options.length = std::accumulate(options.segments.begin(), options.segments.end(), int64_t{0});
  }
  if (options.length == 0) throw InputError("plan: expected --length N, the number of tokens");
  std::vector<Drawn> all = distinct_patterns(options);
  build(options, all);
  write_pictures(all, options);
  for (size_t i = 0; i < all.size(); ++i) {
    if (options.json) {
      print_json(all[i]);
    } else {
      if (i > 0) std::printf("\n");
      print_text(all[i], options);
    }
  }
}

void add_plan(CLI::App& app) {
  CLI::App* command = app.add_subcommand("plan", "Draw who attends to whom, with counts");
  auto o = std::make_shared<PlanOptions>();
  command
      ->add_option("--attention", o->attention,
                   "Attention of all layers or a list, as \"window(64)*2, linear\"")
      ->required();
  command->add_option("--length", o->length, "Tokens (queries, and keys unless --kv-length)")
      ->check(CLI::Range(int64_t{1}, int64_t{2147483647}));
  command->add_option("--kv-length", o->kv_length, "Keys")
      ->check(CLI::Range(int64_t{1}, int64_t{2147483647}));
  command->add_option("--align", o->align, "How queries line up with keys when lengths differ")
      ->check(CLI::IsMember({"bottom-right", "top-left"}))
      ->capture_default_str();
  command->add_option("--layers", o->layers, "Depth over which the list repeats")
      ->check(CLI::Range(int64_t{1}, int64_t{10000}));
  command->add_option("--heads", o->heads, "Heads of the model, to hold per_head against")
      ->check(CLI::Range(int64_t{1}, int64_t{4096}));
  command
      ->add_option("--segments", o->segments,
                   "Lengths of packed documents, for the segments pattern")
      ->delimiter(',')
      ->check(CLI::Range(0, 2147483647));
  command->add_option("--key-length", o->key_length, "Valid keys, for the key_lengths pattern")
      ->check(CLI::Range(int64_t{0}, int64_t{2147483647}));
  command->add_option("--svg", o->svg, "Write the picture as SVG");
  command->add_option("--png", o->png, "Write the picture as PNG");
  command->add_flag("--json", o->json, "Print one JSON object a pattern instead of a picture");
  command->add_flag("--explain", o->explain, "Say what the pattern's parts and the tiles mean");
  command->add_flag("--ascii", o->ascii, "Draw with ASCII characters only");
  command->callback([o] { run_plan(*o); });
}

const Registration registration("plan", add_plan);

}  // namespace
}  // namespace fovea::cli
