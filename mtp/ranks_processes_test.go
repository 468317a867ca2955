package mtp_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
)

// Two processes are the ranks of one head, each with a device of its own:
//
//	rank 0   load ─ draft ─ regroup ─ draft ······ error ─ regroup ─ draft
//	rank 1   load ─ draft ─ regroup ─ dr⨯                    load ─ draft
//
// Rank 1 is killed in the middle of a draft, by the signal that nobody can catch. Rank 0
// gets an error within the group's time limit, and forms a new group with a new process,
// which loads its share again. They hand round ids of groups by files in a common folder.

// TestRanksOnGPUsInProcesses is that on two GPUs.
func TestRanksOnGPUsInProcesses(t *testing.T) {
	if runsAsRank(t) {
		return
	}
	hiptest.TwoGPUs(t) // skips without
	ranksInProcesses(t, "GPU")
}

// TestRanksOnEmulationsInProcesses is that on emulated GPUs, with an emulated RCCL and NCCL.
func TestRanksOnEmulationsInProcesses(t *testing.T) {
	if runsAsRank(t) {
		return
	}
	if hiptest.RaceDetector {
		t.Skip("the emulator's threads are not Go's: there are no races to find")
	}
	for _, kind := range []string{"hip 32", "cuda"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			hiptest.NewEmulator(t, kind, 1<<30) // built before the processes
			ranksInProcesses(t, kind)
		})
	}
}

// rankProcess is what a process is told: which rank of whom it is, and when it ends.
type rankProcess struct {
	Device string // "GPU", or the kind of an emulated one
	Rank   int
	Again  bool   // in the place of one that was killed
	Folder string // for ids of groups and for drafts
}

const rankVariable = "DRAFTHEAD_TEST_RANK"

// runsAsRank runs this process as a rank, if it is one.
func runsAsRank(t *testing.T) bool {
	told := os.Getenv(rankVariable)
	if told == "" {
		return false
	}
	var p rankProcess
	require.NoError(t, json.Unmarshal([]byte(told), &p))
	p.run(t)
	return true
}

func ranksInProcesses(t *testing.T, device string) {
	whole := load(t, synthetic{format: "BF16", seed: 7}.files(t), mtp.Options{Device: openDevice(t, hip.NewReference())})
	want, err := playRank(t, whole)
	require.NoError(t, err)

	p := rankProcess{Device: device, Folder: t.TempDir()}
	outputs := make(map[*exec.Cmd]*os.File)
	start := func(rank int, again bool) *exec.Cmd {
		p.Rank, p.Again = rank, again
		told, err := json.Marshal(p)
		require.NoError(t, err)
		name, _, _ := strings.Cut(t.Name(), "/")
		c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+name+"$", "-test.timeout=3m")
		c.Env = append(os.Environ(), rankVariable+"="+string(told))
		out, err := os.CreateTemp(p.Folder, "output-")
		require.NoError(t, err)
		t.Cleanup(func() { out.Close() })
		c.Stdout, c.Stderr, outputs[c] = out, out, out
		require.NoError(t, c.Start())
		return c
	}
	said := func(c *exec.Cmd) string {
		text, _ := os.ReadFile(outputs[c].Name())
		return string(text)
	}
	first, second := start(0, false), start(1, false)
	killed := second.Wait()
	third := start(1, true)
	errs := []error{first.Wait(), third.Wait()}
	var exit *exec.ExitError
	require.ErrorAs(t, killed, &exit, said(second))
	require.Equal(t, -1, exit.ExitCode(), "ended by a signal: %s", said(second))
	require.NoError(t, errs[0], said(first))
	require.NoError(t, errs[1], said(third))

	for _, name := range []string{"before", "after"} {
		var got [2]rankDrafts
		for rank := range got {
			text, err := os.ReadFile(filepath.Join(p.Folder, fmt.Sprintf("%s-%d", name, rank)))
			require.NoError(t, err)
			require.NoError(t, json.Unmarshal(text, &got[rank]))
		}
		require.Equal(t, got[0], got[1], "both ranks, %s", name)
		require.Equal(t, want.IDs, got[0].IDs)
	}
}

