#include "fovea/io/safetensors.h"

#include <cstring>

#include "tests/io/temporary_folder.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/core/status.h"
#include "fovea/io/atomic_file.h"

namespace fovea::io {
namespace {

using test::message_of;
using test::TemporaryFolder;
using testing::HasSubstr;

std::string file_of(const std::string& header, const std::string& data) {
  const uint64_t length = header.size();
  std::string out(8, '\0');
  std::memcpy(out.data(), &length, 8);
  return out + header + data;
}

std::string error_of(const std::string& bytes) {
  return message_of<InputError>([&] {
    SafetensorsFile({reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()}, "m.st");
  });
}

std::string error_of(const std::string& header, size_t data_bytes) {
  return error_of(file_of(header, std::string(data_bytes, 'x')));
}

TEST(Safetensors, WritesAndReadsBack) {
  const TemporaryFolder folder;
  const std::string path = folder / "m.safetensors";
  const float weights[6] = {1, 2, 3, 4, 5, 6};
  const int64_t step = 42;
  const uint8_t mask[3] = {1, 0, 1};
  const auto bytes = [](const void* p) { return static_cast<const std::byte*>(p); };
  write_safetensors(path,
                    {{"mask", StDType::kBool, {3}, bytes(mask), 3},
                     {"empty", StDType::kF32, {0, 4}, nullptr, 0},
                     {"weights", StDType::kF32, {2, 3}, bytes(weights), 24},
                     {"step", StDType::kI64, {}, bytes(&step), 8}},
                    {{"format", "pt"}, {"note", "a\"b\n"}});
  const SafetensorsFile file(path);
  ASSERT_EQ(file.tensors().size(), 4u);
  EXPECT_EQ(file.metadata().at("note"), "a\"b\n");
  const StTensor& w = file.at("weights");
  EXPECT_EQ(w.dtype, StDType::kF32);
  EXPECT_EQ(w.shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(std::memcmp(w.data, weights, 24), 0);
  EXPECT_EQ(std::memcmp(file.at("step").data, &step, 8), 0);
  EXPECT_TRUE(file.at("step").shape.empty());
  EXPECT_EQ(std::memcmp(file.at("mask").data, mask, 3), 0);
  EXPECT_EQ(file.at("empty").bytes, 0);
  EXPECT_EQ(file.find("weight"), nullptr);
  EXPECT_THAT(message_of<InputError>([&] { file.at("weight"); }),
              HasSubstr("did you mean \"weights\""));
}

TEST(Safetensors, CopiesWhatIsUnaligned) {
  for (size_t shift = 0; shift < 8; ++shift) {
    const std::string header =
        R"({"a":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}})" + std::string(shift, ' ');
    const double value = 2.5;
    std::string data(8, '\0');
    std::memcpy(data.data(), &value, 8);
    const std::string bytes = file_of(header, data);
    const SafetensorsFile file({reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()},
                               "m");
    EXPECT_EQ(*reinterpret_cast<const double*>(file.at("a").data), 2.5);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(file.at("a").data) % 8, 0u);
  }
}

TEST(Safetensors, RefusesAHostileLength) {
  EXPECT_THAT(error_of(std::string()), HasSubstr("m.st: expected a safetensors file"));
  EXPECT_THAT(error_of(std::string(7, 'x')), HasSubstr("found 7 bytes"));
  EXPECT_THAT(error_of(std::string("\xff\xff\xff\xff\xff\xff\xff\xff{}", 10)),
              HasSubstr("18446744073709551615"));
  EXPECT_THAT(error_of(std::string("\x03\0\0\0\0\0\0\0{}", 10)), HasSubstr("at most 2 bytes"));
  EXPECT_THAT(error_of(std::string(8, '\0')), HasSubstr("expected '{'"));
  EXPECT_THAT(error_of(file_of(" {}", "")), HasSubstr("expected '{'"));
  // 100,000,001 bytes of header that are there: refused by the limit, before they are parsed.
  EXPECT_THAT(error_of(file_of("{" + std::string(100'000'000, ' '), "")),
              HasSubstr("at most 100000000"));
}

TEST(Safetensors, RefusesHostileOffsets) {
  const auto two = [](const std::string& a, const std::string& b, size_t data) {
    return error_of(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)" + a +
                        R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)" + b + "}}",
                    data);
  };
  EXPECT_EQ(two("[0,4]", "[4,8]", 8), "");
  EXPECT_EQ(two("[4,8]", "[0,4]", 8), "");
  EXPECT_THAT(two("[0,4]", "[0,4]", 4), HasSubstr("tensor \"b\": data_offsets [0, 4) overlap"));
  EXPECT_THAT(two("[0,4]", "[2,6]", 6), HasSubstr("overlap"));
  EXPECT_THAT(two("[0,4]", "[5,9]", 9), HasSubstr("leave a gap"));
  EXPECT_THAT(two("[1,5]", "[5,9]", 9), HasSubstr("leave a gap"));
  EXPECT_THAT(two("[0,4]", "[4,8]", 7), HasSubstr("outside the file's 7 data bytes"));
  EXPECT_THAT(two("[0,4]", "[4,8]", 9), HasSubstr("the tensors end at byte 8"));
  EXPECT_THAT(two("[4,0]", "[4,8]", 8), HasSubstr("outside"));
  EXPECT_THAT(two("[0,4]", "[4,18446744073709551615]", 8), HasSubstr("outside"));
  EXPECT_THAT(two("[0,4]", "[4]", 8), HasSubstr("two data_offsets"));
  EXPECT_THAT(two("[0,4]", "[4,8,9]", 8), HasSubstr("two data_offsets"));
  EXPECT_THAT(two("[0,4]", "[4,99999999999999999999999]", 8), HasSubstr("no integer"));
  EXPECT_THAT(error_of("{}", 1), HasSubstr("the tensors end at byte 0"));
}

