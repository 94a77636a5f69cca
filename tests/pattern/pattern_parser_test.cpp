// The grammar: canonical texts, layer lists, and what is refused with which message.
#include <gmock/gmock.h>

#include "fovea/core/status.h"
#include "fovea/pattern/layer_attention.h"
#include "fovea/pattern/pattern.h"

namespace fovea {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string canonical(const std::string& text) { return Pattern::parse(text).to_string(); }

std::string error_of(const std::string& text) {
  try {
    return "accepted as " + canonical(text);
  } catch (const InputError& error) {
    return error.what();
  }
}

TEST(PatternParser, CanonicalText) {
  EXPECT_EQ(Pattern().to_string(), "full");
  EXPECT_EQ(canonical(" window ( 128 ) "), "window(128,128)");
  EXPECT_EQ(canonical("window(007,0)"), "window(7,0)");
  EXPECT_EQ(canonical("block_neighbours(64)"), "block_neighbours(64,1,1)");
  EXPECT_EQ(canonical("global_tokens(5,1,5)"), "global_tokens(1,5)");
  EXPECT_EQ(canonical("global_tokens"), "global_tokens");
  EXPECT_EQ(canonical("random_blocks(64,3,9223372036854775807)"),
            "random_blocks(64,3,9223372036854775807)");
  EXPECT_EQ(canonical("per_head( causal , window(1)|global(1) )"),
            "per_head(causal,window(1,1)|global(1))");
}

TEST(PatternParser, IntersectionBindsFirstAndParenthesesStayOnlyWhereTheyMatter) {
  EXPECT_EQ(canonical("causal & window(3) | global(1)"), "causal&window(3,3)|global(1)");
  EXPECT_EQ(canonical("(causal & window(3)) | global(1)"), "causal&window(3,3)|global(1)");
  EXPECT_EQ(canonical("causal & (window(3) | global(1))"), "causal&(window(3,3)|global(1))");
  EXPECT_EQ(canonical("((causal))"), "causal");
  EXPECT_EQ(canonical("causal|(full|chunked(2))"), "causal|full|chunked(2)");
  EXPECT_EQ(canonical("causal&(full&chunked(2))"), "causal&full&chunked(2)");
}

TEST(PatternParser, CanonicalTextParsesToItself) {
  for (const char* text :
       {"full", "causal", "window(1,2)", "dilated(4,4,2)", "chunked(8)", "block_neighbours(8,2,0)",
        "block_ring(8)", "neighbourhood(7)", "global(3)", "global_tokens(0,9)", "global_tokens",
        "random_blocks(64,3,1)", "block_mask(64)", "intervals", "key_lengths", "segments",
        "causal&(window(1,1)|global(1))&segments", "per_head(full,per_head(causal,full)|causal)"}) {
    EXPECT_EQ(canonical(text), text);
    EXPECT_EQ(Pattern::parse(text), Pattern::parse(canonical(text)));
  }
}

TEST(PatternParser, WithinSegments) {
  EXPECT_EQ(Pattern::parse("causal|global(1)").within_segments().to_string(),
            "(causal|global(1))&segments");
  EXPECT_EQ(Pattern::parse("causal&window(1)").within_segments().to_string(),
            "causal&window(1,1)&segments");
  EXPECT_EQ(Pattern::parse("segments&causal").within_segments().to_string(), "segments&causal");
  const Pattern p = Pattern::parse("full").within_segments();
  EXPECT_EQ(Pattern::parse(p.to_string()), p);
}

TEST(PatternParser, WhatAPatternUses) {
  EXPECT_FALSE(Pattern::parse("window(1)|global_tokens(1)").uses_inputs());
  for (const char* text : {"segments", "key_lengths", "intervals", "block_mask(4)", "global_tokens",
                           "per_head(full,full|intervals&causal)"}) {
    EXPECT_TRUE(Pattern::parse(text).uses_inputs()) << text;
  }
  EXPECT_TRUE(Pattern::parse("causal&(full|segments)").uses_segments());
  EXPECT_TRUE(Pattern::parse("causal&key_lengths").uses_key_lengths());
  EXPECT_TRUE(Pattern::parse("causal&per_head(full,causal)").per_head());
  EXPECT_FALSE(Pattern::parse("causal").per_head());
}

TEST(PatternParser, UnknownNamesSuggestTheNearest) {
  EXPECT_THAT(error_of("windw(3)"), HasSubstr("did you mean \"window\"?"));
  EXPECT_THAT(error_of("neighborhood(3)"), HasSubstr("did you mean \"neighbourhood\"?"));
  EXPECT_THAT(error_of("Causal"), HasSubstr("did you mean \"causal\"?"));
  EXPECT_THAT(error_of("global_token"), HasSubstr("did you mean \"global_tokens\"?"));
  EXPECT_THAT(error_of("perhead(full)"), HasSubstr("did you mean \"per_head\"?"));
  EXPECT_THAT(error_of("xyzzyx"), HasSubstr("expected one of full, causal, window"));
}

TEST(PatternParser, PlaceIsMarked) {
  EXPECT_EQ(error_of("causal | windw(3)"),
            "attention pattern, column 10: expected a pattern, got \"windw\"; did you mean "
            "\"window\"?\n"
            "  causal | windw(3)\n"
            "           ^");
  const std::string far = std::string(500, ' ') + "windw" + std::string(500, ' ');
  EXPECT_THAT(error_of(far), HasSubstr("column 501"));
  EXPECT_LT(error_of(far).size(), 400u);
}

TEST(PatternParser, Mechanisms) {
  EXPECT_THAT(error_of("linear"), HasSubstr("the mechanism \"linear\""));
  EXPECT_THAT(error_of("window(3) + linear"), HasSubstr("\"+\", which joins mechanisms"));
  EXPECT_THAT(error_of("(window(3) + global(1))"), HasSubstr("\"+\", which joins mechanisms"));
}

TEST(PatternParser, Numbers) {
  EXPECT_THAT(error_of("window(-1)"), HasSubstr("not negative, got \"-1\""));
  EXPECT_THAT(error_of("window()"), HasSubstr("expected a number in window(left,right)"));
  EXPECT_THAT(error_of("window"), HasSubstr("got 0 arguments"));
  EXPECT_THAT(error_of("window(1,2,3)"), HasSubstr("got 3 arguments"));
  EXPECT_THAT(error_of("window(1.5)"), HasSubstr("got \".5\""));
  EXPECT_THAT(error_of("window(x)"), HasSubstr("got \"x\""));
  EXPECT_THAT(error_of("global(1,2)"), HasSubstr("expected global(n), got 2 arguments"));
  EXPECT_THAT(error_of("causal(1)"), HasSubstr("expected causal without arguments"));
  EXPECT_THAT(error_of("block_neighbours(4,1)"),
              HasSubstr("block_neighbours(size) or (size,before,after), got 2"));
  EXPECT_THAT(error_of("dilated(4,4,0)"), HasSubstr("a step of at least 1, got 0"));
  EXPECT_THAT(error_of("block_ring(3)"), HasSubstr("an even size of at least 2"));
  for (const char* text : {"chunked(0)", "block_neighbours(0)", "neighbourhood(0)",
                           "random_blocks(0,1,1)", "block_mask(0)"}) {
    EXPECT_THAT(error_of(text), HasSubstr("size of at least 1, got 0")) << text;
  }
  EXPECT_EQ(canonical("window(2147483647,0)"), "window(2147483647,0)");
  EXPECT_THAT(error_of("window(2147483648,0)"), HasSubstr("expected a number up to 2147483647"));
  EXPECT_THAT(error_of("window(" + std::string(10000, '9') + ")"), HasSubstr("got a larger one"));
  EXPECT_THAT(error_of("random_blocks(1,1,9223372036854775808)"), HasSubstr("got a larger one"));
}

TEST(PatternParser, Structure) {
  EXPECT_THAT(error_of(""), HasSubstr("expected a pattern such as"));
  EXPECT_THAT(error_of("   "), HasSubstr("got the end"));
  EXPECT_THAT(error_of("(causal"), HasSubstr("expected \")\" for the \"(\" of column 1"));
  EXPECT_THAT(error_of("window(3"), HasSubstr("expected \")\" for the \"(\" of column 7"));
  EXPECT_THAT(error_of("causal)"), HasSubstr("got \")\""));
  EXPECT_THAT(error_of("causal full"), HasSubstr("got \"full\""));
  EXPECT_THAT(error_of("causal |"), HasSubstr("got the end"));
  EXPECT_THAT(error_of("| causal"), HasSubstr("got \"|\""));
  EXPECT_THAT(error_of("causal, full"), HasSubstr("got \",\""));
  EXPECT_THAT(error_of("causal*2"), HasSubstr("got \"*2\""));
  EXPECT_THAT(error_of("per_head"), HasSubstr("expected per_head(pattern, pattern"));
  EXPECT_THAT(error_of("per_head()"), HasSubstr("expected a pattern such as"));
  EXPECT_THAT(error_of(std::string("causal\0", 7)), HasSubstr("got \"?\""));
  EXPECT_THAT(error_of("causal\n|\x1b[31m"), HasSubstr("got \"?\""));
}

TEST(PatternParser, DeepNestingIsRefusedAndLengthIsNot) {
  EXPECT_THAT(error_of(std::string(1000000, '(')), HasSubstr("at most 64 nested"));
  std::string heads;
  for (int i = 0; i < 100000; ++i) heads += "per_head(";
  EXPECT_THAT(error_of(heads), HasSubstr("at most 64 nested"));
  const std::string depth(60, '('), end(60, ')');
  EXPECT_EQ(canonical(depth + "causal" + end), "causal");
  std::string text = "full";
  for (int i = 0; i < 20000; ++i) text += "|full&causal";
  EXPECT_EQ(canonical(text), text);
}

std::vector<std::string> layer_texts(const std::string& text, int64_t layers) {
  std::vector<std::string> out;
  for (const LayerAttention& a : parse_layers(text, layers)) out.push_back(a.to_string());
  return out;
}

TEST(LayerAttention, AListIsAPeriod) {
  EXPECT_THAT(layer_texts("window(64)*2, full", 7),
              ElementsAre("window(64,64)", "window(64,64)", "full", "window(64,64)",
                          "window(64,64)", "full", "window(64,64)"));
  EXPECT_THAT(layer_texts("window(1)|global(1)", 2),
              ElementsAre("window(1,1)|global(1)", "window(1,1)|global(1)"));
  EXPECT_THAT(layer_texts("full,causal", 1), ElementsAre("full"));
  EXPECT_THAT(layer_texts("full*2147483647,causal", 2), ElementsAre("full", "full"));
  EXPECT_THAT(layer_texts("full", 0), ElementsAre());
  EXPECT_THAT(layer_texts("linear*2, window(3)", 3),
              ElementsAre("linear", "linear", "window(3,3)"));
  EXPECT_THAT(layer_texts(" linear ( causal ), linear(full)", 2),
              ElementsAre("linear(causal)", "linear"));
}

TEST(LayerAttention, LinearStandsAlone) {
  const auto error_of_layers = [](const char* text) -> std::string {
    try {
      parse_layers(text, 2);
    } catch (const InputError& error) {
      return error.what();
    }
    return "none";
  };
  EXPECT_THAT(layer_texts("performer(causal), gated_deltanet*2, gla(causal)", 4),
              ElementsAre("performer(causal)", "gated_deltanet", "gated_deltanet", "gla"));
  EXPECT_THAT(error_of_layers("retnet(full)"), HasSubstr("expected retnet or retnet(causal)"));
  EXPECT_THAT(error_of_layers("gla|window(3)"), HasSubstr("expected gla to be the whole"));
  EXPECT_THAT(error_of("window(3)|mamba2"), HasSubstr("the whole attention of a layer"));
  EXPECT_THAT(error_of_layers("linear|full"), HasSubstr("only patterns are joined"));
  EXPECT_THAT(error_of_layers("full & linear"), HasSubstr("the whole attention of a layer"));
  EXPECT_THAT(error_of_layers("linear(window(3))"), HasSubstr("linear, linear(full) or"));
  EXPECT_THAT(error_of_layers("linear(causal"), HasSubstr("expected \")\""));
  EXPECT_THAT(error_of_layers("linear + full"), HasSubstr("joins mechanisms"));
  EXPECT_THAT(error_of_layers("linears"), HasSubstr("expected"));
}

TEST(LayerAttention, MechanismsTakeNumbers) {
  const auto error_of_layers = [](const char* text) -> std::string {
    try {
      parse_layers(text, 1);
    } catch (const InputError& error) {
      return error.what();
    }
    return "none";
  };
  EXPECT_THAT(
      layer_texts("moba(32,3)*2, moba( 16 , 2 , causal ), moba, moba(causal), moba(8,1,full)", 6),
      ElementsAre("moba(32,3)", "moba(32,3)", "moba(16,2,causal)", "moba(64,4)",
                  "moba(64,4,causal)", "moba(8,1)"));
  EXPECT_EQ(parse_layers("moba(32,3,causal)", 1)[0],
            (LayerAttention{Mechanism::kMoba, Pattern::parse("causal"), {32, 3}}));
  EXPECT_THAT(layer_texts("hmatrix(32), nsa, nsa(16,4,32,causal), segment_encoder(causal)", 4),
              ElementsAre("hmatrix(32)", "nsa(64,4,128)", "nsa(16,4,32,causal)",
                          "segment_encoder(128,causal)"));
  EXPECT_THAT(error_of_layers("hmatrix(7)"), HasSubstr("at least 2 and a multiple of 2, got 7"));
  EXPECT_THAT(error_of_layers("moba(32)"), HasSubstr("expected moba(block,blocks), got 1 number"));
  EXPECT_THAT(error_of_layers("moba(1,2,3)"), HasSubstr("got 3 numbers"));
  EXPECT_THAT(error_of_layers("moba(0,2)"), HasSubstr("block at least 1, got 0"));
  EXPECT_THAT(error_of_layers("moba(-8,2)"), HasSubstr("not negative"));
  EXPECT_THAT(
      error_of_layers("moba(8,2,window(3))"),
      HasSubstr("moba(block,blocks), moba(block,blocks,full) or moba(block,blocks,causal)"));
  EXPECT_THAT(error_of_layers("moba(8,2"), HasSubstr("expected \")\""));
  EXPECT_THAT(error_of_layers("moba(8,2)|full"), HasSubstr("the whole attention of a layer"));
  EXPECT_THAT(error_of_layers("linear(8)"), HasSubstr("expected linear, linear(full) or"));
}

TEST(LayerAttention, AWindowAndAMemory) {
  EXPECT_THAT(
      layer_texts("window(8)+linear*2, window( 8,0 ) + hedgehog ( causal )", 3),
      ElementsAre("window(8,8)+linear", "window(8,8)+linear", "window(8,0)+hedgehog(causal)"));
  EXPECT_THAT(layer_texts("gate(causal & window(8) + performer(full)), gate( window(2)+based )", 2),
              ElementsAre("gate(causal&window(8,8)+performer)", "gate(window(2,2)+based)"));
  const auto causal = [](const char* text) { return is_causal(parse_layers(text, 1)[0]); };
  EXPECT_TRUE(causal("window(8,0)+linear(causal)"));
  EXPECT_TRUE(causal("gate(window(8)&causal+linear(causal))"));
  EXPECT_FALSE(causal("window(8,0)+linear"));
  EXPECT_FALSE(causal("window(8)+linear(causal)"));
  const std::vector<std::string> lines = explain(parse_layers("window(8)+linear", 1)[0]);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_THAT(lines[1], HasSubstr("window(8,8)+linear: of the tokens outside the window"));
}

TEST(LayerAttention, AMemoryIsOfAWindow) {
  const auto error = [](const char* text) -> std::string {
    try {
      parse_layers(text, 1);
    } catch (const InputError& error) {
      return error.what();
    }
    return "none";
  };
  for (const char* text : {"full+linear", "causal+linear(causal)", "window(3)|global(1)+linear",
                           "chunked(8)+linear", "per_head(window(1),window(2))+linear"}) {
    EXPECT_THAT(error(text), HasSubstr("a memory holds the tokens outside of it")) << text;
  }
  EXPECT_THAT(error("window(3)+gla"), HasSubstr("can share a denominator"));
  EXPECT_THAT(error("window(3)+global(1)"), HasSubstr("after \"+\" (patterns are joined with"));
  EXPECT_THAT(error("window(3)+"), HasSubstr("got the end"));
  EXPECT_THAT(error("window(3)+linear+based"), HasSubstr("a second \"+\""));
  EXPECT_THAT(error("linear+window(3)"), HasSubstr("which joins mechanisms: a window and"));
  EXPECT_THAT(error("gate(window(3))"), HasSubstr("for the gate to mix"));
  EXPECT_THAT(error("gate"), HasSubstr("gate(window(128)+linear)"));
  EXPECT_THAT(error("gate(window(3)+linear"), HasSubstr("expected \")\""));
}

TEST(LayerAttention, Errors) {
  EXPECT_THROW(parse_layers("", 2), InputError);
  EXPECT_THROW(parse_layers("full,", 2), InputError);
  EXPECT_THROW(parse_layers("full*0", 2), InputError);
  EXPECT_THROW(parse_layers("full*", 2), InputError);
  EXPECT_THROW(parse_layers("full*-1", 2), InputError);
  EXPECT_THROW(parse_layers("full*2*2", 2), InputError);
  EXPECT_THROW(parse_layers("full", -1), InputError);
}

}  // namespace
}  // namespace fovea
