// SPDX-License-Identifier: Apache-2.0

// Package montecarlo carries the files of the Monte Carlo example, so that a program can apply and check exactly what a
// user applies with kubectl. It imports nothing of this module; the analysis of the results is in package result.
package montecarlo

import _ "embed"

//go:embed montecarlo.py
var script string

//go:embed deck.json
var deck string

//go:embed deck-lead.json
var leadDeck string

//go:embed job.yaml
var manifest string

// Names of what the manifest creates, and of what it expects beside it.
const (
	Namespace     = "montecarlo" // Namespace holds everything.
	JobName       = "montecarlo" // JobName is the Indexed Job.
	SecretName    = "run-key"    // SecretName is the Secret with the key that signs the results.
	SecretKey     = "key"        // SecretKey is the entry of the Secret which becomes RUN_KEY.
	ConfigMapName = "montecarlo" // ConfigMapName must hold the entries ScriptKey and DeckKey.
	ScriptKey     = "montecarlo.py"
	DeckKey       = "deck.json"
	Completions   = 20 // Completions is the number of indices of the Job.
)

// Script is the program which each pod runs.
func Script() string { return script }

// Deck is the default input: caesium-137 behind 5 cm of iron.
func Deck() string { return deck }

// LeadDeck is a second input: caesium-137 behind 2 cm of lead.
func LeadDeck() string { return leadDeck }

// Manifest is the YAML of the Namespace, the Secret and the Job, in that order. The ConfigMap is not in it: kubectl
// makes it from the files beside it, a program from Script and Deck.
func Manifest() string { return manifest }
