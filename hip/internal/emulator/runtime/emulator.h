// What the parts of the emulator share. Device memory is host memory; a kernel is
// compiled for the host and run by worker threads, each with a block at a time and
// a fiber for every thread of it. Streams hold their work back until somebody
// waits, as late as a GPU may run it, or run it at once.
//
// The library's state is that of one process-wide runtime. Whoever wants another
// one loads a second copy of the file.

#ifndef EMULATOR_H
#define EMULATOR_H

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "device.h"

#define API extern "C" __attribute__((visibility("default")))

// Error codes are the same in HIP and CUDA.
enum {
  OK = 0,
  INVALID_VALUE = 1,
  OUT_OF_MEMORY = 2,
  INVALID_CONFIGURATION = 9,
  NO_DEVICE = 100,
  INVALID_DEVICE = 101,
  INVALID_IMAGE = 200,
  INVALID_CONTEXT = 201,
  WRONG_ARCHITECTURE = 209,
  INVALID_HANDLE = 400,
  NOT_FOUND = 500,
  NOT_READY = 600,
  LAUNCH_FAILURE = 719,
  NOT_SUPPORTED = 801,
  CAPTURE_UNSUPPORTED = 900,
  INJECTED = 304,
  COMPILATION = 6,  // of the run-time compiler
};

enum Order { FORWARD, REVERSE, RANDOM };

// Settings and Counts have the layout of their Go twins.
struct Settings {
  int64_t devices, wave, order, workers;
  int64_t memory;   // bytes of each device
  int64_t version;  // what hipRuntimeGetVersion says
  int64_t pools;    // 0: no stream-ordered allocation
  int64_t eager;    // 1: work runs when it is queued
  int64_t groups;   // what ncclGetVersion says
  int64_t pinned;   // pieces of pinned memory at a time
  const char *compiler, *include;
  const char *arch;      // of an AMD GPU; empty: none's
  const char *meetings;  // folder of groups' files
};
struct Counts {
  int64_t allocations, pinned, streams, events, modules, graphs, programs, contexts, communicators;
};

extern Settings settings;
extern Counts counts;
extern std::recursive_mutex all;  // guards everything but the run of a kernel
extern thread_local int locks;  // that the thread holds
struct Locked {
  Locked() { all.lock(), locks++; }
  ~Locked() { locks--, all.unlock(); }
};
#define LOCK Locked locked

// meet waits until ready says so, while other threads use the emulator. Who makes it ready
// notifies met, or is another process.
extern std::condition_variable_any &met;
template <class Ready> void meet(Ready ready) {
  met.notify_all();
  const int held = locks;  // the wait gives back one
  for (int i = 1; i < held; i++) all.unlock();
  while (!ready()) met.wait_for(all, std::chrono::microseconds(200));
  for (int i = 1; i < held; i++) all.lock();
  met.notify_all();
}

// fail sets what hipGetErrorString adds to the code, for the calling thread.
int fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
const std::string &last_message();

// enter counts a call and returns an error if the caller asked for this one to fail.
int enter();
#define ENTER                    \
  LOCK;                          \
  if (int code = enter()) return code

// memory.cpp
enum Kind { DEVICE, PINNED };
struct Allocation {
  size_t size;
  int device;
  Kind kind;
};
int allocate(void **p, size_t n, Kind kind);
int release(void *p, Kind kind);
bool inside(const void *p, size_t n, Kind kind);
std::string near(uintptr_t address);  // says where a bad address lies
std::string overrun();                // what was written beside an allocation, if anything was

// streams.cpp
typedef std::function<int()> Work;
struct Graph {
  std::vector<Work> work;
};
struct Stream {
  std::deque<Work> queue;
  unsigned long long posted = 0, ran = 0;
  Graph *capture = nullptr;
  int device = 0;
  bool running = false;  // a piece of its work, in some thread
};
struct Device {
  int failed = OK;  // first error of queued work
  std::string message;
  int contexts = 0;  // references to the primary context: CUDA only
  Stream null;
};
extern thread_local int current;
Device &device(int n);
int post(Stream *s, Work work);
int drain(int n);        // runs all that is queued on device n
void reset(int n);       // forgets a device's error

// fibers.cpp, workers.cpp
struct Launch {
  void (*kernel)(const void *);
  const void *args;
  void *(*shared)(size_t *);  // the calling worker's shared memory of the module
  emulator_index grid, block;
  std::atomic<unsigned long long> next{0};
  std::atomic<bool> bad{false};
  std::mutex mu;
  std::string message;
};
void run(Launch *l);
int workers();
extern const emulator_calls device_calls;

#endif
