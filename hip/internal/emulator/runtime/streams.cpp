// Streams, events and graphs: queues that run when somebody waits for them.

thread_local int current = 0;

Device &device(int n) {
  static Device devices[64];
  return devices[n];
}

static std::vector<Stream *> streams;

struct Event {
  Stream *stream = nullptr;
  unsigned long long at = 0;
  std::shared_ptr<double> time = std::make_shared<double>(0);
};

static double milliseconds() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// work_off runs the first `upto` pieces of work ever posted to s.
static void work_off(Stream *s, unsigned long long upto) {
  Device &d = device(s->device);
  if (s->running) meet([s] { return !s->running; });
  while (!s->queue.empty() && s->ran < upto) {
    Work work = std::move(s->queue.front());
    s->queue.pop_front();
    s->ran++;
    if (d.failed && d.contexts) continue;  // a failed context runs nothing
    s->running = true;  // the work of a group may wait
    int code = work();
    s->running = false;
    if (code && !d.failed) {
      d.failed = code;
      d.message = last_message();
    }
  }
}

// run_to works off a stream and says what failed on its device.
static int run_to(Stream *s, unsigned long long upto) {
  Device &d = device(s->device);
  work_off(s, upto);
  // HIP reports an error once; in CUDA it stays with the context.
  int code = d.failed;
  if (code) fail(code, "%s", d.message.c_str());
  if (!d.contexts) d.failed = OK;
  return code;
}

int drain(int n) {
  int first = OK;
  for (Stream *s : streams)
    if (s->device == n && !s->capture)
      if (int code = run_to(s, ~0ull)) first = first ? first : code;
  return first;
}

void reset(int n) {
  device(n).failed = OK;
  for (Stream *s : streams)
    if (s->device == n) s->queue.clear();
}

int post(Stream *s, Work work) {
  Device &d = device(s ? s->device : current);
  if (d.failed && d.contexts) return fail(d.failed, "%s", d.message.c_str());
  if (!s) {  // the legacy stream waits for all
    if (int code = drain(current)) return code;
    return work();
  }
  if (s->capture) {
    s->capture->work.push_back(std::move(work));
    return OK;
  }
  s->queue.push_back(std::move(work));
  s->posted++;
  if (settings.eager) work_off(s, ~0ull);
  return OK;
}

static int in_capture(Stream *s) { return s && s->capture ? fail(CAPTURE_UNSUPPORTED, "the stream is being captured") : OK; }

API int hipStreamCreateWithFlags(Stream **s, unsigned) {
  ENTER;
  *s = new Stream;
  (*s)->device = current;
  streams.push_back(*s);
  counts.streams++;
  return OK;
}
API int hipStreamDestroy(Stream *s) {
  LOCK;
  auto it = std::find(streams.begin(), streams.end(), s);
  if (it == streams.end()) return fail(INVALID_HANDLE, "no such stream");
  run_to(s, ~0ull);
  streams.erase(it);
  delete s->capture;
  delete s;
  counts.streams--;
  return OK;
}
API int hipStreamSynchronize(Stream *s) {
  ENTER;
  if (int code = in_capture(s)) return code;
  return s ? run_to(s, ~0ull) : drain(current);
}

API int hipEventCreateWithFlags(Event **e, unsigned) {
  ENTER;
  *e = new Event;
  counts.events++;
  return OK;
}
API int hipEventDestroy(Event *e) {
  LOCK;
  delete e;
  counts.events--;
  return OK;
}
API int hipEventRecord(Event *e, Stream *s) {
  ENTER;
  auto time = e->time;
  int code = post(s, [time] {
    *time = milliseconds();
    return OK;
  });
  e->stream = s;
  e->at = s ? s->posted : 0;
  return code;
}
API int hipEventSynchronize(Event *e) {
  ENTER;
  return e->stream ? run_to(e->stream, e->at) : OK;
}
API int hipEventElapsedTime(float *ms, Event *a, Event *b) {
  ENTER;
  for (Event *e : {a, b})
    if (e->stream && e->stream->ran < e->at) return NOT_READY;
  *ms = (float)(*b->time - *a->time);
  return OK;
}

API int hipStreamBeginCapture(Stream *s, int) {
  ENTER;
  if (!s || s->capture) return fail(CAPTURE_UNSUPPORTED, "not a stream that can be captured");
  s->capture = new Graph;
  return OK;
}
API int hipStreamEndCapture(Stream *s, Graph **g) {
  LOCK;
  if (!s || !s->capture) return fail(CAPTURE_UNSUPPORTED, "the stream is not being captured");
  *g = s->capture;
  s->capture = nullptr;
  counts.graphs++;
  return OK;
}
API int hipGraphInstantiate(Graph **executable, Graph *g, void *, char *, size_t) {
  ENTER;
  *executable = new Graph(*g);
  counts.graphs++;
  return OK;
}
API int hipGraphLaunch(Graph *g, Stream *s) {
  ENTER;
  for (auto &work : g->work)
    if (int code = post(s, work)) return code;
  return OK;
}
API int hipGraphDestroy(Graph *g) {
  LOCK;
  delete g;
  counts.graphs--;
  return OK;
}
API int hipGraphExecDestroy(Graph *g) { return hipGraphDestroy(g); }
