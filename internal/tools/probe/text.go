package probe

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// WriteText writes the report as text.
func (r *Report) WriteText(w io.Writer) error {
	b := &strings.Builder{}
	fmt.Fprintf(b, "%s: %s\n", r.Source, strings.Join(r.summary(), ", "))
	for _, t := range r.Tracks {
		fmt.Fprintf(b, "  %s: %s\n", t.Kind, strings.Join(t.description(), ", "))
	}
	if len(r.Tracks) > 0 {
		b.WriteString("\n")
		table := tabwriter.NewWriter(b, 0, 0, 3, ' ', 0)
		fmt.Fprintf(table, "  \tRTMP, HTTP-FLV\tHLS (fMP4)\tHLS (MPEG-TS)\n")
		for _, t := range r.Tracks {
			fmt.Fprintf(table, "  %s %s\t%s\t%s\t%s\n", t.Kind, t.Codec, outputWords[t.RTMP], t.FMP4, t.TS)
		}
		_ = table.Flush() // into memory
	}
	b.WriteString("\n")
	for i, m := range r.Remarks {
		fmt.Fprintf(b, "%d. %s\n", i+1, m.Text)
		if m.RepairCommand != "" && (m.RepairCommand != r.RepairCommand || len(r.Remarks) == 1) {
			fmt.Fprintf(b, "   %s\n", m.RepairCommand)
		}
	}
	if r.RepairCommand != "" && len(r.Remarks) > 1 {
		fmt.Fprintf(b, "To repair everything:\n   %s\n", r.RepairCommand)
	}
	fmt.Fprintf(b, "%s\n", verdictWords[r.Verdict])
	_, err := io.WriteString(w, b.String())
	return err
}

var outputWords = map[string]string{"yes": "yes", "no": "no", "enhanced": "new players", "old": "old players"}

var verdictWords = map[string]string{
	Fine: "Fine: it plays everywhere.", Playable: "Playable, with the remarks above.",
	Unplayable: "Not playable as it is.",
}

func (r *Report) summary() []string {
	words := []string{r.Container}
	if r.Duration > 0 {
		words = append(words, FormatClock(r.Duration))
	}
	if r.Size > 0 {
		words = append(words, fmt.Sprintf("%.1f MB", float64(r.Size)/1e6))
	}
	if r.BitRate > 0 {
		words = append(words, formatBitRate(r.BitRate))
	}
	if !r.Whole {
		words = append(words, fmt.Sprintf("examined for %.0f s", r.Seen))
	}
	return words
}

// description returns the properties of a track.
func (t *Track) description() []string {
	var words []string
	add := func(ok bool, format string, args ...any) {
		if ok {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	add(true, "%s", strings.TrimSpace(t.Codec+" "+t.Profile))
	add(t.Width > 0, "%dx%d", t.Width, t.Height)
	add(t.BitDepth > 8, "%d bits", t.BitDepth)
	add(t.Rotation != 0, "rotated by %d degrees", t.Rotation)
	add(t.FrameRate > 0, "%.4g frames/s", t.FrameRate)
	add(t.Variable, "variable rate")
	add(t.SampleRate > 0, "%d Hz", t.SampleRate)
	add(t.Channels == 1, "mono")
	add(t.Channels == 2, "stereo")
	add(t.Channels > 2, "%d channels", t.Channels)
	add(t.Kind == "video" && t.Keys > 0, "keyframe every %.3g s at most", t.GOP)
	add(t.Reordered, "B-frames")
	add(t.BitRate > 0, "%s", formatBitRate(t.BitRate))
	return words
}

// formatBitRate formats a bit rate.
func formatBitRate(bits int64) string {
	if bits < 1_000_000 {
		return fmt.Sprintf("%d kbit/s", (bits+500)/1000)
	}
	return fmt.Sprintf("%.1f Mbit/s", float64(bits)/1e6)
}

// FormatClock formats seconds as 1:02:03.4.
func FormatClock(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second)).Round(100 * time.Millisecond)
	h, m, s := int(d.Hours()), int(d.Minutes())%60, (d % time.Minute).Seconds()
	if h > 0 {
		return fmt.Sprintf("%d:%02d:%04.1f", h, m, s)
	}
	return fmt.Sprintf("%d:%04.1f", m, s)
}
