package gpu

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/internal/prelude"
)

// A cache entry is a file named by everything that the code depends on:
//
//	offset 0    SHA-256 of what follows
//	       32   the code object
//
// An entry that is not whole is as good as none.

// cacheDir returns the folder of the cache, or "" for none.
func cacheDir(o *hip.OpenOptions) string {
	switch o.CacheDir {
	case "":
	case os.DevNull:
		return ""
	default:
		return o.CacheDir
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "drafthead", "kernels")
}

func (c *compiler) path(u *unit) string {
	h := sha256.New()
	for _, part := range []string{c.driver.platform, filepath.Base(c.driver.name), filepath.Base(c.name), c.version, c.arch, prelude.Text(), u.name, u.text} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	fmt.Fprintf(h, "%d%q", c.driver.version, c.options)
	return filepath.Join(c.dir, hex.EncodeToString(h.Sum(nil)[:20])+".code")
}

// cached returns the code of a unit, if the cache has it whole.
func (c *compiler) cached(u *unit) ([]byte, bool) {
	if c.dir == "" {
		return nil, false
	}
	entry, err := os.ReadFile(c.path(u))
	if err != nil || len(entry) <= sha256.Size {
		return nil, false
	}
	code := entry[sha256.Size:]
	return code, sha256.Sum256(code) == [sha256.Size]byte(entry)
}

// keep writes an entry, at once or not at all. A cache that cannot be written costs
// time alone, so that is no error.
func (c *compiler) keep(u *unit, code []byte) {
	if c.dir == "" || os.MkdirAll(c.dir, 0o755) != nil {
		return
	}
	f, err := os.CreateTemp(c.dir, "new-*")
	if err != nil {
		return
	}
	sum := sha256.Sum256(code)
	_, err = f.Write(append(sum[:], code...))
	if closed := f.Close(); err != nil || closed != nil || os.Rename(f.Name(), c.path(u)) != nil {
		os.Remove(f.Name()) // nothing else can be done about it
	}
}
