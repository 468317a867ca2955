package cli

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// barDelay keeps bars from flashing up for work that is over at once.
const barDelay = 300 * time.Millisecond

const clearLine = "\r\x1b[2K"

// Progress returns a callback that draws a bar titled title on w, and a function that takes
// the bar away until there is more. If w is not a terminal, nothing is drawn. unit is what is counted; "bytes"
// is shown in powers of ten.
func Progress(w io.Writer, title, unit string) (func(done, total int64), func()) {
	if p, ok := w.(plain); ok {
		w = p.w // bars move the cursor
	}
	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return func(done, total int64) {}, func() {}
	}
	var mu sync.Mutex // what is interrupted may still report
	var bar *progressbar.ProgressBar
	start := time.Now()
	update := func(done, total int64) {
		mu.Lock()
		defer mu.Unlock()
		if bar == nil {
			if time.Since(start) < barDelay {
				return
			}
			options := []progressbar.Option{
				progressbar.OptionSetWriter(file),
				progressbar.OptionSetDescription(title),
				progressbar.OptionShowBytes(unit == "bytes"),
				progressbar.OptionSetItsString(unit),
				progressbar.OptionClearOnFinish(),
				progressbar.OptionThrottle(50 * time.Millisecond),
			}
			if total >= 0 {
				options = append(options, progressbar.OptionShowCount())
			}
			bar = progressbar.NewOptions64(total, options...)
		}
		_ = bar.Set64(done) // a bar that cannot be drawn does not stop the work
	}
	return update, func() {
		mu.Lock()
		defer mu.Unlock()
		if bar != nil {
			_ = bar.Clear()
			bar = nil
			fmt.Fprint(file, clearLine) // the terminal may have shown ^C beside it
		}
	}
}

// Spinner shows that a work of unknown length goes on, and for how long: its title on w,
// until done is called. If w is not a terminal, nothing is drawn.
func Spinner(w io.Writer, title string) (done func()) {
	update, clear := Progress(w, title, "")
	ticker := time.NewTicker(barDelay / 3)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-ticker.C:
				update(0, -1)
			case <-stop:
				return
			}
		}
	}()
	return func() {
		ticker.Stop()
		close(stop)
		<-stopped
		clear()
	}
}
