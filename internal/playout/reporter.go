package playout

// maxWarnings is how many warnings may wait for the callback.
const maxWarnings = 64

// A reporter calls the callbacks for progress and warnings from its own goroutine, one at a time,
// so that a blocked terminal does not block the stream.
type reporter struct {
	progress chan Progress // the latest progress, if not yet reported
	warnings chan string
	done     chan struct{}
}

func newReporter(o *Options) *reporter {
	r := &reporter{make(chan Progress, 1), make(chan string, maxWarnings), make(chan struct{})}
	progress, warnings := r.progress, r.warnings
	go func() {
		defer close(r.done)
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
	return r
}

// update reports p. It replaces progress that is not yet reported. Call it from one goroutine
// only.
func (r *reporter) update(p Progress) {
	select {
	case <-r.progress:
	default:
	}
	r.progress <- p
}

// warn reports text, unless maxWarnings already wait.
func (r *reporter) warn(text string) {
	select {
	case r.warnings <- text:
	default:
	}
}

// close waits until everything is reported. No method may be called after it.
func (r *reporter) close() {
	close(r.progress)
	close(r.warnings)
	<-r.done
}
