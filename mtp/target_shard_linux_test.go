package mtp_test

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp"
)

// withTargetTensors adds tensors of a target to the only shard of a checkpoint folder, with
// so many bytes of data that are not written: the file has a hole there.
func withTargetTensors(t *testing.T, dir string, bytes int64, entries map[string]any) {
	t.Helper()
	path := filepath.Join(dir, "model.safetensors")
	old, err := os.ReadFile(path)
	require.NoError(t, err)
	n := binary.LittleEndian.Uint64(old)
	data := old[8+n:]
	header := map[string]any{}
	require.NoError(t, json.Unmarshal(old[8:8+n], &header))
	for name, entry := range entries {
		header[name] = entry
	}
	text, err := json.Marshal(header)
	require.NoError(t, err)
	for len(text)%8 != 0 {
		text = append(text, ' ')
	}
	file := append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...)
	require.NoError(t, os.WriteFile(path, append(file, data...), 0o600))
	require.NoError(t, os.Truncate(path, int64(len(file)+len(data))+bytes))
}

// dataBytes returns the bytes of tensor data of the only shard.
func dataBytes(t *testing.T, dir string) int64 {
	t.Helper()
	old, err := os.ReadFile(filepath.Join(dir, "model.safetensors"))
	require.NoError(t, err)
	return int64(len(old)) - 8 - int64(binary.LittleEndian.Uint64(old))
}

// mappedBytes returns how much of a folder's files is mapped.
func mappedBytes(t *testing.T, dir string) (sum int64) {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	require.NoError(t, err)
	for line := range strings.Lines(string(maps)) {
		if !strings.Contains(line, dir) {
			continue
		}
		first, last, ok := strings.Cut(strings.Fields(line)[0], "-")
		require.True(t, ok)
		from, err := strconv.ParseUint(first, 16, 64)
		require.NoError(t, err)
		to, err := strconv.ParseUint(last, 16, 64)
		require.NoError(t, err)
		sum += int64(to - from)
	}
	return sum
}

// TestShardOfTheTarget: a head in a shard of 5 GB, most of it the target's, maps what is
// its own. Tensors of the target that are unsound are a note, and drafts stay the same.
func TestShardOfTheTarget(t *testing.T) {
	s, x := synthetic{modules: 1}, randomPassage(80, 12)
	dir := s.folder(t)
	own := dataBytes(t, dir)
	const foreign = 5 << 30
	at := func(from, to int64) []int64 { return []int64{own + from, own + to} }
	withTargetTensors(t, dir, foreign, map[string]any{
		"model.layers.0.mlp.up_proj.weight":   map[string]any{"dtype": "U8", "shape": []int64{foreign - 300}, "data_offsets": at(0, foreign-300)},
		"model.layers.0.mlp.down_proj.weight": map[string]any{"dtype": "Q3_K", "shape": []int{100}, "data_offsets": at(foreign-300, foreign-200)},
		"model.layers.0.mlp.gate_proj.weight": map[string]any{"dtype": "F32", "shape": []int{99}, "data_offsets": at(foreign-200, foreign-100)},
		"model.layers.1.mlp.gate_proj.weight": map[string]any{"dtype": "U8", "shape": []int{150}, "data_offsets": at(foreign-150, foreign)},
	})

	head, err := mtp.Load(t.Context(), dir, mtp.Options{Device: openDevice(t, hip.NewHost())})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, head.Close()) })
	require.Positive(t, mappedBytes(t, dir))
	require.Less(t, mappedBytes(t, dir), own+1<<20)
	require.Contains(t, strings.Join(head.Report().Notes, "\n"), "model.safetensors")

	same := load(t, s.files(t), mtp.Options{Device: openDevice(t, hip.NewHost())})
	want := draft(t, same, x.batch(newCache(t, same, 8).NewSequence(), 0, 12), 3)
	require.Equal(t, want, draft(t, head, x.batch(newCache(t, head, 8).NewSequence(), 0, 12), 3))

	// The same fault in a tensor of the head's own is an error that names it.
	dir = s.folder(t)
	withTargetTensors(t, dir, 100, map[string]any{
		"model.mtp.layers.0.enorm.weight": map[string]any{"dtype": "Q3_K", "shape": []int{hiddenSize}, "data_offsets": at(0, 100)},
	})
	_, err = mtp.Load(t.Context(), dir, mtp.Options{})
	require.ErrorContains(t, err, "model.mtp.layers.0.enorm.weight")
}
