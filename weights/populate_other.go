//go:build !linux

package weights

import "errors"

// populateRead is for Linux; elsewhere pages are touched.
func populateRead([]byte) error { return errors.ErrUnsupported }
