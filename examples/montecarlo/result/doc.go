// SPDX-License-Identifier: Apache-2.0

// Package result judges the outcome of the Monte Carlo example: it finds the signed result in each pod's log, combines
// the tallies of all indices, and compares them with expectations that it calculates from the deck without sampling.
// It imports the standard library only.
//
//	deck, err := result.ParseDeck(deckJSON)
//	r, err := result.Parse(log, key) // for each pod
//	report, err := result.Combine(deck, 20, results)
package result

import "errors"

// What can be wrong with a run. Errors of this package wrap one of them, or several.
var (
	// ErrNoResult says that a log holds no result line: the pod did not finish, or the log was cut.
	ErrNoResult = errors.New("no result line")
	// ErrMalformed says that a result line, or a deck, cannot be understood.
	ErrMalformed = errors.New("malformed")
	// ErrSignature says that a result was not signed with the run's key, or was changed after it was signed.
	ErrSignature = errors.New("signature does not match")
	// ErrDeck says that a result was computed from another deck.
	ErrDeck = errors.New("computed from another deck")
	// ErrMissing says that an index delivered no result.
	ErrMissing = errors.New("no result was delivered")
	// ErrDoubled says that an index, a random stream or a result line occurs twice.
	ErrDoubled = errors.New("occurs twice")
	// ErrDisagree says that a measured quantity is too far from its expectation.
	ErrDisagree = errors.New("measurement disagrees with expectation")
)
