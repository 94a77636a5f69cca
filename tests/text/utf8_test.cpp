#include "fovea/text/utf8.h"
#include <gtest/gtest.h>
TEST(Utf8, Empty) { EXPECT_EQ(fovea::find_invalid_utf8(""), std::string_view::npos); }
