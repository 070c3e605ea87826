// SPDX-License-Identifier: Apache-2.0

package result

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
)

const (
	electronMass = 0.51099895  // MeV
	avogadro     = 0.602214076 // per mole, times 1e24: turns barn/atom into cm2/mole
	// microsievertPerHour turns pSv/s into µSv/h.
	microsievertPerHour = 3600e-6
)

// Deck is the input of a run. Lengths are in cm, energies in MeV.
type Deck struct {
	Title     string  `json:"title"`
	Seed      uint64  `json:"seed"`
	Histories int     `json:"histories"`
	CutoffMeV float64 `json:"cutoffMeV"`
	Source    struct {
		Nuclide         string  `json:"nuclide"`
		EnergyMeV       float64 `json:"energyMeV"`
		PhotonsPerDecay float64 `json:"photonsPerDecay"`
		ActivityBq      float64 `json:"activityBq"`
	} `json:"source"`
	Shield struct {
		Material       string  `json:"material"`
		DensityGPerCm3 float64 `json:"densityGPerCm3"`
		AtomicWeight   float64 `json:"atomicWeight"`
		InnerRadiusCm  float64 `json:"innerRadiusCm"`
		OuterRadiusCm  float64 `json:"outerRadiusCm"`
	} `json:"shield"`
	Detector struct {
		DistanceCm float64 `json:"distanceCm"`
	} `json:"detector"`
	CrossSections struct {
		Source        string    `json:"source"`
		Unit          string    `json:"unit"`
		EnergyMeV     []float64 `json:"energyMeV"`
		Incoherent    []float64 `json:"incoherent"`
		Photoelectric []float64 `json:"photoelectric"`
	} `json:"crossSections"`
	DoseConversion struct {
		Source      string    `json:"source"`
		Unit        string    `json:"unit"`
		EnergyMeV   []float64 `json:"energyMeV"`
		Coefficient []float64 `json:"coefficient"`
	} `json:"doseConversion"`

	digest string
}

// ParseDeck reads a deck and refuses one that describes no run. Unknown fields are errors.
func ParseDeck(data []byte) (*Deck, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	deck := &Deck{}
	if err := decoder.Decode(deck); err != nil {
		return nil, fmt.Errorf("read deck: %w: %w", ErrMalformed, err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read deck: %w: text after the deck", ErrMalformed)
	}
	if problem := deck.problem(); problem != "" {
		return nil, fmt.Errorf("read deck: %w: %s", ErrMalformed, problem)
	}
	sum := sha256.Sum256(data)
	deck.digest = hex.EncodeToString(sum[:])
	return deck, nil
}

// Digest is the SHA-256 of the bytes that the deck was read from, in hexadecimal. A result names the digest of the deck
// that the pod read.
func (d *Deck) Digest() string { return d.digest }

// problem says what keeps the deck from describing a run; empty when nothing does.
func (d *Deck) problem() string {
	s, x, h := d.Shield, d.CrossSections, d.DoseConversion
	low, high := d.CutoffMeV, d.Source.EnergyMeV
	switch {
	case low <= 0 || high <= low || high >= 2*electronMass:
		return "the source energy must lie between the cut-off and the threshold of pair production"
	case d.Source.ActivityBq <= 0 || d.Source.PhotonsPerDecay <= 0:
		return "the source emits no photons"
	case s.InnerRadiusCm < 0 || s.OuterRadiusCm <= s.InnerRadiusCm || d.Detector.DistanceCm < s.OuterRadiusCm:
		return "radii must satisfy 0 ≤ inner < outer ≤ detector distance"
	case s.DensityGPerCm3 <= 0 || s.AtomicWeight <= 0:
		return "the shield needs a density and an atomic weight"
	case d.Histories < 2:
		return "histories must be at least 2"
	case x.Unit != "barn/atom" || h.Unit != "pSv cm2":
		return "units must be barn/atom for cross sections and pSv cm2 for dose conversion"
	case !covers(low, high, x.EnergyMeV, x.Incoherent, x.Photoelectric):
		return "crossSections needs increasing energies from cut-off to source energy with one positive value each"
	case !covers(low, high, h.EnergyMeV, h.Coefficient):
		return "doseConversion needs increasing energies from cut-off to source energy with one positive value each"
	}
	return ""
}

// covers reports whether the energies increase, reach from low to high, and have one positive value in each column.
func covers(low, high float64, energies []float64, columns ...[]float64) bool {
	n := len(energies)
	if n < 2 || energies[0] <= 0 || energies[0] > low || energies[n-1] < high {
		return false
	}
	for i := 1; i < n; i++ {
		if energies[i] <= energies[i-1] {
			return false
		}
	}
	for _, column := range columns {
		if len(column) != n || slices.ContainsFunc(column, func(v float64) bool { return v <= 0 }) {
			return false
		}
	}
	return true
}

// interpolate is linear in the logarithms of both, and constant beyond the ends.
func interpolate(energies, values []float64, energy float64) float64 {
	i, found := slices.BinarySearch(energies, energy)
	switch {
	case found:
		return values[i]
	case i == 0:
		return values[0]
	case i == len(energies):
		return values[i-1]
	}
	share := math.Log(energy/energies[i-1]) / math.Log(energies[i]/energies[i-1])
	return values[i-1] * math.Exp(share*math.Log(values[i]/values[i-1]))
}
