"""The repository itself: one place for dependencies, no trace of a machine, notebooks as they should be stored."""

from __future__ import annotations

import ast
import graphlib
import json
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NOTEBOOKS = sorted(path for path in (ROOT / "notebooks").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def requirements(lines) -> dict[str, Requirement]:
    """Requirements by canonical name; a name given twice is an error."""
    parsed = [Requirement(line) for line in lines]
    found = {canonicalize_name(requirement.name): requirement for requirement in parsed}
    assert len(found) == len(parsed), "a package is named twice"
    return found


def wanted() -> dict[str, Requirement]:
    """What pyproject.toml asks for: to run, and to test."""
    return requirements(PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"])


def lock_lines() -> list[str]:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def tracked() -> list[Path]:
    """Files that git has or would take; outside a clone, those of the folders that hold the project."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout.split("\0")
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("not a git clone")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


# -- dependencies ----------------------------------------------------------------------------------


def test_lock_pins_every_dependency_within_its_range():
    pinned = requirements(lock_lines())
    for name, requirement in wanted().items():
        assert name in pinned, f"{name} is not in requirements.lock; run make lock"
        (pin,) = pinned[name].specifier
        assert requirement.specifier.contains(pin.version), f"{pinned[name]} is outside {requirement}"


def test_lock_is_exact_and_names_no_host():
    for line in lock_lines():
        (pin,) = Requirement(line).specifier
        assert pin.operator == "==" and "*" not in pin.version and "+" not in pin.version, line
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert not re.search(r"://| @ |^\s*-|\w\.(org|com|io|net|dev)\b", text, re.MULTILINE)


def test_lock_leaves_the_cuda_packages_to_torch():
    assert not [line for line in lock_lines() if re.match(r"nvidia|cuda|triton", line)]


def test_ranges_admit_the_oldest_torch_promised():
    assert wanted()["torch"].specifier.contains("2.6.0")
    assert not wanted()["torch"].specifier.contains("2.5.1")
    assert PROJECT["requires-python"] == ">=3.11"


def test_conda_environment_has_the_same_packages_and_ranges():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    entries = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    conda = requirements(entry.replace("pytorch", "torch") for entry in entries)
    assert str(conda.pop("python").specifier) == PROJECT["requires-python"]
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    assert conda.pop("setuptools") == Requirement(*build)
    assert conda.pop("pip") is not None
    assert {name: r.specifier for name, r in conda.items()} == {name: r.specifier for name, r in wanted().items()}
    assert {"pip": ["-e ."]} in environment["dependencies"]


def test_imports_of_the_library_are_declared():
    declared = set(requirements(PROJECT["dependencies"]))
    distributions = {"skimage": "scikit-image", "PIL": "pillow", "ot": "pot", "IPython": "jupyterlab"}
    distributions |= {"matplotlib_inline": "matplotlib-inline"}
    for path in (ROOT / "ibmd_minimal").rglob("*.py"):
        for top in third_party(ast.parse(path.read_text(encoding="utf-8"))):
            assert distributions.get(top, top) in declared, f"{named(path)} imports {top}, which pyproject.toml lacks"


def third_party(tree: ast.AST) -> set[str]:
    """The first names of absolute imports, less the standard library's and our own."""
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level}
    return {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"ibmd_minimal"}


# -- who imports whom ------------------------------------------------------------------------------

PRIVATE = {"_checks", "_random", "_files", "_quadrature"}
BASE = {"bridges", "training"}  # training is the bare loop: it knows no objective and no network
CORE = {"tasks", "gaussian", "finite", "exact", "matching", "samplers", "inverse", "students"}
NETWORKS = {"networks", "adapters", "compute"}
MASKS = {"data.masks"}  # a network that fills a hole has to find it
RULERS = {"distances", "features", "metrics", "classifier"}
# The image tasks, in the order in which one stands on the other.
TASKS = ["checkpoints", "classifier", "recipes", "evaluation", "runs", "sources", "restoring", "results"]
TASKS += ["measuring", "shipping"]
ON_TOP = {"plotting", "_painting", "explorer", "explorers_line", "explorers_plane", "widgets", "exercises"}
ON_TOP |= {"_photographs", "pad", "explorers_image", "explorers_restoring"}
ENTRY = {"__main__", "demo"}


class WithoutTypeChecking(ast.NodeTransformer):
    """Drops `if TYPE_CHECKING:`, which no program enters: an annotation is not an import."""

    def visit_If(self, node):
        return None if ast.unparse(node.test).endswith("TYPE_CHECKING") else self.generic_visit(node)


def imported_modules(path: Path, package: Path) -> set[str]:
    """Modules of the library that a file imports anywhere in it, by dotted name below the package."""
    here = path.relative_to(package).parts[:-1]
    found = set()
    tree = WithoutTypeChecking().visit(ast.parse(path.read_text(encoding="utf-8")))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            full = "." * node.level + (node.module or "")
            base = resolve(full, here)
            if base is not None:
                found |= {module_of((*base, alias.name), package) for alias in node.names}
        elif isinstance(node, ast.Import):
            paths = [resolve(alias.name, here) for alias in node.names]
            found |= {module_of(base, package) for base in paths if base is not None}
    return found


def resolve(name: str, here: tuple[str, ...]) -> tuple[str, ...] | None:
    """The place below the package that `name`, met in folder `here`, stands for; None if it is not ours."""
    level = len(name) - len(name.lstrip("."))
    parts = tuple(part for part in name.lstrip(".").split(".") if part)
    if level:
        return here[: len(here) - (level - 1)] + parts
    return parts[1:] if parts[0] == "ibmd_minimal" else None


def module_of(parts: tuple[str, ...], package: Path) -> str:
    """The longest beginning of `parts` that is a file; a name of a module's `__init__` counts as the package."""
    for stop in range(len(parts), 0, -1):
        place = package.joinpath(*parts[:stop])
        if place.with_suffix(".py").exists() or (place / "__init__.py").exists():
            return ".".join(parts[:stop])
    return ""


@cache
def import_graph() -> dict[str, set[str]]:
    """Every module of the library, but its `__init__`, with the modules that it imports."""
    package = ROOT / "ibmd_minimal"
    graph = {}
    for path in package.rglob("*.py"):
        parts = path.relative_to(package).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            graph[name] = imported_modules(path, package) - {name, ""}
    return graph


DATA = {name for name in import_graph() if name.split(".")[0] == "data"}


def test_no_circular_imports():
    graph = {
        name: {other for other in others if not name.startswith(other + ".")} for name, others in import_graph().items()
    }
    list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize(
    ("modules", "allowed"),
    [
        (PRIVATE, PRIVATE),
        (BASE, PRIVATE),
        (CORE, PRIVATE | BASE | CORE),
        (NETWORKS, PRIVATE | {"bridges"} | NETWORKS | MASKS),
        (MASKS, PRIVATE),
        (RULERS - {"classifier"}, PRIVATE | DATA | RULERS - {"classifier"}),
        ({"recipes"}, PRIVATE | DATA | BASE | NETWORKS),
    ],
    ids=["private", "base", "core", "networks", "masks", "rulers", "recipes"],
)
def test_lower_modules_know_only_their_own_kind_and_what_is_below(modules, allowed):
    for name, imports in import_graph().items():
        if name in modules:
            assert imports <= allowed, f"{name} imports {sorted(imports - allowed)}"


def test_data_know_nothing_but_data():
    """Couplings and corruptions among them: no bridge, no network, no recipe."""
    for name, imports in import_graph().items():
        if name in DATA:
            assert imports <= PRIVATE | DATA, f"{name} imports {sorted(imports - PRIVATE - DATA)}"


def test_the_modules_of_the_image_tasks_stand_in_one_order():
    graph = import_graph()
    below = PRIVATE | BASE | CORE | NETWORKS | DATA | RULERS - set(TASKS)
    for k, name in enumerate(TASKS):
        assert name in graph, name
        allowed = below | set(TASKS[:k])
        assert graph[name] <= allowed, f"{name} imports {sorted(graph[name] - allowed)}"
    for name in BASE | CORE | NETWORKS | DATA:
        assert not graph.get(name, set()) & set(TASKS), f"{name} imports {sorted(graph[name] & set(TASKS))}"


def test_nothing_imports_what_stands_on_top():
    for name, imports in import_graph().items():
        if name.split(".")[0] not in ON_TOP | ENTRY:
            found = {other for other in imports if other.split(".")[0] in ON_TOP | ENTRY}
            assert not found, f"{name} imports {sorted(found)}"


# -- citation, licence, continuous integration -----------------------------------------------------


def test_citation_names_this_software_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors", "version", "license"} <= set(citation)
    assert str(citation["version"]) == PROJECT["version"] and citation["license"] == PROJECT["license"] == "MIT"
    paper = citation["preferred-citation"]
    assert paper["title"] == "Inverse Bridge Matching Distillation" and paper["year"] == 2025
    family_names = [author["family-names"] for author in paper["authors"]]
    assert family_names == ["Gushchin", "Li", "Selikhanovych", "Burnaev", "Baranchuk", "Korotin"]
    assert (paper["volume"], paper["start"], paper["end"]) == (267, 21471, 21496)


def test_licence_is_mit():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert text.startswith("MIT License") and "2026 the ibmd_minimal authors" in text


def test_continuous_integration_is_make_test():
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line and not line.startswith(("#", "set ", "cd "))] == ["make test"]


