#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Dose rate outside a spherical shield, by photon-transport Monte Carlo.

A point source of monoenergetic photons sits in the middle of a spherical shell. Each photon is followed through the
shell until it escapes, is absorbed, or falls below the cut-off energy. README.md holds the physics and the sources of
the constants; all of the input is in the deck, a JSON file.

One process computes one index of the run, with a random stream of its own. Its last line of output is the result: a
JSON object, signed with the key in the environment variable RUN_KEY.
"""

import argparse
import hashlib
import hmac
import json
import math
import os
import platform
import sys
import time

import numpy as np

ELECTRON_MASS = 0.51099895  # MeV
AVOGADRO = 0.602214076  # per mole, times 1e24: turns barn/atom into cm2/mole
PAIR_THRESHOLD = 2 * ELECTRON_MASS
CHUNK = 32768  # photons in flight at once: their arrays stay in the processor's cache


class DeckError(Exception):
    """The deck, or the environment, does not describe a run."""


class Table:
    """Values over energy, interpolated linearly in the logarithms of both."""

    def __init__(self, energy, value):
        self.log_energy = np.log(np.asarray(energy, dtype=float))
        self.log_value = np.log(np.asarray(value, dtype=float))

    def __call__(self, energy):
        return np.exp(np.interp(np.log(energy), self.log_energy, self.log_value))


class Shell:
    """The shield: its two radii (cm) and its two attenuation coefficients (1/cm)."""

    def __init__(self, deck):
        shield, cross = deck["shield"], deck["crossSections"]
        density = shield["densityGPerCm3"] * AVOGADRO / shield["atomicWeight"]
        energy = cross["energyMeV"]
        self.inner = float(shield["innerRadiusCm"])
        self.outer = float(shield["outerRadiusCm"])
        self.incoherent = Table(energy, density * np.asarray(cross["incoherent"], dtype=float))
        self.photoelectric = Table(energy, density * np.asarray(cross["photoelectric"], dtype=float))


class Tally:
    """Sum and sum of squares of a score over histories; histories that are not added scored zero."""

    def __init__(self):
        self.total = 0.0
        self.squares = 0.0

    def add(self, scores):
        self.total += float(np.sum(scores))
        self.squares += float(np.sum(np.square(scores)))

    def summary(self, histories):
        """Mean per history and the unbiased sample variance of one history."""
        mean = self.total / histories
        variance = (self.squares - histories * mean * mean) / (histories - 1)
        return {"mean": mean, "variance": max(variance, 0.0)}


def require(condition, message):
    if not condition:
        raise DeckError(message)


def check_table(deck, name, columns, first, last):
    table = deck[name]
    energy = table["energyMeV"]
    require(len(energy) >= 2 and all(a < b for a, b in zip(energy, energy[1:])),
            f"{name}.energyMeV must be two or more increasing energies")
    require(energy[0] <= first and energy[-1] >= last,
            f"{name} must cover {first} MeV to {last} MeV")
    for column in columns:
        require(len(table[column]) == len(energy) and min(table[column]) > 0,
                f"{name}.{column} must hold one positive value for each energy")


def load_deck(data):
    """Parse and check the deck; complain about the first thing that is wrong."""
    try:
        deck = json.loads(data)
        source, shield = deck["source"], deck["shield"]
        require(deck["cutoffMeV"] > 0, "cutoffMeV must be positive")
        require(deck["cutoffMeV"] < source["energyMeV"] < PAIR_THRESHOLD,
                f"source.energyMeV must lie between cutoffMeV and {PAIR_THRESHOLD:.3f}: pair production is not followed")
        require(source["activityBq"] > 0 and 0 < source["photonsPerDecay"], "source must emit photons")
        require(0 <= shield["innerRadiusCm"] < shield["outerRadiusCm"] <= deck["detector"]["distanceCm"],
                "radii must satisfy 0 <= inner < outer <= detector distance")
        require(shield["densityGPerCm3"] > 0 and shield["atomicWeight"] > 0, "shield must have a density and an atomic weight")
        require(deck["histories"] >= 2 and deck["seed"] >= 0, "histories must be at least 2 and seed not negative")
        check_table(deck, "crossSections", ("incoherent", "photoelectric"), deck["cutoffMeV"], source["energyMeV"])
        check_table(deck, "doseConversion", ("coefficient",), deck["cutoffMeV"], source["energyMeV"])
        require(deck["crossSections"]["unit"] == "barn/atom", "crossSections.unit must be barn/atom")
        require(deck["doseConversion"]["unit"] == "pSv cm2", "doseConversion.unit must be 'pSv cm2'")
        return deck
    except KeyError as err:
        raise DeckError(f"deck: {err.args[0]} is missing") from err
    except (TypeError, ValueError) as err:
        raise DeckError(f"deck: {err}") from err


def klein_nishina(energy, rng):
    """Sample Compton scattering off free electrons at rest.

    Returns the fraction of its energy which each photon keeps and the cosine of its scattering angle. The density of
    the fraction is split into 1/f and f parts, both invertible, and corrected by rejection; no approximation is made.
    """
    kept = np.empty_like(energy)
    cosine = np.empty_like(energy)
    todo = np.arange(energy.size)
    while todo.size:
        k = energy[todo] / ELECTRON_MASS
        low = 1 / (1 + 2 * k)
        weight_inverse = -np.log(low)
        weight_linear = 0.5 * (1 - low * low)
        u, v, w = rng.random((3, todo.size))
        inverse = u * (weight_inverse + weight_linear) < weight_inverse
        f = np.where(inverse, np.power(low, v), np.sqrt(low * low + (1 - low * low) * v))
        c = 1 - (1 / f - 1) / k
        accepted = w < 1 - f * (1 - c * c) / (1 + f * f)
        done = todo[accepted]
        kept[done] = f[accepted]
        cosine[done] = np.clip(c[accepted], -1, 1)
        todo = todo[~accepted]
    return kept, cosine


def collide(radius, cosine, energy, path, photo_share, cutoff, rng):
    """Move photons to their collisions and scatter those that survive.

    Returns the new radius, cosine and energy of the survivors, the mask of the survivors, and the deposited energy.
    """
    moved = np.sqrt(radius * radius + path * path + 2 * radius * path * cosine)
    heading = np.clip((radius * cosine + path) / moved, -1, 1)
    survives = rng.random(radius.size) >= photo_share
    deposited = float(np.sum(energy[~survives]))
    before = energy[survives]
    kept, turn = klein_nishina(before, rng)
    after = before * kept
    azimuth = rng.random(after.size) * (2 * math.pi)
    heading = heading[survives]
    heading = heading * turn + np.sqrt((1 - heading * heading) * (1 - turn * turn)) * np.cos(azimuth)
    alive = after >= cutoff
    deposited += float(np.sum(before - after)) + float(np.sum(after[~alive]))
    survives[survives] = alive
    return moved[survives], np.clip(heading[alive], -1, 1), after[alive], survives, deposited


def transport(count, shell, source_energy, cutoff, rng):
    """Follow photons from the inner face of the shell until none is left.

    By the symmetry of the problem the state of a photon is its radius, the cosine between its direction and the radius,
    its energy, and the number of its collisions. Yields, for each step, the photons that escape: their energies, squared
    impact parameters (cm2) and numbers of collisions, and the energy that was deposited in the step.
    """
    radius = np.full(count, shell.inner)
    cosine = np.ones(count)
    energy = np.full(count, source_energy)
    collisions = np.zeros(count, dtype=np.int64)
    inner2, outer2 = shell.inner**2, shell.outer**2
    while radius.size:
        scatter = shell.incoherent(energy)
        absorb = shell.photoelectric(energy)
        path = rng.standard_exponential(radius.size) / (scatter + absorb)
        along = radius * cosine
        impact2 = np.maximum(radius * radius - along * along, 0)
        inward = (cosine < 0) & (impact2 < inner2)
        to_face = np.where(inward,
                           -along - np.sqrt(np.maximum(inner2 - impact2, 0)),
                           -along + np.sqrt(np.maximum(outer2 - impact2, 0)))
        crosses = path >= to_face
        escapes = crosses & ~inward
        # A photon that enters the cavity leaves it again at the mirrored angle; its next free path starts there.
        through = crosses & inward
        hits = ~crosses
        new_radius, new_cosine, new_energy, alive, deposited = collide(
            radius[hits], cosine[hits], energy[hits], path[hits], (absorb / (scatter + absorb))[hits], cutoff, rng)
        yield energy[escapes], impact2[escapes], collisions[escapes], deposited
        radius = np.concatenate((new_radius, np.full(int(np.count_nonzero(through)), shell.inner)))
        cosine = np.concatenate((new_cosine, np.sqrt(1 - impact2[through] / inner2) if inner2 > 0 else cosine[through]))
        energy = np.concatenate((new_energy, energy[through]))
        collisions = np.concatenate((collisions[hits][alive] + 1, collisions[through]))


def simulate(deck, histories, rng):
    """Run the histories; return the tallies and the relative error of the energy balance."""
    shell = Shell(deck)
    coefficient = Table(deck["doseConversion"]["energyMeV"], deck["doseConversion"]["coefficient"])
    source, distance2 = deck["source"], deck["detector"]["distanceCm"] ** 2
    # Photons per second times pSv cm2 over the sphere through the detector gives pSv/s; 3600e-6 makes it uSv/h.
    scale = source["activityBq"] * source["photonsPerDecay"] / (4 * math.pi * distance2) * 3600e-6
    names = ("uncollided", "scattered", "scatteredOnce", "doseScattered", "dose")
    tallies = {name: Tally() for name in names}
    accounted = 0.0
    for first in range(0, histories, CHUNK):
        count = min(CHUNK, histories - first)
        for energy, impact2, collisions, deposited in transport(
                count, shell, source["energyMeV"], deck["cutoffMeV"], rng):
            accounted += deposited + float(np.sum(energy))
            if not energy.size:
                continue
            # Fluence through a surface is the current divided by the cosine to its normal.
            dose = scale * coefficient(energy) / np.sqrt(1 - impact2 / distance2)
            scattered = collisions > 0
            tallies["uncollided"].add(~scattered)
            tallies["scattered"].add(scattered)
            tallies["scatteredOnce"].add(collisions == 1)
            tallies["doseScattered"].add(dose[scattered])
            tallies["dose"].add(dose)
    emitted = histories * source["energyMeV"]
    return {name: tally.summary(histories) for name, tally in tallies.items()}, abs(accounted - emitted) / emitted


def stream(seed, index):
    """The random stream of one index: the index-th child of the seed, independent of every other child."""
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=(index,))
    fingerprint = "".join(f"{word:016x}" for word in sequence.generate_state(2, np.uint64))
    return np.random.Generator(np.random.PCG64(sequence)), fingerprint


def sign(result, key):
    """One line: the result and the HMAC-SHA256 of exactly the bytes that stand for it."""
    payload = json.dumps(result, sort_keys=True, separators=(",", ":"), allow_nan=False)
    signature = hmac.new(key.encode(), payload.encode(), hashlib.sha256).hexdigest()
    return f'{{"montecarlo":1,"result":{payload},"signature":"{signature}"}}'


def arguments(argv):
    parser = argparse.ArgumentParser(description="Dose rate outside a spherical shield: one index of a run.")
    parser.add_argument("--deck", default="/deck/deck.json", help="input deck (default %(default)s)")
    parser.add_argument("--index", type=int, default=None, help="index of this process (default: JOB_COMPLETION_INDEX)")
    parser.add_argument("--histories", type=int, default=None, help="photons to follow (default: as the deck says)")
    return parser.parse_args(argv)


def run(argv):
    args = arguments(argv)
    key = os.environ.get("RUN_KEY", "")
    require(key, "RUN_KEY is not set: the result could not be signed")
    if args.index is None:
        index = os.environ.get("JOB_COMPLETION_INDEX", "")
        require(index.isdigit(), "JOB_COMPLETION_INDEX is not set: run this in an Indexed Job, or give --index")
        args.index = int(index)
    try:
        with open(args.deck, "rb") as file:
            data = file.read()
    except OSError as err:
        raise DeckError(f"read the deck: {err}") from err
    deck = load_deck(data)
    histories = deck["histories"] if args.histories is None else args.histories
    require(histories >= 2, "--histories must be at least 2")

    rng, fingerprint = stream(deck["seed"], args.index)
    print(f"{deck['title']}: index {args.index}, {histories} histories", flush=True)
    started = time.monotonic()
    tallies, imbalance = simulate(deck, histories, rng)
    seconds = time.monotonic() - started
    require(imbalance < 1e-9, f"energy is not conserved: relative error {imbalance:.2e}")

    def line(name, unit):
        tally = tallies[name]
        error = math.sqrt(tally["variance"] / histories)
        return f"{name:>14} = {tally['mean']:.6g} +- {error:.2g} {unit}".rstrip()

    print(line("uncollided", ""))
    print(line("scattered", ""))
    print(line("dose", "uSv/h"))
    print(f"{histories / seconds:,.0f} histories/s, energy balance within {imbalance:.1e}")
    result = {
        "index": args.index,
        "histories": histories,
        "deckSHA256": hashlib.sha256(data).hexdigest(),
        "stream": fingerprint,
        "seconds": seconds,
        "host": platform.node(),
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
        **tallies,
    }
    print(sign(result, key), flush=True)


def main(argv):
    try:
        run(argv)
    except DeckError as err:
        print(f"montecarlo: {err}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
