// Fibers, waves and blocks: a worker thread runs a block by switching between the
// fibers of its threads, each until it waits at a barrier or a wave operation.

#include <sys/mman.h>

// emulator_switch saves the callee's registers on the stack, stores the stack
// pointer in *save and goes on at another stack.
extern "C" void emulator_switch(void **save, void *to);
#if defined(__x86_64__)
asm(".text\n.globl emulator_switch\n.hidden emulator_switch\n.type emulator_switch,@function\n"
    "emulator_switch:\n"
    "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
    "movq %rsp,(%rdi)\nmovq %rsi,%rsp\n"
    "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n"
    ".size emulator_switch,.-emulator_switch\n");
static void *fresh(char *top, void (*entry)()) {
  void **sp = (void **)((uintptr_t)top & ~(uintptr_t)15);
  *--sp = nullptr;  // entry finds the stack as after a call
  *--sp = (void *)entry;
  for (int i = 0; i < 6; i++) *--sp = nullptr;
  return sp;
}
#elif defined(__aarch64__)
asm(".text\n.globl emulator_switch\n.hidden emulator_switch\n.type emulator_switch,%function\n"
    "emulator_switch:\n"
    "sub sp,sp,#160\nstp x19,x20,[sp]\nstp x21,x22,[sp,#16]\nstp x23,x24,[sp,#32]\nstp x25,x26,[sp,#48]\n"
    "stp x27,x28,[sp,#64]\nstp x29,x30,[sp,#80]\nstp d8,d9,[sp,#96]\nstp d10,d11,[sp,#112]\n"
    "stp d12,d13,[sp,#128]\nstp d14,d15,[sp,#144]\n"
    "mov x9,sp\nstr x9,[x0]\nmov sp,x1\n"
    "ldp x19,x20,[sp]\nldp x21,x22,[sp,#16]\nldp x23,x24,[sp,#32]\nldp x25,x26,[sp,#48]\n"
    "ldp x27,x28,[sp,#64]\nldp x29,x30,[sp,#80]\nldp d8,d9,[sp,#96]\nldp d10,d11,[sp,#112]\n"
    "ldp d12,d13,[sp,#128]\nldp d14,d15,[sp,#144]\n"
    "add sp,sp,#160\nret\n");
static void *fresh(char *top, void (*entry)()) {
  char *sp = (char *)((uintptr_t)top & ~(uintptr_t)15) - 160;
  memset(sp, 0, 160);
  *(void **)(sp + 88) = (void *)entry;
  return sp;
}
#else
#error "the emulator has no emulator_switch for this processor"
#endif

enum State : unsigned char { RUNNABLE, AT_BARRIER, AT_WAVE, DONE };

struct Fiber {
  void *sp;
  State state;
};
struct Wave {
  unsigned live, arrived;
  int line;                          // of the operation
  const void *what;                  // which of those that share the line
  unsigned long long values[2][64];  // of the last two operations
};

struct Worker {
  static constexpr unsigned ring = 1024;  // of the queue: as many as a block can have
  char *stacks = nullptr;
  unsigned capacity = 0;
  std::vector<Fiber> fibers;
  std::vector<Wave> waves;
  unsigned queue[ring];  // of runnable fibers, which wrap around
  unsigned head = 0, tail = 0;

  unsigned n = 0, live = 0, waiting = 0;  // threads of the block, not done, at the barrier
  int line = 0;                           // of the barrier
  int running = -1;                       // -1: the scheduler
  void *scheduler = nullptr;
  Launch *launch = nullptr;
  const char *trouble = nullptr;
  char why[240];
  unsigned wave = 64, random = 1;
  Order order = FORWARD;

  emulator_thread *thread(unsigned i) {
    uintptr_t base = (uintptr_t)stacks + (size_t)i * EMULATOR_STACK;
    return (emulator_thread *)EMULATOR_SLOT(base);
  }
  int pop() { return head == tail ? -1 : (int)queue[head++ & (ring - 1)]; }
  void reserve(unsigned threads);
  void start(unsigned first, unsigned end);
  void leave(unsigned me);
  void stop(const char *reason);
  void block(unsigned long long number);
  void report(emulator_index b);
};
static_assert(sizeof(emulator_thread) <= 128, "a slot of a stack");

