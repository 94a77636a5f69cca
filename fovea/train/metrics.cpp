#include "fovea/train/metrics.h"

#include <cmath>
#include <numeric>

namespace fovea::train {
namespace {

double ratio(double a, double b) { return b == 0 ? 0 : a / b; }

}  // namespace

int64_t ConfusionMatrix::total() const {
  return std::accumulate(counts_.begin(), counts_.end(), int64_t{0});
}

int64_t ConfusionMatrix::true_count(int64_t c) const {
  int64_t sum = 0;
  for (int64_t p = 0; p < classes_; ++p) sum += at(c, p);
  return sum;
}

int64_t ConfusionMatrix::predicted_count(int64_t c) const {
  int64_t sum = 0;
  for (int64_t t = 0; t < classes_; ++t) sum += at(t, c);
  return sum;
}

double ConfusionMatrix::accuracy() const {
  int64_t hits = 0;
  for (int64_t c = 0; c < classes_; ++c) hits += at(c, c);
  return ratio(static_cast<double>(hits), static_cast<double>(total()));
}

double ConfusionMatrix::precision(int64_t c) const {
  return ratio(static_cast<double>(at(c, c)), static_cast<double>(predicted_count(c)));
}

double ConfusionMatrix::recall(int64_t c) const {
  return ratio(static_cast<double>(at(c, c)), static_cast<double>(true_count(c)));
}

double ConfusionMatrix::f1(int64_t c) const {
  return ratio(2.0 * static_cast<double>(at(c, c)),
               static_cast<double>(true_count(c) + predicted_count(c)));
}

double ConfusionMatrix::macro_f1() const {
  double sum = 0;
  int64_t present = 0;
  for (int64_t c = 0; c < classes_; ++c) {
    if (true_count(c) + predicted_count(c) == 0) continue;
    sum += f1(c);
    ++present;
  }
  return ratio(sum, static_cast<double>(present));
}

double ConfusionMatrix::micro_f1() const {
  int64_t hits = 0, truths = 0, predictions = 0;
  for (int64_t c = 0; c < classes_; ++c) {
    hits += at(c, c);
    truths += true_count(c);
    predictions += predicted_count(c);
  }
  return ratio(2.0 * static_cast<double>(hits), static_cast<double>(truths + predictions));
}

double ConfusionMatrix::mcc() const {
  const double n = static_cast<double>(total());
  double hits = 0, cross = 0, true_squares = 0, predicted_squares = 0;
  for (int64_t c = 0; c < classes_; ++c) {
    const double t = static_cast<double>(true_count(c));
    const double p = static_cast<double>(predicted_count(c));
    hits += static_cast<double>(at(c, c));
    cross += t * p;
    true_squares += t * t;
    predicted_squares += p * p;
  }
  return ratio(hits * n - cross,
               std::sqrt(n * n - predicted_squares) * std::sqrt(n * n - true_squares));
}

}  // namespace fovea::train
