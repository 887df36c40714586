#pragma once

namespace slipway {

/// From now on SIGINT and SIGTERM only set a flag; a second one ends the process at once.
void catch_interrupts();
bool interrupted();
/// Throws kInterrupted once a signal came: long loops call it, so that destructors clean up.
void throw_if_interrupted();

}  // namespace slipway
