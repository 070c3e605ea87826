// SPDX-License-Identifier: Apache-2.0

package result_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/examples/montecarlo"
	"github.com/cloudveneto/caas/examples/montecarlo/result"
)

const interpreter = "/usr/bin/python3"

// python runs the interpreter in a directory that holds the example's files, and returns what it prints.
func python(t *testing.T, env []string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	if exec.CommandContext(t.Context(), interpreter, "-c", "import numpy").Run() != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("python3 with numpy is needed in CI (Debian: python3-numpy)")
		}
		t.Skip("SKIPPED: python3 with numpy is not installed (Debian: python3-numpy)")
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		montecarlo.ScriptKey: montecarlo.Script(), "iron.json": montecarlo.Deck(), "lead.json": montecarlo.LeadDeck(),
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	command := exec.CommandContext(t.Context(), interpreter, append([]string{"-B"}, args...)...)
	var out, problems bytes.Buffer
	command.Dir, command.Stdout, command.Stderr = dir, &out, &problems
	command.Env = append([]string{"OPENBLAS_NUM_THREADS=1", "OMP_NUM_THREADS=1", "PATH=/usr/bin:/bin"}, env...)
	err = command.Run()
	return out.String(), problems.String(), err
}

// The program's own output for a run of four indices must parse, verify, and agree with the expectations.
func TestProgramAgreesWithExpectation(t *testing.T) {
	t.Parallel()
	decks := map[string]struct {
		file, data       string
		lowest, greatest float64 // of the build-up factor: there is some, and less than in an infinite medium
	}{
		"iron": {"iron.json", montecarlo.Deck(), 2.5, 4.2},
		"lead": {"lead.json", montecarlo.LeadDeck(), 1.3, 1.85},
	}
	for name, tt := range decks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			deck := parseDeck(t, tt.data)
			var results []result.Result
			for index := range 4 {
				env := []string{"RUN_KEY=" + testKey, fmt.Sprintf("JOB_COMPLETION_INDEX=%d", index)}
				out, problems, err := python(t, env, montecarlo.ScriptKey, "--deck", tt.file, "--histories", "50000")
				require.NoError(t, err, problems)
				assert.NotContains(t, out, testKey)
				r, err := result.Parse(bytes.NewBufferString(out), []byte(testKey))
				require.NoError(t, err)
				results = append(results, r)
			}
			report, err := result.Combine(deck, 4, results)
			require.NoError(t, err)
			assert.Equal(t, 200_000, report.Histories)
			assert.Greater(t, report.Scattered.Mean, report.ScatteredOnce.Measured)
			assert.Greater(t, report.BuildUp.Mean, tt.lowest)
			assert.Less(t, report.BuildUp.Mean, tt.greatest)
			assert.InEpsilon(t, report.BuildUp.Mean*deck.Transmission()*deck.Unshielded(), report.Dose.Mean, 0.05)
		})
	}
}

// A run can be repeated bit by bit, and another index gives another stream.
func TestProgramIsReproducible(t *testing.T) {
	t.Parallel()
	run := func(index string) result.Result {
		out, problems, err := python(t, []string{"RUN_KEY=" + testKey},
			montecarlo.ScriptKey, "--deck=iron.json", "--histories=1000", "--index="+index)
		require.NoError(t, err, problems)
		r, err := result.Parse(bytes.NewBufferString(out), []byte(testKey))
		require.NoError(t, err)
		return r
	}
	first, again, other := run("1"), run("1"), run("2")
	assert.Equal(t, first.Stream, again.Stream)
	assert.Equal(t, first.Dose, again.Dose)
	assert.NotEqual(t, first.Stream, other.Stream)
	assert.NotEqual(t, first.Dose, other.Dose)
}

func TestProgramRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		env  []string
		args []string
		text string
	}{
		"no key":         {nil, []string{"--deck=iron.json", "--index=0"}, "RUN_KEY is not set"},
		"no index":       {[]string{"RUN_KEY=k"}, []string{"--deck=iron.json"}, "JOB_COMPLETION_INDEX is not set"},
		"no deck":        {[]string{"RUN_KEY=k"}, []string{"--deck=none.json", "--index=0"}, "read the deck"},
		"deck is script": {[]string{"RUN_KEY=k"}, []string{"--deck=montecarlo.py", "--index=0"}, "deck:"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, problems, err := python(t, tt.env, append([]string{montecarlo.ScriptKey}, tt.args...)...)
			var exit *exec.ExitError
			require.ErrorAs(t, err, &exit)
			assert.Equal(t, 2, exit.ExitCode())
			assert.Contains(t, problems, tt.text)
			assert.NotContains(t, problems, "Traceback")
			assert.Empty(t, out)
		})
	}
}

