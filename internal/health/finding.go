package health

import "time"

// A Severity says how much a problem matters.
type Severity string

// Severities.
const (
	Notice  Severity = "notice"  // viewers see no fault; something could be better
	Warning Severity = "warning" // some viewers see or hear a fault
	Error   Severity = "error"   // most viewers see no picture or hear no sound
)

// A Finding is a problem of a stream.
type Finding struct {
	Code     string // in a word for programs: "keyframe_interval"
	Severity Severity
	Text     string // for people: the problem, and the settings to change in OBS and in ffmpeg
	Since    time.Time
	LastSeen time.Time
}

// clearAfter is how long a problem must not be seen for its finding to be over: findings do not come
// and go with each second.
const clearAfter = 30 * time.Second

// A state is the state of one rule.
type state struct {
	text        string // the finding's; "" if there is none
	cleared     string // the text of the finding that is over
	since, seen time.Time
}

// update sets the state to what the rule says: the problem, or "". It reports whether a finding
// appeared or is over.
func (s *state) update(now time.Time, text string) (changed bool) {
	switch {
	case text != "":
		changed = s.text == ""
		if changed {
			s.since = now
		}
		s.text, s.seen = text, now
	case s.text != "" && now.Sub(s.seen) >= clearAfter:
		s.cleared, s.text = s.text, ""
		changed = true
	}
	return changed
}

func (s *state) finding(r rule) Finding {
	return Finding{Code: r.Code, Severity: r.Severity, Text: s.text, Since: s.since, LastSeen: s.seen}
}

// Findings returns the problems of now, the worst first.
func (a *Analyzer) Findings() (list []Finding) {
	for _, severity := range []Severity{Error, Warning, Notice} {
		for i := range a.states {
			if rules[i].Severity == severity && a.states[i].text != "" {
				list = append(list, a.states[i].finding(rules[i]))
			}
		}
	}
	return list
}
