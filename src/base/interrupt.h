#pragma once

namespace slipway {

/// sigaction() with a stack for the handler, the process's only one: to be called in the main thread.
void catch_signal(int signal, void (*handler)(int), int flags = 0);
/// From now on SIGINT and SIGTERM only set a flag; a second one ends the process at once. Called in the main thread.
void catch_interrupts();
bool interrupted();
/// From now on SIGHUP only sets a flag, that hangup_came() takes down again. Called in the main thread.
void catch_hangups();
bool hangup_came();
/// Throws kInterrupted once a signal came: long loops call it, so that destructors clean up.
void throw_if_interrupted();

}  // namespace slipway