TEST(Safetensors, RefusesHostileShapes) {
  const auto shape = [](const std::string& text, const std::string& dtype = "F32") {
    return error_of(
        R"({"a":{"dtype":")" + dtype + R"(","shape":)" + text + R"(,"data_offsets":[0,8]}})", 8);
  };
  EXPECT_EQ(shape("[2]"), "");
  EXPECT_EQ(shape("[2,1,1,1,1,1,1,1]"), "");
  EXPECT_THAT(shape("[3]"), HasSubstr("F32 of shape [3] needs 12 bytes, data_offsets give 8"));
  EXPECT_THAT(shape("[4294967296,4294967296,2]"), HasSubstr("more than 2^63"));
  EXPECT_THAT(shape("[9223372036854775808]"), HasSubstr("too large extent"));
  EXPECT_THAT(shape("[-2]"), HasSubstr("negative"));
  EXPECT_THAT(shape("[2.0]"), HasSubstr("no integer"));
  EXPECT_THAT(shape("[[2]]"), HasSubstr("unexpected array"));
  EXPECT_THAT(shape("[2,1,1,1,1,1,1,1,1]"), HasSubstr("8 dimensions"));
  EXPECT_THAT(shape("[2]", "F31"), HasSubstr("unsupported dtype \"F31\""));
}

TEST(Safetensors, RefusesOtherHeaders) {
  const std::string good = R"("dtype":"U8","shape":[],"data_offsets":[0,1])";
  EXPECT_EQ(error_of("{\"a\":{" + good + "}}", 1), "");
  EXPECT_THAT(error_of("{\"a\":{" + good + "},\"a\":{" + good + "}}", 1),
              HasSubstr("the name \"a\" twice"));
  EXPECT_THAT(error_of("{\"a\":{" + good + ",\"shape\":[]}}", 1), HasSubstr("twice"));
  EXPECT_THAT(error_of("{\"a\":{" + good + ",\"more\":1}}", 1),
              HasSubstr("unknown field \"more\""));
  EXPECT_THAT(error_of(R"({"a":{"dtype":"U8","shape":[]}})", 1), HasSubstr("without one of"));
  EXPECT_THAT(error_of("[]", 0), HasSubstr("expected '{'"));
  EXPECT_THAT(error_of(R"({"a":1})", 0), HasSubstr("unexpected number"));
  EXPECT_THAT(error_of(R"({"a":null})", 0), HasSubstr("null"));
  EXPECT_THAT(error_of(R"({"a":[]})", 0), HasSubstr("unexpected array"));
  EXPECT_THAT(error_of(R"({"__metadata__":{"a":1}})", 0), HasSubstr("unexpected number"));
  EXPECT_THAT(error_of(R"({"__metadata__":{"a":{}}})", 0), HasSubstr("unexpected object"));
  EXPECT_THAT(error_of(R"({"__metadata__":{"a":"1","a":"2"}})", 0), HasSubstr("twice"));
  EXPECT_THAT(error_of("{\"\xff\":{" + good + "}}", 1), HasSubstr("not valid JSON at byte 10"));
  EXPECT_THAT(error_of("{\"a\":{" + good + "}", 1), HasSubstr("not valid JSON"));
  EXPECT_THAT(error_of("{\"a\":{" + good + "}}}", 1), HasSubstr("not valid JSON"));
  std::string deep = "{\"a\":";
  for (int i = 0; i < 100'000; ++i) deep += "{\"a\":";
  EXPECT_NE(error_of(deep, 0), "");
}

TEST(Safetensors, WriterRefusesWrongSizesAndNames) {
  const TemporaryFolder folder;
  const std::byte data[8] = {};
  const auto write = [&](std::vector<StTensor> tensors) {
    return message_of<InputError>([&] { write_safetensors(folder / "m", std::move(tensors)); });
  };
  EXPECT_EQ(write({{"a", StDType::kF32, {2}, data, 8}}), "");
  EXPECT_THAT(write({{"a", StDType::kF32, {3}, data, 8}}), HasSubstr("cannot have 8 bytes"));
  EXPECT_THAT(write({{"a", StDType::kU8, {8}, data, 8}, {"a", StDType::kI8, {8}, data, 8}}),
              HasSubstr("used twice"));
  EXPECT_THAT(write({{"__metadata__", StDType::kU8, {8}, data, 8}}), HasSubstr("reserved"));
  EXPECT_THAT(write({{"\xff", StDType::kU8, {8}, data, 8}}), HasSubstr("UTF-8"));
}

}  // namespace
}  // namespace fovea::io
