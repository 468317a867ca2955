// The run-time compiler: the host's C++ compiler, run on a file.

#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

struct Program {
  std::string source, name, log, code;
  std::vector<std::pair<std::string, std::string>> headers;
};

static std::string contents(const std::string &path) {
  std::string s;
  FILE *f = fopen(path.c_str(), "rb");
  if (!f) return s;
  char part[65536];
  for (size_t n; (n = fread(part, 1, sizeof part, f)) > 0;) s.append(part, n);
  fclose(f);
  return s;
}
static bool put(const std::string &path, const std::string &s) {
  FILE *f = fopen(path.c_str(), "wb");
  if (!f) return false;
  bool ok = fwrite(s.data(), 1, s.size(), f) == s.size();
  return !fclose(f) && ok;
}

// execute runs a command with its output in a file and returns its status.
static int execute(const std::vector<std::string> &command, const std::string &output) {
  std::vector<char *> argv;
  for (auto &s : command) argv.push_back((char *)s.c_str());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, 1, output.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  posix_spawn_file_actions_adddup2(&files, 1, 2);
  pid_t pid;
  int error = posix_spawnp(&pid, argv[0], &files, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  if (error) return -1;
  int status;
  while (waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool in_word(char c) { return isalnum((unsigned char)c) || c == '_'; }

// without_comments returns the source with neither comments nor preprocessor lines.
static std::string without_comments(const std::string &source) {
  std::string s;
  bool line_begins = true;
  for (size_t i = 0; i < source.size();) {
    if (!source.compare(i, 2, "//") || (line_begins && source[i] == '#')) {
      i = std::min(source.find('\n', i), source.size());
    } else if (!source.compare(i, 2, "/*")) {
      size_t end = source.find("*/", i + 2);
      i = end == std::string::npos ? source.size() : end + 2;
    } else {
      if (source[i] == '\n') line_begins = true;
      else if (!isspace((unsigned char)source[i])) line_begins = false;
      s += source[i++];
    }
  }
  return s;
}

// kernels returns the names of the functions that a source declares with `marker`,
// __global__ or the prelude's KERNEL: the first word that is followed by ( and is no
// attribute.
static void kernels(const std::string &s, const std::string &marker, std::vector<std::string> *names) {
  for (size_t at = s.find(marker); at != std::string::npos; at = s.find(marker, at + 1)) {
    if ((at > 0 && in_word(s[at - 1])) || in_word(s[at + marker.size()])) continue;
    std::string word, last;
    int depth = 0;
    for (size_t p = at + marker.size(); p < s.size() && s[p] != '{' && s[p] != ';'; p++) {
      if (depth == 0 && in_word(s[p])) {
        word += s[p];
        continue;
      }
      if (!word.empty()) last = word;
      word.clear();
      if (s[p] == '(' && depth++ == 0 && !last.empty() && last != "__launch_bounds__" && last != "void") {
        names->push_back(last);
        break;
      }
      if (s[p] == ')') depth--;
    }
  }
}

// vectors reports whether kernels are compiled for the host's vector instructions. Sums and
// products are IEEE's with and without; a fused one is an instruction in place of a call.
static bool vectors() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return false;
#endif
}

// The version tells kernels of a host that has them from those of one that has not, where
// both keep what is compiled in one folder.
API int hiprtcVersion(int *major, int *minor) {
  *major = 9;
  *minor = vectors();
  return OK;
}
API const char *hiprtcGetErrorString(int code) { return code == COMPILATION ? "HIPRTC_ERROR_COMPILATION" : code == OK ? "HIPRTC_SUCCESS" : "HIPRTC_ERROR"; }
API int hiprtcCreateProgram(Program **p, const char *source, const char *name, int n, const char **headers, const char **names) {
  ENTER;
  *p = new Program{source, name, "", "", {}};
  for (int i = 0; i < n; i++) (*p)->headers.push_back({names[i], headers[i]});
  counts.programs++;
  return OK;
}
API int hiprtcDestroyProgram(Program **p) {
  LOCK;
  delete *p;
  *p = nullptr;
  counts.programs--;
  return OK;
}

// macros_of_architecture returns what clang defines for --offload-arch=gfx1100: the GPU,
// its family and AMD.
static std::vector<std::string> macros_of_architecture(std::string option) {
  const std::string prefix = "--offload-arch=gfx";
  if (option.compare(0, prefix.size(), prefix)) return {};
  std::string arch = option.substr(prefix.size());
  arch = arch.substr(0, arch.find(':'));
  if (arch.size() < 3 || !isdigit((unsigned char)arch[0])) return {};
  return {"__gfx" + arch + "__", "__GFX" + arch.substr(0, arch.size() - 2) + "__", "__AMDGCN__"};
}

static int compile(Program *p, const std::string &dir, int n, const char **options) {
  std::string source =
      "#include \"device.h\"\n"
      "#include \"instructions.h\"\n"
      "extern \"C\" {\n"
      "__attribute__((visibility(\"default\"))) const emulator_calls *emulator_bound;\n"
      "__attribute__((visibility(\"default\"))) extern const int emulator_wave = DH_WAVE;\n"
      "static thread_local char emulator_anchored;\n"
      "__attribute__((visibility(\"default\"))) void *emulator_anchor() { return &emulator_anchored; }\n"
      "}\n"
      "#line 1 \"" + p->name + "\"\n" + p->source + "\n";
  std::vector<std::string> names;
  std::string text = without_comments(p->source);
  kernels(text, "__global__", &names);
  kernels(text, "KERNEL", &names);
  for (auto &name : names) source += "EMULATOR_KERNEL(" + name + ")\n";
  for (auto &[name, text] : p->headers)
    if (!put(dir + "/" + name, text)) return fail(INVALID_VALUE, "%s/%s: %s", dir.c_str(), name.c_str(), strerror(errno));
  if (!put(dir + "/kernel.cpp", source)) return fail(INVALID_VALUE, "%s: %s", dir.c_str(), strerror(errno));
  // Stack clash protection touches every page of a frame: a large one must not step over
  // the guard page into the stack of another thread.
  std::vector<std::string> command = {settings.compiler, "-std=c++17", "-O2", "-ftree-vectorize", "-fPIC", "-shared", "-x", "c++",
      "-fno-exceptions", "-fno-rtti", "-fno-stack-protector", "-fstack-clash-protection", "-fvisibility=hidden", "-ffp-contract=off",
      "-ftls-model=global-dynamic", "-Wno-unknown-pragmas", "-Wno-attributes", "-I" + dir, std::string("-I") + settings.include};
  for (int i = 0; i < n; i++) {
    if (!strncmp(options[i], "-D", 2)) command.push_back(options[i]);
    for (auto &macro : macros_of_architecture(options[i])) command.push_back("-D" + macro);
  }
  if (vectors()) command.insert(command.end(), {"-mavx2", "-mfma"});
  std::string library = dir + "/kernel.so", log = dir + "/log";
  command.insert(command.end(), {"-o", library, dir + "/kernel.cpp"});
  int status = execute(command, log);
  p->log = contents(log);
  if (status) p->log += std::string("\n") + settings.compiler + " returned " + std::to_string(status) + "\n";
  else p->code = contents(library);
  return p->code.empty() ? COMPILATION : OK;
}

// Programs compile side by side: only the state of the runtime needs the lock.
API int hiprtcCompileProgram(Program *p, int n, const char **options) {
  {
    ENTER;
  }
  const char *tmp = getenv("TMPDIR");
  std::string dir = std::string(tmp && *tmp ? tmp : "/tmp") + "/emulator-XXXXXX";
  if (!mkdtemp(&dir[0])) return fail(INVALID_VALUE, "%s: %s", dir.c_str(), strerror(errno));
  int code = compile(p, dir, n, options);
  for (auto &h : p->headers) unlink((dir + "/" + h.first).c_str());
  for (const char *name : {"/kernel.cpp", "/kernel.so", "/log"}) unlink((dir + name).c_str());
  rmdir(dir.c_str());
  return code;
}
API int hiprtcGetProgramLogSize(Program *p, size_t *n) {
  *n = p->log.size() + 1;
  return OK;
}
API int hiprtcGetProgramLog(Program *p, char *log) {
  memcpy(log, p->log.c_str(), p->log.size() + 1);
  return OK;
}
API int hiprtcGetCodeSize(Program *p, size_t *n) {
  ENTER;
  *n = p->code.size();
  return OK;
}
API int hiprtcGetCode(Program *p, char *code) {
  memcpy(code, p->code.data(), p->code.size());
  return OK;
}
