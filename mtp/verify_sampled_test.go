package mtp_test

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
)

// sampledRun is what a batch of sampled drafts and their verification come to.
type sampledRun struct {
	drafts   []mtp.Draft
	verified []mtp.Verified
}

// sampledCase is a batch of three sequences, two of which draw their drafts, and the logits
// of a target.
type sampledCase struct {
	passages []passage
	logits   [][]float32
}

func newSampledCase() (c sampledCase) {
	random := rand.New(rand.NewPCG(9, 1))
	for i := range 3 {
		c.passages = append(c.passages, randomPassage(uint64(900+i), 6))
		var logits []float32
		for range 5 * vocabSize {
			logits = append(logits, float32(random.NormFloat64()))
		}
		c.logits = append(c.logits, logits)
	}
	return c
}

// rows returns the rows of sequence i.
func (c sampledCase) rows(s *mtp.Sequence, i int) mtp.Rows {
	r := c.passages[i].rows(s, 0, 3+i)
	r.Drafts = 4
	if i > 0 {
		r.Sampling = &mtp.Sampling{Temperature: 1.3, Seed: 5, Stream: uint64(i), TopK: 5 * i}
	}
	return r
}

// verification returns what the target says of sequence i.
func (c sampledCase) verification(d mtp.Draft, i int) mtp.Verification {
	return mtp.Verification{
		Draft: d, Position: 3 + i + 1, Sampling: mtp.Sampling{Temperature: 1, TopP: 0.9, Seed: 5, Stream: uint64(i)},
		Logits: c.logits[i][:(len(d.Tokens)+1)*vocabSize], Block: i == 2,
	}
}

// run drafts and verifies some of the sequences together.
func (c sampledCase) run(t testing.TB, head *mtp.Head, of ...int) (r sampledRun) {
	t.Helper()
	cache := newCache(t, head, 40)
	b := new(mtp.Batch)
	for _, i := range of {
		b.Sequences = append(b.Sequences, c.rows(cache.NewSequence(), i))
		b.Hidden.Float32 = append(b.Hidden.Float32, c.passages[i].states(0, 3+i)...)
	}
	var err error
	r.drafts, err = head.Draft(t.Context(), b)
	require.NoError(t, err)
	var chains []mtp.Verification
	for n, i := range of {
		d := r.drafts[n]
		require.NoError(t, d.Err)
		require.NotEmpty(t, d.Tokens)
		chains = append(chains, c.verification(d, i))
	}
	r.verified, err = head.VerifySampled(t.Context(), chains)
	require.NoError(t, err)
	require.NoError(t, cache.Close())
	return r
}

// TestSampledAnywhere: drafts that are drawn, and what is decided about them, are the same
// alone and in a batch, on every device, by every rule.
func TestSampledAnywhere(t *testing.T) {
	c := newSampledCase()
	for _, of := range chainCases {
		t.Run(of.name, func(t *testing.T) {
			files := synthetic{modules: of.modules}.files(t)
			want := c.run(t, load(t, files, of.options()), 0, 1, 2)
			onAll := func(t *testing.T, d hip.Device) {
				options := of.options()
				options.Device = d
				head := load(t, files, options)
				require.Equal(t, want.verified, c.run(t, head, 0, 1, 2).verified)
				for i := range c.passages {
					got := c.run(t, head, i)
					require.Equal(t, want.drafts[i].Tokens, got.drafts[0].Tokens)
					require.Equal(t, want.verified[i], got.verified[0], "sequence %d alone", i)
				}
			}
			onAll(t, openDevice(t, hip.NewReference()))
			onAll(t, openDevice(t, hip.Check(hip.NewHost(2))))
			if of.name == "one module" || of.name == "three modules, aligned" {
				hiptest.OnGPUs(t, onAll)
			}
		})
	}
}

