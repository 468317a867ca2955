package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/drafthead/drafthead/hip"
)

// server answers requests with the model that was loaded last. A model that was replaced
// finishes the requests that it has.
type server struct {
	*settings
	device hip.Device
	log    *slog.Logger
	counts *counters

	stopped context.Context // ends when what is under way has to fail
	fail    context.CancelFunc

	mu      sync.Mutex
	models  []*model // that run; the last one takes requests
	closing bool     // no request is taken
}

func newServer(s *settings, d hip.Device, log *slog.Logger) *server {
	out := &server{settings: s, device: d, log: log, counts: newCounters()}
	out.stopped, out.fail = context.WithCancel(context.Background())
	return out
}

// model returns the one that takes requests, nil while the server stops.
func (s *server) model() *model {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing || len(s.models) == 0 {
		return nil
	}
	return s.models[len(s.models)-1]
}

// reload loads the checkpoint and lets it take the requests from now on. The model before
// serves on if that fails, and finishes its requests otherwise.
func (s *server) reload(ctx context.Context) error {
	start := time.Now()
	m, err := s.load(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return errors.Join(errStopping, m.close())
	}
	before := s.models
	s.models = append(before[:len(before):len(before)], m)
	s.mu.Unlock()
	go s.serve(m)
	s.log.Info("loaded", "model", m.limits.model, "pages", m.target.Cache.Pages(), "seconds", time.Since(start).Seconds())
	for _, old := range before {
		old.scheduler.hand(m.scheduler)
	}
	return nil
}

// replaced is closed when the model before the last has ended; nil if there is none.
func (s *server) replaced() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.models) < 2 {
		return nil
	}
	return s.models[len(s.models)-2].closed
}

// serve runs a model's scheduler to its end and closes the model.
func (s *server) serve(m *model) {
	defer close(m.closed)
	err := m.scheduler.run(s.stopped)
	s.mu.Lock()
	for i, running := range s.models {
		if running == m {
			s.models = append(s.models[:i:i], s.models[i+1:]...)
			break
		}
	}
	s.counts.retire(m.head.Stats())
	s.mu.Unlock()
	if err = errors.Join(err, m.close()); err != nil {
		s.log.Error("close", "error", err)
	}
}

// stop refuses requests from now on, and waits for those under way: until ctx ends, when
// they fail.
func (s *server) stop(ctx context.Context) {
	s.mu.Lock()
	s.closing = true
	models := s.models
	s.mu.Unlock()
	defer context.AfterFunc(ctx, s.fail)()
	for _, m := range models {
		m.scheduler.end()
	}
	for _, m := range models {
		<-m.closed
	}
	s.fail()
}

func (s *server) handler() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	prometheus.WrapRegistererWith(prometheus.Labels{"model_name": s.modelName()}, registry).MustRegister(collector{s}, s.counts.latency, s.counts.firstToken)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/completions", s.complete)
	mux.HandleFunc("/v1/completions", wrongMethod("POST"))
	mux.HandleFunc("GET /v1/models", s.listModels)
	mux.HandleFunc("GET /v1/models/{id}", s.describeModel)
	mux.HandleFunc("/v1/models", wrongMethod("GET"))
	mux.HandleFunc("/v1/models/{id}", wrongMethod("GET"))
	mux.HandleFunc("/", noRoute)
	mux.HandleFunc("GET /healthz", s.health)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return mux
}

func (s *server) listModels(w http.ResponseWriter, _ *http.Request) {
	m := s.model()
	if m == nil {
		writeError(w, toAPI(errStopping))
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"object": "list", "data": []any{m.describe()}})
}

func (s *server) describeModel(w http.ResponseWriter, r *http.Request) {
	m, id := s.model(), r.PathValue("id")
	switch {
	case m == nil:
		writeError(w, toAPI(errStopping))
	case id != m.limits.model:
		writeError(w, noModel(id, m.limits.model))
	default:
		writeJSON(w, http.StatusOK, m.describe())
	}
}

func (s *server) health(w http.ResponseWriter, _ *http.Request) {
	if s.model() == nil {
		http.Error(w, "stopping", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// mostBody is how many bytes a body may have: JSON may take six for a byte of a prompt.
func (s *server) mostBody() int64 { return 6*int64(s.maxPrompt)*int64(s.mostTexts()) + 1<<16 }

// patience is how long a client may take to send a request, or to receive a piece of its
// answer.
const patience = 10 * time.Second

// listen serves HTTP until ctx ends, and then finishes what is under way, for as long as
// -grace. Each value of reloads asks for a reload. It waits while a model that was replaced
// still has requests, so that there are two at most.
func (s *server) listen(ctx context.Context, reloads <-chan os.Signal) error {
	listener, err := net.Listen("tcp", s.addr)
	if err != nil {
		return fmt.Errorf("-addr: %w; want a host and a free port, such as localhost:8081", err)
	}
	if err := s.reload(ctx); err != nil {
		return errors.Join(err, listener.Close())
	}
	web := &http.Server{Handler: s.handler(), ReadHeaderTimeout: patience, IdleTimeout: time.Minute, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelWarn)}
	served := make(chan error, 1)
	go func() { served <- web.Serve(listener) }()
	s.log.Info("listening", "url", "http://"+listener.Addr().String())
	asked, replaced := reloads, (<-chan struct{})(nil)
	for {
		select {
		case <-asked:
			if err := s.reload(ctx); err != nil {
				s.log.Error("reload failed, the model before serves on", "error", err)
			} else if replaced = s.replaced(); replaced != nil {
				asked = nil
			}
			continue
		case <-replaced:
			asked, replaced = reloads, nil
			continue
		case err = <-served:
		case <-ctx.Done():
			s.log.Info("stopping", "grace", s.grace)
		}
		break
	}
	grace, cancel := context.WithTimeout(context.Background(), s.grace)
	defer cancel()
	s.stop(grace)
	last, cancel := context.WithTimeout(context.Background(), time.Second) // to write answers
	defer cancel()
	return errors.Join(err, errors.Join(web.Shutdown(last), web.Close()))
}
