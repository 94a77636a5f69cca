#include "fovea/pattern/plan_drawing.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace fovea {
namespace {

// Cells of a grid over [0, length): cell c is [begin(c), begin(c + 1)).
struct Axis {
  int64_t length, cells;

  int64_t begin(int64_t c) const { return c * length / cells; }
  int64_t cell_of(int64_t x) const { return ((x + 1) * cells - 1) / length; }
};

class ImageMaker {
 public:
  ImageMaker(const BlockPlan& plan, int64_t rows, int64_t columns)
      : plan_(plan), rows_{plan.q_len(), rows}, columns_{plan.kv_len(), columns} {}

  PlanImage make() {
    std::vector<int64_t> pairs(rows_.cells * columns_.cells);
    for (int64_t t = 0; t < plan_.q_tiles(); ++t) {
      for (const TileRun& run : plan_.keys_of(t)) add_run(t, run, pairs);
    }
    PlanImage image{rows_.length, columns_.length, rows_.cells, columns_.cells, {}};
    for (int64_t r = 0; r < rows_.cells; ++r) {
      for (int64_t c = 0; c < columns_.cells; ++c) {
        const int64_t area =
            (rows_.begin(r + 1) - rows_.begin(r)) * (columns_.begin(c + 1) - columns_.begin(c));
        const auto share =
            static_cast<double>(pairs[r * columns_.cells + c]) / static_cast<double>(area);
        image.share.push_back(static_cast<float>(share));
      }
    }
    return image;
  }

 private:
  void add_run(int64_t t, const TileRun& run, std::vector<int64_t>& pairs) const {
    const int64_t q0 = t * kTile, q1 = std::min(q0 + kTile, plan_.q_len());
    const int64_t k0 = run.first * int64_t{kTile};
    if (run.kind == TileKind::kFull) {
      add_block(q0, q1, k0, std::min(k0 + run.count * kTile, plan_.kv_len()), pairs);
      return;
    }
    for (int64_t q = q0; q < q1; ++q) {
      const auto r = static_cast<int32_t>(q - q0);
      if (run.kind == TileKind::kBitmap) {
        const uint64_t bits = plan_.bitmap(run.mask).rows[r];
        for (int c = 0; c < kTile; ++c) {
          if (bits >> c & 1) add_block(q, q + 1, k0 + c, k0 + c + 1, pairs);
        }
      } else if (run.kind == TileKind::kBanded) {
        const Band& b = plan_.band(run.mask);
        add_block(q, q + 1, k0 + std::max(b.lo, r + b.a), k0 + std::min(b.hi, r + b.b), pairs);
      } else {
        const RowIntervals& i = plan_.row_intervals(run.mask);
        add_block(q, q + 1, k0 + i.lo[r], k0 + i.hi[r], pairs);
      }
    }
  }

  void add_block(int64_t q0, int64_t q1, int64_t k0, int64_t k1,
                 std::vector<int64_t>& pairs) const {
    if (k0 >= k1) return;
    const int64_t first = columns_.cell_of(k0), last = columns_.cell_of(k1 - 1);
    for (int64_t r = rows_.cell_of(q0); r <= rows_.cell_of(q1 - 1); ++r) {
      const int64_t height = std::min(q1, rows_.begin(r + 1)) - std::max(q0, rows_.begin(r));
      for (int64_t c = first; c <= last; ++c) {
        const int64_t width = std::min(k1, columns_.begin(c + 1)) - std::max(k0, columns_.begin(c));
        pairs[r * columns_.cells + c] += height * width;
      }
    }
  }

  const BlockPlan& plan_;
  Axis rows_, columns_;
};

// 0 for nothing, then `levels` - 1 steps; only a full cell gets the last.
int level_of(float share, int levels) {
  if (share <= 0) return 0;
  if (share >= 1) return levels - 1;
  return 1 + static_cast<int>(share * static_cast<float>(levels - 2));
}

std::string padded(std::string text, size_t width) {
  if (text.size() < width) text.insert(0, width - text.size(), ' ');
  return text;
}

std::string escaped(const std::string& text) {
  std::string out;
  for (char c : text) {
    if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else {
      out += c;
    }
  }
  return out;
}

// One path for each level of grey, in units of cells; cells of equal level that touch in a row are
// one rectangle.
void append_cells(const PlanImage& image, double x, double y, double width, double height,
                  std::string& svg) {
  constexpr int kLevels = 9;
  std::string paths[kLevels];
  for (int64_t r = 0; r < image.rows; ++r) {
    for (int64_t c = 0, end; c < image.columns; c = end) {
      const int level = level_of(image.at(r, c), kLevels);
      for (end = c + 1; end < image.columns && level_of(image.at(r, end), kLevels) == level;) ++end;
      const std::string w = std::to_string(end - c);
      if (level > 0) {
        paths[level].append("M").append(std::to_string(c)).append(" ").append(std::to_string(r));
        paths[level].append("h").append(w).append("v1h-").append(w).append("z");
      }
    }
  }
  char text[160];
  std::snprintf(text, sizeof(text),
                "<g fill=\"#2f81f7\" transform=\"translate(%.1f %.1f) scale(%.4f %.4f)\">\n", x, y,
                width / static_cast<double>(image.columns),
                height / static_cast<double>(image.rows));
  svg += text;
  for (int level = 1; level < kLevels; ++level) {
    if (paths[level].empty()) continue;
    std::snprintf(text, sizeof(text), "<path fill-opacity=\"%.2f\" d=\"",
                  0.15 + 0.85 * level / (kLevels - 1));
    svg.append(text).append(paths[level]).append("\"/>\n");
  }
  svg += "</g>\n";
}

}  // namespace

