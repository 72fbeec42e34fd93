"""Which module of a package imports which, read from the source; and the rules that a test holds them to."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Source:
    """The text of a module, and whether it is the `__init__.py` of a package."""

    text: str
    is_package: bool = False


class ImportGraph:
    """The modules of a package by full name, and what they import.

    Every import statement counts, wherever it stands: in a function, or under `if TYPE_CHECKING`.
    """

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self.sources = dict(sources)
        self._imports: dict[tuple[str, bool], frozenset[str]] = {}  # read so far

    @classmethod
    def of(cls, package: Path) -> ImportGraph:
        """The graph of a package on disk."""
        sources = {}
        for file in sorted(package.rglob("*.py")):
            parts = (package.name, *file.relative_to(package).with_suffix("").parts)
            is_package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if is_package else parts)
            sources[name] = Source(file.read_text(encoding="utf-8"), is_package)
        return cls(sources)

    def with_lines(self, module: str, lines: str) -> ImportGraph:
        """The same package with lines added to the end of one module."""
        before = self.sources[module]
        graph = ImportGraph({**self.sources, module: Source(f"{before.text}\n{lines}\n", before.is_package)})
        graph._imports = {key: found for key, found in self._imports.items() if key[0] != module}
        return graph

    def imports(self, module: str, at_import: bool = False) -> frozenset[str]:
        """Full names of what a module imports; at_import: only what runs when it is imported."""
        if (module, at_import) not in self._imports:
            self._imports[module, at_import] = self._read(module, at_import)
        return self._imports[module, at_import]

    def loaded_by(self, module: str) -> dict[str, tuple[str, ...]]:
        """{everything that importing `module` imports, by name: the chain of modules that leads to it}."""
        chains: dict[str, tuple[str, ...]] = {}
        stack = [(module, (module,))]
        while stack:
            name, path = stack.pop()
            if name in chains:
                continue
            chains[name] = path
            if name in self.sources:
                # Importing a.b.c runs a and a.b as well.
                parents = [name.rsplit(".", depth)[0] for depth in range(1, name.count(".") + 1)]
                stack += [(other, (*path, other)) for other in (*self.imports(name, at_import=True), *parents)]
        return chains

    def _read(self, module: str, at_import: bool) -> frozenset[str]:
        source = self.sources[module]
        found: set[str] = set()
        package = module if source.is_package else module.rpartition(".")[0]

        def visit(node: ast.AST) -> None:
            if at_import and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                return
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                for child in [] if at_import else node.body:
                    visit(child)
                for child in node.orelse:
                    visit(child)
                return
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                found.update(self._from(node, package))
            for child in ast.iter_child_nodes(node):
                visit(child)

        visit(ast.parse(source.text))
        return frozenset(found)

    def _from(self, node: ast.ImportFrom, package: str) -> set[str]:
        base = node.module or ""
        if node.level:
            anchor = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*anchor, *([base] if base else [])])
        # "from package import submodule" imports the submodule, "from module import name" the module
        names = {f"{base}.{alias.name}" for alias in node.names}
        return {name if name in self.sources else base for name in names}


def part_of(module: str) -> str:
    """The subpackage or the top-level module that a module belongs to."""
    return module.split(".")[1] if "." in module else "__init__"


def forbidden_parts(graph: ImportGraph, module: str, allowed: Mapping[str, Set[str]]) -> list[str]:
    """Parts that a module imports although the rule of its own part does not allow it."""
    part, package = part_of(module), module.split(".")[0]
    used = {part_of(name) for name in graph.imports(module) if name.split(".")[0] == package}
    return sorted(used - allowed[part] - {part, "__init__"})


def circles(edges: Mapping[str, Set[str]]) -> list[list[str]]:
    """Groups of nodes that reach each other (Tarjan's strongly connected components of two nodes and more)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(edges[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            start = stack.index(node)
            if len(stack) - start > 1:
                found.append(sorted(stack[start:]))
            del stack[start:]

    for node in edges:
        if node not in index:
            visit(node)
    return found


def circles_of_modules(graph: ImportGraph) -> list[list[str]]:
    """Modules of a package that import each other in a circle."""
    return circles({module: graph.imports(module) & graph.sources.keys() - {module} for module in graph.sources})