// TestVerifySampledGreedy: at temperature 0 it decides as Verify does with the most likely
// tokens; of equal ones the first.
func TestVerifySampledGreedy(t *testing.T) {
	head := load(t, synthetic{}.files(t), mtp.Options{})
	random := rand.New(rand.NewPCG(9, 2))
	for range 50 {
		n := random.IntN(5)
		d := mtp.Draft{}
		var chosen []int32
		var logits []float32
		for j := range n + 1 {
			row := make([]float32, vocabSize)
			for i := range row {
				row[i] = float32(random.IntN(6))
			}
			best := int32(0)
			for i, v := range row {
				if v > row[best] {
					best = int32(i)
				}
			}
			chosen, logits = append(chosen, best), append(logits, row...)
			if j < n {
				d.Tokens = append(d.Tokens, best)
				if random.IntN(3) == 0 {
					d.Tokens[j] = random.Int32N(vocabSize)
				}
			}
		}
		accepted, next, err := mtp.Verify(d, chosen)
		require.NoError(t, err)
		for _, block := range []bool{false, true} {
			got, err := head.VerifySampled(t.Context(), []mtp.Verification{{Draft: d, Logits: logits, Block: block, Sampling: mtp.Sampling{TopP: 0.5, Seed: 4}}})
			require.NoError(t, err)
			require.Equal(t, []mtp.Verified{{Accepted: accepted, Next: next}}, got)
		}
	}
}

// TestVerifySampledForms: logits on the device, which stay as they are, logits with a mask,
// and probabilities give what logits on the host do.
func TestVerifySampledForms(t *testing.T) {
	head := load(t, synthetic{}.files(t), mtp.Options{})
	random := rand.New(rand.NewPCG(9, 3))
	d := head.Device()
	mask := maskOf(func(token int) bool { return token%3 > 0 })
	var accepted []int
	for n := range 40 {
		v := mtp.Verification{Draft: mtp.Draft{Tokens: []int32{1, 4, 46}}, Position: n, Sampling: mtp.Sampling{Temperature: 1, Seed: 8}, Block: n%2 == 0}
		for range 4 * vocabSize {
			v.Logits = append(v.Logits, float32(random.NormFloat64()))
		}
		for j, token := range v.Draft.Tokens {
			v.Logits[j*vocabSize+int(token)] = 4
		}
		masked, probabilities := slices.Clone(v.Logits), make([]float32, len(v.Logits))
		for i := range masked {
			if i%vocabSize%3 == 0 {
				masked[i] = float32(math.Inf(-1))
			}
			probabilities[i] = float32(100 * math.Exp(float64(v.Logits[i])))
		}
		verify := func(v mtp.Verification) mtp.Verified {
			got, err := head.VerifySampled(t.Context(), []mtp.Verification{v})
			require.NoError(t, err)
			return got[0]
		}
		want := verify(v)
		accepted = append(accepted, want.Accepted)
		onDevice := v
		p, err := hip.Upload(d, v.Logits)
		require.NoError(t, err)
		onDevice.Logits, onDevice.Device = nil, p
		require.Equal(t, want, verify(onDevice))
		onDevice.Allowed = func([]int32) []uint32 { return mask }
		wantMasked := v
		wantMasked.Logits = masked
		require.Equal(t, verify(wantMasked), verify(onDevice))
		require.NotZero(t, verify(onDevice).Next%3)
		after := make([]float32, len(v.Logits))
		require.NoError(t, hip.ReadOf(d, after, p))
		require.Equal(t, v.Logits, after, "the caller's")
		require.NoError(t, d.Free(p))
		as := v
		as.Logits, as.Probabilities, as.Sampling = probabilities, true, mtp.Sampling{Seed: 8}
		require.Equal(t, want, verify(as))
		as.Allowed = onDevice.Allowed
		require.Equal(t, verify(wantMasked), verify(as))
	}
	require.Greater(t, slices.Max(accepted), slices.Min(accepted))
}

