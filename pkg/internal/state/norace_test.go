//go:build !race

package state

// slower divides what tests repeat very often.
const slower = 1
