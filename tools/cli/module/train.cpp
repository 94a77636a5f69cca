#include "tools/cli/module/module_commands.h"

#include "fovea/train/run.h"

namespace fovea::cli {

int train_command(const io::Json& options) {
  train::TrainRequest request;
  request.config = train::run_config_from_json(options.at("config"), "settings");
  request.out = options.value("out", "");
  request.resume = options.value("resume", false);
  request.resume_anyway = options.value("resume_anyway", false);
  request.overwrite = options.value("overwrite", false);
  return train::run_training(request);
}

}  // namespace fovea::cli