// The sampled mean share of energy that a photon keeps in Compton scattering must be that of the Klein-Nishina formula.
func TestSamplerMeanEnergy(t *testing.T) {
	t.Parallel()
	const program = `
import json, sys
import numpy as np
import montecarlo
out = []
for energy in (0.03, 0.1, 0.661657, 1.0):
    kept, cosine = montecarlo.klein_nishina(np.full(400000, energy), np.random.default_rng(11))
    line = 1 / (1 + energy / montecarlo.ELECTRON_MASS * (1 - cosine))
    out.append({"energy": energy, "mean": float(kept.mean()), "sigma": float(kept.std() / kept.size**0.5),
                "cosine": float(cosine.mean()), "cosineSigma": float(cosine.std() / kept.size**0.5),
                "worst": float(np.abs(line - kept).max())})
json.dump(out, sys.stdout)
`
	out, problems, err := python(t, nil, "-c", program)
	require.NoError(t, err, problems)
	var samples []struct{ Energy, Mean, Sigma, Cosine, CosineSigma, Worst float64 }
	require.NoError(t, json.Unmarshal([]byte(out), &samples))
	require.Len(t, samples, 4)
	for _, s := range samples {
		kept, cosine := kleinNishinaMeans(s.Energy)
		assert.InDelta(t, kept, s.Mean, 4*s.Sigma, "kept share at %v MeV", s.Energy)
		assert.InDelta(t, cosine, s.Cosine, 4*s.CosineSigma, "cosine at %v MeV", s.Energy)
		assert.Less(t, s.Worst, 1e-12, "energy and angle must obey the Compton relation at %v MeV", s.Energy)
	}
}

// Exposure build-up factors of a point source in an infinite medium, against those that Goldstein and Wilkins calculated
// with the moments method (report NYO-3075, 1954). Their cross sections were older: differences up to 5 % are real, and
// the sampling adds up to 3 %. The test takes the medium for a shell without a cavity, scores every collision as
// fluence, and weights it with air kerma (ICRP 74).
func TestTransportAgainstPublishedBuildUp(t *testing.T) {
	t.Parallel()
	const program = `
import json, sys
import numpy as np
import montecarlo
kerma = montecarlo.Table(
    [.02, .03, .04, .05, .06, .08, .1, .15, .2, .3, .4, .5, .6, .8, 1.0],
    [1.68, .721, .429, .323, .289, .307, .371, .599, .856, 1.38, 1.89, 2.38, 2.84, 3.69, 4.47])
original = montecarlo.collide
chunk, chunks = 32768, 15
def buildup(name, energy):
    with open(name) as file:
        shell = montecarlo.Shell(json.load(file))
    free_path = 1 / float(shell.incoherent(energy) + shell.photoelectric(energy))
    shell.inner, shell.outer = 0.0, 12 * free_path
    edges = np.array([0.9, 1.1, 1.85, 2.15, 3.8, 4.2]) * free_path
    score = np.zeros(5)
    def spy(radius, cosine, e, path, share, cutoff, rng):
        place = np.sqrt(radius * radius + path * path + 2 * radius * path * cosine)
        weight = kerma(e) / (shell.incoherent(e) + shell.photoelectric(e))
        score[:] += np.histogram(place, edges, weights=weight)[0]
        return original(radius, cosine, e, path, share, cutoff, rng)
    montecarlo.collide = spy
    rng = np.random.default_rng(5)
    for _ in range(chunks):
        for _ in montecarlo.transport(chunk, shell, energy, 0.02, rng):
            pass
    decay = np.exp(-edges / free_path)
    return list((score / (chunk * chunks * kerma(energy) * free_path * (decay[:-1] - decay[1:])))[::2])
json.dump([buildup(name, energy) for name in ("iron.json", "lead.json") for energy in (0.5, 1.0)], sys.stdout)
`
	out, problems, err := python(t, nil, "-c", program)
	require.NoError(t, err, problems)
	var measured [][]float64
	require.NoError(t, json.Unmarshal([]byte(out), &measured))
	published := [][]float64{ // at 1, 2 and 4 mean free paths
		{1.98, 3.09, 5.98}, // iron, 0.5 MeV
		{1.87, 2.89, 5.39}, // iron, 1 MeV
		{1.24, 1.42, 1.69}, // lead, 0.5 MeV
		{1.37, 1.69, 2.26}, // lead, 1 MeV
	}
	require.Len(t, measured, len(published))
	for i, row := range published {
		assert.InEpsilonSlice(t, row, measured[i], 0.08, "row %d", i)
	}
}

// kleinNishinaMeans integrates the textbook form of the cross section with the midpoint rule.
func kleinNishinaMeans(energy float64) (kept, cosine float64) {
	const steps = 20_000
	k := energy / 0.51099895
	var norm, sumKept, sumCosine float64
	for i := range steps {
		c := -1 + (float64(i)+0.5)*2/steps
		p := 1 / (1 + k*(1-c))
		weight := p * p * (p + 1/p - 1 + c*c)
		norm += weight
		sumKept += weight * p
		sumCosine += weight * c
	}
	return sumKept / norm, sumCosine / norm
}
