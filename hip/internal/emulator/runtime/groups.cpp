// Groups: the functions of RCCL and NCCL between the emulator's devices. An operation is
// work of a stream like any other. A rank that comes to it before the others waits, and
// lets other threads use the emulator meanwhile; ranks with different operations wait until
// they are aborted, as GPUs would.

struct UniqueId {
  char bytes[128];
};

enum { GROUP_OK = 0, GROUP_INVALID = 4, GROUP_IN_PROGRESS = 7 };

struct Round {
  std::string what;
  std::vector<std::vector<char>> parts;
  int came = 0, read = 0;
};

struct Meeting {
  int size = 0, joined = 0;
  std::map<long long, Round> rounds;
};

struct Communicator {
  std::shared_ptr<Meeting> meeting;
  int rank = 0;
  long long next = 0;
  bool aborted = false;
};

static std::map<std::string, std::shared_ptr<Meeting>> meetings;  // of ids that not all have joined
static std::map<Communicator *, std::shared_ptr<Communicator>> communicators;
static long long ids = 0;

API int ncclGetVersion(int *version) {
  ENTER;
  *version = (int)settings.groups;
  return GROUP_OK;
}
API const char *ncclGetErrorString(int code) {
  switch (code) {
    case GROUP_OK: return "no error";
    case GROUP_INVALID: return "invalid argument";
    case INJECTED: return "failure asked for";
  }
  return "unhandled error";
}
API const char *ncclGetLastError(void *) { return last_message().c_str(); }

API int ncclGetUniqueId(UniqueId *id) {
  ENTER;
  memset(id, 0, sizeof *id);
  snprintf(id->bytes, sizeof id->bytes, "group %lld", ++ids);
  return GROUP_OK;
}

API int ncclCommInitRank(Communicator **c, int size, UniqueId id, int rank) {
  ENTER;
  if (size < 1 || rank < 0 || rank >= size) return fail(GROUP_INVALID, "rank %d of %d", rank, size);
  auto &m = meetings[id.bytes];
  if (!m) m = std::make_shared<Meeting>();
  auto own = std::make_shared<Communicator>();
  own->meeting = m;
  own->rank = rank;
  m->size = size;
  m->joined++;
  meet([own] { return own->meeting->joined >= own->meeting->size; });
  meetings.erase(id.bytes);
  communicators[own.get()] = own;
  counts.communicators++;
  *c = own.get();
  return GROUP_OK;
}

// together posts an operation: every rank gives n bytes at `from`, and use gets those of all.
static int together(Communicator *c, Stream *s, const std::string &what, const void *from, size_t n,
                    std::function<int(const std::vector<std::vector<char>> &)> use) {
  auto found = communicators.find(c);
  if (found == communicators.end()) return fail(GROUP_INVALID, "no such communicator");
  auto own = found->second;
  return post(s, [=] {
    if (!inside(from, n, DEVICE)) return fail(INVALID_VALUE, "%s: %s", what.c_str(), near((uintptr_t)from).c_str());
    if (own->aborted) return (int)OK;
    auto m = own->meeting;
    long long number = own->next++;
    Round &r = m->rounds[number];
    if (r.what.empty()) r.what = what, r.parts.resize(m->size);
    if (r.what == what) r.parts[own->rank].assign((const char *)from, (const char *)from + n), r.came++;
    meet([=] { return own->aborted || m->rounds[number].came == m->size; });
    if (own->aborted) return (int)OK;
    int code = use(m->rounds[number].parts);
    if (++m->rounds[number].read == m->size) m->rounds.erase(number);
    return code;
  });
}

static int write_to(void *to, const void *from, size_t n) {
  if (!inside(to, n, DEVICE)) return fail(INVALID_VALUE, "result of %zu bytes at %s", n, near((uintptr_t)to).c_str());
  memcpy(to, from, n);
  return OK;
}

static float widened(uint16_t v) {
  uint32_t bits = (uint32_t)v << 16;
  float f;
  memcpy(&f, &bits, 4);
  return f;
}
static uint16_t narrowed(float f) {
  uint32_t bits;
  memcpy(&bits, &f, 4);
  return f != f ? bits >> 16 | 0x40 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

API int ncclAllReduce(const void *from, void *to, size_t n, int type, int operation, Communicator *c, Stream *s) {
  ENTER;
  const bool bfloat16 = type == 9;
  if ((type != 7 && !bfloat16) || operation != 0) return fail(GROUP_INVALID, "type %d, operation %d", type, operation);
  return together(c, s, "all-reduce of " + std::to_string(n) + (bfloat16 ? " bfloat16" : " float32"), from, n * (bfloat16 ? 2 : 4), [=](auto &parts) {
    std::vector<char> sums(parts[0].size());
    for (size_t i = 0; i < n; i++) {
      float sum = 0;
      for (auto &p : parts) sum += bfloat16 ? widened(((const uint16_t *)p.data())[i]) : ((const float *)p.data())[i];
      if (bfloat16) ((uint16_t *)sums.data())[i] = narrowed(sum);
      else ((float *)sums.data())[i] = sum;
    }
    return write_to(to, sums.data(), sums.size());
  });
}
API int ncclAllGather(const void *from, void *to, size_t n, int type, Communicator *c, Stream *s) {
  ENTER;
  if (type != 1) return fail(GROUP_INVALID, "type %d", type);
  return together(c, s, "all-gather of " + std::to_string(n), from, n, [=](auto &parts) {
    int code = OK;
    for (size_t rank = 0; rank < parts.size() && !code; rank++) code = write_to((char *)to + rank * n, parts[rank].data(), n);
    return code;
  });
}
API int ncclBroadcast(const void *from, void *to, size_t n, int type, int root, Communicator *c, Stream *s) {
  ENTER;
  if (type != 1) return fail(GROUP_INVALID, "type %d", type);
  return together(c, s, "broadcast of " + std::to_string(n) + " from " + std::to_string(root), from, n,
                  [=](auto &parts) { return write_to(to, parts[root].data(), n); });
}

API int ncclCommGetAsyncError(Communicator *, int *state) {
  LOCK;
  *state = GROUP_OK;
  return GROUP_OK;
}
static int leave(Communicator *c) {
  auto found = communicators.find(c);
  if (found == communicators.end()) return fail(GROUP_INVALID, "no such communicator");
  found->second->aborted = true;
  communicators.erase(found);
  counts.communicators--;
  met.notify_all();
  return GROUP_OK;
}
API int ncclCommAbort(Communicator *c) {
  LOCK;
  return leave(c);
}
API int ncclCommDestroy(Communicator *c) {
  LOCK;
  return leave(c);
}
