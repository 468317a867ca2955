package moe

import (
	"errors"
	"fmt"
)

var (
	// ErrConfig is a [Config], or a weight of [Experts], that cannot be used.
	ErrConfig = errors.New("invalid mixture of experts")

	// ErrInput is an argument of [Experts.Forward] that cannot be used.
	ErrInput = errors.New("invalid input of the mixture of experts")
)

// ConfigError is one field of a [Config] that is out of range. It wraps [ErrConfig].
type ConfigError struct {
	Field string
	Got   float64
	Want  string // the range
}

func (e *ConfigError) Error() string {
	return fmt.Sprintf("%v: %s is %v, want %s", ErrConfig, e.Field, e.Got, e.Want)
}

func (e *ConfigError) Unwrap() error { return ErrConfig }

// WeightError is one weight of [Experts] that is missing (Rows and Cols are 0)
// or does not have the shape that the config states. It wraps [ErrConfig].
type WeightError struct {
	Weight             string // the field of Experts
	Rows, Cols         int
	WantRows, WantCols int
}

func (e *WeightError) Error() string {
	got := "missing"
	if e.Rows != 0 || e.Cols != 0 {
		got = fmt.Sprintf("%d × %d", e.Rows, e.Cols)
	}
	return fmt.Sprintf("%v: %s is %s, want %d × %d", ErrConfig, e.Weight, got, e.WantRows, e.WantCols)
}

func (e *WeightError) Unwrap() error { return ErrConfig }

// InputError is one argument that is out of range. It wraps [ErrInput].
type InputError struct {
	Argument string
	Got      int64 // a number, or an address
	Want     string
}

func (e *InputError) Error() string {
	return fmt.Sprintf("%v: %s is %d, want %s", ErrInput, e.Argument, e.Got, e.Want)
}

func (e *InputError) Unwrap() error { return ErrInput }
