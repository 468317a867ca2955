// The device side of the emulator: what stands in front of every kernel that it
// compiles. A device thread is a fiber whose stack has EMULATOR_STACK bytes, at a
// multiple of that, with its emulator_thread in one of 32 slots of the upper half:
//
//	stack base                                      base + EMULATOR_STACK
//	| guard page | …         stack grows down … | emulator_thread | unused |
//
// so that a thread finds itself with one mask. Slots of neighbors lie apart by half a
// page and a little: at the same offset all would share a set of the cache and one of the
// TLB. What a thread touches most is in one page.

#ifndef EMULATOR_DEVICE_H
#define EMULATOR_DEVICE_H

#include <stddef.h>
#include <stdint.h>

#define DH_EMULATED 1
#define EMULATOR_STACK (128 * 1024)
#define EMULATOR_SLOT(base) ((base) + EMULATOR_STACK - ((base) / EMULATOR_STACK % 32 + 1) * (2048 + 128))

struct emulator_index {
  unsigned x, y, z;
};

struct emulator_thread {
  void *worker;
  unsigned lane, wave;  // of the thread in its wave, of the wave in its block
  unsigned number;      // of the thread in its block
  unsigned parity;      // of its wave operations
  emulator_index thread, block, block_size, grid_size;
};

// The calls that a kernel makes into the emulator. A fault does not return.
struct emulator_calls {
  void (*barrier)(emulator_thread *, int line);
  const unsigned long long *(*gather)(emulator_thread *, unsigned long long value, int line);
  void (*together)(emulator_thread *, void *own, void (*all)(void *const *lanes), int line);
  void (*fault)(emulator_thread *, const char *what, int line);
};

extern "C" const emulator_calls *emulator_bound;  // set when the module is loaded

static inline __attribute__((always_inline)) emulator_thread *emulator_self() {
  uintptr_t base = (uintptr_t)__builtin_frame_address(0) & ~(uintptr_t)(EMULATOR_STACK - 1);
  return (emulator_thread *)EMULATOR_SLOT(base);
}

#define threadIdx (emulator_self()->thread)
#define blockIdx (emulator_self()->block)
#define blockDim (emulator_self()->block_size)
#define gridDim (emulator_self()->grid_size)
#define __global__ __attribute__((visibility("default"), noinline))
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __launch_bounds__(...)
// A worker thread runs one block at a time, so its threads share its thread-locals.
#define __shared__ static thread_local
#define __syncthreads() emulator_bound->barrier(emulator_self(), __LINE__)

static inline unsigned emulator_lane() { return emulator_self()->lane; }

// emulator_gather posts a value and returns those of all lanes of the wave. They
// stay until the lane's next operation but one.
static inline const unsigned long long *emulator_gather(unsigned long long value, int line) {
  return emulator_bound->gather(emulator_self(), value, line);
}

// emulator_together does what a wave does as one: every lane says where its own values
// lie, and when all have, one calls all(lanes), which may read and write those of every
// lane. Lanes that a wave of fewer threads lacks have NaN.
static inline void emulator_together(void *own, void (*all)(void *const *lanes), int line) {
  emulator_bound->together(emulator_self(), own, all, line);
}

// EMULATOR_KERNEL makes a kernel of one argument callable by name.
template <class A> static inline void emulator_run(void (*kernel)(A), const void *args) { kernel(*(const A *)args); }
template <class A> static inline unsigned emulator_size(void (*)(A)) { return sizeof(A); }
#define EMULATOR_KERNEL(name)                                                                     \
  extern "C" __attribute__((visibility("default"))) void emulator_run_##name(const void *args) {  \
    emulator_run(name, args);                                                                     \
  }                                                                                               \
  extern "C" __attribute__((visibility("default"))) unsigned emulator_size_##name() {             \
    return emulator_size(name);                                                                   \
  }

#endif
