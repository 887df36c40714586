#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace slipway {

struct TerminalOptions {
  int columns = 80, rows = 0;  ///< rows 0: as many as it takes
  bool color = false;
};

/// The dashboard as text: figures, sparklines, versions, rollouts, alarms. `status` and `series` as Monitor gives them,
/// perhaps by another version of the program: what is missing is left out. Control characters of names become '?'.
std::string terminal_view(const nlohmann::json& status, const nlohmann::json& series, const std::string& url,
                          const TerminalOptions& options);

/// The last values as block characters, the highest full, NaN and null a blank.
std::string sparkline(const std::vector<double>& values, size_t width);

}  // namespace slipway
