//go:build race

package replica_test

// seeds of TestEqualBytes: the race detector makes each twenty times slower.
const seeds = 10
