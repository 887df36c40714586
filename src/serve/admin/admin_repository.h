#pragma once

namespace slipway {

class AdminPlane;
class Server;

/// The repository's part of Triton's API on the admin port: POST /v2/repository/index, POST
/// /v2/repository/models/NAME/load and /unload. A model's bytes come from the repository alone.
void serve_repository(AdminPlane& admin, Server& server);

}  // namespace slipway