PlanImage plan_image(const BlockPlan& plan, int64_t max_rows, int64_t max_columns) {
  const int64_t rows = std::min(max_rows, plan.q_len());
  const int64_t columns = std::min(max_columns, plan.kv_len());
  if (rows < 1 || columns < 1) return {plan.q_len(), plan.kv_len(), 0, 0, {}};
  return ImageMaker(plan, rows, columns).make();
}

std::string plan_text(const PlanImage& image, bool unicode) {
  static const char* const kUnicode[] = {" ", "░", "▒", "▓", "█"};
  static const char* const kAscii[] = {" ", ".", ":", "*", "#"};
  const char* const* shades = unicode ? kUnicode : kAscii;
  const std::string last_query = std::to_string(std::max<int64_t>(image.q_len - 1, 0));
  const std::string last_key = std::to_string(std::max<int64_t>(image.kv_len - 1, 0));
  const size_t margin = last_query.size();
  const auto columns = static_cast<size_t>(image.columns);

  std::string line;
  for (size_t c = 0; c < columns; ++c) line += unicode ? "─" : "-";
  std::string text(margin + 2, ' ');
  text += "0" + padded(last_key, std::max(columns, last_key.size() + 2) - 1) + "  keys\n";
  text +=
      std::string(margin + 1, ' ') + (unicode ? "┌" : "+") + line + (unicode ? "┐" : "+") + "\n";
  for (int64_t r = 0; r < image.rows; ++r) {
    const bool first = r == 0, last = r == image.rows - 1;
    text += padded(first ? "0" : last ? last_query : "", margin) + " " + (unicode ? "│" : "|");
    for (int64_t c = 0; c < image.columns; ++c) text += shades[level_of(image.at(r, c), 5)];
    text += std::string(unicode ? "│" : "|") + "\n";
  }
  text +=
      std::string(margin + 1, ' ') + (unicode ? "└" : "+") + line + (unicode ? "┘" : "+") + "\n";
  return text + std::string(margin + 2, ' ') + "queries run downwards\n";
}

std::string plan_svg(std::span<const PlanPanel> panels, int panels_per_row, int size) {
  constexpr int kGap = 24, kTitle = 22;
  const int count = static_cast<int>(panels.size());
  const int across = std::max(1, std::min(panels_per_row, count));
  const auto height_of = [&](const PlanImage& image) {
    const double ratio =
        static_cast<double>(image.q_len) / static_cast<double>(std::max<int64_t>(image.kv_len, 1));
    return std::clamp(ratio, 0.05, 20.0) * size;
  };
  std::string body;
  double y = kGap;
  for (int first = 0; first < count; first += across) {
    double tallest = 0;
    for (int i = first; i < std::min(first + across, count); ++i) {
      const PlanPanel& panel = panels[i];
      const double x = kGap + (i - first) * (size + kGap), top = y + kTitle;
      const double height = height_of(panel.image);
      tallest = std::max(tallest, height);
      char text[256];
      const double font = std::min(12.0, 1.6 * size / static_cast<double>(panel.title.size() + 1));
      std::snprintf(text, sizeof(text),
                    "<text x=\"%.1f\" y=\"%.1f\" font-size=\"%.1f\" fill=\"#6e7781\">", x,
                    y + kTitle - 7, font);
      body += text + escaped(panel.title) + "</text>\n";
      std::snprintf(text, sizeof(text),
                    "<rect x=\"%.1f\" y=\"%.1f\" width=\"%d\" height=\"%.1f\" fill=\"#8b949e\" "
                    "fill-opacity=\"0.12\" stroke=\"#8b949e\"/>\n",
                    x, top, size, height);
      body += text;
      if (panel.image.rows > 0) append_cells(panel.image, x, top, size, height, body);
    }
    y += kTitle + tallest + kGap;
  }
  char head[256];
  std::snprintf(head, sizeof(head),
                "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%.0f\" "
                "font-family=\"monospace\" shape-rendering=\"crispEdges\">\n",
                kGap + across * (size + kGap), y);
  return head + body + "</svg>\n";
}

GreyPixels plan_pixels(std::span<const PlanPanel> panels, int64_t size) {
  constexpr int64_t kGap = 16;
  const auto factor_of = [&](const PlanImage& image) {
    return std::max<int64_t>(1, size / std::max<int64_t>(image.columns, 1));
  };
  GreyPixels pixels;
  for (const PlanPanel& panel : panels) {
    const int64_t factor = factor_of(panel.image);
    pixels.width += panel.image.columns * factor + (pixels.width > 0 ? kGap : 0);
    pixels.height = std::max(pixels.height, panel.image.rows * factor);
  }
  pixels.values.assign(pixels.width * pixels.height, 255);
  int64_t left = 0;
  for (const auto& [title, image] : panels) {
    const int64_t factor = factor_of(image);
    for (int64_t y = 0; y < image.rows * factor; ++y) {
      for (int64_t x = 0; x < image.columns * factor; ++x) {
        // Darker than linear for small shares, so that thin lines stay visible.
        const float ink = std::sqrt(image.at(y / factor, x / factor));
        pixels.values[y * pixels.width + left + x] =
            static_cast<uint8_t>(std::lround(255 * (1 - ink)));
      }
    }
    left += image.columns * factor + kGap;
  }
  return pixels;
}

}  // namespace fovea
