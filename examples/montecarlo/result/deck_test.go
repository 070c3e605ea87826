// SPDX-License-Identifier: Apache-2.0

package result_test

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/examples/montecarlo"
	"github.com/cloudveneto/caas/examples/montecarlo/result"
)

func TestParseDeckRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ old, replacement string }{
		"unknown field":      {`"seed"`, `"seeds"`},
		"not JSON":           {`{`, `[`},
		"text after it":      {`"seed": 137`, `"seed": 137}} {"a": 1`},
		"pair production":    {`"energyMeV": 0.661657`, `"energyMeV": 1.3325`},
		"no source":          {`1.0e10`, `0`},
		"shell inside out":   {`"outerRadiusCm": 7.0`, `"outerRadiusCm": 1.0`},
		"detector in shield": {`"distanceCm": 100.0`, `"distanceCm": 5.0`},
		"no density":         {`7.874`, `0`},
		"one history":        {`"histories": 250000`, `"histories": 1`},
		"other unit":         {`barn/atom`, `cm2/g`},
		"table too short":    {`"energyMeV": [0.02, `, `"energyMeV": [`},
		"table not sorted":   {`[0.02, 0.03`, `[0.03, 0.02`},
		"negative value":     {`10.78`, `-10.78`},
		"dose from 100 keV":  {`0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1,`, `0.1,`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := strings.Replace(montecarlo.Deck(), tt.old, tt.replacement, 1)
			require.NotEqual(t, montecarlo.Deck(), data)
			_, err := result.ParseDeck([]byte(data))
			require.ErrorIs(t, err, result.ErrMalformed)
		})
	}
}

// The H*(10) rate constant of caesium-137 is 0.092 to 0.093 µSv m2/(MBq h) with its X rays, 0.0906 without.
func TestUnshielded(t *testing.T) {
	t.Parallel()
	iron, lead := parseDeck(t, montecarlo.Deck()), parseDeck(t, montecarlo.LeadDeck())
	assert.InEpsilon(t, 0.0906*1e4, iron.Unshielded(), 0.01)
	assert.InDelta(t, iron.Unshielded(), lead.Unshielded(), 0)
}

// The mass attenuation coefficients of NIST's standard reference database 126 contain coherent scattering, which the
// decks leave out: with XCOM's value for it taken off, the transmission must be theirs.
func TestTransmissionAgainstPublishedCoefficients(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		data, energy         string
		published, coherent  float64 // cm2/g with coherent scattering; barn/atom
		weight, gramsPerArea float64
	}{
		"iron 0.6 MeV": {montecarlo.Deck(), "0.6", 0.07704, 0.1122, 55.847, 7.874 * 5},
		"iron 0.8 MeV": {montecarlo.Deck(), "0.8", 0.06699, 0.06337, 55.847, 7.874 * 5},
		"iron 1 MeV":   {montecarlo.Deck(), "1.0", 0.05995, 0.04063, 55.847, 7.874 * 5},
		"lead 0.6 MeV": {montecarlo.LeadDeck(), "0.6", 0.1248, 2.773, 207.2, 11.35 * 2},
		"lead 0.8 MeV": {montecarlo.LeadDeck(), "0.8", 0.08870, 1.590, 207.2, 11.35 * 2},
		"lead 1 MeV":   {montecarlo.LeadDeck(), "1.0", 0.07102, 1.029, 207.2, 11.35 * 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			deck := parseDeck(t, strings.Replace(tt.data, "0.661657", tt.energy, 1))
			coefficient := -math.Log(deck.Transmission()) / tt.gramsPerArea
			assert.InEpsilon(t, tt.published-tt.coherent*0.602214/tt.weight, coefficient, 0.001)
		})
	}
}

// In a shell so thin that nothing is attenuated, single scattering is the first-order term µx alone, and every
// photon that is scattered gets out.
func TestSingleScatterInThinShell(t *testing.T) {
	t.Parallel()
	data := strings.Replace(montecarlo.Deck(), `"outerRadiusCm": 7.0`, `"outerRadiusCm": 2.000001`, 1)
	deck := parseDeck(t, data)
	macroscopic := 7.874 * 0.602214076 / 55.847 * 6.634 // 1/cm, incoherent, at 661.657 keV
	assert.InEpsilon(t, macroscopic*1e-6, deck.SingleScatter(), 0.002)
}

// The incoherent cross sections of the decks must be close to the free-electron value above 300 keV, where binding
// matters little: a check on the figures typed into the decks.
func TestDecksAgreeWithKleinNishina(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		data string
		z    float64
	}{{montecarlo.Deck(), 26}, {montecarlo.LeadDeck(), 82}} {
		deck := parseDeck(t, tt.data)
		for i, energy := range deck.CrossSections.EnergyMeV {
			if energy < 0.3 {
				continue
			}
			assert.InEpsilon(t, tt.z*kleinNishinaTotal(energy), deck.CrossSections.Incoherent[i], 0.06, "%v MeV", energy)
		}
	}
}

// kleinNishinaTotal is the closed form of the total cross section in barn per electron.
func kleinNishinaTotal(energy float64) float64 {
	const radius2 = 0.07940787 // classical electron radius squared, barn
	k := energy / 0.51099895
	l := math.Log(1 + 2*k)
	return 2 * math.Pi * radius2 * ((1+k)/(k*k)*(2*(1+k)/(1+2*k)-l/k) + l/(2*k) - (1+3*k)/((1+2*k)*(1+2*k)))
}
