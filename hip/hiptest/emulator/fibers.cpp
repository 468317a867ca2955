// Fibers, waves and blocks: a worker thread runs a block by switching between the
// fibers of its threads, each until it waits at a barrier or a wave operation.

#include <pthread.h>
#include <signal.h>
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
  int line;
  unsigned long long values[2][64];  // of the last two operations
};

struct Worker {
  char *stacks = nullptr;
  unsigned capacity = 0;
  std::vector<Fiber> fibers;
  std::vector<Wave> waves;
  std::vector<unsigned> queue;  // a ring of runnable fibers
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
    return (emulator_thread *)(base + base / EMULATOR_STACK % 32 * 128);
  }
  void push(unsigned i) {
    fibers[i].state = RUNNABLE;
    queue[tail] = i;
    tail = (tail + 1) % queue.size();
  }
  int pop() {
    if (head == tail) return -1;
    unsigned i = queue[head];
    head = (head + 1) % queue.size();
    return (int)i;
  }
  void reserve(unsigned threads);
  void start(unsigned first, unsigned end, State from);
  void leave(unsigned me);
  void stop(const char *reason);
  void block(unsigned long long number);
  void report(emulator_index b);
};
static_assert(sizeof(emulator_thread) <= 128, "a slot of a stack");

// A worker thread handles its faults on a stack that tells it from all others. (A
// thread-local would have to be of the kind that a process has little room for: a
// signal handler must not allocate.)
static const size_t fault_stack = 64 * 1024;
static struct {
  uintptr_t begin;
  Worker *worker;
} fault_stacks[256];
static std::atomic<unsigned> fault_stack_count{0};

static void register_worker(Worker *w) {
  unsigned i = fault_stack_count++;
  if (i >= 256) abort();
  stack_t stack;
  memset(&stack, 0, sizeof stack);
  stack.ss_size = fault_stack;
  stack.ss_sp = malloc(stack.ss_size);
  fault_stacks[i] = {(uintptr_t)stack.ss_sp, w};
  sigaltstack(&stack, nullptr);
}

static Worker *faulting() {
  uintptr_t here = (uintptr_t)__builtin_frame_address(0);
  for (auto &f : fault_stacks)
    if (f.worker && here >= f.begin && here < f.begin + fault_stack) return f.worker;
  return nullptr;
}

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
  for (unsigned i = 0; i < threads; i++) mprotect(stacks + (size_t)i * EMULATOR_STACK + 4096, 4096, PROT_NONE);
}

// start makes the fibers of a range that wait runnable, in the order asked for.
void Worker::start(unsigned first, unsigned end, State from) {
  unsigned k = end - first, begin = 0, step = 1;
  if (order == RANDOM) {
    random = random * 1664525u + 1013904223u;
    begin = (random >> 8) % k;
    step = (random >> 3) % k | 1;
    unsigned a = step, b = k;
    while (b) std::swap(a %= b, b);
    if (a != 1) step = 1;  // must have no factor in common with k
  }
  for (unsigned i = 0; i < k; i++) {
    unsigned at = (begin + (unsigned long long)i * step) % k;
    unsigned j = order == REVERSE ? end - 1 - at : first + at;
    if (fibers[j].state == from) push(j);
  }
}

// leave runs the next fiber, or the scheduler, in place of `me`.
void Worker::leave(unsigned me) {
  int next = pop();
  if (next == (int)me) return;
  running = next;
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
    w->start(0, w->n, AT_BARRIER);
  }
  w->leave(t->number);
}

static const unsigned long long *gather(emulator_thread *t, unsigned long long value, int line) {
  Worker *w = (Worker *)t->worker;
  Wave &wave = w->waves[t->wave];
  unsigned long long *values = wave.values[t->parity++ % 2];
  unsigned first = t->wave * w->wave, lanes = std::min(w->wave, w->n - first);
  values[t->lane] = value;
  if (wave.arrived == 0) wave.line = line;
  else if (wave.line != line) w->stop("lanes of one wave are at different wave operations");
  w->fibers[t->number].state = AT_WAVE;
  if (++wave.arrived == wave.live) {
    if (wave.live != lanes) w->stop("some lanes of the wave returned before a wave operation");
    for (unsigned i = lanes; i < w->wave; i++) values[i] = 0x7fc0dead7fc0deadull;  // lanes that are not there
    wave.arrived = 0;
    w->start(first, first + lanes, AT_WAVE);
  }
  w->leave(t->number);
  return values;
}

