// Package collective is what package hip asks of a library that carries data between
// devices.
package collective

// ID is what the ranks of a group have in common: see hip.GroupID.
type ID [128]byte

// Communicator is one rank's side of a group. Its operations are queued on a stream, and
// all ranks queue the same ones in the same order. Addresses and sizes were checked.
type Communicator interface {
	// AllReduce replaces the n float32, or bfloat16, values at p by their sums over all
	// ranks.
	AllReduce(stream uintptr, p uint64, n int64, bfloat16 bool) error
	// AllGather copies n bytes of each rank to every rank, one after another.
	AllGather(stream uintptr, dst, src uint64, n int64) error
	// Broadcast copies the n bytes of root to every rank.
	Broadcast(stream uintptr, p uint64, n int64, root int) error
	// Err returns why the group has failed, without waiting; nil while it works.
	Err() error
	// Abort ends what is queued and what comes, with an error. It does not wait, and may be
	// called at any time by any goroutine.
	Abort(cause error)
	// Close gives everything back. Recorded graphs that hold operations are gone by then.
	Close() error
}
