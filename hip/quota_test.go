package hip

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

// TestQuota: the smallest limit of the process's groups and of those around them counts.
func TestQuota(t *testing.T) {
	for _, test := range []struct {
		name   string
		groups string
		files  map[string]string
		want   float64 // 0: no limit
	}{
		{"no control groups", "", nil, 0},
		{"version 2, no limit", "0::/a", map[string]string{"a/cpu.max": "max 100000"}, 0},
		{"version 2", "0::/a", map[string]string{"a/cpu.max": "50000 100000"}, 0.5},
		{"version 2, period", "0::/a", map[string]string{"a/cpu.max": "50000 20000"}, 2.5},
		{"version 2, the group is the root", "0::/", map[string]string{"cpu.max": "150000 100000"}, 1.5},
		{"version 2, a group around it", "0::/a/b/c", map[string]string{"a/b/c/cpu.max": "max 100000", "a/b/cpu.max": "400000 100000", "a/cpu.max": "300000 100000"}, 3},
		{"version 2, another group", "0::/a", map[string]string{"b/cpu.max": "50000 100000"}, 0},
		{"version 2 beside version 1", "4:cpu,cpuacct:/\n0::/a", map[string]string{"unified/a/cpu.max": "70000 100000"}, 0.7},
		{"version 1", "4:cpu,cpuacct:/a\n3:memory:/b", map[string]string{"cpu,cpuacct/a/cpu.cfs_quota_us": "50000", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"}, 0.5},
		{"version 1, no limit", "1:cpu:/a", map[string]string{"cpu/a/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "100000"}, 0},
		{"version 1, mounted as the root", "1:cpu:/docker/0123", map[string]string{"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "100000"}, 2.5},
		{"version 1, half of it", "1:cpu:/a", map[string]string{"cpu/a/cpu.cfs_quota_us": "50000"}, 0},
		{"nonsense", "0::/a\nx\n::\n0::../../b", map[string]string{"a/cpu.max": "much 100000", "b/cpu.max": "-5 0"}, 0},
		{"no period", "0::/a", map[string]string{"a/cpu.max": "50000"}, 0},
	} {
		root := fstest.MapFS{}
		if test.groups != "" {
			root["proc/self/cgroup"] = &fstest.MapFile{Data: []byte(test.groups + "\n")}
		}
		for name, text := range test.files {
			root["sys/fs/cgroup/"+name] = &fstest.MapFile{Data: []byte(text + "\n")}
		}
		cpus, ok := quotaOf(root)
		require.Equal(t, test.want != 0, ok, test.name)
		if ok {
			require.Equal(t, test.want, cpus, test.name)
		}
	}
}

// FuzzQuota: whatever the files hold, a limit is more than nothing.
func FuzzQuota(f *testing.F) {
	f.Add("0::/a", "50000 100000")
	f.Add("1:cpu:/", "max")
	f.Add(strings.Repeat("/", 100), "-1 1")
	f.Fuzz(func(t *testing.T, groups, limit string) {
		file := &fstest.MapFile{Data: []byte(limit)}
		cpus, ok := quotaOf(fstest.MapFS{
			"proc/self/cgroup":        {Data: []byte(groups)},
			"sys/fs/cgroup/cpu.max":   file,
			"sys/fs/cgroup/a/cpu.max": file,
		})
		require.True(t, !ok || cpus > 0)
	})
}
