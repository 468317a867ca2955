package attention

import "github.com/drafthead/drafthead/hip"

// laneHeads is how many query heads of a KV head vector instructions do together, one in
// each lane. With fewer heads lanes stay unused.
const laneHeads = 16

// keyScoresArgs are those of keyScores. Keys are Stride values apart.
type keyScoresArgs struct {
	Scores    *float32 // [16·Groups, 16]
	Queries   *float32 // [Dim, 16]
	Keys      *float32 // [16·Groups] rows of Dim, Stride apart
	Dim       int
	Stride    int
	Groups    int
	Ahead     uintptr // what is read next; a hint
	AheadStep int
}

// addValuesArgs are those of addValues.
type addValuesArgs struct {
	Sums      *float32 // [16, Dim]
	Weights   *float32 // [Keys, 16]
	Values    *float32 // [Keys, Dim]
	Dim       int      // a multiple of 32
	Keys      int      // at least 1
	Ahead     uintptr
	AheadStep int
}

// bestScoresArgs are those of bestScores.
type bestScoresArgs struct {
	Best    [4]float32
	Queries *float32  // of four heads, see bestScoresBF16AVX512
	BF16    *hip.BF16 // [Keys, Dim], Dim a multiple of 32
	F32     *float32  // instead: [Keys, Dim], Dim a multiple of 16
	Dim     int
	Keys    int     // at least 1
	Next    uintptr // the keys after these; a hint
}

// tileScoresArgs are those of bestScoresTiles.
type tileScoresArgs struct {
	Best    [16]float32
	Queries *hip.BF16 // [Dim/32, 3, 16, 16, 2]
	BF16    *hip.BF16 // [Keys, Dim]
	Scratch *float32  // [64, 16]
	Dim     int
	Keys    int
	Next    uintptr // the keys after these; a hint
}
