// What is left of the HIP names: devices, memory and errors.

static const char *name_of(int code) {
  switch (code) {
    case OK: return "hipSuccess";
    case INVALID_VALUE: return "hipErrorInvalidValue";
    case OUT_OF_MEMORY: return "hipErrorOutOfMemory";
    case INVALID_CONFIGURATION: return "hipErrorInvalidConfiguration";
    case NO_DEVICE: return "hipErrorNoDevice";
    case INVALID_DEVICE: return "hipErrorInvalidDevice";
    case INVALID_IMAGE: return "hipErrorInvalidImage";
    case INVALID_CONTEXT: return "hipErrorInvalidContext";
    case WRONG_ARCHITECTURE: return "hipErrorNoBinaryForGpu";
    case INVALID_HANDLE: return "hipErrorInvalidHandle";
    case NOT_FOUND: return "hipErrorNotFound";
    case NOT_READY: return "hipErrorNotReady";
    case LAUNCH_FAILURE: return "hipErrorLaunchFailure";
    case NOT_SUPPORTED: return "hipErrorNotSupported";
    case CAPTURE_UNSUPPORTED: return "hipErrorStreamCaptureUnsupported";
  }
  return "hipErrorUnknown";
}
API const char *hipGetErrorString(int code) {
  static thread_local std::string text;
  text = name_of(code);
  if (code && !last_message().empty()) text += ": " + last_message();
  return text.c_str();
}

static bool exists(int d) { return d >= 0 && d < settings.devices; }

API int hipInit(unsigned) {
  ENTER;
  return settings.devices > 0 ? OK : fail(NO_DEVICE, "no devices");
}
API int hipGetDeviceCount(int *n) {
  ENTER;
  *n = (int)settings.devices;
  return *n > 0 ? OK : NO_DEVICE;
}
API int hipSetDevice(int d) {
  ENTER;
  if (!exists(d)) return fail(INVALID_DEVICE, "device %d of %d", d, (int)settings.devices);
  current = d;
  return OK;
}
API int hipGetDevice(int *d) {
  ENTER;
  *d = current;
  return OK;
}
API int hipRuntimeGetVersion(int *version) {
  ENTER;
  *version = (int)settings.version;
  return OK;
}
API int hipDeviceGet(int *handle, int d) {
  ENTER;
  if (!exists(d)) return fail(INVALID_DEVICE, "device %d of %d", d, (int)settings.devices);
  *handle = d;
  return OK;
}
API int hipDeviceGetName(char *name, int n, int) {
  ENTER;
  snprintf(name, n, "emulated GPU (waves of %d)", (int)settings.wave);
  return OK;
}
API int hipDeviceTotalMem(size_t *n, int) {
  ENTER;
  *n = settings.memory;
  return OK;
}
API int hipDeviceGetAttribute(int *value, int attribute, int) {
  ENTER;
  switch (attribute) {  // as numbered since ROCm 5
    case 87: *value = (int)settings.wave; return OK;
    case 63: *value = workers(); return OK;
  }
  return fail(INVALID_VALUE, "attribute %d", attribute);
}

// The two layouts of hipDeviceProp_t differ in size and in where the name of the
// architecture lies.
static int properties(char *p, int d, size_t size, size_t architecture) {
  if (!exists(d)) return fail(INVALID_DEVICE, "device %d of %d", d, (int)settings.devices);
  memset(p, 0, size);
  snprintf(p, 256, "emulated GPU (waves of %d)", (int)settings.wave);
  if (*settings.arch) snprintf(p + architecture, 256, "%s", settings.arch);
  else snprintf(p + architecture, 256, "gfxemulated%d", (int)settings.wave);
  return OK;
}
API int hipGetDevicePropertiesR0600(char *p, int d) {
  ENTER;
  return properties(p, d, 1472, 1160);
}
API int hipGetDeviceProperties(char *p, int d) {
  ENTER;
  return properties(p, d, 792, 396);
}

API int hipMalloc(void **p, size_t n) {
  ENTER;
  return allocate(p, n, DEVICE);
}
API int hipFree(void *p) {
  LOCK;
  drain(current);
  return release(p, DEVICE);
}
API int hipMallocAsync(void **p, size_t n, Stream *) {
  ENTER;
  return settings.pools ? allocate(p, n, DEVICE) : fail(NOT_SUPPORTED, "no memory pools");
}
API int hipFreeAsync(void *p, Stream *s) {
  LOCK;
  return post(s, [p] { return release(p, DEVICE); });
}
API int hipHostMalloc(void **p, size_t n, unsigned) {
  ENTER;
  if (counts.pinned >= settings.pinned) return fail(OUT_OF_MEMORY, "%zu bytes to pin", n);
  return allocate(p, n, PINNED);
}
API int hipHostGetDevicePointer(void **p, void *host, unsigned) {
  ENTER;
  if (!inside(host, 1, PINNED)) return fail(INVALID_VALUE, "%p is not memory of the host", host);
  *p = host;
  return OK;
}
API int hipHostFree(void *p) {
  LOCK;
  drain(current);
  return release(p, PINNED);
}

static int copy(void *to, const void *from, size_t n, bool to_device, bool from_device) {
  if (to_device && !inside(to, n, DEVICE)) return fail(INVALID_VALUE, "copy of %zu bytes to %s", n, near((uintptr_t)to).c_str());
  if (from_device && !inside(from, n, DEVICE)) return fail(INVALID_VALUE, "copy of %zu bytes from %s", n, near((uintptr_t)from).c_str());
  memmove(to, from, n);
  return OK;
}
// Pinned memory is read when the stream comes to it, other memory at the call.
API int hipMemcpyHtoDAsync(void *to, const void *from, size_t n, Stream *s) {
  ENTER;
  if (inside(from, n, PINNED)) return post(s, [=] { return copy(to, from, n, true, false); });
  auto kept = std::make_shared<std::vector<char>>((const char *)from, (const char *)from + n);
  return post(s, [=] { return copy(to, kept->data(), n, true, false); });
}
API int hipMemcpyDtoHAsync(void *to, const void *from, size_t n, Stream *s) {
  ENTER;
  return post(s, [=] { return copy(to, from, n, false, true); });
}
API int hipMemcpyDtoDAsync(void *to, const void *from, size_t n, Stream *s) {
  ENTER;
  return post(s, [=] { return copy(to, from, n, true, true); });
}
API int hipMemsetD8Async(void *to, unsigned char value, size_t n, Stream *s) {
  ENTER;
  return post(s, [=] {
    if (!inside(to, n, DEVICE)) return fail(INVALID_VALUE, "memset of %zu bytes at %s", n, near((uintptr_t)to).c_str());
    memset(to, value, n);
    return (int)OK;
  });
}
