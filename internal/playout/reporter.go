package playout

// maxWarnings is how many warnings wait for whoever is told.
const maxWarnings = 64

// A reporter tells progress and warnings from a goroutine of its own, one at a time: a terminal
// that is held must not hold the stream.
type reporter struct {
	progress chan Progress // has the newest that was not told
	warnings chan string
	done     chan struct{}
}

func newReporter(o *Options) *reporter {
	t := &reporter{make(chan Progress, 1), make(chan string, maxWarnings), make(chan struct{})}
	progress, warnings := t.progress, t.warnings
	go func() {
		defer close(t.done)
		for progress != nil || warnings != nil {
			select {
			case p, ok := <-progress:
				if !ok {
					progress = nil
				} else if o.Progress != nil {
					o.Progress(p)
				}
			case text, ok := <-warnings:
				if !ok {
					warnings = nil
				} else if o.Warn != nil {
					o.Warn(text)
				}
			}
		}
	}()
	return t
}

// update has p told in the place of what was not told yet. For one goroutine.
func (t *reporter) update(p Progress) {
	select {
	case <-t.progress:
	default:
	}
	t.progress <- p
}

// warn has text told, unless too much waits already.
func (t *reporter) warn(text string) {
	select {
	case t.warnings <- text:
	default:
	}
}

// close waits until all is told. Nothing may be told later.
func (t *reporter) close() {
	close(t.progress)
	close(t.warnings)
	<-t.done
}
