package domain

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// TestEventCodes checks that the API names every code that an event can have.
func TestEventCodes(t *testing.T) {
	source, err := os.ReadFile("error.go")
	if err != nil {
		t.Fatal(err)
	}
	var codes []string
	for _, m := range regexp.MustCompile(`Code\s+= "(\w+)"`).FindAllSubmatch(source, -1) {
		codes = append(codes, string(m[1]))
	}
	field, _ := reflect.TypeFor[Event]().FieldByName("Code")
	if got, want := field.Tag.Get("enum"), strings.Join(codes, ","); got != want || want == "" {
		t.Errorf("the tag enum of Event.Code is %q, want %q", got, want)
	}
}