# -- what a machine leaves behind ------------------------------------------------------------------

# Spelled so that this file does not find itself.
MACHINE = re.compile(r"(?<![\w.~-])/(?:root|work|home/[a-z_][\w-]*|Users/[A-Za-z_][\w-]*|tmp/\w{3,})/")
REGISTRY = re.compile(r"\b(?:pypi|pythonhosted|anaconda)\.(?:org|com)\b|\bindex-url\b", re.IGNORECASE)
TEXT = {".py", ".md", ".toml", ".yml", ".yaml", ".cfg", ".cff", ".lock", ".json", ".ipynb", ".txt", ""}
# The pattern that hides a cell's temporary file names it.
EXCEPTED = {"sanitize.cfg", "tests/test_project.py"}


def test_no_file_tells_where_or_from_where_it_was_made():
    for path in tracked():
        if path.suffix in TEXT and named(path) not in EXCEPTED:
            text = path.read_text(encoding="utf-8")
            for pattern in (MACHINE, REGISTRY):
                found = pattern.search(text)
                assert not found, f"{named(path)}: {text[max(0, found.start() - 30) : found.end() + 30]!r}"


@pytest.mark.parametrize(
    "trace", ["/ro" + "ot/.cache", "at /ho" + "me/ada/x", '"/wo' + 'rk/main"', "/Us" + "ers/Ada/x"]
)
def test_the_search_for_paths_finds_one(trace):
    assert MACHINE.search(trace)


