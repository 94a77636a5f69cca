#pragma once

#include <string>

#include "fovea/io/json.h"
#include "fovea/train/model_folder.h"

namespace fovea::cli {

// Each runs one command with its options as tools/cli/*_command.cpp sends them, writes results to
// stdout, throws Error, and returns the exit code.
int bench_model_command(const io::Json& options);
int train_command(const io::Json& options);
int eval_command(const io::Json& options);
int predict_command(const io::Json& options);
int generate_command(const io::Json& options);
int doctor_command(const io::Json& options);

/// The model's own settings for reading data, with the command's flags over them.
train::DataSection data_settings(const train::RunConfig& run, const io::Json& options);

/// Writes to stdout; throws Error(kFailed) when it cannot be written.
void write_result(const std::string& text);
void flush_results();

}  // namespace fovea::cli
