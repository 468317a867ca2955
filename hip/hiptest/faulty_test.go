package hiptest_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

var errFault = errors.New("fault")

// faulty is what [hiptest.NewFaulty] returns.
type faulty interface {
	hip.Device
	FailAt(n int, ops ...string) (calls int)
	Next(op string) error
}

// adopter is a device that uses memory of the caller in place.
type adopter interface {
	Adopt(mem []byte, writable bool) (hip.Ptr, error)
}

// adopting adds an ability.
type adopting struct {
	faulty
	adopter adopter
}

func (a adopting) Adopt(mem []byte, writable bool) (hip.Ptr, error) {
	if err := a.Next("adopt"); err != nil {
		return 0, err
	}
	return a.adopter.Adopt(mem, writable)
}

func TestFaulty(t *testing.T) {
	host := hip.NewReference()
	defer host.Close()
	d := hiptest.NewFaulty(host, errFault)
	hiptest.TestDevice(t, d)
	adopts := adopting{d, host.(adopter)}
	hiptest.TestDevice(t, adopts)

	d.FailAt(2)
	p, err := d.Alloc(8)
	require.NoError(t, err)
	require.ErrorIs(t, d.Write(p, []byte{1}), errFault)
	require.NoError(t, d.Write(p, []byte{2}), "once")
	require.NoError(t, d.Free(p))
	require.Equal(t, 3, d.FailAt(1, "alloc", "adopt"), "a Free does not count")
	require.NoError(t, d.Sync(), "which is not asked for")
	_, err = d.Alloc(8)
	require.ErrorIs(t, err, errFault)
	require.ErrorIs(t, err, hip.ErrOutOfMemory)
	p, err = d.Alloc(8)
	require.NoError(t, err)
	require.Equal(t, 2, d.FailAt(1, "free"))
	require.ErrorIs(t, d.Free(p), errFault)
	require.NoError(t, d.Free(p), "it was not freed")

	d.FailAt(1)
	_, err = hip.Adopt(adopts, make([]byte, 8), false)
	require.ErrorIs(t, err, errFault)
	_, err = hip.Adopt(d, make([]byte, 8), false)
	require.ErrorIs(t, err, errors.ErrUnsupported)
}