# -- notebooks -------------------------------------------------------------------------------------


@pytest.fixture(params=NOTEBOOKS, ids=named)
def notebook(request) -> dict:
    return json.loads(request.param.read_text(encoding="utf-8"))


def code_cells(notebook: dict) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]


def test_notebook_was_stored_from_one_clean_run(notebook):
    counts = [cell["execution_count"] for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))


def test_notebook_stores_no_error_and_no_warning(notebook):
    for cell in code_cells(notebook):
        may_raise = "raises-exception" in cell["metadata"].get("tags", [])
        for output in cell["outputs"]:
            assert output["output_type"] != "error" or may_raise, "".join(cell["source"])
            assert output.get("name") != "stderr", "".join(cell["source"])


DURATION = re.compile(r"\b\d+(?:\.\d+)? (?:ms|s|sec|seconds|min|minutes)\b")


def test_notebook_stores_no_durations(notebook):
    for cell in code_cells(notebook):
        for output in cell["outputs"]:
            found = DURATION.search("".join(output.get("text", "")))
            assert not found, f"{found.group()!r} of {''.join(cell['source'])[:200]}"


def test_notebook_cells_are_short_and_few(notebook):
    assert len(notebook["cells"]) <= 60
    for cell in code_cells(notebook):
        assert len("".join(cell["source"]).splitlines()) <= 30, "".join(cell["source"])[:80]


def test_notebook_keeps_no_widget_state_and_a_plain_kernel(notebook):
    assert "widgets" not in notebook["metadata"]
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_notebook_is_small(path):
    assert path.stat().st_size < 300_000


def test_notebook_images_in_prose_have_alt_text(notebook):
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            text = "".join(cell["source"])
            assert not re.search(r"!\[\s*\]\(", text), text[:80]
            for tag in re.findall(r"<img\b[^>]*>", text):
                assert re.search(r"\balt=[\"'][^\"']+", tag), tag
