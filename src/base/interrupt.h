#pragma once

namespace slipway {

/// From now on SIGINT and SIGTERM only set a flag; a second one ends the process at once.
void catch_interrupts();
bool interrupted();
/// From now on SIGHUP only sets a flag, that hangup_came() takes down again.
void catch_hangups();
bool hangup_came();
/// Throws kInterrupted once a signal came: long loops call it, so that destructors clean up.
void throw_if_interrupted();

}  // namespace slipway
