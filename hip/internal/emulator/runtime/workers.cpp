// Worker threads: they run the blocks of one launch at a time, and survive what a
// kernel does to them.

#include <pthread.h>
#include <signal.h>

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
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigfillset(&action.sa_mask);
    sigdelset(&action.sa_mask, SIGSEGV);
    sigdelset(&action.sa_mask, SIGBUS);
    sigaction(SIGSEGV, &action, &handlers[0]);
    sigaction(SIGBUS, &action, &handlers[1]);
  }

  // grow makes the threads that are missing. They stay: the next launch may want them.
  void grow(int n) {
    sigset_t masked, old;
    sigfillset(&masked);
    for (int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) sigdelset(&masked, fault);
    pthread_sigmask(SIG_SETMASK, &masked, &old);
    for (int i = (int)threads.size(); i < n; i++) threads.emplace_back([this, i, now = generation] { loop(i, now); });
    pthread_sigmask(SIG_SETMASK, &old, nullptr);
  }

  void loop(int number, unsigned seen) {
    Worker w;
    register_worker(&w);
    for (;;) {
      Launch *l;
      {
        std::unique_lock<std::mutex> locked(mu);
        work.wait(locked, [&] { return generation != seen; });
        seen = generation;
        l = launch;
      }
      w.launch = l;
      w.wave = (unsigned)settings.wave;
      w.order = (Order)settings.order;
      unsigned long long total = (unsigned long long)l->grid.x * l->grid.y * l->grid.z, b;
      while (number < workers() && !l->bad && (b = l->next++) < total) w.block(w.order == REVERSE ? total - 1 - b : b);
      std::lock_guard<std::mutex> locked(mu);
      if (--busy == 0) done.notify_all();
    }
  }

  void run(Launch *l) {
    std::lock_guard<std::mutex> alone(one);
    std::unique_lock<std::mutex> locked(mu);
    grow(workers());
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
