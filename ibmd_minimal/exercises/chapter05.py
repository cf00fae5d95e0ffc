"""Chapter 05: which couplings share a bridge?"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..bridges import brownian, vp
from ..gaussian import GaussianCoupling
from .checking import Finding, compare, exercise, sentence

F64 = torch.float64
TURN = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=F64)  # the rotation J by 90 degrees
PARTS = 64  # independent parts of a sample, for standard errors


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# -- 5.1 -------------------------------------------------------------------------------------------


def _conditional_teachers() -> tuple[Tensor, ...]:
    """`B, R, k, h, a, b, c` `(8,)` of exact conditional denoisers, each at one time of one bridge."""
    dice, rows = _seeded(51), []
    for bridge in (brownian(0.4), vp()) * 4:
        u, v, t = torch.rand(3, generator=dice, dtype=F64)
        B, R, t = 1.6 * u - 0.8, 0.2 + v, 0.1 + 0.8 * t
        coupling = GaussianCoupling.of([0.0], [0.0], float(B**2 + R), 1.0, float(B))
        k, h, _ = coupling.denoiser(bridge, conditional=True).linear(t)
        rows.append(torch.stack([B, R, k.squeeze(), h.squeeze(), *bridge.coefficients(t)]))
    return tuple(torch.stack(rows).T)


@exercise("5.1", "A conditional teacher needs one time", points=2)
def from_one_time(answer: Callable[..., tuple[Tensor, Tensor]]) -> Finding:
    """`answer(k, h, a, b, c)`: B and R of `x0 = B xT + sqrt(R) z'` from the conditional denoiser's gains."""
    B, R, k, h, a, b, c = _conditional_teachers()
    got = answer(k, h, a, b, c)
    if not isinstance(got, (tuple, list)) or len(got) != 2 or not all(isinstance(x, Tensor) for x in got):
        return Finding(False, "not yet: wanted two tensors, B and R.")
    free = 1 - b * k
    mistakes_B = {
        "B was taken for h; x_t carries xT as well, a + b B times": h,
        "b B was left out: given xT, the mean of x_t is (a + b B) xT": h + a * k,
        "a was left out: given xT, the mean of x_t is (a + b B) xT": h / free,
        "the sign of a k is wrong: h = B - k (a + b B)": (h - a * k) / free,
        "the two came in the other order, R first": R,
    }
    mistakes_R = {
        "the noise enters as c, not as its variance c²": k * c / (b * free),
        "b² R in the variance of x_t was left out": k * c**2 / b,
        "one factor b is missing: given xT, the covariance of x0 and x_t is b R": k * c**2 / free,
        "there is one factor b too many: k = b R / (b² R + c²)": k * c**2 / (b**2 * free),
        "it is the whole variance of x0; R is what is left of it given xT": B**2 + R,
        "it is a standard deviation; R is a variance": R.sqrt(),
    }
    first = compare(got[0], B, "B", mistakes=mistakes_B)
    return compare(got[1], R, "R, after B,", mistakes=mistakes_R) if first.right else first


# -- 5.2 -------------------------------------------------------------------------------------------


@exercise("5.2", "The turn that a Gaussian shares its bridge with", points=2)
def shared_correlation(answer: Callable[[Tensor], Tensor]) -> Finding:
    """`answer(theta)`: the correlation of the Gaussian coupling with the same bridge as the turn by +-theta."""
    theta = 0.1 + 3 * torch.rand(16, generator=_seeded(52), dtype=F64)
    cos, sin = theta.cos(), theta.sin()
    mistakes = {
        "every angle was taken for 90 degrees; cos(theta) I does not average out over the coin": 0.0,
        "sine and cosine are exchanged: it is the part with J that averages out": sin,
        "the coin was not averaged over: given s there is a part with J, after it there is none": cos + sin,
        "the sign is lost: a turn by more than 90 degrees anticorrelates": cos.abs(),
        "the angle was taken in degrees; it is in radians": torch.deg2rad(theta).cos(),
        "it is r²": cos**2,
    }
    return compare(answer(theta), cos, "r", mistakes=mistakes)


# -- 5.3 -------------------------------------------------------------------------------------------


def _statistics(x0: Tensor, xT: Tensor, z: Tensor) -> dict[str, Tensor]:
    """Means that are 0 for all couplings that share the bridge, by what it means if they are not; `(batch, some)`."""
    x_t = (x0 + xT) / 2 + 0.3**0.5 / 2 * z  # t = 1/2, Brownian, epsilon 0.3
    q, square, turned = 0.5 + 0.3 / 4, x_t.square().sum(1), x_t @ TURN.T
    miss = x0 - x_t / (2 * q)
    along, across = (miss * x_t).sum(1), (miss * turned).sum(1)
    return {
        "x0 does not have mean 0": x0,
        "x0 does not have covariance I": torch.cat([x0**2 - 1, x0[:, :1] * x0[:, 1:]], 1),
        "E[x0 | xT] is not 0, the teacher's single step": torch.cat([x0 * xT, x0 * (xT @ TURN.T)], 1),
        "the law of x0 is not the Gaussian of A and B": (x0.square().sum(1, keepdim=True) ** 2 - 8),
        "x_t is not Gaussian: its variance depends on what you threw": (square**2 - 8 * q**2)[:, None],
        "E[x0 | x_t] is not b x_t / q": torch.stack([along, across, along * square, across * square], 1),
    }


