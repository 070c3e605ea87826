// SPDX-License-Identifier: Apache-2.0

package result

import "math"

// panels is the number of Simpson panels of one integration: enough for five significant digits.
const panels = 200

// attenuation returns the linear coefficients (1/cm) for incoherent scattering and for both processes together.
func (d *Deck) attenuation(energy float64) (incoherent, total float64) {
	x := d.CrossSections
	density := d.Shield.DensityGPerCm3 * avogadro / d.Shield.AtomicWeight
	incoherent = density * interpolate(x.EnergyMeV, x.Incoherent, energy)
	return incoherent, incoherent + density*interpolate(x.EnergyMeV, x.Photoelectric, energy)
}

// Transmission is the expected share of photons that cross the shield without a collision: exp(-µx).
func (d *Deck) Transmission() float64 {
	_, total := d.attenuation(d.Source.EnergyMeV)
	return math.Exp(-total * (d.Shield.OuterRadiusCm - d.Shield.InnerRadiusCm))
}

// Unshielded is the dose rate (µSv/h) at the detector without the shield: activity, yield, inverse square of the
// distance, and the conversion coefficient at the source energy.
func (d *Deck) Unshielded() float64 {
	h := d.DoseConversion
	rate := d.Source.ActivityBq * d.Source.PhotonsPerDecay / (4 * math.Pi * d.Detector.DistanceCm * d.Detector.DistanceCm)
	return rate * interpolate(h.EnergyMeV, h.Coefficient, d.Source.EnergyMeV) * microsievertPerHour
}

// SingleScatter is the expected share of photons that leave the shield after exactly one collision. It integrates, over
// the place of the collision and the angle, the probability to get there, to scatter there, and to get out.
func (d *Deck) SingleScatter() float64 {
	inner, outer, energy := d.Shield.InnerRadiusCm, d.Shield.OuterRadiusCm, d.Source.EnergyMeV
	incoherent, total := d.attenuation(energy)
	norm := 1 / simpson(-1, 1, func(cosine float64) float64 { return kleinNishina(energy, cosine) })
	return simpson(inner, outer, func(radius float64) float64 {
		return incoherent * math.Exp(-total*(radius-inner)) * norm * d.escape(radius)
	})
}

// escape integrates over the scattering angle the Klein-Nishina cross section times the chance to get out. The path
// through the shell has a square-root edge where the photon just touches the cavity; the first integral is taken over
// the root of the distance to it, which makes it smooth.
func (d *Deck) escape(radius float64) float64 {
	weight := func(cosine float64) float64 {
		after := scattered(d.Source.EnergyMeV, cosine)
		if after < d.CutoffMeV {
			return 0
		}
		_, total := d.attenuation(after)
		return kleinNishina(d.Source.EnergyMeV, cosine) * math.Exp(-total*d.pathOut(radius, cosine))
	}
	ratio := d.Shield.InnerRadiusCm / math.Max(radius, math.SmallestNonzeroFloat64)
	edge := -math.Sqrt(math.Max(1-ratio*ratio, 0))
	through := simpson(0, 1, func(t float64) float64 {
		return 2 * t * (1 + edge) * weight(edge-(1+edge)*t*t)
	})
	return through + simpson(edge, 1, weight)
}

// pathOut is the length inside the shell on the way out from a radius in a direction; the cavity does not count.
func (d *Deck) pathOut(radius, cosine float64) float64 {
	inner, outer := d.Shield.InnerRadiusCm, d.Shield.OuterRadiusCm
	impact2 := radius * radius * (1 - cosine*cosine)
	path := math.Sqrt(math.Max(outer*outer-impact2, 0)) - radius*cosine
	if cosine < 0 && impact2 < inner*inner {
		path -= 2 * math.Sqrt(inner*inner-impact2)
	}
	return path
}

// scattered is the energy of a photon after Compton scattering.
func scattered(energy, cosine float64) float64 {
	return energy / (1 + energy/electronMass*(1-cosine))
}

// kleinNishina is the differential cross section per electron and solid angle in units of r²/2.
func kleinNishina(energy, cosine float64) float64 {
	kept := scattered(energy, cosine) / energy
	return kept * kept * (kept + 1/kept - (1 - cosine*cosine))
}

// simpson integrates by Simpson's rule.
func simpson(from, to float64, f func(float64) float64) float64 {
	step := (to - from) / (2 * panels)
	sum := f(from) + f(to)
	for i := 1; i < 2*panels; i++ {
		sum += f(from+float64(i)*step) * float64(2+2*(i%2))
	}
	return sum * step / 3
}
