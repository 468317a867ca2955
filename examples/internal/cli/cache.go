package cli

import (
	"errors"
	"flag"

	"github.com/drafthead/drafthead/attention"
)

// cacheFormats are the values of the flag -cache.
var cacheFormats = map[string]attention.CacheFormat{
	"bf16": attention.CacheBF16, "f32": attention.CacheF32, "fp8": attention.CacheFP8, "fp8-index": attention.CacheFP8Index,
}

// Cache adds the flag -cache, whose value is CacheFormat of mtp.Options; usage says what it
// is by default.
func Cache(flags *flag.FlagSet, to *attention.CacheFormat, usage string) {
	flags.Func("cache", "keep keys and values as this `format`: bf16, f32, fp8, by the checkpoint's scales, or fp8-index, index keys too; "+usage, func(text string) error {
		format, known := cacheFormats[text]
		if !known {
			return errors.New("want bf16, f32, fp8 or fp8-index")
		}
		*to = format
		return nil
	})
}
