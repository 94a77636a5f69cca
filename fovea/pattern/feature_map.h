#pragma once

#include <cstdint>

namespace fovea {

/// What linear attention does to each element of its queries and keys. Maps that mix elements
/// (random features, Taylor, learned) are applied before the call, with the identity here.
enum class FeatureMap : uint8_t {
  kIdentity,
  kEluPlusOne,  ///< x + 1 where x > 0, e^x elsewhere: Katharopoulos et al. 2020, eq. 7
  kRelu,        ///< max(x, 0)
};

/// Name as operators and configs write it: identity, elu+1, relu.
constexpr const char* name_of(FeatureMap map) {
  switch (map) {
    case FeatureMap::kIdentity:
      return "identity";
    case FeatureMap::kEluPlusOne:
      return "elu+1";
    case FeatureMap::kRelu:
      return "relu";
  }
  return "?";
}

constexpr FeatureMap kFeatureMaps[] = {FeatureMap::kIdentity, FeatureMap::kEluPlusOne,
                                       FeatureMap::kRelu};

}  // namespace fovea
