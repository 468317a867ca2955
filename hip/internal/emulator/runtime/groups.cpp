// Groups: the functions of RCCL and NCCL between devices of emulators, of one process or of
// several. An operation is work of a stream like any other. A rank that comes to it before
// the others waits, and lets other threads use the emulator meanwhile; ranks with different
// operations wait until they are aborted, as GPUs would, and so do those whose process ends.

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

struct UniqueId {
  char bytes[128];  // the path of the group's file
};

enum { GROUP_OK = 0, GROUP_INVALID = 4, GROUP_IN_PROGRESS = 7 };

// Part is what one rank gives to an operation. A rank has two, for operations with odd and
// with even numbers: once all have come to an operation, they have read the one before.
struct Part {
  std::atomic<uint64_t> number;  // of the operation, from 1, once the rest is there
  char what[120];
  char bytes[(8 << 20) - 128];
};

// Board is the file of a group, in the memory of all its ranks. It is sparse.
struct Board {
  std::atomic<int64_t> joined;
  char rest[4088];
  Part parts[][2];  // of each rank
};
static_assert(sizeof(Part) == 8 << 20 && std::atomic<uint64_t>::is_always_lock_free, "the same in every process");

struct Communicator {
  Board *board = nullptr;
  int size = 0, rank = 0;
  uint64_t operations = 0;
  bool aborted = false;

  size_t bytes() const { return sizeof(Board) + size * 2 * sizeof(Part); }
  Part &part(int of, uint64_t number) { return board->parts[of][number % 2]; }
  // came reports whether every rank has come to an operation, which is the same for all.
  bool came(uint64_t number) {
    for (int r = 0; r < size; r++)
      if (part(r, number).number != number || strcmp(part(r, number).what, part(rank, number).what)) return false;
    return true;
  }
  ~Communicator() {
    if (board) munmap(board, bytes());
  }
};

static std::map<Communicator *, std::shared_ptr<Communicator>> communicators;

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
  snprintf(id->bytes, sizeof id->bytes, "%s/group-XXXXXX", settings.meetings);
  const int file = mkstemp(id->bytes);
  if (file < 0) return fail(GROUP_INVALID, "%s: %s", id->bytes, strerror(errno));
  close(file);
  return GROUP_OK;
}

API int ncclCommInitRank(Communicator **c, int size, UniqueId id, int rank) {
  ENTER;
  if (size < 1 || rank < 0 || rank >= size) return fail(GROUP_INVALID, "rank %d of %d", rank, size);
  auto own = std::make_shared<Communicator>();
  own->size = size;
  own->rank = rank;
  const int file = open(id.bytes, O_RDWR);
  if (file < 0 || ftruncate(file, own->bytes())) return fail(GROUP_INVALID, "%s: %s", id.bytes, strerror(errno));
  void *p = mmap(nullptr, own->bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (p == MAP_FAILED) return fail(GROUP_INVALID, "%s: %s", id.bytes, strerror(errno));
  own->board = (Board *)p;
  own->board->joined++;
  meet([&] { return own->board->joined >= size || access(id.bytes, F_OK); });
  if (own->board->joined < size) return fail(GROUP_INVALID, "%s is gone before all of %d ranks have joined", id.bytes, size);
  unlink(id.bytes);
  communicators[own.get()] = own;
  counts.communicators++;
  *c = own.get();
  return GROUP_OK;
}

// together posts an operation: every rank gives n bytes at `from`, and use gets those of all.
static int together(Communicator *c, Stream *s, const std::string &what, const void *from, size_t n,
                    std::function<int(const std::vector<const char *> &)> use) {
  auto found = communicators.find(c);
  if (found == communicators.end()) return fail(GROUP_INVALID, "no such communicator");
  if (n > sizeof Part::bytes || what.size() >= sizeof Part::what) return fail(GROUP_INVALID, "%s: more than is emulated", what.c_str());
  auto own = found->second;
  return post(s, [=] {
    if (!inside(from, n, DEVICE)) return fail(INVALID_VALUE, "%s: %s", what.c_str(), near((uintptr_t)from).c_str());
    if (own->aborted) return (int)OK;
    const uint64_t number = ++own->operations;
    Part &part = own->part(own->rank, number);
    strcpy(part.what, what.c_str());
    memcpy(part.bytes, from, n);
    part.number = number;
    meet([=] { return own->aborted || own->came(number); });
    if (own->aborted) return (int)OK;
    std::vector<const char *> parts;
    for (int r = 0; r < own->size; r++) parts.push_back(own->part(r, number).bytes);
    return use(parts);
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
    std::vector<char> sums(n * (bfloat16 ? 2 : 4));
    for (size_t i = 0; i < n; i++) {
      float sum = 0;
      for (auto &p : parts) sum += bfloat16 ? widened(((const uint16_t *)p)[i]) : ((const float *)p)[i];
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
    for (size_t rank = 0; rank < parts.size() && !code; rank++) code = write_to((char *)to + rank * n, parts[rank], n);
    return code;
  });
}
API int ncclBroadcast(const void *from, void *to, size_t n, int type, int root, Communicator *c, Stream *s) {
  ENTER;
  if (type != 1) return fail(GROUP_INVALID, "type %d", type);
  return together(c, s, "broadcast of " + std::to_string(n) + " from " + std::to_string(root), from, n,
                  [=](auto &parts) { return write_to(to, parts[root], n); });
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