// rankDrafts is what a rank drafted.
type rankDrafts struct {
	IDs   [][][]int32
	Probs [][][]float32
}

var rankPassage = randomPassage(4, 14)

// playRank drafts along a passage, three times: the second is recorded, the third replayed.
func playRank(t *testing.T, head *mtp.Head) (r rankDrafts, err error) {
	cache, err := head.NewCache(64)
	if err != nil {
		return r, err
	}
	for range 3 {
		s := cache.NewSequence()
		for at := 0; at < 14; at += 7 {
			d, err := draftOf(t.Context(), head, rankPassage.batch(s, at, at+7), 3)
			if err != nil {
				return r, err
			}
			r.IDs, r.Probs = append(r.IDs, d.ids()), append(r.Probs, d.probs())
		}
	}
	return r, cache.Close()
}

func (p *rankProcess) run(t *testing.T) {
	device, library := p.open(t)
	var head *mtp.Head
	var group *hip.Group
	join := func(name string, timeout time.Duration) {
		t.Helper()
		o := hip.GroupOptions{Timeout: timeout, Library: library}
		joined, err := hip.JoinGroup(t.Context(), device, p.groupID(t, name, device, o), p.Rank, 2, o)
		require.NoError(t, err)
		if head == nil {
			head, err = mtp.LoadFS(t.Context(), synthetic{format: "BF16", seed: 7}.files(t), mtp.Options{Device: device, Group: joined})
			require.NoError(t, err)
		} else {
			require.NoError(t, head.Regroup(t.Context(), joined))
			require.NoError(t, group.Close())
		}
		group = joined
	}
	play := func(name string) {
		t.Helper()
		drafts, err := playRank(t, head)
		require.NoError(t, err)
		text, err := json.Marshal(drafts)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(p.Folder, fmt.Sprintf("%s-%d", name, p.Rank)), text, 0o600))
	}
	if !p.Again {
		join("first", time.Minute)
		play("before")
		limit := 3 * time.Second
		if p.Device == "GPU" { // NCCL takes a while to join
			limit = 10 * time.Second
		}
		join("second", limit)
		cache := newCache(t, head, 16)
		b := withDrafts(rankPassage.batch(cache.NewSequence(), 0, 7), 3)
		b.Sequences[0].Allowed = func(drafted []int32) []uint32 {
			if p.Rank == 1 && len(drafted) == 1 {
				self, err := os.FindProcess(os.Getpid())
				require.NoError(t, errors.Join(err, self.Kill()))
				select {}
			}
			return nil
		}
		_, err := head.Draft(t.Context(), b)
		require.ErrorIs(t, err, hip.ErrGroup)
		require.Zero(t, b.Sequences[0].Sequence.Len(), "nothing was committed")
		require.NoError(t, cache.Close())
	}
	join("third", time.Minute)
	play("after")
	require.NoError(t, errors.Join(head.Close(), group.Close()))
}

// open returns the rank's device, and the library of its groups.
func (p *rankProcess) open(t *testing.T) (d hip.Device, library string) {
	var options hip.OpenOptions
	if p.Device != "GPU" {
		options = hiptest.NewEmulator(t, p.Device, 1<<30).Options()
		library = options.Library
	}
	d, err := hip.Open(p.Rank, options)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d, library
}

// groupID returns the id of a group: rank 0 makes it, and the others wait for its file.
func (p *rankProcess) groupID(t *testing.T, name string, d hip.Device, o hip.GroupOptions) (id hip.GroupID) {
	path := filepath.Join(p.Folder, "group-"+name)
	if p.Rank == 0 {
		id, err := hip.NewGroupID(d, o)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path+".new", id[:], 0o600))
		require.NoError(t, os.Rename(path+".new", path))
		return id
	}
	require.Eventually(t, func() bool {
		text, err := os.ReadFile(path)
		return err == nil && copy(id[:], text) == len(id)
	}, time.Minute, time.Millisecond)
	return id
}
