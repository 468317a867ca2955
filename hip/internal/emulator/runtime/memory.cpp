// Memory: every allocation lies on pages of its own between two pages that fault.
//
//	| guard | 0xc5 … | allocation, at a multiple of 256 | 0xc5 … | guard |
//	                                                    less than 256
//
// New memory is 0xff, a NaN in every format. Bytes beside it that are not 0xc5
// after a kernel were written by it.

#include <sys/mman.h>

static const size_t page = 4096, placement = 256;
static const unsigned char untouched = 0xc5;
static std::map<uintptr_t, Allocation> memory;
static int64_t used[64];  // bytes of each device

static size_t pages(size_t n) { return (std::max(n, (size_t)1) + page - 1) / page * page; }
static size_t before(size_t n) { return (pages(n) - n) / placement * placement; }

int allocate(void **p, size_t n, Kind kind) {
  if (kind == DEVICE && (int64_t)n > settings.memory - used[current]) return fail(OUT_OF_MEMORY, "%zu bytes", n);
  size_t body = pages(n);
  char *m = (char *)mmap(nullptr, body + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (m == MAP_FAILED) return fail(OUT_OF_MEMORY, "%zu bytes", n);
  if (mprotect(m + page, body, PROT_READ | PROT_WRITE)) return fail(OUT_OF_MEMORY, "%zu bytes", n);
  memset(m + page, untouched, body);
  char *q = m + page + before(n);
  memset(q, 0xff, n);
  memory[(uintptr_t)q] = {n, current, kind};
  (kind == DEVICE ? counts.allocations : counts.pinned)++;
  if (kind == DEVICE) used[current] += n;
  *p = q;
  return OK;
}

int release(void *p, Kind kind) {
  if (!p) return OK;
  auto it = memory.find((uintptr_t)p);
  if (it == memory.end() || it->second.kind != kind) return fail(INVALID_VALUE, "free of %p, which is not an allocation", p);
  (kind == DEVICE ? counts.allocations : counts.pinned)--;
  if (kind == DEVICE) used[it->second.device] -= it->second.size;
  size_t n = it->second.size;
  munmap((char *)p - before(n) - page, pages(n) + 2 * page);
  memory.erase(it);
  return OK;
}

// forget releases all of a device's memory.
static void forget(int d) {
  for (auto it = memory.begin(); it != memory.end();) {
    auto [base, a] = *it++;
    if (a.device == d) release((void *)base, a.kind);
  }
}

bool inside(const void *p, size_t n, Kind kind) {
  auto it = memory.upper_bound((uintptr_t)p);
  if (it == memory.begin()) return false;
  --it;
  return it->second.kind == kind && (uintptr_t)p + n <= it->first + it->second.size;
}

std::string near(uintptr_t address) {
  char text[160];
  auto after = memory.upper_bound(address);
  if (after != memory.begin()) {
    auto it = std::prev(after);
    uintptr_t end = it->first + it->second.size;
    if (address >= end && address - end < page + placement) {
      snprintf(text, sizeof text, "%zu bytes past the end of an allocation of %zu", (size_t)(address - end), it->second.size);
      return text;
    }
  }
  if (after != memory.end() && after->first - address < 2 * page) {
    snprintf(text, sizeof text, "%zu bytes before an allocation of %zu", (size_t)(after->first - address), after->second.size);
    return text;
  }
  snprintf(text, sizeof text, "%p", (void *)address);
  return text;
}

// wrong returns the first byte of a range that was written, or -1.
static long wrong(const unsigned char *p, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (p[i] != untouched) return (long)i;
  return -1;
}

std::string overrun() {
  char text[160];
  for (auto &[base, a] : memory) {
    if (a.kind != DEVICE) continue;
    auto *begin = (unsigned char *)base, *end = begin + a.size;
    size_t front = std::min(before(a.size), placement), back = pages(a.size) - before(a.size) - a.size;
    long at = wrong(end, back);
    if (at >= 0) snprintf(text, sizeof text, "wrote %ld bytes past the end of an allocation of %zu", at, a.size);
    else if ((at = wrong(begin - front, front)) >= 0) snprintf(text, sizeof text, "wrote %ld bytes before an allocation of %zu", (long)front - at, a.size);
    else continue;
    memset(end, untouched, back);
    memset(begin - front, untouched, front);
    return text;
  }
  return "";
}