def _errors(values: Tensor) -> float:
    """The largest distance of a column's mean from 0, in standard errors; `values` `(batch, some)`."""
    means = torch.stack([part.mean(0) for part in values.chunk(PARTS)])
    return float((means.mean(0).abs() / (means.std(0) / PARTS**0.5 + 1e-9)).max())


def _known(x0: Tensor, xT: Tensor) -> str:
    """Is it A, or B as far as fourth moments tell?"""
    turned = xT @ TURN.T
    if float((x0 - turned).norm(dim=1).minimum((x0 + turned).norm(dim=1)).max()) < 1e-5:
        return "A"
    squares = torch.stack([(x0 * xT).sum(1) ** 2 - 2, (x0 * turned).sum(1) ** 2 - 2], 1)
    return "B" if _errors(squares) < 5 else ""


@exercise("5.3", "A third coupling with the same bridge", points=3)
def third_coupling(answer: Callable[..., Tensor]) -> Finding:
    """`answer(xT, generator)`: samples of `x0` given `xT`; judged by moments up to the fourth, within 5 errors."""
    dice = _seeded(53)
    xT, z = torch.randn(2, 64_000, 2, generator=dice, dtype=F64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(53)
        x0 = answer(xT.clone(), dice)
    if not isinstance(x0, Tensor) or x0.shape != xT.shape:
        got = f"shape {tuple(x0.shape)}" if isinstance(x0, Tensor) else f"type {type(x0).__name__}"
        return Finding(False, f"not yet: x0 has {got}; wanted a tensor of shape (64000, 2), as xT has.")
    x0 = x0.detach().double()
    if not bool(x0.isfinite().all()):
        return Finding(False, "not yet: x0 has values that are not finite.")
    for wrong, values in _statistics(x0, xT, z).items():
        if _errors(values) > 5:
            return Finding(False, f"not yet: it does not share the bridge: {wrong}.")
    if name := _known(x0, xT):
        return Finding(False, f"not yet: it shares the bridge, but it is coupling {name}; wanted a third.")
    return Finding(True, "it shares the bridge, as far as moments up to the fourth tell, and is neither A nor B.")


# -- 5.4 and 5.5 -----------------------------------------------------------------------------------


@exercise("5.4", "The average of the student's samples", points=2)
def error_of_average(answer: Callable[[Tensor, Tensor], Tensor]) -> Finding:
    """`answer(n, e)`: the expected squared error of the average of `n` samples, `e` the teacher's at NFE 1."""
    n, e = torch.tensor([2.0, 3, 5, 8, 64], dtype=F64), 0.3 + torch.rand(5, generator=_seeded(54), dtype=F64)
    mistakes = {
        "the truth's own distance from the mean, e, was left out; it does not average away": e / n,
        "the average was taken for the mean itself; n samples still miss it by e / n": e,
        "the error of a single sample, 2 e, was kept though n are averaged": 2 * e,
        "both parts were divided by n; there is only one truth to be far from": 2 * e / n,
        "standard deviations were added; independent variances add": (e.sqrt() + (e / n).sqrt()) ** 2,
        "the variance of an average was taken to fall like sqrt(n)": e + e / n.sqrt(),
        "the two parts were subtracted; independent errors add": e - e / n,
        "n errors were added instead of averaged": (1 + n) * e,
    }
    return compare(answer(n, e), e + e / n, "the expected squared error", mistakes=mistakes)


FORGETS = (
    r"\bforg[eo]t|independen|\b(?:lose|loses|lost|losing)\b|uncorrelat|decorrelat|random|vanish|decay|weak|fall|drop"
    r"|(?:to|towards|at|near|is|becomes|about|approaches) (?:zero|0)\b"
)
ORDERS = (
    r"\bdetermin(?:ed|istic|ism)|\border|monoton|transport|parallel|identity|perfect|straight"
    r"|(?:to|towards|at|near|is|becomes|about|approaches|correlation) \+?(?:one|1)\b"
)
STAYS = (
    r"\bstay|unchang|unaffect|constant|\bke(?:ep|pt)|remain|\bsame|\bdata|-0\.8|always|independent of eps"
    r"|(?:not|n't|never) (?:move|change|depend|matter|care)|\bnothing|\bfixed"
)


@exercise("5.5", "Epsilon and the two pairings", points=1)
def pairings(answer: str) -> Finding:
    """A sentence on what becomes of the teacher's and of the student's pairing as epsilon moves."""
    wanted = {
        FORGETS: "say what becomes of the teacher's pairing as epsilon grows.",
        ORDERS: "say what the teacher's process becomes as epsilon goes to 0.",
        r"\bstudent": "say what happens to the student's pairing too.",
        STAYS: "say whether the student's pairing changes.",
    }
    mistakes = {
        r"student(?:'s)?(?: pairing| coupling| too| also| process)* (?:forgets|loses|becomes (?:independent|random))": (
            "look at the middle panel again: does the student's pairing change with epsilon?"
        ),
        r"both (?:pairings |couplings |of them )?(?:forget|lose|become)": (
            "look at the middle panel again: does the student's pairing change with epsilon?"
        ),
        r"epsilon (?:grows|increases|is large)[^.;,]{0,30} (?:becomes|is|gets|turns) deterministic": (
            "it is the other way round: drag epsilon to its right end."
        ),
        r"epsilon (?:goes|tends|falls) to (?:0|zero)[^.;,]{0,30} (?:forgets|loses|becomes independent)": (
            "it is the other way round: drag epsilon to its left end."
        ),
    }
    return sentence(answer, wanted, mistakes)
