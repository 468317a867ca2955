//go:build !amd64

package attention

// No level has tiles, and none reaches this.
func bestScoresTiles(*tileScoresArgs) { panic("attention: no tiles on this architecture") }
