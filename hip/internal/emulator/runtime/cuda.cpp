// The same runtime under the names of the CUDA driver and NVRTC. What needs a
// current context refuses to work without one, as the driver does.

static thread_local bool has_context = false;
static thread_local std::vector<uintptr_t> pushed;  // what was current before each push
#define CONTEXT \
  if (!has_context) return fail(INVALID_CONTEXT, "no current context on this thread")

API int cuInit(unsigned flags) { return hipInit(flags); }
API int cuDriverGetVersion(int *version) {
  ENTER;
  *version = settings.version >= 50200000 ? 12080 : 10020;
  return OK;
}
API int cuDeviceGetCount(int *n) { return hipGetDeviceCount(n); }
API int cuDeviceGet(int *handle, int d) { return hipDeviceGet(handle, d); }
API int cuDeviceGetName(char *name, int n, int d) { return hipDeviceGetName(name, n, d); }
API int cuDeviceTotalMem_v2(size_t *n, int d) { return hipDeviceTotalMem(n, d); }
enum { UNASKED_SHARED = 48 << 10, MOST_SHARED = 227 << 10 };  // bytes of a block
API int cuDeviceGetAttribute(int *value, int attribute, int) {
  ENTER;
  switch (attribute) {
    case 10: *value = (int)settings.wave; return OK;
    case 16: *value = workers(); return OK;
    case 75: *value = 9; return OK;  // compute capability
    case 76: *value = 0; return OK;
    case 97: *value = MOST_SHARED; return OK;
  }
  return fail(INVALID_VALUE, "attribute %d", attribute);
}

// The handle of a device's primary context is its number and one.
API int cuDevicePrimaryCtxRetain(uintptr_t *context, int d) {
  ENTER;
  *context = (uintptr_t)d + 1;
  device(d).contexts++;
  counts.contexts++;
  return OK;
}
API int cuDevicePrimaryCtxRelease_v2(int d) {
  LOCK;
  counts.contexts--;
  if (--device(d).contexts > 0) return OK;
  if (device(d).failed) forget(d);  // a failed context takes all it holds with it
  reset(d);
  return OK;
}
static uintptr_t current_context() { return has_context ? (uintptr_t)current + 1 : 0; }
static void set_context(uintptr_t context) {
  has_context = context != 0;
  if (context) current = (int)context - 1;
}
API int cuCtxPushCurrent_v2(uintptr_t context) {
  ENTER;
  pushed.push_back(current_context());
  set_context(context);
  return OK;
}
API int cuCtxPopCurrent_v2(uintptr_t *context) {
  LOCK;
  if (pushed.empty()) return fail(INVALID_CONTEXT, "nothing was pushed");
  *context = current_context();
  set_context(pushed.back());
  pushed.pop_back();
  return OK;
}
// emulator_select makes a device, or its primary context, the thread's own, as an
// engine on it would, -1 what a thread begins with; emulator_selected tells which one is.
API void emulator_select(int d) {
  LOCK;
  current = 0;
  set_context((uintptr_t)(d + 1));
}
API int emulator_selected() {
  LOCK;
  return has_context ? current : -1;
}

API int cuMemAlloc_v2(void **p, size_t n) { CONTEXT; return hipMalloc(p, n); }
API int cuMemFree_v2(void *p) { CONTEXT; return hipFree(p); }
API int cuMemAllocAsync(void **p, size_t n, Stream *s) { CONTEXT; return hipMallocAsync(p, n, s); }
API int cuMemFreeAsync(void *p, Stream *s) { CONTEXT; return hipFreeAsync(p, s); }
API int cuMemHostAlloc(void **p, size_t n, unsigned flags) { CONTEXT; return hipHostMalloc(p, n, flags); }
API int cuMemHostGetDevicePointer_v2(void **p, void *host, unsigned flags) { CONTEXT; return hipHostGetDevicePointer(p, host, flags); }
API int cuMemFreeHost(void *p) { CONTEXT; return hipHostFree(p); }
API int cuMemcpyHtoDAsync_v2(void *to, const void *from, size_t n, Stream *s) { CONTEXT; return hipMemcpyHtoDAsync(to, from, n, s); }
API int cuMemcpyDtoHAsync_v2(void *to, const void *from, size_t n, Stream *s) { CONTEXT; return hipMemcpyDtoHAsync(to, from, n, s); }
API int cuMemcpyDtoDAsync_v2(void *to, const void *from, size_t n, Stream *s) { CONTEXT; return hipMemcpyDtoDAsync(to, from, n, s); }
API int cuMemsetD8Async(void *to, unsigned char value, size_t n, Stream *s) { CONTEXT; return hipMemsetD8Async(to, value, n, s); }

