package domain

import (
	"fmt"
	"strings"
)

// A Name identifies a stream: a room of an app. Both parts satisfy CheckApp and CheckRoom.
type Name struct{ App, Room string }

// String returns "app/room".
func (n Name) String() string { return n.App + "/" + n.Room }

// ParseName checks app and room and returns their Name. The error, of kind Invalid, names the rule
// that was broken.
func ParseName(app, room string) (Name, error) {
	if err := CheckApp(app); err != nil {
		return Name{}, err
	}
	if err := CheckRoom(room); err != nil {
		return Name{}, err
	}
	return Name{app, room}, nil
}

// MaxName is the longest app or room name, in bytes.
const MaxName = 128

// reservedApps are the first path segments of the operator's HTTP and of fixed public paths.
var reservedApps = map[string]bool{
	"api": true, "control": true, "debug": true, "healthz": true, "metrics": true, "readyz": true,
	"stat": true, "statics": true, "whip": true, "whep": true, "crossdomain.xml": true,
}

// CheckApp reports whether s may name an app.
func CheckApp(s string) error {
	if err := checkPart("app", s); err != nil {
		return err
	}
	if reservedApps[strings.ToLower(s)] {
		return Errorf(Invalid, "app name %q is reserved for the operator's routes", s)
	}
	return nil
}

// CheckRoom reports whether s may name a room.
func CheckRoom(s string) error { return checkPart("room", s) }

// CheckNewRoom reports whether s may name a room that does not exist yet: CheckRoom, and it does not end
// as the address of a thumbnail does.
func CheckNewRoom(s string) error {
	if strings.HasSuffix(strings.ToLower(s), ".jpg") {
		return Errorf(Invalid, "room name %q ends in .jpg, which is a file format", s)
	}
	return CheckRoom(s)
}

// CheckLabel reports whether s may be the label of a stream key: a valid room name, or "" for the
// default key.
func CheckLabel(s string) error {
	if s == "" {
		return nil
	}
	return checkPart("label", s)
}

// checkPart checks a name. Names become URL path segments, file names and log attributes, so only
// what is safe in all three on every system is valid.
func checkPart(what, s string) error {
	bad := func(format string, args ...any) error {
		return Errorf(Invalid, "%s name %s", what, fmt.Sprintf(format, args...))
	}
	switch {
	case s == "":
		return bad("is empty")
	case len(s) > MaxName:
		return bad("is longer than %d characters", MaxName)
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; !isBase62(c) && c != '.' && c != '_' && c != '-' {
			return bad("%q has a character outside A-Z a-z 0-9 . _ -", s)
		}
	}
	if s[0] == '.' || s[len(s)-1] == '.' {
		return bad("%q starts or ends with a dot", s)
	}
	lower := strings.ToLower(s)
	for _, ext := range []string{".flv", ".m3u8", ".ts", ".m4s", ".mp4"} {
		if strings.HasSuffix(lower, ext) {
			return bad("%q ends in %s, which is a file format", s, ext)
		}
	}
	if label, _, _ := strings.Cut(lower, "."); isDevice(label) {
		return bad("%q starts with a DOS device name", s)
	}
	if LooksLikeKey(s) {
		return bad("has the form of a stream key (%d letters and digits)", KeyLength)
	}
	return nil
}

// isDevice reports whether the lower-case label is a device name on Windows.
func isDevice(label string) bool {
	switch label {
	case "con", "prn", "aux", "nul":
		return true
	}
	return len(label) == 4 && (label[:3] == "com" || label[:3] == "lpt") && label[3] >= '0' && label[3] <= '9'
}

func isBase62(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// MaxNodeID is the longest ID of a node, in bytes.
const MaxNodeID = 64

// CheckNodeID reports whether s may be the ID of a node of a cluster.
func CheckNodeID(s string) error {
	if s == "" || len(s) > MaxNodeID {
		return Errorf(Invalid, "a node ID has 1 to %d characters", MaxNodeID)
	}
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.' {
			return Errorf(Invalid, "a node ID has letters, digits, -, _ and . only")
		}
	}
	return nil
}
