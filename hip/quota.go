package hip

import (
	"io/fs"
	"math"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
)

// cpuQuota returns how many CPUs' time the process may use, as a container limits it, which
// may be a fraction; ok reports whether there is a limit.
func cpuQuota() (cpus float64, ok bool) {
	if runtime.GOOS != "linux" {
		return 0, false
	}
	return quotaOf(os.DirFS("/"))
}

// quotaOf reads the limits of the process's control groups and of those that they are in,
// of either version, from a root folder. The smallest counts. In a container the folder of
// the process's group is often mounted as the root of all, whatever the group is called:
// folders that are not there have no limit.
func quotaOf(root fs.FS) (cpus float64, ok bool) {
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return 0, false
	}
	cpus = math.Inf(1)
	for line := range strings.Lines(string(groups)) { // such as 0::/group or 4:cpu,cpuacct:/group
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) < 3 {
			continue
		}
		read, mounts := quotaV1, []string{fields[1]}
		if fields[1] == "" {
			read, mounts = quotaV2, []string{"", "unified"}
		}
		for _, mount := range mounts {
			for group := path.Join("/", fields[2]); ; group = path.Dir(group) {
				if n, limited := read(root, path.Join("sys/fs/cgroup", mount, group)); limited {
					cpus = min(cpus, n)
				}
				if group == "/" {
					break
				}
			}
		}
	}
	return cpus, !math.IsInf(cpus, 1)
}

// quotaV2 reads cpu.max, such as "50000 100000": microseconds of CPU time in as many of time.
func quotaV2(root fs.FS, folder string) (cpus float64, ok bool) {
	text, err := fs.ReadFile(root, path.Join(folder, "cpu.max"))
	if err != nil {
		return 0, false
	}
	quota, period, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	return share(quota, period)
}

// quotaV1 reads the same from two files.
func quotaV1(root fs.FS, folder string) (cpus float64, ok bool) {
	quota, err := fs.ReadFile(root, path.Join(folder, "cpu.cfs_quota_us"))
	if err != nil {
		return 0, false
	}
	period, err := fs.ReadFile(root, path.Join(folder, "cpu.cfs_period_us"))
	if err != nil {
		return 0, false
	}
	return share(strings.TrimSpace(string(quota)), strings.TrimSpace(string(period)))
}

// share returns quota ÷ period; "max" and −1 stand for no limit.
func share(quota, period string) (cpus float64, ok bool) {
	q, err := strconv.ParseInt(quota, 10, 64)
	if err != nil || q <= 0 {
		return 0, false
	}
	p, err := strconv.ParseInt(period, 10, 64)
	if err != nil || p <= 0 {
		return 0, false
	}
	return float64(q) / float64(p), true
}