const emulator_calls device_calls = {barrier, gather};

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
  queue.resize(n + 1);
  waves.assign((n + wave - 1) / wave, Wave());
  size_t bytes;
  if (void *shared = launch->shared(&bytes)) memset(shared, 0xff, bytes);  // NaN until written
  for (unsigned i = 0; i < n; i++) {
    *thread(i) = {{i % b.x, i / b.x % b.y, i / b.x / b.y}, at, b, g, i % wave, i / wave, i, 0, this};
    // Tops of stacks at the same offset would share a set of the cache.
    fibers[i] = {fresh(stacks + (size_t)(i + 1) * EMULATOR_STACK - i * 5 % 64 * 64, fiber), AT_BARRIER};
    waves[i / wave].live++;
  }
  start(0, n, AT_BARRIER);
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

// A kernel's bad access ends its launch. Every other fault goes to the handler that
// was there before: Go's.
static struct sigaction handlers[2];
static void on_fault(int signal, siginfo_t *info, void *context) {
  Worker *w = faulting();
  if (!w || w->running < 0) {
    struct sigaction *other = &handlers[signal == SIGBUS];
    if (other->sa_flags & SA_SIGINFO) return other->sa_sigaction(signal, info, context);
    if (other->sa_handler != SIG_DFL && other->sa_handler != SIG_IGN) return other->sa_handler(signal);
    ::signal(signal, SIG_DFL);
    return;
  }
  uintptr_t address = (uintptr_t)info->si_addr, stacks = (uintptr_t)w->stacks;
  bool stack = address + 4 * EMULATOR_STACK >= stacks && address < stacks + (size_t)w->capacity * EMULATOR_STACK;
  snprintf(w->why, sizeof w->why, "illegal address in thread %u: %s", w->thread(w->running)->thread.x,
           stack ? "the thread's stack overflows" : near(address).c_str());
  w->stop(w->why);
}

int workers() { return settings.workers > 0 ? (int)settings.workers : std::max(1, (int)std::thread::hardware_concurrency()); }

// Pool is the worker threads. They block all signals but faults, so that no handler
// of Go's runs on a fiber.
struct Pool {
  std::mutex mu, one;  // one launch at a time
  std::condition_variable work, done;
  Launch *launch = nullptr;
  unsigned generation = 0, busy = 0;
  std::vector<std::thread> threads;

  Pool() {
    sigset_t masked, old;
    sigfillset(&masked);
    for (int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) sigdelset(&masked, fault);
    pthread_sigmask(SIG_SETMASK, &masked, &old);
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigfillset(&action.sa_mask);
    sigdelset(&action.sa_mask, SIGSEGV);
    sigdelset(&action.sa_mask, SIGBUS);
    sigaction(SIGSEGV, &action, &handlers[0]);
    sigaction(SIGBUS, &action, &handlers[1]);
    for (int i = 0; i < workers(); i++) threads.emplace_back([this] { loop(); });
    pthread_sigmask(SIG_SETMASK, &old, nullptr);
  }

  void loop() {
    Worker w;
    register_worker(&w);
    w.wave = (unsigned)settings.wave;
    w.order = (Order)settings.order;
    for (unsigned seen = 0;;) {
      Launch *l;
      {
        std::unique_lock<std::mutex> locked(mu);
        work.wait(locked, [&] { return generation != seen; });
        seen = generation;
        l = launch;
      }
      w.launch = l;
      unsigned long long total = (unsigned long long)l->grid.x * l->grid.y * l->grid.z, b;
      while (!l->bad && (b = l->next++) < total) w.block(w.order == REVERSE ? total - 1 - b : b);
      std::lock_guard<std::mutex> locked(mu);
      if (--busy == 0) done.notify_all();
    }
  }

  void run(Launch *l) {
    std::lock_guard<std::mutex> alone(one);
    std::unique_lock<std::mutex> locked(mu);
    launch = l;
    busy = (unsigned)threads.size();
    generation++;
    work.notify_all();
    done.wait(locked, [&] { return busy == 0; });
  }
};

// Never destroyed: its threads live as long as the process.
static Pool &pool() {
  static Pool *p = new Pool;
  return *p;
}

void run(Launch *l) { pool().run(l); }
