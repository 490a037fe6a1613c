"""Which TensorRT names a program uses that a version lacks, with the program's feature tests answered.

The program is not run. It is visited, once for each TensorRT version, with the values that can be known:
modules, TensorRT objects and their classes (from the signatures that the bindings document), constants,
functions and classes of the program itself. A test such as `hasattr(trt.BuilderFlag, "FP16")` has the answer
that it has in that version, so only the branches are visited that run there, and in them every TensorRT name
must exist and every call fit. Code that no version comes to proves nothing and is reported too.

What it takes for granted:
- a parameter that no caller and no annotation tells about is what its name says (`statements.CONVENTION`);
- a function whose name starts with `_` is called by visited code or never;
- an object that may be TensorRT's or another library's is TensorRT's.
A name on an object of unknown class is looked up in all classes of the version, and listed as unresolved.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .api import Api
from .memory import Finding
from .scope import Module, read_module, text
from .statements import Statements

MOST_PASSES = 40
CLASS_UNKNOWN = " (on an object of unknown class: annotate it)"


class Checker(Statements):
    """One version's visit of a program."""

    def run(self) -> Checker:
        """Visit all until nothing changes: with what is known, then with "unknown" for what never came."""
        for self.settled in (False, True):
            for _ in range(MOST_PASSES):
                self._visit_all()
                if not self.changed:
                    break
            else:
                raise RuntimeError("The contract checker does not come to an end.")
        return self

    def _visit_all(self) -> None:
        self.changed = False
        self.frames, self.present = {}, set()
        for module in self.modules.values():
            self.run_module(module)
        self.visited = {frame.scope for frame in self.frames.values()}
        while waiting := [key for key in self.present - self.visited if self._is_live(key)]:
            for key in sorted(waiting):
                self.visited.add(key)
                self.run_function(key, self.functions[key])

    def found(self, kind: str) -> set:
        """All findings of one kind, of the last pass."""
        return set().union(*(getattr(self.visits[key].findings, kind) for key in self.visited))

    def _is_live(self, key: tuple) -> bool:
        """Whether anybody can call this function: it and its class are public, or visited code names them."""
        names = [part.partition(":")[0] for part in key[1:]]
        return all(not name.startswith("_") or name.endswith("__") or name in self.live for name in names)


@dataclass(frozen=True)
class Report:
    """What was found. `missing` and `misfits` say in which versions; `unreached` code runs in none."""

    missing: tuple[tuple[Finding, tuple[str, ...]], ...]
    misfits: tuple[tuple[Finding, tuple[str, ...]], ...]
    unreached: tuple[Finding, ...]
    unresolved: tuple[Finding, ...]
    used: dict[str, frozenset[str]]  # version -> names found in use

    @property
    def violations(self) -> list[str]:
        unproved = [f"{one} is never reached in any version: nothing is proved" for one in self.unreached]
        return sorted([*self.violations_in(""), *unproved])

    def violations_in(self, version: str) -> list[str]:
        """One line for each place that is wrong in this version ("": in any)."""
        return sorted(
            f"{one.path}:{one.line}: {one.name}{CLASS_UNKNOWN * one.name.startswith('?')} "
            f"{one.detail or 'does not exist'} in TensorRT {', '.join(versions)}"
            for one, versions in (*self.missing, *self.misfits)
            if not version or version in versions
        )


def check_files(files: Iterable[Path], root: Path, apis: Sequence[Api]) -> Report:
    """Check Python files below `root`, which together are the program."""
    modules = [read_module(path, root) for path in sorted(files)]
    return check_modules({module.name: module for module in modules}, apis)


def check_source(source: str, apis: Sequence[Api]) -> Report:
    """Check one file given as text."""
    return check_modules({"snippet": Module("snippet", "snippet.py", ast.parse(source), False)}, apis)


def check_modules(modules: dict[str, Module], apis: Sequence[Api]) -> Report:
    names = frozenset().union(*(api.members for api in apis))
    module_names = frozenset().union(*(api.modules[""] for api in apis))
    done = [Checker(api, names, modules).run() for api in apis]
    reached = set().union(*(checker.found("reached") for checker in done))
    unreached = set().union(*(_unreached(one, reached, names | module_names) for one in modules.values()))
    in_annotations = _by_version(done, "missing_in_annotations")
    nowhere = tuple((finding, versions) for finding, versions in in_annotations if len(versions) == len(apis))
    return Report(
        missing=(*_by_version(done, "missing"), *nowhere),
        misfits=_by_version(done, "misfits"),
        unreached=tuple(sorted(unreached, key=str)),
        unresolved=tuple(sorted(set().union(*(checker.found("unresolved") for checker in done)), key=str)),
        used={checker.api.name: frozenset(one.name for one in checker.found("used")) for checker in done},
    )


def _by_version(checkers: list[Checker], kind: str) -> tuple[tuple[Finding, tuple[str, ...]], ...]:
    found: dict[Finding, list[str]] = {}
    for checker in checkers:
        for finding in checker.found(kind):
            found.setdefault(finding, []).append(checker.api.version)
    return tuple((finding, tuple(found[finding])) for finding in sorted(found, key=str))


def _unreached(module: Module, reached: set[tuple[str, int, int]], api_names: frozenset[str]) -> set[Finding]:
    """Code near TensorRT that no visit came to: single `trt.X`, and blocks that use a name of some API."""
    names, others, found = _tensorrt_names(module), _other_packages(module), set()

    def matters(node: ast.AST) -> bool:
        return any(
            isinstance(inner, ast.Attribute)
            and inner.attr in api_names
            and getattr(inner.value, "id", None) not in others  # torch.__version__ is no matter of TensorRT's
            for inner in ast.walk(node)
        )

    def scan(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Attribute) and getattr(child.value, "id", None) in names:
                if (module.path, child.end_lineno, child.end_col_offset) not in reached:
                    found.add(Finding(module.path, child.lineno, text(child)))
            if isinstance(child, ast.stmt) and (module.path, child.lineno, child.col_offset) not in reached:
                if matters(child):
                    found.add(Finding(module.path, child.lineno, text(child).partition("\n")[0]))
            else:
                scan(child)

    if module.near_tensorrt:
        scan(module.tree)
    return found


OURS = ("tensorrt", "course", "autograder", "benchmarks", "tools")
"""Packages whose names may lead to TensorRT's."""


def _other_packages(module: Module) -> set[str]:
    """Names by which a file calls whole packages that do not lead to TensorRT: `import torch`, `import numpy as np`."""
    aliases = [alias for node in ast.walk(module.tree) if isinstance(node, ast.Import) for alias in node.names]
    return {alias.asname or alias.name for alias in aliases if not alias.name.startswith(OURS)}


def _tensorrt_names(module: Module) -> set[str]:
    """Names by which a file calls the module `tensorrt`: imports, and parameters called `trt`."""
    names = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname or alias.name for alias in node.names if alias.name == "tensorrt"}
        elif isinstance(node, ast.arg) and node.arg == "trt" and not module.for_rtx:
            names.add("trt")
    return names
