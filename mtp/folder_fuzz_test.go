package mtp_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/nlpodyssey/spago/mat"
	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/mtp/reference"
)

// mutantCount lets TestMutatedFolders go on:
//
//	go test -run TestMutatedFolders -timeout 0 -v ./mtp -mutants 200000
var mutantCount = flag.Int("mutants", 0, "how many folders TestMutatedFolders makes, if not a few")

// firstMutant lets several processes share the work.
var firstMutant = flag.Int("first-mutant", 0, "the number of the first folder that TestMutatedFolders makes")

// What a mutant may take.
const (
	mutantTime   = 2 * time.Second // of all processors
	mutantHang   = 30 * time.Second
	mutantFactor = 8       // of its bytes, in memory
	mutantBase   = 6 << 20 // beside that: a head of a few kilobytes, its device and its cache
)

const (
	mutantRows, mutantDrafts = 6, 3
	mutantMessage            = 128 << 10 // of an error or a report
)

// folderFuzzer judges mutants of its seeds.
type folderFuzzer struct {
	seeds []*folderSeed
	x     passage
	count struct{ loaded, refused, harmless, fatal, drafted, compared, remeasured int }
	most  struct {
		time   time.Duration
		memory float64 // beyond mutantFactor of the input, in bytes
	}
}

func newFolderFuzzer(t testing.TB) *folderFuzzer {
	f := &folderFuzzer{seeds: folderSeeds(t), x: randomPassage(1, mutantRows)}
	for i, seed := range f.seeds {
		m := newMutant(f.seeds, []byte{byte(i)})
		r := f.run(m.folder(), mtp.Options{Device: hip.NewReference(), CacheFormat: attention.CacheF32})
		require.NoError(t, r.err, seed.name)
		require.NotNil(t, r.draft, seed.name)
		seed.drafts, seed.probs = r.draft.Tokens, r.draft.Probs
	}
	return f
}

// folderResult is what became of a folder.
type folderResult struct {
	inspected error
	err       error // of Load or of what the head does
	fault     error // what should not be
	loaded    bool
	draft     *mtp.Draft // nil: not drafted
	cache     int64      // bytes, which the config asks for
}

// run inspects and loads a folder, and drafts from what loads. It closes the device.
func (f *folderFuzzer) run(fsys fs.FS, options mtp.Options) (r folderResult) {
	bad := func(format string, args ...any) folderResult {
		r.fault = fmt.Errorf(format, args...)
		return r
	}
	defer options.Device.Close()
	_, report, err := mtp.InspectFS(fsys, options)
	r.inspected = err
	if (report == nil) == (err == nil) {
		return bad("Inspect returns report %v and error %v", report, err)
	}
	text := ""
	if report != nil {
		text = report.String()
	}
	head, err := mtp.LoadFS(context.Background(), fsys, options)
	if r.err = err; err != nil {
		text = err.Error()
	}
	if err := plainText(text); err != nil {
		return bad("%w", err)
	}
	if (r.inspected == nil) != (err == nil) {
		return bad("Inspect says %v, Load %v", r.inspected, err)
	}
	if err != nil {
		if !options.CheckWeights && r.inspected.Error() != err.Error() {
			return bad("Inspect says %v, Load %v", r.inspected, err)
		}
		if bytes, live := hiptest.InUse(options.Device); bytes > 0 || live > 0 {
			return bad("%d bytes left on the device after %v", bytes, err)
		}
		return r
	}
	r.loaded = true
	if got := head.Report(); got.Bytes != report.Bytes || got.Parameters != report.Parameters || got.Tensors != report.Tensors {
		return bad("Inspect reports %v, Load %v", report, got)
	}
	r.draft, r.cache, r.err = f.draft(head)
	if err := head.Close(); err != nil {
		return bad("close: %w", err)
	}
	if r.err != nil && !errors.Is(r.err, mtp.ErrInput) {
		return bad("what loads does not draft: %w", r.err)
	}
	if bytes, live := hiptest.InUse(options.Device); bytes > 0 || live > 0 {
		return bad("%d bytes left on the device", bytes)
	}
	return r
}

// draft drafts after a few rows. A config whose pages are too large for a test is left alone.
func (f *folderFuzzer) draft(head *mtp.Head) (*mtp.Draft, int64, error) {
	c := head.Config()
	size := c.Attention.BlockSize
	if size > 4096 || c.HiddenSize != hiddenSize {
		return nil, 0, nil
	}
	cache, err := head.NewCache((mutantRows+mutantDrafts)/size + 2)
	if err != nil {
		return nil, 0, err
	}
	k := mutantDrafts
	if c.NumMTPModules > 1 {
		k = min(k, c.NumMTPModules)
	}
	b := withDrafts(f.x.batch(cache.NewSequence(), 0, mutantRows), k)
	rows := &b.Sequences[0]
	rows.Tokens = slices.Clone(rows.Tokens)
	for i := range rows.Tokens {
		rows.Tokens[i] %= int32(c.VocabSize)
	}
	drafts, err := head.Draft(context.Background(), b)
	if err != nil {
		return nil, cache.Bytes(), err
	}
	return &drafts[0], cache.Bytes(), nil
}

