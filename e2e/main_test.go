// Package e2e tests livego as its users do: with the real binary, real encoders and players, and
// the documented interface only.
package e2e

import (
	"os"
	"testing"

	"livego/e2e/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
