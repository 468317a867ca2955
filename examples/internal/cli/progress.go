package cli

import (
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// barDelay keeps bars from flashing up for work that is over at once.
const barDelay = 300 * time.Millisecond

// Progress returns a callback that draws a bar titled title on w, and a function that takes
// the bar away. If w is not a terminal, nothing is drawn. unit is what is counted; "bytes"
// is shown in powers of ten.
func Progress(w io.Writer, title, unit string) (func(done, total int64), func()) {
	if p, ok := w.(plain); ok {
		w = p.w // bars move the cursor
	}
	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return func(done, total int64) {}, func() {}
	}
	var bar *progressbar.ProgressBar
	start := time.Now()
	update := func(done, total int64) {
		if bar == nil {
			if time.Since(start) < barDelay {
				return
			}
			bar = progressbar.NewOptions64(total,
				progressbar.OptionSetWriter(file),
				progressbar.OptionSetDescription(title),
				progressbar.OptionShowBytes(unit == "bytes"),
				progressbar.OptionShowCount(),
				progressbar.OptionSetItsString(unit),
				progressbar.OptionClearOnFinish(),
				progressbar.OptionThrottle(50*time.Millisecond),
			)
		}
		_ = bar.Set64(done) // a bar that cannot be drawn does not stop the work
	}
	return update, func() {
		if bar != nil {
			_ = bar.Clear()
		}
	}
}
