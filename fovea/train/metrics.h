#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace fovea::train {

/// Counts of (true class, predicted class) and what follows from them. Definitions agree with
/// scikit-learn 1.x; where a ratio is 0/0 it is 0.
class ConfusionMatrix {
 public:
  explicit ConfusionMatrix(int64_t classes)
      : classes_(classes), counts_(static_cast<size_t>(classes * classes)) {}

  void add(int64_t truth, int64_t prediction) { ++counts_[index(truth, prediction)]; }

  int64_t classes() const { return classes_; }
  int64_t at(int64_t truth, int64_t prediction) const { return counts_[index(truth, prediction)]; }
  int64_t total() const;
  int64_t true_count(int64_t c) const;       ///< examples of class c
  int64_t predicted_count(int64_t c) const;  ///< predictions of class c

  double accuracy() const;
  double precision(int64_t c) const;
  double recall(int64_t c) const;
  double f1(int64_t c) const;
  /// Mean F1 of the classes that occur, as truth or as prediction.
  double macro_f1() const;
  /// F1 of the pooled counts; equals accuracy when each example has one label.
  double micro_f1() const;
  /// Matthews correlation for any number of classes: Gorodkin, "Comparing two K-category
  /// assignments by a K-category correlation coefficient" (2004), R_K. 0 when undefined.
  double mcc() const;

 private:
  size_t index(int64_t truth, int64_t prediction) const {
    return static_cast<size_t>(truth * classes_ + prediction);
  }
  int64_t classes_;
  std::vector<int64_t> counts_;
};

}  // namespace fovea::train
