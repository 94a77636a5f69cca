#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "fovea/pattern/block_plan.h"

namespace fovea {

/// A plan seen from afar: the share of allowed pairs in each cell of a grid over it. `share` is
/// [rows, columns], queries downwards, each in [0, 1].
struct PlanImage {
  int64_t q_len = 0, kv_len = 0;
  int64_t rows = 0, columns = 0;
  std::vector<float> share;

  float at(int64_t row, int64_t column) const { return share[row * columns + column]; }
};

/// Image of at most `max_rows` x `max_columns` cells, one for each pair where the plan is as small.
/// Cost: linear in live tiles and in cells touched by a tile row.
PlanImage plan_image(const BlockPlan& plan, int64_t max_rows, int64_t max_columns);

/// The image in a frame with first and last positions, one character a cell: shades of blocks, or
/// of `.:*#` when not `unicode`. A cell with any pair is not blank.
std::string plan_text(const PlanImage& image, bool unicode);

/// One panel of an SVG.
struct PlanPanel {
  std::string title;
  PlanImage image;
};

/// A standalone SVG of the panels, side by side in rows of `panels_per_row`, each `size` pixels
/// wide, with its title above. Colours are readable on light and dark backgrounds.
std::string plan_svg(std::span<const PlanPanel> panels, int panels_per_row, int size);

/// 8-bit grey pixels, [height, width]: white where nothing is allowed, darker with the share.
struct GreyPixels {
  int64_t width = 0, height = 0;
  std::vector<uint8_t> values;
};

/// The panels' images side by side. Each cell is at least one pixel; cells are enlarged by a whole
/// factor up to about `size` pixels a panel.
GreyPixels plan_pixels(std::span<const PlanPanel> panels, int64_t size);

}  // namespace fovea
