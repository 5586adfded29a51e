//go:build !race

package replica_test

// seeds of TestEqualBytes.
const seeds = 100
