package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"time"

	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/examples/internal/ranks"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// session is a loaded head with all that measuring it takes.
type session struct {
	settings *settings
	rank     *ranks.Rank
	stderr   io.Writer
	device   hip.Device
	graphs   *graphTimer // the device, if it records graphs
	source   *source
	head     *mtp.Head
	cache    *mtp.Cache
	output   hip.Ptr // memory for what a prefill gives
	model    *model
	works    []*work
	ceiling  *ceiling
	out      *summary
}

// bench loads the head and measures every work. Bytes are counted at the end, by
// runs that are observed: what these allocate is not part of the peak. Works with a head of
// their own come last and do not count towards it either.
func (s *settings) bench(ctx context.Context, stderr io.Writer) (out *summary, err error) {
	opened, err := s.layout.Open(s.device)
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, d := range opened {
			err = errors.Join(err, d.Close())
		}
	}()
	return s.benchOn(ctx, opened, stderr)
}

// benchOn is bench on devices that are open, one for each rank.
func (s *settings) benchOn(ctx context.Context, opened []hip.Device, stderr io.Writer) (out *summary, err error) {
	source, err := s.open(ctx, stderr)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, source.close()) }()
	if s.layout.Ranks() > 1 { // what is wrong with the checkpoint is not one rank's
		if _, _, err := mtp.InspectFS(source.fsys, mtp.Options{Modules: s.modules}); err != nil {
			return nil, fmt.Errorf("%s: %w", safetensors.Printable(source.name), err)
		}
	}
	err = s.layout.On(ctx, opened, func(ctx context.Context, r *ranks.Rank) error {
		stderr := stderr
		if !r.First() {
			stderr = io.Discard
		}
		o, err := s.benchRank(ctx, r, source, stderr)
		if r.First() {
			out = o
		}
		return err
	})
	return out, err
}

// benchRank is bench on one rank.
func (s *settings) benchRank(ctx context.Context, r *ranks.Rank, source *source, stderr io.Writer) (out *summary, err error) {
	b := &session{settings: s, rank: r, source: source, stderr: stderr, device: r.Device, out: &summary{Device: s.device}}
	b.out.TensorParallel, b.out.ExpertParallel = s.layout.Tensor, s.layout.Expert
	b.timeGraphs()
	defer func() { err = errors.Join(err, b.close()) }()
	if err := b.load(ctx); err != nil {
		return nil, err
	}
	if err := b.prepare(ctx); err != nil {
		return nil, err
	}
	timed, err := b.measure(ctx)
	if err != nil {
		return nil, err
	}
	if err := b.finish(ctx, timed); err != nil {
		return nil, err
	}
	if s.products {
		if err := b.measureProducts(ctx); err != nil {
			return nil, fmt.Errorf("products: %w", err)
		}
	}
	if s.kernels {
		if err := b.measureKernels(ctx); err != nil {
			return nil, fmt.Errorf("kernels: %w", err)
		}
	}
	return b.out, nil
}

// load opens the weights, and loads the head.
func (b *session) load(ctx context.Context) (err error) {
	s := b.settings
	config, err := mtp.ReadConfig(b.source.fsys)
	if err != nil {
		return fmt.Errorf("%s: %w", safetensors.Printable(b.source.name), err)
	}
	if b.works, err = s.plan(config); err != nil {
		return fmt.Errorf("%s: %w", safetensors.Printable(b.source.name), err)
	}
	progress, loaded := cli.Progress(b.stderr, "load", "bytes")
	var clock loadClock
	start := time.Now()
	b.head, err = mtp.LoadFS(ctx, b.source.fsys, b.options(mtp.Options{
		Progress: clock.around(progress), Populate: s.populate, Chain: mtp.ChainFirst, Modules: s.modules, CacheFormat: s.cache,
		Activations: s.activation, DraftActivations: s.rounding,
	}))
	b.out.LoadSeconds = time.Since(start).Seconds()
	loaded()
	if err != nil {
		return fmt.Errorf("%s: %w", safetensors.Printable(b.source.name), err)
	}
	if err := b.firstDraft(ctx); err != nil {
		return err
	}
	b.out.FirstDraftSeconds = time.Since(start).Seconds()
	if b.out.Upload, err = measureUpload(b.device, s.checkpoint, &clock); err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	b.out.Checkpoint, b.out.WeightBytes = b.source.name, b.head.Report().Bytes
	b.out.DeviceName, b.out.Threads = b.device.Info().Name, b.device.Info().Threads
	b.model, err = newModel(b.head.Config(), b.head.Matrix, b.rank, s.cache)
	return err
}

