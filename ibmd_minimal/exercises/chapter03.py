"""The checks of chapter 03: sampling."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from ..bridges import Bridge, brownian, vp
from ..samplers import dbim_step, steps, time_grid
from .checking import Finding, compare, exercise, sentence

SAMPLERS = {
    "posterior": {"method": "posterior"},
    "euler-maruyama": {"method": "euler-maruyama"},
    "ode-euler": {"method": "ode-euler"},
    "ode-heun": {"method": "ode-heun"},
    "dbim eta=0": {"method": "dbim", "eta": 0.0},
    "dbim eta=0.5": {"method": "dbim", "eta": 0.5},
    "dbim eta=1": {"method": "dbim", "eta": 1.0},
}


SMOOTH = r"smooth|straight|curv|regular"
ROUGH = r"jagged|wiggl|jitter|rough|zig-?zag|noisy|irregular"
DENIAL = r"\b(not|no|less|without|never|no longer)\b|n't"


def _states() -> tuple[Tensor, ...]:
    """`(xhat0, x_t, xT)`, `(8, 2)` each, and times `0 < s < t < 1`, `(8,)` each."""
    generator = torch.Generator().manual_seed(3)
    states = torch.randn(3, 8, 2, dtype=torch.float64, generator=generator)
    early, late = torch.rand(2, 8, dtype=torch.float64, generator=generator)
    t = 0.3 + 0.6 * late
    return *states, t * (0.2 + 0.6 * early), t


def _step(step: tuple, mean: Tensor, std: Tensor, of_mean: dict[str, Tensor], of_std: dict[str, Tensor]) -> Finding:
    """Judge a step `(mean, std)` by its mean, then its std; a std given as `(batch,)` is taken as `(batch, 1)`."""
    if not isinstance(step, (tuple, list)) or len(step) != 2:
        kind = f"{len(step)} values" if isinstance(step, (tuple, list)) else f"a {type(step).__name__}"
        return Finding(False, f"not yet: the step returns {kind}; wanted a pair, mean and standard deviation.")
    noise = step[1][:, None] if isinstance(step[1], Tensor) and step[1].ndim == 1 else step[1]
    found = compare(step[0], mean, "the mean", mistakes=of_mean)
    found = found if not found.right else compare(noise, std, "the standard deviation", mistakes=of_std)
    return Finding(True, "mean and standard deviation agree to 1e-06.") if found.right else found


@exercise("3.1", "The posterior step of any bridge", points=2)
def any_posterior_step(answer: object) -> Finding:
    """`(mean, std)` of `x_s` from `alpha`, `rho2`: judged on a VP bridge, where neither is 1 or linear."""
    bridge = vp()
    xhat0, x_t, _, s, t = _states()
    alpha_s, alpha_t, rho2_s, rho2_t = (f(time)[:, None] for f in (bridge.alpha, bridge.rho2) for time in (s, t))
    ratio, plain = rho2_s / rho2_t, (s / t)[:, None]
    mean, std = bridge.posterior(xhat0, x_t, s, t)
    of_mean = {
        "alpha is missing, as it may be for Brownian motion only": ratio * x_t + (1 - ratio) * xhat0,
        "alpha_s/alpha_t is missing before x_t": ratio * x_t + alpha_s * (1 - ratio) * xhat0,
        "alpha_s is missing before xhat0": alpha_s / alpha_t * ratio * x_t + (1 - ratio) * xhat0,
        "the ratio of times s/t stands where that of rho² belongs": alpha_s / alpha_t * plain * x_t
        + alpha_s * (1 - plain) * xhat0,
        "the weights of x_t and xhat0 are exchanged": alpha_s / alpha_t * (1 - ratio) * x_t + alpha_s * ratio * xhat0,
    }
    of_std = {
        "you return the variance, not the standard deviation": std**2,
        "alpha_s is missing in the standard deviation": std / alpha_s,
        "the factor 1 - rho_s²/rho_t² is missing: that is the noise without the pin at x_t": alpha_s * rho2_s.sqrt(),
        "the rest 1 - ratio is taken of rho_t², not of rho_s²": alpha_s * (rho2_t * (1 - ratio)).sqrt(),
    }
    return _step(answer(bridge.alpha, bridge.rho2, xhat0, x_t, s, t), mean, std, of_mean, of_std)


def _eta_mistakes(bridge: Bridge, eta: float) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Wrong means and wrong standard deviations of a DBIM step at `eta`, by what leads to them."""
    xhat0, x_t, xT, s, t = _states()
    (a, b, c), (a_s, b_s, c_s) = ((one[:, None] for one in bridge.coefficients(time)) for time in (t, s))
    posterior, std = bridge.posterior(xhat0, x_t, s, t)
    deviation = x_t - a * xT - b * xhat0

    def with_kappa(kappa: Tensor) -> Tensor:
        return a_s * xT + b_s * xhat0 + kappa * deviation

    left = (c_s**2 - eta**2 * std**2).sqrt()
    of_mean = {
        "kappa is c_s/c_t for every eta: the new noise is added to, not taken off, the shared one": with_kappa(c_s / c),
        "kappa is not divided by c_t": with_kappa(left),
        "kappa is its own square, a root is missing": with_kappa((left / c) ** 2),
        "kappa takes sqrt(1 - eta²) c_s for the shared noise: omega is eta times the posterior's standard deviation, "
        "not eta times c_s": with_kappa((1 - eta**2) ** 0.5 * c_s / c),
        "the mean is the posterior's for every eta": posterior,
        "the mean at s has the coefficients of t": a * xT + b * xhat0 + left / c * deviation,
        "the shared noise is left out": a_s * xT + b_s * xhat0,
    }
    of_std = {
        "omega is eta times c_s, not eta times the posterior's standard deviation": eta * c_s,
        "you return the variance omega², not omega": eta**2 * std**2,
        "omega is the posterior's standard deviation, without eta": std,
        "omega is sqrt(1 - eta²) times the posterior's standard deviation": (1 - eta**2) ** 0.5 * std,
    }
    return of_mean, of_std


