// The emulator as one translation unit, and the calls by which a test controls it.
//
//	c++ -std=c++17 -O2 -shared -fPIC -o libemulator.so emulator.cpp -ldl -lpthread

#include "emulator.h"

#include "fibers.cpp"
#include "workers.cpp"
#include "memory.cpp"
#include "streams.cpp"
#include "modules.cpp"
#include "compiler.cpp"
#include "hip.cpp"
#include "cuda.cpp"
#include "groups.cpp"

Settings settings = {1, 64, FORWARD, 0, (int64_t)8 << 30, 60400000, 1, 0, 22800, INT64_MAX, "c++", ".", "", "."};
Counts counts;
std::recursive_mutex all;
std::condition_variable_any &met = *new std::condition_variable_any;  // never destroyed: a rank may wait at the end of the process
thread_local int locks = 0;

static thread_local std::string message;
int fail(int code, const char *format, ...) {
  char text[1024];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  message = text;
  return code;
}
const std::string &last_message() { return message; }

// calls until the injected failure: 0 is none
static long long calls_left = 0, calls_made = 0;
int enter() {
  message.clear();
  calls_made++;
  if (calls_left == 0 || --calls_left > 0) return OK;
  return fail(INJECTED, "failure asked for");
}

// emulator_configure sets what the next devices are. Nothing may be in use.
API void emulator_configure(const Settings *s) {
  LOCK;
  static std::string compiler, include, arch, meetings;
  compiler = s->compiler;
  include = s->include;
  arch = s->arch;
  meetings = s->meetings;
  settings = *s;
  settings.compiler = compiler.c_str();
  settings.include = include.c_str();
  settings.arch = arch.c_str();
  settings.meetings = meetings.c_str();
  for (int i = 0; i < settings.devices; i++) reset(i);
  calls_left = 0;
}
API void emulator_counts(Counts *c) {
  LOCK;
  *c = counts;
}
// emulator_fail makes the n-th call from here fail; 0 none. It returns the calls
// made since the last emulator_fail.
API long long emulator_fail(long long n) {
  LOCK;
  long long made = calls_made;
  calls_left = n;
  calls_made = 0;
  return made;
}