// TestVerifySampledAllowed: a draft that the target may not say ends the chain, and the rows
// after it need no mask.
func TestVerifySampledAllowed(t *testing.T) {
	head := load(t, synthetic{}.files(t), mtp.Options{})
	for _, block := range []bool{false, true} {
		var asked [][]int32
		got, err := head.VerifySampled(t.Context(), []mtp.Verification{{
			Draft: mtp.Draft{Tokens: []int32{5, 6, 7}}, Logits: make([]float32, 4*vocabSize), Sampling: mtp.Sampling{Temperature: 1}, Block: block,
			Allowed: func(drafted []int32) []uint32 {
				asked = append(asked, drafted)
				return maskOf(func(token int) bool { return token == 5+2*len(drafted) })
			},
		}})
		require.NoError(t, err)
		require.Equal(t, []mtp.Verified{{Accepted: 1, Next: 7}}, got)
		require.Equal(t, [][]int32{{}, {5}}, asked)
	}
}

// TestVerifySampledNaN: rows that are not a distribution end their chain alone.
func TestVerifySampledNaN(t *testing.T) {
	head := load(t, synthetic{}.files(t), mtp.Options{})
	logits := func(change func(last []float32)) []float32 {
		values := slices.Repeat([]float32{1}, 2*vocabSize)
		change(values[vocabSize:])
		return values
	}
	set := func(value float32) func([]float32) { return func(last []float32) { last[7] = value } }
	all := func(value float32) func([]float32) {
		return func(last []float32) {
			for i := range last {
				last[i] = value
			}
		}
	}
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, temperature := range []float64{0, 1} {
		var chains []mtp.Verification
		var fail []bool
		for _, c := range []struct {
			logits        []float32
			probabilities bool
			fail          bool
		}{
			{logits(set(nan)), false, true}, {logits(set(0)), false, false}, {logits(all(-inf)), false, true}, {logits(set(inf)), false, false},
			{logits(set(nan)), true, true}, {logits(set(-1)), true, true}, {logits(set(inf)), true, true}, {logits(all(0)), true, true}, {logits(set(0)), true, false},
		} {
			chains = append(chains, mtp.Verification{
				Draft: mtp.Draft{Tokens: []int32{0}}, Logits: c.logits, Probabilities: c.probabilities, Sampling: mtp.Sampling{Temperature: temperature},
			})
			fail = append(fail, c.fail)
		}
		got, err := head.VerifySampled(t.Context(), chains)
		require.NoError(t, err)
		for i, v := range got {
			if fail[i] {
				require.Equal(t, mtp.Verified{Err: mtp.ErrNaN}, v, "chain %d", i)
			} else {
				require.NoError(t, v.Err, "chain %d", i)
			}
		}
	}
}