@exercise("3.2", "One step of DBIM(eta)", points=3)
def eta_step(answer: object) -> Finding:
    """`(mean, std)` of a DBIM step, judged at eta 0.6, 0 and 1 on a VP bridge."""
    bridge = vp()
    xhat0, x_t, xT, s, t = _states()
    for eta in (0.6, 0.0, 1.0):
        mean, std = dbim_step(bridge, xhat0, x_t, xT, s, t, eta)
        found = _step(answer(bridge, xhat0, x_t, xT, s, t, eta), mean, std, *_eta_mistakes(bridge, eta))
        if not found.right:
            return Finding(False, f"{found.says} (At eta {eta:g}.)")
    return found


def _grid_mistakes(n: int, delta: float) -> dict[str, Tensor]:
    index = torch.arange(n, dtype=torch.float64) / (n - 1)
    one, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    left = delta ** (1 - index)
    return {
        "the grid is uniform": torch.linspace(1, 0, n + 1, dtype=torch.float64),
        "t itself runs geometrically; it is T - t that should": torch.cat([one, delta ** index[1:], zero]),
        "t itself runs geometrically and ends at delta; it is T - t that should": torch.cat([one, delta**index]),
        "you return T - t, not t": torch.cat([zero, left]),
        "the times run upwards, from 0 to 1": torch.cat([one, 1 - left]).flip(0),
        "the first time, 1, is missing": 1 - left,
        "after the first step the grid is uniform": torch.cat([one, torch.linspace(1 - delta, 0, n).double()]),
        "the n points of T - t are counted as n factors: n - 1 lead from delta to 1": torch.cat(
            [one, 1 - delta ** (1 - torch.arange(n, dtype=torch.float64) / n)]
        ),
    }