// mayTake is the memory that a mutant may take.
func (f *folderFuzzer) mayTake(m *mutant, r folderResult) float64 {
	return float64(mutantBase + int64(mutantFactor*m.size) + r.cache)
}

// plainText checks that text from files moves no cursor, and that there is not too much of it.
func plainText(text string) error {
	if len(text) > mutantMessage {
		return fmt.Errorf("a message of %d bytes: %.500s", len(text), text)
	}
	for i, c := range text {
		if c == '\n' || c == '\t' {
			continue
		}
		if !unicode.IsPrint(c) || c == utf8.RuneError && !strings.HasPrefix(text[i:], "\ufffd") {
			return fmt.Errorf("%q in %q", c, text[max(0, i-100):min(len(text), i+100)])
		}
	}
	return nil
}

// judge runs a mutant and returns what is wrong with that.
func (f *folderFuzzer) judge(m *mutant, how int) error {
	options := mtp.Options{NoMap: how&2 != 0, CheckWeights: how&4 != 0, CacheFormat: attention.CacheF32}
	var fsys fs.FS
	if how&1 != 0 {
		folder, err := os.MkdirTemp("", "mutant")
		if err != nil {
			return err
		}
		defer os.RemoveAll(folder)
		if err := m.write(folder); err != nil {
			return err
		}
		fsys = os.DirFS(folder)
	} else {
		fsys = m.folder()
	}
	defer time.AfterFunc(mutantHang, func() {
		debug.SetTraceback("all")
		panic(fmt.Sprintf("a mutant hangs: %q of %s", m.done, m.seed.name))
	}).Stop()
	run := func() (r folderResult) {
		options.Device = hip.NewReference()
		if how&8 != 0 {
			options.Device = hip.NewHost(2)
		}
		return f.run(fsys, options)
	}
	var r folderResult
	took := time.Duration(math.MaxInt64)
	for try := 0; try < 3 && took >= mutantTime; try++ { // the collector may have had much to do
		before, start := allocated(), processTime()
		r = run()
		took = processTime() - start
		if more := float64(allocated()-before) - f.mayTake(m, r); try == 0 && more < 0 {
			f.most.memory = max(f.most.memory, mutantBase+more)
		} else if try == 0 && r.fault == nil { // more than once in use, or garbage
			f.count.remeasured++
			peak := peakOf(run)
			for tries := 1; tries < 3 && peak > f.mayTake(m, r); tries++ { // garbage only adds to it
				peak = min(peak, peakOf(run))
			}
			if peak > f.mayTake(m, r) {
				return fmt.Errorf("takes %.0f bytes of memory for %d of input", peak, m.size)
			}
			f.most.memory = max(f.most.memory, mutantBase+peak-f.mayTake(m, r))
		}
		if r.fault != nil {
			return r.fault
		}
	}
	if took >= mutantTime {
		return fmt.Errorf("takes %v for %d bytes", took, m.size)
	}
	f.most.time = max(f.most.time, took)
	switch {
	case m.verdict == fatal && r.loaded:
		return errors.New("loads")
	case m.verdict != harmless:
	case !r.loaded:
		return fmt.Errorf("does not load: %w", r.err)
	case r.draft == nil || !near(r.draft, m.seed):
		return fmt.Errorf("drafts %+v, want %v of %v (%v)", r.draft, m.seed.drafts, m.seed.probs, r.err)
	}
	if how&16 != 0 && r.draft != nil {
		if err := f.compare(fsys, options, r.draft); err != nil {
			return err
		}
	}
	f.count.loaded += countOf(r.loaded)
	f.count.refused += countOf(!r.loaded)
	f.count.harmless += countOf(m.verdict == harmless)
	f.count.fatal += countOf(m.verdict == fatal)
	f.count.drafted += countOf(r.draft != nil)
	return nil
}

