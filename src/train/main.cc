// slipway-torch: what needs libtorch, in a program of its own. A job comes as JSON on standard input; epochs and the
// result go out as JSON lines on standard output, progress for people on standard error.
#include <cstdio>

int main() { return 0; }