API int cuStreamCreate(Stream **s, unsigned flags) { CONTEXT; return hipStreamCreateWithFlags(s, flags); }
API int cuStreamDestroy_v2(Stream *s) { CONTEXT; return hipStreamDestroy(s); }
API int cuStreamSynchronize(Stream *s) { CONTEXT; return hipStreamSynchronize(s); }
API int cuEventCreate(Event **e, unsigned flags) { CONTEXT; return hipEventCreateWithFlags(e, flags); }
API int cuEventDestroy_v2(Event *e) { CONTEXT; return hipEventDestroy(e); }
API int cuEventRecord(Event *e, Stream *s) { CONTEXT; return hipEventRecord(e, s); }
API int cuEventSynchronize(Event *e) { CONTEXT; return hipEventSynchronize(e); }
API int cuEventElapsedTime(float *ms, Event *a, Event *b) { CONTEXT; return hipEventElapsedTime(ms, a, b); }
API int cuStreamBeginCapture_v2(Stream *s, int mode) { CONTEXT; return hipStreamBeginCapture(s, mode); }
API int cuStreamEndCapture(Stream *s, Graph **g) { CONTEXT; return hipStreamEndCapture(s, g); }
API int cuGraphInstantiateWithFlags(Graph **e, Graph *g, unsigned long long) { CONTEXT; return hipGraphInstantiate(e, g, nullptr, nullptr, 0); }
API int cuGraphLaunch(Graph *g, Stream *s) { CONTEXT; return hipGraphLaunch(g, s); }
API int cuGraphDestroy(Graph *g) { return hipGraphDestroy(g); }
API int cuGraphExecDestroy(Graph *g) { return hipGraphExecDestroy(g); }

API int cuModuleLoadData(Module **m, const void *image) { CONTEXT; return hipModuleLoadData(m, image); }
API int cuModuleUnload(Module *m) { CONTEXT; return hipModuleUnload(m); }
// Kernels of the emulator declare what a launch adds to shared memory, so that a launch only has
// to say that it adds as much as the function may have.
API int cuFuncSetAttribute(Function *f, int attribute, int value) {
  CONTEXT;
  if (attribute != 8 || value < 0 || value > MOST_SHARED) return fail(INVALID_VALUE, "attribute of %s", f->name.c_str());
  f->most_shared = (unsigned)value;
  return OK;
}
static bool may_share(const Function *f, unsigned shared) { return shared <= UNASKED_SHARED || shared <= f->most_shared; }
API int cuModuleGetFunction(Function **f, Module *m, const char *name) { CONTEXT; return hipModuleGetFunction(f, m, name); }
API int cuLaunchKernel(Function *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                       Stream *s, void **params, void **extra) {
  CONTEXT;
  if (!may_share(f, shared)) return fail(INVALID_VALUE, "%s: shared memory", f->name.c_str());
  return hipModuleLaunchKernel(f, gx, gy, gz, bx, by, bz, 0, s, params, extra);
}
// A launch that may start early starts in its turn: what it waits for has then ended.
struct LaunchAttribute {
  unsigned id, pad, value[16];
};
struct LaunchConfig {
  unsigned grid[3], block[3], shared;
  Stream *stream;
  const LaunchAttribute *attributes;
  unsigned count;
};
API int cuLaunchKernelEx(const LaunchConfig *c, Function *f, void **params, void **extra) {
  CONTEXT;
  if (c->count != 1 || c->attributes->id != 6 || c->attributes->value[0] != 1) return fail(INVALID_VALUE, "attributes of a launch");
  if (!may_share(f, c->shared)) return fail(INVALID_VALUE, "%s: shared memory", f->name.c_str());
  return hipModuleLaunchKernel(f, c->grid[0], c->grid[1], c->grid[2], c->block[0], c->block[1], c->block[2], 0, c->stream, params, extra);
}
API int cuGetErrorString(int code, const char **text) {
  *text = hipGetErrorString(code);
  return OK;
}

API int nvrtcVersion(int *major, int *minor) {
  *major = 12;
  *minor = 8 + vectors();
  return OK;
}
API const char *nvrtcGetErrorString(int code) { return hiprtcGetErrorString(code); }
API int nvrtcGetNumSupportedArchs(int *n) {
  *n = 3;
  return OK;
}
API int nvrtcGetSupportedArchs(int *archs) {
  archs[0] = 80, archs[1] = 90, archs[2] = 100;
  return OK;
}
API int nvrtcCreateProgram(Program **p, const char *source, const char *name, int n, const char **headers, const char **names) {
  return hiprtcCreateProgram(p, source, name, n, headers, names);
}
API int nvrtcDestroyProgram(Program **p) { return hiprtcDestroyProgram(p); }
API int nvrtcCompileProgram(Program *p, int n, const char **options) { return hiprtcCompileProgram(p, n, options); }
API int nvrtcGetProgramLogSize(Program *p, size_t *n) { return hiprtcGetProgramLogSize(p, n); }
API int nvrtcGetProgramLog(Program *p, char *log) { return hiprtcGetProgramLog(p, log); }
API int nvrtcGetCUBINSize(Program *p, size_t *n) { return hiprtcGetCodeSize(p, n); }
API int nvrtcGetCUBIN(Program *p, char *code) { return hiprtcGetCode(p, code); }
API int nvrtcGetPTXSize(Program *p, size_t *n) { return hiprtcGetCodeSize(p, n); }
API int nvrtcGetPTX(Program *p, char *code) { return hiprtcGetCode(p, code); }
