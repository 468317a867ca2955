package gpu

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/internal/prelude"
)

// A cache entry is a file named by everything that the code depends on:
//
//	offset 0    SHA-256 of what follows
//	       32   the code object
//
// A damaged entry is ignored: the checksum finds it. The checksum does not protect from
// malice: whoever can write an entry can run code on the GPU, in this process. So the cache
// does not read folders and entries that others may have written.

// codeCache is a folder of compiled kernels.
type codeCache struct {
	dir string // as it was given; "": none
	log *slog.Logger

	open     sync.Once
	resolved string // the folder without links; "": not to be used
	warned   sync.Map
}

func newCodeCache(o *hip.OpenOptions) *codeCache {
	return &codeCache{dir: cacheDir(o), log: o.Logger}
}

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

// folder returns the folder, made if it is missing, or "" where it is not to be used.
func (c *codeCache) folder() string {
	c.open.Do(func() {
		if c.dir == "" {
			return
		}
		if err := os.MkdirAll(c.dir, 0o700); err != nil {
			c.warn("the kernel cache cannot be written: kernels are compiled anew in every process", err)
			return
		}
		resolved, err := filepath.Abs(c.dir)
		if err == nil {
			resolved, err = filepath.EvalSymlinks(resolved)
		}
		if err == nil {
			err = ownFolder(resolved)
		}
		if err != nil {
			c.warn("the kernel cache is not used, as others may have written it: kernels are compiled anew", err)
			return
		}
		c.resolved = resolved
	})
	return c.resolved
}

// warn logs a message once.
func (c *codeCache) warn(message string, err error) {
	if _, said := c.warned.LoadOrStore(message, true); !said && c.log != nil {
		c.log.Warn(message, "folder", c.dir, "error", err)
	}
}

// mostCode bounds the code of a source, in bytes.
const mostCode = 1 << 30

// read returns an entry's code, if the cache has it whole.
func (c *codeCache) read(name string) ([]byte, bool) {
	dir := c.folder()
	if dir == "" {
		return nil, false
	}
	entry, err := readOwn(filepath.Join(dir, name))
	switch {
	case errors.Is(err, errNotOwn):
		c.warn("an entry of the kernel cache is not read, as others may have written it: it is compiled anew", err)
		return nil, false
	case err != nil || len(entry) <= sha256.Size:
		return nil, false
	}
	code := entry[sha256.Size:]
	return code, sha256.Sum256(code) == [sha256.Size]byte(entry)
}

// errNotOwn says that somebody else may have written a file or a folder.
var errNotOwn = errors.New("not the user's own alone")

// notOwn returns errNotOwn for a path, with the reason.
func notOwn(path, why string) error { return fmt.Errorf("%s %s: %w", path, why, errNotOwn) }

// readOwn reads a regular file, or what a link to one leads to, that nobody but the user and
// the system's administrator can have written. Nothing else is opened: the other end of a
// pipe may never answer.
func readOwn(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, notOwn(path, "is not a regular file")
	}
	f, err := openNonblock(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, notOwn(path, "is not a regular file")
	}
	if err := own(path, info); err != nil {
		return nil, err
	}
	n := info.Size()
	if n > mostCode+sha256.Size {
		return nil, fs.ErrInvalid
	}
	entry := make([]byte, n)
	_, err = io.ReadFull(f, entry)
	return entry, err
}

// write writes an entry, at once or not at all. A cache that cannot be written only costs
// time, so that is not an error.
func (c *codeCache) write(name string, code []byte) {
	dir := c.folder()
	if dir == "" {
		return
	}
	f, err := os.CreateTemp(dir, "new-*")
	if err == nil {
		sum := sha256.Sum256(code)
		_, err = f.Write(append(sum[:], code...))
		if err = errors.Join(err, f.Close()); err == nil {
			err = os.Rename(f.Name(), filepath.Join(dir, name))
		}
		if err != nil {
			os.Remove(f.Name()) // nothing else can be done about it
		}
	}
	if err != nil {
		c.warn("the kernel cache cannot be written: kernels are compiled anew in every process", err)
	}
}

// entry names the entry of a unit.
func (c *compiler) entry(u *unit) string {
	h := sha256.New()
	for _, part := range []string{c.driver.platform, filepath.Base(c.driver.name), filepath.Base(c.name), c.version, c.arch, prelude.Text(), u.name, u.text} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	fmt.Fprintf(h, "%d%q", c.driver.version, c.options)
	return hex.EncodeToString(h.Sum(nil)[:20]) + ".code"
}
