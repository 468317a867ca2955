package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/examples/internal/speculate"
	"github.com/drafthead/drafthead/examples/internal/target"
	"github.com/drafthead/drafthead/mtp"
)

// model is a loaded checkpoint with the scheduler that serves it. It closes when its
// scheduler has ended.
type model struct {
	scheduler *scheduler
	head      *mtp.Head
	target    *target.Target
	limits    limits
	loaded    time.Time
	closed    chan struct{}
}

// load loads the checkpoint and makes its scheduler, which does not run yet.
func (s *server) load(ctx context.Context) (m *model, err error) {
	folder, name, err := target.Open(s.checkpoint)
	if err != nil {
		return nil, err
	}
	m = &model{loaded: time.Now(), closed: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("%s: %w", name, err), m.close())
		}
	}()
	if err := target.Find(folder); err != nil {
		return m, err
	}
	m.head, err = mtp.LoadFS(ctx, folder, mtp.Options{Device: s.device, MaxDraft: s.drafts, CacheFormat: attention.CacheF32, Logger: s.log})
	if err != nil {
		return m, err
	}
	c := m.head.Config()
	if c.VocabSize != byteTokens {
		return m, fmt.Errorf("the model has %d tokens, want %d, one for each byte", c.VocabSize, byteTokens)
	}
	least := (s.maxPrompt+s.maxTokens+s.drafts)/c.Attention.BlockSize + 1
	pages := s.pages
	switch {
	case pages == 0:
		pages = max(least, min(s.maxBatch*least, defaultPages))
	case pages < least:
		return m, cli.WrongUsage("-pages is %d, want at least %d, for the longest request", pages, least)
	}
	if m.target, err = target.Load(ctx, folder, m.head, pages, attention.CacheF32, nil); err != nil {
		return m, err
	}
	cache, err := m.head.NewCache(pages)
	if err != nil {
		return m, err
	}
	engine := &speculate.Engine{Target: m.target, Head: m.head, Cache: cache}
	if s.k == cli.Auto {
		engine.Controller = mtp.NewController(s.drafts)
	}
	m.limits = limits{prompt: s.maxPrompt, tokens: s.maxTokens, texts: s.mostTexts(), positions: c.Attention.Rope.Positions, model: s.modelName()}
	m.scheduler = &scheduler{
		engine: engine, most: s.maxBatch, queue: s.queue, rows: promptRows, positions: m.limits.positions,
		counts: s.counts, log: s.log, wake: make(chan struct{}, 1),
	}
	return m, nil
}

const (
	defaultPages = 512
	promptRows   = 256 // of prompts, in a pass
)

// mostTexts is how many texts a request may ask for: what the queue can hold.
func (s *settings) mostTexts() int { return min(128, s.queue) }

// modelName is what clients call the model: the name of its folder.
func (s *settings) modelName() string {
	path, err := filepath.Abs(s.checkpoint)
	if s.checkpoint == "" || err != nil {
		return "m3-tiny"
	}
	return filepath.Base(path)
}

// describe is the model as OpenAI's clients read it.
func (m *model) describe() map[string]any {
	return map[string]any{
		"id": m.limits.model, "object": "model", "created": m.loaded.Unix(), "owned_by": "drafthead",
		"max_model_len": m.limits.positions,
	}
}

func (m *model) close() error {
	var errs []error
	if m.target != nil {
		errs = append(errs, m.target.Close())
	}
	if m.head != nil {
		errs = append(errs, m.head.Close())
	}
	return errors.Join(errs...)
}
