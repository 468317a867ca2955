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

// adopting adds an ability.
type adopting struct {
	faulty
	adopter hip.Adopter
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
	adopts := adopting{d, host.(hip.Adopter)}
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

	adopter, ok := hip.As[hip.Adopter](adopts)
	require.True(t, ok)
	d.FailAt(1)
	_, err = adopter.Adopt(make([]byte, 8), false)
	require.ErrorIs(t, err, errFault)
	_, ok = hip.As[hip.Adopter](d)
	require.False(t, ok)
}
