// Modules, functions and launches. A code object is a shared library of the host.

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <unistd.h>

struct Function {
  void (*run)(const void *);
  unsigned bytes;  // of the argument
  std::string name;
  struct Module *module;
  unsigned most_shared;  // bytes that a launch may add; CUDA
};
struct Module {
  void *library;
  void *(*anchor)();  // an address in the calling thread's shared memory
  std::vector<Function *> functions;
};

static size_t elf_bytes(const void *image) {
  auto *h = (const Elf64_Ehdr *)image;
  if (memcmp(h->e_ident, ELFMAG, SELFMAG) || h->e_type != ET_DYN) return 0;
  return h->e_shoff + (size_t)h->e_shnum * h->e_shentsize;
}

// temporary makes an empty file that ends with its descriptor.
static std::string temporary(int *fd) {
  const char *dir = getenv("TMPDIR");
  std::string path = std::string(dir && *dir ? dir : "/tmp") + "/emulator-XXXXXX";
  *fd = mkstemp(&path[0]);
  return path;
}

API int hipModuleLoadData(Module **m, const void *image) {
  ENTER;
  size_t n = elf_bytes(image);
  if (!n) return fail(INVALID_IMAGE, "not a shared library");
  int fd;
  std::string path = temporary(&fd);
  if (fd < 0) return fail(INVALID_VALUE, "%s: %s", path.c_str(), strerror(errno));
  bool written = write(fd, image, n) == (ssize_t)n;
  close(fd);
  void *library = written ? dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL) : nullptr;
  std::string why = library ? "" : written ? dlerror() : "not written";
  unlink(path.c_str());
  if (!library) return fail(INVALID_IMAGE, "%s", why.c_str());
  auto **bound = (const emulator_calls **)dlsym(library, "emulator_bound");
  auto *wave = (const int *)dlsym(library, "emulator_wave");
  auto anchor = (void *(*)())dlsym(library, "emulator_anchor");
  if (!bound || !wave || !anchor || *wave != settings.wave) {
    dlclose(library);
    return fail(WRONG_ARCHITECTURE, "not built for waves of %d", (int)settings.wave);
  }
  *bound = &device_calls;
  *m = new Module{library, anchor, {}};
  counts.modules++;
  return OK;
}

API int hipModuleUnload(Module *m) {
  LOCK;
  for (int i = 0; i < settings.devices; i++) drain(i);
  for (Function *f : m->functions) delete f;
  dlclose(m->library);
  delete m;
  counts.modules--;
  return OK;
}

API int hipModuleGetFunction(Function **f, Module *m, const char *name) {
  ENTER;
  std::string run = std::string("emulator_run_") + name, size = std::string("emulator_size_") + name;
  auto *r = (void (*)(const void *))dlsym(m->library, run.c_str());
  auto *s = (unsigned (*)())dlsym(m->library, size.c_str());
  if (!r || !s) return fail(NOT_FOUND, "no kernel %s", name);
  *f = new Function{r, s(), name, m, 0};
  m->functions.push_back(*f);
  return OK;
}

// shared_memory returns the calling thread's block of thread-locals of the library
// that holds `anchor`, which is one of them.
static void *shared_memory(void *anchor, size_t *bytes) {
  struct Search {
    char *anchor, *base;
    size_t bytes;
  } search = {(char *)anchor, nullptr, 0};
  dl_iterate_phdr(
      [](dl_phdr_info *info, size_t, void *data) {
        auto *s = (Search *)data;
        for (int i = 0; i < info->dlpi_phnum; i++) {
          auto *base = (char *)info->dlpi_tls_data;
          size_t n = info->dlpi_phdr[i].p_memsz;
          if (info->dlpi_phdr[i].p_type != PT_TLS || !base || s->anchor < base || s->anchor >= base + n) continue;
          s->base = base;
          s->bytes = n;
          return 1;
        }
        return 0;
      },
      &search);
  *bytes = search.bytes;
  return search.base;
}

// The function that is being run, and the number of its launch: one at a time, under
// the lock of `all`.
static Function *running;
static unsigned long long launches;

// shared_of_worker is shared_memory, looked up once by each worker of a launch.
static void *shared_of_worker(size_t *bytes) {
  static thread_local unsigned long long found;
  static thread_local void *base;
  static thread_local size_t n;
  if (found != launches) {
    base = shared_memory(running->module->anchor(), &n);
    found = launches;
  }
  *bytes = n;
  return base;
}

static int launch(Function *f, emulator_index grid, emulator_index block, const std::vector<char> &args) {
  running = f;
  launches++;
  Launch l;
  l.kernel = f->run;
  l.args = args.data();
  l.shared = shared_of_worker;
  l.grid = grid;
  l.block = block;
  run(&l);
  if (l.bad) return fail(LAUNCH_FAILURE, "%s: %s", f->name.c_str(), l.message.c_str());
  std::string beside = overrun();
  return beside.empty() ? OK : fail(LAUNCH_FAILURE, "%s: %s", f->name.c_str(), beside.c_str());
}

API int hipModuleLaunchKernel(Function *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                              unsigned shared, Stream *s, void **params, void **extra) {
  ENTER;
  if (!f) return fail(INVALID_HANDLE, "no function");
  unsigned long long threads = (unsigned long long)bx * by * bz;
  if (!threads || threads > 1024 || !gx || !gy || !gz || gx * threads >> 32 || shared || extra)
    return fail(INVALID_CONFIGURATION, "%s: %u blocks of %llu threads", f->name.c_str(), gx, threads);
  // The arguments are copied at the call.
  std::vector<char> args((char *)params[0], (char *)params[0] + f->bytes);
  emulator_index grid = {gx, gy, gz}, block = {bx, by, bz};
  return post(s, [=] { return launch(f, grid, block, args); });
}
