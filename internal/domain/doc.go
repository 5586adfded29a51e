// Package domain holds the words of the control plane: names of streams, kinds of error, and the
// contracts for push keys and for who may do what. It imports nothing of the project and knows no
// protocol, no store and no media.
package domain
