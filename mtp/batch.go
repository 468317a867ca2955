package mtp

import "github.com/drafthead/drafthead/hip"

// Batch holds the rows of one call, of one or more sequences. The rows of all sequences lie
// end to end in Hidden:
//
//	Sequences[0]   row 0   token t₁, position 0, hidden of position 0
//	               row 1   token t₂, position 1, hidden of position 1
//	Sequences[1]   row 2   token u₈, position 7, hidden of position 7
//
// A call only reads the batch and what it points to, and keeps nothing of it.
type Batch struct {
	Sequences []Rows

	// Hidden is the previous hidden state of each row: the target's, after its final norm,
	// or at a later step the result of the step before.
	Hidden Hidden

	// Embeds are embeddings in place of the rows of embed_tokens, for inputs that are not
	// tokens: one for the token of each row, as Tokens has them. If none are given, those of
	// the tokens are used. Rows at position 0 are zeroed in either case. Drafted tokens have
	// those of embed_tokens. A chain that shifts tokens shifts Embeds with them, and rows that
	// are given again bring theirs again.
	Embeds Hidden

	// Cache is where the rows with a BlockTable go. If no row has one, it may be nil.
	Cache *Cache

	// Output is device memory for rows × hidden_size float32, writable and known to the
	// device as [Hidden] says. If it is given, Forward writes the hidden states there
	// before it returns, and returns Hidden.Device. It may be the memory of Hidden. Draft
	// does not use it.
	Output hip.Ptr

	// Observe is called with each stage of a Forward, or of each step of a Draft, in the
	// order of [Stage], from the calling goroutine. It must not use the head. It is for
	// comparing implementations: it costs copies.
	Observe func(Stage)
}

// Rows holds the rows of one sequence: consecutive positions, one token each.
type Rows struct {
	// Sequence is the sequence that the rows belong to. Position is at most its Len, and
	// for Draft equal to it, or at most its Resume if that is less. A Forward at a lower
	// position overwrites its module's rows there; the rows after them stay as they are,
	// computed from what was there before, and Len does not fall. Truncate first to drop
	// them.
	Sequence *Sequence

	// BlockTable is the alternative to Sequence: an engine's own table of the pages of
	// Batch.Cache, up to the last position that is written. If it ends, or is padded,
	// before the rows of the chain, the chain is shorter. A page that is written stands
	// there once, and no other sequence of the batch writes to it. The caller is
	// responsible for all earlier positions having been written, and for pages that several
	// sequences share. Such a cache has no Sequences, and carries nothing from call to call:
	// a Draft that shifts tokens begins at position 0, or with the rows before the new ones
	// again, one fewer than it has steps (see [ChainAligned]).
	BlockTable []int32

	// Tokens are the tokens AFTER the rows' positions: the row of position p carries token
	// p+1, and the last row carries the token just sampled.
	Tokens []int32

	// Position is that of the first row.
	Position int

	// Drafts is the largest number of tokens that Draft drafts after these rows, 0 to 64,
	// and in a chain that shifts tokens at most Options.MaxDraft, or num_mtp_modules if that
	// is 0. With Drafts 0 the rows are only committed. Forward does not use it.
	Drafts int

	// MinProbability ends the chain before the first token whose softmax probability is
	// below it. 0: never. A draft that is drawn is drawn from the tokens that have it, so
	// that the chain ends where none has.
	MinProbability float64

	// Sampling says how drafts are drawn, from the head's own distribution over its 256
	// most likely tokens. The text that [Head.VerifySampled] then confirms has the target's
	// distribution, whatever the drafts; it confirms most if drafts are drawn as the target
	// draws. nil, or temperature 0: each draft is the most likely token.
	Sampling *Sampling

	// Allowed returns which tokens may follow those drafted so far: bit t mod 32 of word t/32
	// is 1 if token t may, of ⌈vocab_size / 32⌉ words. A nil mask, like a nil function,
	// allows every token. It is called before each draft, from the goroutine that called
	// Draft, so that such a batch waits for each step. It must not use the head, nor change
	// the tokens; the mask is read before the next call of any Allowed.
	//
	// A mask of another length, or one that allows nothing, is an [InputError], and nothing
	// is committed. A chain ends where no allowed token is in Options.DraftVocabulary.
	Allowed func(drafted []int32) []uint32
}

// Hidden is rows × hidden_size hidden states, row-major, in exactly one form.
//
// Memory that the device has not allocated itself must be made known to it once, as a whole
// buffer and before the first call: by [hip.Adopt] on a CPU, by [hip.Import] for memory
// that an engine has allocated on a GPU. The caller keeps owning it; Free ends the device's
// use of it.
//
//	err := hip.Import(head.Device(), buffer, bytes)
//	defer head.Device().Free(buffer) // forgets it
//	b.Hidden = mtp.Hidden{Device: buffer.Add(offset), DeviceBFloat16: true}
//
// A GPU reads it in the order of its stream. If the device was opened on the engine's own
// stream ([hip.OpenOptions].Stream), the call follows all work that the engine has queued
// there; otherwise that work must be over before the call. A call returns when its device
// work is over, also with an error, so the memory may then be written again.
type Hidden struct {
	Float32  []float32
	BFloat16 []uint16 // upper halves of float32

	// Device is memory that the head's device knows, float32, or bfloat16 if
	// DeviceBFloat16 is set: the address that Alloc or Adopt returned or Import was given,
	// or one within, aligned to the size of a value.
	Device         hip.Ptr
	DeviceBFloat16 bool
}
