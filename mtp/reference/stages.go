package reference

import "github.com/nlpodyssey/spago/mat"

// stages holds every intermediate value of one forward under its name: see [Head.Forward].
type stages map[string]mat.Matrix

// keep stores a stage and returns it.
func (s stages) keep(name string, m mat.Matrix) mat.Matrix {
	s[name] = m
	return m
}
