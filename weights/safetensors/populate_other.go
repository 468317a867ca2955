//go:build !linux

package safetensors

import "errors"

// populateRead is for Linux; elsewhere pages are touched.
func populateRead([]byte) error { return errors.ErrUnsupported }
