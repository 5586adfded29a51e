// Package domain holds the types of the control plane: names of streams, kinds of errors, and the
// contracts for stream keys and authorization. It imports no other package of the project and knows
// no protocol, store or media.
package domain