@exercise("3.3", "The grid of the ODE", points=2)
def ode_times(answer: object) -> Finding:
    """`n + 1` times from 1 to 0, `T - t` geometric from `delta`; judged at two `(n, delta)`."""
    for n, delta in ((6, 0.01), (11, 0.003)):
        wanted = time_grid("geometric", n, brownian(), delta)
        found = compare(answer(n, delta), wanted, "the grid", 1e-6, _grid_mistakes(n, delta))
        if not found.right:
            return found
    return found


def _serves(options: dict) -> bool:
    """Whether the library samples this way with an unconditional denoiser."""
    try:
        steps(lambda x_t, t, xT: x_t, brownian(), torch.zeros(1, 1), 4, conditional=False, **options)
    except ValueError:
        return False
    return True


@exercise("3.4", "Which samplers serve an unconditional denoiser", points=2)
def for_an_unconditional_denoiser(answer: object) -> Finding:
    """A set of names out of `SAMPLERS`."""
    if isinstance(answer, str) or not isinstance(answer, (set, frozenset, list, tuple)):
        return Finding(False, f"not yet: the answer is a {type(answer).__name__}; wanted a set of names.")
    unknown = [name for name in answer if name not in SAMPLERS]
    if unknown:
        return Finding(False, f"not yet: {unknown[0]!r} is none of the samplers; wanted some of {', '.join(SAMPLERS)}.")
    wanted = {name for name, options in SAMPLERS.items() if _serves(options)}
    extra, missing = (sorted(names) for names in (set(answer) - wanted, wanted - set(answer)))
    if any(name.startswith("ode") for name in extra):
        return Finding(False, f"not yet: {extra[-1]} follows the score, and that needs E[xT | x_t] as well.")
    if extra:
        return Finding(False, f"not yet: {extra[0]} shares noise it cannot know; only at eta 1 does xT drop out.")
    if "dbim eta=1" in missing:
        return Finding(False, "not yet: one is missing. What is DBIM at eta 1?")
    if missing:
        return Finding(False, f"not yet: {missing[0]} is missing; its step asks for xhat0 and never looks at xT.")
    return Finding(True, "these three need xhat0 and no more.")


def _other_way_round(text: str) -> bool:
    """Whether some clause calls the paths rough at eta 0, or smooth at eta 1."""
    for clause in re.split(r"[.;:,](?!\d)|\b(?:but|while|whereas|and|than|instead)\b", text.lower()):
        etas = set(re.findall(r"(?:eta|η)\s*(?:=|is|of|at)?\s*([01])(?!\.?\d)", clause))
        smooth, rough = (bool(re.search(words, clause)) for words in (SMOOTH, ROUGH))
        if len(etas) == 1 and smooth != rough:
            denied = bool(re.search(DENIAL, clause))
            if (smooth != denied) != (etas == {"0"}):
                return True
    return False


@exercise("3.5", "Where the paths part", points=1)
def where_paths_part(answer: object) -> Finding:
    """A sentence: smooth at eta 0, jagged at eta 1; at eta 0 the paths of one source part in the first step."""
    if isinstance(answer, str) and _other_way_round(answer):
        return Finding(False, "not yet: it is the other way round, eta 1 adds noise in every step.")
    wanted = {
        f"(?:no longer |not |less )?(?:{SMOOTH}|{ROUGH})": (
            "say how the paths look at eta 0 beside those at eta 1: which are smooth?"
        ),
        r"first|leav|off T|from T\b|at T\b|initial|start|beginning": "say in which step the paths of one source part.",
    }
    mistakes = {
        r"(never|do not|don't) (part|split|separate)|all (the )?same|identical|(single|one|same) path|coincide": (
            "at eta 0 ten paths of one source end in different clusters; look where they part."
        ),
        r"(last|final) step|at the end|near t = 0|close to t = 0": (
            "look at the beginning: play from T, and see when the ten paths part."
        ),
    }
    return sentence(answer, wanted, mistakes)