// compare compares what a mutant drafts with what the float64 head of its files does. Where
// values grow beyond all measure, or a choice is close, they may differ.
func (f *folderFuzzer) compare(fsys fs.FS, options mtp.Options, got *mtp.Draft) error {
	head, err := reference.Load(fsys)
	if err != nil {
		return fmt.Errorf("package reference refuses what loads: %w", err)
	}
	tokens, hidden := f.x.prompt(mutantRows)
	for i := range tokens {
		tokens[i] %= head.Config.VocabSize
	}
	c := chainCase{modules: head.Config.NumMTPModules}
	want, err := chainByForward(head, c, tokens[1:], mat.Data[float64](hidden), max(1, len(got.Tokens)), nil)
	if err != nil {
		return fmt.Errorf("package reference does not run what drafts: %w", err)
	}
	for i := range want.ids {
		p, margin := float64(want.probs[i]), want.margins[i]
		if !(margin > 1e-2) || math.IsNaN(p) || got.Err != nil { // what is too large for float32
			return nil
		}
		if i == len(got.Tokens) {
			return fmt.Errorf("no drafts, want %v of %v", want.ids, want.probs)
		}
		if got.Tokens[i] != want.ids[i] || math.Abs(float64(got.Probs[i])-p) > 1e-3 {
			return fmt.Errorf("drafts %+v, package reference %v of %v, with margins of %.3g", *got, want.ids, want.probs, want.margins)
		}
	}
	f.count.compared++
	return nil
}

// near reports whether a draft is the seed's. Tensors that lie elsewhere may be added up in
// another order.
func near(d *mtp.Draft, seed *folderSeed) bool {
	return d.Err == nil && slices.Equal(d.Tokens, seed.drafts) && hiptest.Within(d.Probs, seed.probs, 1e-4) == nil
}

func countOf(is bool) int {
	if is {
		return 1
	}
	return 0
}

// allocated returns the bytes that were ever allocated on the heap.
func allocated() uint64 { return metric("/gc/heap/allocs:bytes") }

func metric(name string) uint64 {
	sample := []metrics.Sample{{Name: name}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// peakOf returns by how much the heap grows while a mutant runs, without its garbage.
func peakOf(run func() folderResult) float64 {
	const garbage = 20 // percent, that the collector lets gather
	defer debug.SetGCPercent(debug.SetGCPercent(garbage))
	runtime.GC()
	before := metric("/memory/classes/heap/objects:bytes")
	most, done, watched := before, make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		for {
			most = max(most, metric("/memory/classes/heap/objects:bytes"))
			select {
			case <-done:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	run()
	close(done)
	<-watched
	return float64(most-before) / (1 + garbage/100.)
}

// TestMutatedFolders: whatever is done to the files of a checkpoint, Inspect and Load do not
// panic, hang or take memory beyond the input's, they agree, and say it in plain text. What
// loads drafts; what was changed only where the head does not read drafts the same.
func TestMutatedFolders(t *testing.T) {
	f, n := newFolderFuzzer(t), *mutantCount
	if n == 0 {
		if n = 150; hiptest.RaceDetector {
			n = 40
		}
	}
	before, start := goroutines(), time.Now()
	wrong := map[string]int{}
	for i := *firstMutant; i < *firstMutant+n; i++ {
		random := rand.New(rand.NewPCG(uint64(i), 7))
		program := make([]byte, 3+random.IntN([]int{6, 40}[i%2]))
		for j := range program {
			program[j] = byte(random.Uint32())
		}
		m, how, err := f.one(program)
		if err != nil {
			wrong[m.done[len(m.done)-1]]++
			t.Errorf("mutant %d: %q of %s, opened as %04b: %v\n\t%q", i, m.done, m.seed.name, how, err, program)
			if len(wrong) > 20 {
				break
			}
		}
	}
	requireGoroutines(t, before)
	c := f.count
	t.Logf("%d mutants in %v: %d loaded and %d drafted, %d were refused; %d had to load and draft the same, %d had to be refused; the drafts of %d were compared with package reference's",
		n, time.Since(start).Round(time.Second), c.loaded, c.drafted, c.refused, c.harmless, c.fatal, c.compared)
	t.Logf("the slowest took %v, the largest %.0f bytes beyond %d times the input; the peak of %d was measured", f.most.time, f.most.memory, mutantFactor, c.remeasured)
}

// one makes the mutant of a program, whose second byte says how it is opened, and judges it.
func (f *folderFuzzer) one(program []byte) (m *mutant, how int, err error) {
	m = newMutant(f.seeds, program)
	how = m.next()
	m.mutate()
	return m, how, f.judge(m, how)
}

// FuzzFolder is TestMutatedFolders with programs that coverage leads to.
func FuzzFolder(f *testing.F) {
	for i := range mutations {
		f.Add([]byte{byte(i), byte(i), byte(i), 1, 2, 3, 4, 5, 6, 7})
	}
	fuzzer := newFolderFuzzer(f)
	f.Fuzz(func(t *testing.T, program []byte) {
		if m, how, err := fuzzer.one(program); err != nil {
			t.Fatalf("%q of %s, opened as %04b: %v", m.done, m.seed.name, how, err)
		}
	})
}