// TestVerifySampledRefused: arguments that are wrong are named.
func TestVerifySampledRefused(t *testing.T) {
	c := newSampledCase()
	head := load(t, synthetic{}.files(t), mtp.Options{})
	drawn := c.run(t, head, 1).drafts[0]
	require.Len(t, drawn.Tokens, 4)
	logits := make([]float32, 5*vocabSize)
	good := mtp.Verification{Draft: drawn, Logits: logits, Sampling: mtp.Sampling{Temperature: 1}}
	cut := func(n int, tokens ...int32) mtp.Draft {
		d := drawn
		d.Tokens = append(slices.Clone(d.Tokens[:n]), tokens...)
		return d
	}
	for message, change := range map[string]func(v *mtp.Verification){
		"Sampling.Temperature is -1":                    func(v *mtp.Verification) { v.Sampling.Temperature = -1 },
		"Sampling.TopK is -1":                           func(v *mtp.Verification) { v.Sampling.TopK = -1 },
		"Sampling.TopP is 2":                            func(v *mtp.Verification) { v.Sampling.TopP = 2 },
		"Sampling.MinP is NaN":                          func(v *mtp.Verification) { v.Sampling.MinP = math.NaN() },
		"Position is -1":                                func(v *mtp.Verification) { v.Position = -1 },
		"Logits is nil, and Device 0, want one of them": func(v *mtp.Verification) { v.Logits = nil },
		"Logits is given, and Device too":               func(v *mtp.Verification) { v.Device = 0x40000000 },
		"len(Logits) is 192, want 240":                  func(v *mtp.Verification) { v.Logits = logits[:4*vocabSize] },
		"Device is memory at 0x40000001":                func(v *mtp.Verification) { v.Logits, v.Device = nil, 0x40000001 },
		"Device is memory at 0x40000004":                func(v *mtp.Verification) { v.Logits, v.Device = nil, 0x40000004 },
		"len(Draft.Tokens) is 5, want at most 4":        func(v *mtp.Verification) { v.Draft = cut(4, 1) },
		"Draft.Tokens[1] is 48":                         func(v *mtp.Verification) { v.Draft = cut(1, vocabSize, 1, 1) },
		"Draft.Tokens[3] is -1":                         func(v *mtp.Verification) { v.Draft = cut(3, -1) },
		"len(Draft.Tokens) is 65, want at most 64":      func(v *mtp.Verification) { v.Draft = mtp.Draft{Tokens: make([]int32, 65)} },
		"Allowed is a mask of 1 words after 0 drafts":   func(v *mtp.Verification) { v.Allowed = func([]int32) []uint32 { return make([]uint32, 1) } },
		"Allowed is a mask of no token after 0 drafts":  func(v *mtp.Verification) { v.Allowed = func([]int32) []uint32 { return make([]uint32, 2) } },
	} {
		bad := good
		change(&bad)
		_, err := head.VerifySampled(t.Context(), []mtp.Verification{good, bad})
		var input *mtp.InputError
		require.ErrorAs(t, err, &input, message)
		require.Equal(t, 2, input.Sequence, message)
		field, of := strings.CutPrefix(message, "len(")
		if field = "chains[1]." + field; of {
			field = "len(" + field
		}
		require.ErrorContains(t, err, "mtp: verify: "+field)
	}
	none, err := head.VerifySampled(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, none)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = head.VerifySampled(ctx, []mtp.Verification{good})
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, head.Close())
	_, err = head.VerifySampled(t.Context(), []mtp.Verification{good})
	require.ErrorIs(t, err, mtp.ErrClosed)
}

// TestVerifySampledNotDrawn: a token in the place of a drawn one is refused if the head
// could not have drawn it.
func TestVerifySampledNotDrawn(t *testing.T) {
	head := load(t, synthetic{}.files(t), mtp.Options{})
	x := randomPassage(914, 6)
	d := draft(t, head, with(x.batch(newCache(t, head, 20).NewSequence(), 0, 5), func(_ int, r *mtp.Rows) {
		r.Sampling = &mtp.Sampling{Temperature: 1, TopK: 2}
	}), 2)[0]
	refused := 0
	for token := range int32(vocabSize) {
		changed := d
		changed.Tokens = []int32{token}
		_, err := head.VerifySampled(t.Context(), []mtp.Verification{{Draft: changed, Logits: make([]float32, 2*vocabSize)}})
		if err != nil {
			require.ErrorContains(t, err, "Draft.Tokens[0] is")
			require.NotEqual(t, d.Tokens[0], token)
			refused++
		}
	}
	require.Equal(t, vocabSize-2, refused)
}

// TestVerifySampledMany: more chains than are on the device at the same time.
func TestVerifySampledMany(t *testing.T) {
	head := load(t, synthetic{}.files(t), mtp.Options{Device: openDevice(t, hip.NewHost())})
	logits := make([]float32, 65*vocabSize)
	v := mtp.Verification{Draft: mtp.Draft{Tokens: make([]int32, 64)}, Logits: logits, Sampling: mtp.Sampling{TopK: 1}}
	chains := slices.Repeat([]mtp.Verification{v}, 64<<20/4/len(logits)+2)
	chains[len(chains)-1] = mtp.Verification{Logits: logits[:vocabSize]}
	got, err := head.VerifySampled(t.Context(), chains)
	require.NoError(t, err)
	require.Len(t, got, len(chains))
	require.Equal(t, append(slices.Repeat([]mtp.Verified{{Accepted: 64}}, len(chains)-1), mtp.Verified{}), got)
}
