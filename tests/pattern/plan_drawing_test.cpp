// Pictures of plans: shares against counted pairs, and the three formats on small cases.
#include "fovea/pattern/plan_drawing.h"

#include <algorithm>

#include <gmock/gmock.h>

#include "fovea/pattern/layer_attention.h"

namespace fovea {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

PlanImage image_of(const std::string& text, int64_t q_len, int64_t kv_len, int64_t rows,
                   int64_t columns) {
  PatternScope scope;
  scope.q_len = q_len;
  scope.kv_len = kv_len;
  return plan_image(*build_plan(Pattern::parse(text), scope), rows, columns);
}

TEST(PlanDrawing, SharesAreCountedPairs) {
  for (const char* text : {"full", "causal", "window(9,3)|global(2)", "chunked(30)",
                           "dilated(40,40,3)", "random_blocks(16,3,1)"}) {
    const Pattern pattern = Pattern::parse(text);
    for (auto [q_len, kv_len, rows, columns] :
         {std::array<int64_t, 4>{150, 150, 7, 11}, {70, 200, 70, 200}, {130, 65, 3, 100}}) {
      PatternScope scope;
      scope.q_len = q_len;
      scope.kv_len = kv_len;
      const PlanImage image = image_of(text, q_len, kv_len, rows, columns);
      ASSERT_EQ(image.rows, std::min(rows, q_len));
      ASSERT_EQ(image.columns, std::min(columns, kv_len));
      for (int64_t r = 0; r < image.rows; ++r) {
        for (int64_t c = 0; c < image.columns; ++c) {
          double pairs = 0, all = 0;
          for (int64_t q = r * q_len / image.rows; q < (r + 1) * q_len / image.rows; ++q) {
            for (int64_t k = c * kv_len / image.columns; k < (c + 1) * kv_len / image.columns;
                 ++k) {
              pairs += pattern.allows(scope, q, k);
              ++all;
            }
          }
          ASSERT_FLOAT_EQ(image.at(r, c), static_cast<float>(pairs / all)) << text << r << " " << c;
        }
      }
    }
  }
}

TEST(PlanDrawing, Text) {
  EXPECT_EQ(plan_text(image_of("causal", 3, 3, 9, 9), false),
            "   0 2  keys\n"
            "  +---+\n"
            "0 |#  |\n"
            "  |## |\n"
            "2 |###|\n"
            "  +---+\n"
            "   queries run downwards\n");
  EXPECT_THAT(plan_text(image_of("causal", 3, 3, 9, 9), true), HasSubstr("│██ │"));
  // Half, all and a trace: a single pair of 100 x 100 is not lost.
  EXPECT_THAT(plan_text(image_of("causal", 200, 200, 2, 2), false),
              HasSubstr("  0 |: |\n199 |#:|"));
  EXPECT_THAT(plan_text(image_of("window(0,0)&global(1)", 200, 200, 2, 2), false),
              HasSubstr("|. |"));
}

TEST(PlanDrawing, Svg) {
  const PlanPanel panels[] = {{"a<b&c", image_of("causal", 3, 3, 3, 3)},
                              {"full", image_of("full", 4, 8, 4, 8)}};
  const std::string svg = plan_svg(panels, 4, 100);
  EXPECT_THAT(svg, HasSubstr("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"272\""));
  EXPECT_THAT(svg, HasSubstr(">a&lt;b&amp;c</text>"));
  EXPECT_THAT(svg, HasSubstr("d=\"M0 0h1v1h-1zM0 1h2v1h-2zM0 2h3v1h-3z\""));
  EXPECT_THAT(svg, HasSubstr("height=\"50.0\""));  // 4 x 8 is half as high as wide
  EXPECT_THAT(svg, ::testing::EndsWith("</svg>\n"));
}

TEST(PlanDrawing, Pixels) {
  const PlanPanel panels[] = {{"", image_of("causal", 2, 2, 2, 2)}};
  EXPECT_THAT(plan_pixels(panels, 2).values, ElementsAre(0, 255, 0, 0));
  const GreyPixels large = plan_pixels(panels, 5);  // whole factors only
  EXPECT_EQ(large.width, 4);
  EXPECT_EQ(large.height, 4);
  EXPECT_EQ(large.values[1 * 4 + 1], 0);
  EXPECT_EQ(large.values[1 * 4 + 2], 255);
  const PlanPanel two[] = {panels[0], panels[0]};
  EXPECT_EQ(plan_pixels(two, 2).width, 2 + 16 + 2);
}

TEST(PlanDrawing, EmptyPlans) {
  const PlanImage image = image_of("full", 0, 5, 4, 4);
  EXPECT_EQ(image.rows, 0);
  EXPECT_THAT(plan_text(image, false), HasSubstr("keys"));
  const PlanPanel panels[] = {{"", image}};
  EXPECT_EQ(plan_pixels(panels, 4).values.size(), 0u);
  EXPECT_THAT(plan_svg(panels, 4, 100), HasSubstr("</svg>"));
}

TEST(PlanDrawing, ExplainNamesEachPartOnce) {
  EXPECT_THAT(explain(Pattern::parse("causal&(window(1)|causal)")),
              ElementsAre("causal: a token sees itself and all before it",
                          HasSubstr("window(1,1): a token sees")));
}

TEST(PlanDrawing, HeadsAndLayers) {
  const Pattern p = Pattern::parse("per_head(causal,full|per_head(full,causal,chunked(2)))");
  EXPECT_EQ(p.head_period(), 6);
  EXPECT_EQ(p.for_head(2).to_string(), "causal");
  EXPECT_EQ(p.for_head(5).to_string(), "full|chunked(2)");
  EXPECT_EQ(p.for_head(1).head_period(), 1);
  const auto period = parse_layer_period("window(1)*3, full");
  ASSERT_EQ(period.size(), 2u);
  EXPECT_EQ(period[0].layers, 3);
  EXPECT_EQ(period[1].attention.to_string(), "full");
}

}  // namespace
}  // namespace fovea