void Worker::reserve(unsigned threads) {
  if (threads <= capacity) return;
  if (stacks) munmap(stacks, (size_t)capacity * EMULATOR_STACK);
  size_t bytes = (size_t)threads * EMULATOR_STACK;
  char *m = (char *)mmap(nullptr, bytes + EMULATOR_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (m == MAP_FAILED) abort();
  stacks = (char *)(((uintptr_t)m + EMULATOR_STACK - 1) & ~(uintptr_t)(EMULATOR_STACK - 1));
  if (stacks != m) munmap(m, stacks - m);
  munmap(stacks + bytes, m + EMULATOR_STACK - stacks);
  capacity = threads;
  for (unsigned i = 0; i < threads; i++) mprotect(stacks + (size_t)i * EMULATOR_STACK, 4096, PROT_NONE);
}

// start makes the fibers of a range, which all wait, runnable in the order asked for,
// before all others: a wave runs until it waits for other waves. That shows more of a
// barrier that is missing than waves in step would, and the stacks of one wave fit the
// cache. In random order waves change now and then.
void Worker::start(unsigned first, unsigned end) {
  const unsigned k = end - first, mask = ring - 1;
  unsigned to = head -= k;
  if (order == RANDOM && (random = random * 1664525u + 1013904223u) >> 29 == 0) {
    head += k;
    to = tail;
    tail += k;
  }
  for (unsigned i = first; i < end; i++) fibers[i].state = RUNNABLE;
  if (order == FORWARD) {
    for (unsigned i = first; i < end; i++) queue[to++ & mask] = i;
    return;
  }
  if (order == REVERSE) {
    for (unsigned i = end; i-- > first;) queue[to++ & mask] = i;
    return;
  }
  random = random * 1664525u + 1013904223u;
  unsigned at = (random >> 8) % k, step = (random >> 3) % k | 1;
  unsigned a = step, b = k;
  while (b) std::swap(a %= b, b);
  if (a != 1) step = 1;  // must have no factor in common with k
  for (unsigned i = 0; i < k; i++) {
    queue[to++ & mask] = first + at;
    if ((at += step) >= k) at -= k;
  }
}

// leave runs the next fiber, or the scheduler, in place of `me`.
void Worker::leave(unsigned me) {
  int next = pop();
  if (next == (int)me) return;
  running = next;
  if (head != tail) {  // by the time the one after it runs, its stack has come to the cache
    const char *next = (const char *)fibers[queue[head & (ring - 1)]].sp;
    for (int line = 0; line < 3; line++) __builtin_prefetch(next + 64 * line);
  }
  emulator_switch(&fibers[me].sp, next >= 0 ? fibers[next].sp : scheduler);
}

void Worker::stop(const char *reason) {
  if (!trouble) trouble = reason;
  void *abandoned;
  emulator_switch(&abandoned, scheduler);
}

static void barrier(emulator_thread *t, int line) {
  Worker *w = (Worker *)t->worker;
  if (w->waiting == 0) w->line = line;
  else if (w->line != line) w->stop("threads of one block wait at different __syncthreads");
  w->fibers[t->number].state = AT_BARRIER;
  if (++w->waiting == w->live) {
    if (w->live != w->n) w->stop("some threads of the block returned before __syncthreads");
    w->waiting = 0;
    w->start(0, w->n);
  }
  w->leave(t->number);
}

// meet posts a value of a lane. The last of the wave calls arrived on those of all.
template <class Arrived>
static inline const unsigned long long *meet(emulator_thread *t, unsigned long long value, int line, const void *what, Arrived arrived) {
  Worker *w = (Worker *)t->worker;
  Wave &wave = w->waves[t->wave];
  unsigned long long *values = wave.values[t->parity++ % 2];
  values[t->lane] = value;
  if (wave.arrived == 0) wave.line = line, wave.what = what;
  else if (wave.line != line || wave.what != what) w->stop("lanes of one wave are at different wave operations");
  w->fibers[t->number].state = AT_WAVE;
  if (++wave.arrived == wave.live) {
    unsigned first = t->wave * w->wave, lanes = std::min(w->wave, w->n - first);
    if (wave.live != lanes) w->stop("some lanes of the wave returned before a wave operation");
    arrived(values, lanes, w->wave);
    wave.arrived = 0;
    w->start(first, first + lanes);
  }
  w->leave(t->number);
  return values;
}

static const unsigned long long *gather(emulator_thread *t, unsigned long long value, int line) {
  return meet(t, value, line, nullptr, [](unsigned long long *values, unsigned lanes, unsigned wave) {
    for (unsigned i = lanes; i < wave; i++) values[i] = 0x7fc0dead7fc0deadull;  // lanes that are not there
  });
}

static void together(emulator_thread *t, void *own, void (*all)(void *const *), int line) {
  meet(t, (uintptr_t)own, line, (const void *)all, [all](unsigned long long *values, unsigned lanes, unsigned wave) {
    static thread_local double missing[512];
    if (lanes < wave) memset(missing, 0xff, sizeof missing);  // NaN
    for (unsigned i = lanes; i < wave; i++) values[i] = (uintptr_t)missing;
    all((void *const *)values);
  });
}

static void fault(emulator_thread *t, const char *what, int line) {
  Worker *w = (Worker *)t->worker;
  snprintf(w->why, sizeof w->why, "%s (line %d)", what, line);
  w->stop(w->why);
}

const emulator_calls device_calls = {barrier, gather, together, fault};

static void fiber() {
  emulator_thread *t = emulator_self();
  Worker *w = (Worker *)t->worker;
  w->launch->kernel(w->launch->args);
  Wave &wave = w->waves[t->wave];
  w->fibers[t->number].state = DONE;
  w->live--;
  wave.live--;
  if (w->live && w->waiting == w->live) w->stop("some threads of the block returned before __syncthreads");
  if (wave.live && wave.arrived == wave.live) w->stop("some lanes of the wave returned before a wave operation");
  w->leave(t->number);
  __builtin_trap();  // nobody switches back to a fiber that is done
}

void Worker::block(unsigned long long number) {
  emulator_index g = launch->grid, b = launch->block;
  emulator_index at = {(unsigned)(number % g.x), (unsigned)(number / g.x % g.y), (unsigned)(number / g.x / g.y)};
  n = live = b.x * b.y * b.z;
  waiting = head = tail = 0;
  trouble = nullptr;
  reserve(n);
  fibers.resize(n);
  waves.assign((n + wave - 1) / wave, Wave());
  size_t bytes;
  if (void *shared = launch->shared(&bytes)) memset(shared, 0xff, bytes);  // NaN until written
  for (unsigned i = 0; i < n; i++) {
    *thread(i) = {this, i % wave, i / wave, i, 0, {i % b.x, i / b.x % b.y, i / b.x / b.y}, at, b, g};
    fibers[i] = {fresh((char *)thread(i), fiber), AT_BARRIER};
    waves[i / wave].live++;
  }
  start(0, n);
  running = pop();
  emulator_switch(&scheduler, fibers[running].sp);
  running = -1;
  if (!trouble && live) trouble = "deadlock: no thread of the block can run";
  if (trouble) report(at);
}

void Worker::report(emulator_index b) {
  if (launch->bad.exchange(true)) return;
  std::lock_guard<std::mutex> locked(launch->mu);
  unsigned states[4] = {};
  int wave_line = 0;
  for (unsigned i = 0; i < n; i++) {
    states[fibers[i].state]++;
    if (fibers[i].state == AT_WAVE) wave_line = waves[i / wave].line;
  }
  char text[480];
  snprintf(text, sizeof text, "block %u: %s [%u at __syncthreads (line %d), %u at a wave operation (line %d), %u runnable, %u done]",
           b.x, trouble, states[AT_BARRIER], line, states[AT_WAVE], wave_line, states[RUNNABLE], states[DONE]);
  launch->message = text;
}