// options returns opts with the share of the rank, on the device that is timed.
func (b *session) options(opts mtp.Options) mtp.Options {
	opts = b.rank.Options(opts)
	opts.Device = b.device
	return opts
}

// firstDraft drafts one token from one row, in a cache of its own.
func (b *session) firstDraft(ctx context.Context) (err error) {
	cache, err := b.head.NewCache(1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cache.Close()) }()
	hidden := mtp.Hidden{Float32: make([]float32, b.head.Config().HiddenSize)}
	hidden.Float32[0] = 1
	rows := []mtp.Rows{{Sequence: cache.NewSequence(), Tokens: []int32{0}, Drafts: 1}}
	_, err = b.head.Draft(ctx, &mtp.Batch{Sequences: rows, Hidden: hidden})
	return err
}

// prepare makes the cache, the inputs and the ceiling.
func (b *session) prepare(ctx context.Context) (err error) {
	pages := 0
	for _, w := range b.works {
		if w.drafting == nil {
			pages = max(pages, w.pages())
		}
	}
	if b.cache, err = b.head.NewCache(pages); err != nil {
		return err
	}
	b.out.CacheBytes = b.cache.Bytes()
	progress, done := cli.Progress(b.stderr, "fill the cache", "bytes")
	err = fillCache(b.device, b.cache, b.settings.cache, progress)
	done()
	if err != nil {
		return err
	}
	random, config := rand.New(rand.NewPCG(1, 2)), b.head.Config()
	rows := 0 // of a call that returns them
	for _, w := range b.works {
		if w.drafting == nil {
			w.prepare(config, b.cache, random)
		}
		if w.k == 0 {
			rows = max(rows, w.rows)
		}
	}
	if b.output, err = b.device.Alloc(4 * int64(rows*config.HiddenSize)); err != nil {
		return err
	}
	for _, w := range b.works {
		w.leaveOutput(b.output)
		if err := w.takeHidden(b.device); err != nil {
			return err
		}
	}
	b.ceiling, err = newCeiling(b.device, b.model.lmHead)
	return errors.Join(err, ctx.Err())
}

// measure times every work of the shared head, and notes the memory.
func (b *session) measure(ctx context.Context) ([][]timedRun, error) {
	progress, done := cli.Progress(b.stderr, "measure", "rows")
	defer done()
	timed := make([][]timedRun, len(b.works))
	for i, w := range b.works {
		progress(int64(i), int64(len(b.works)))
		if w.drafting != nil {
			continue
		}
		runtime.GC() // of what came before
		runs, err := b.time(ctx, b.head, w)
		if err != nil {
			return nil, err
		}
		timed[i] = runs
		use, err := readMemoryUse()
		if err != nil {
			return nil, fmt.Errorf("memory in use: %w", err)
		}
		b.out.PeakRSSBytes = use.peak
		b.out.PeakHeapBytes = max(b.out.PeakHeapBytes, use.anonymous-b.source.inMemory)
	}
	return timed, nil
}

// finish counts the bytes of every input, measures the works with a head of their
// own, and makes the rows.
func (b *session) finish(ctx context.Context, timed [][]timedRun) error {
	var ceilings []float64
	for i, w := range b.works {
		if w.drafting != nil {
			r, err := b.measureCheap(ctx, w)
			if err != nil {
				return err
			}
			b.out.Rows = append(b.out.Rows, r)
			continue
		}
		moved, err := w.count(ctx, b.head, b.model, timed[i])
		if err != nil {
			return err
		}
		r := newRow(w, timed[i], moved)
		if err := b.measureGraph(ctx, w, &r); err != nil {
			return err
		}
		if err := b.measureExchange(ctx, w, &r); err != nil {
			return err
		}
		b.out.Rows = append(b.out.Rows, r)
		for _, r := range timed[i] {
			ceilings = append(ceilings, r.ceiling/1e9)
		}
	}
	b.out.CeilingGBps, b.out.CeilingSpread, b.out.CeilingPrefetch = median(ceilings), spread(ceilings), b.ceiling.ahead
	return nil
}

// close gives back what was taken, the last first.
func (b *session) close() error {
	var errs []error
	if b.ceiling != nil {
		errs = append(errs, b.ceiling.Close())
	}
	errs = append(errs, b.device.Free(b.output))
	if b.head != nil {
		errs = append(errs, b.head.Close())
	}
	return errors.Join(errs...)
}
