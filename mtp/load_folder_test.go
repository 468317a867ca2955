package mtp_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/weights"
)

// TestProblemsByCategory: problems of the config and of the files come together, those of
// the tensors once these are sound.
func TestProblemsByCategory(t *testing.T) {
	bad := set("num_experts_per_tok", "99")
	for name, c := range map[string]struct {
		config  []edit
		file    string // more bytes of it
		tensors []string
		want    []string
	}{
		"tensors":                     {nil, "", []string{embedName, lmHeadName}, []string{lmHeadName, embedName}},
		"config before tensors":       {[]edit{bad}, "", []string{embedName}, []string{"num_experts_per_tok"}},
		"file before tensors":         {nil, "xx", []string{embedName}, []string{"bytes after the last tensor"}},
		"config and file, no tensors": {[]edit{bad}, "xx", []string{embedName}, []string{"num_experts_per_tok", "bytes after the last tensor"}},
	} {
		t.Run(name, func(t *testing.T) {
			files := synthetic{config: c.config, omit: c.tensors}.files(t)
			model := files["model.safetensors"]
			model.Data = append(model.Data, c.file...)
			_, _, err := mtp.InspectFS(files, mtp.Options{})
			problems := weights.Problems(err)
			require.Len(t, problems, len(c.want), "%q", problems)
			for i, text := range c.want {
				require.ErrorContains(t, problems[i], text)
			}
		})
	}
}

// TestLoadNamesTheFolder: whatever is wrong with a folder or in it, the error says
// which folder was meant.
func TestLoadNamesTheFolder(t *testing.T) {
	parent := t.TempDir()
	file := filepath.Join(parent, "model.safetensors")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	empty := filepath.Join(parent, "empty")
	require.NoError(t, os.Mkdir(empty, 0o700))
	bad := synthetic{omit: []string{lmHeadName}}.folder(t)
	for name, c := range map[string]struct {
		dir      string
		is       error
		problems []string
	}{
		"absent": {filepath.Join(parent, "absent"), fs.ErrNotExist, []string{"stat " + filepath.Join(parent, "absent")}},
		"none":   {"", mtp.ErrInput, []string{`dir is "", want a checkpoint folder`}},
		"a file": {file, mtp.ErrInput, []string{"want the folder that holds this file and config.json"}},
		"empty":  {empty, fs.ErrNotExist, []string{"open config.json", "no weights"}},
		"bad":    {bad, weights.ErrMissing, []string{lmHeadName + ": tensor is missing"}},
	} {
		t.Run(name, func(t *testing.T) {
			head, err := mtp.Load(t.Context(), c.dir, mtp.Options{})
			require.Nil(t, head)
			require.ErrorIs(t, err, c.is)
			require.ErrorContains(t, err, c.dir)
			_, _, inspectErr := mtp.Inspect(c.dir, mtp.Options{})
			require.EqualError(t, inspectErr, err.Error())
			problems := weights.Problems(err)
			require.Len(t, problems, len(c.problems), "%q", problems)
			for i, text := range c.problems {
				require.ErrorContains(t, problems[i], text)
			}
		})
	}
}
