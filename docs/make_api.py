"""Writes api.md, the reference of the public names of gcnn_kernels, from their signatures and docstrings.

python docs/make_api.py

tests/project/test_api_page.py fails where the page is out of date.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
from pathlib import Path
from types import ModuleType

from torch import nn

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

# In the order of the page: modules with names to import, then those that are commands.
MODULES = (
    "gcnn_kernels",
    "gcnn_kernels.nn",
    "gcnn_kernels.groups",
    "gcnn_kernels.equivariance",
    "gcnn_kernels.interop",
)
COMMANDS = ("gcnn_kernels.check", "gcnn_kernels.info", "gcnn_kernels.tune")
HEADER = """\
# API

Made from the docstrings by `python docs/make_api.py`. How the layers belong together is told in [layers.md](layers.md).
"""
SECTIONS = ("Args", "Attributes", "Returns", "Raises")


def page() -> str:
    """The whole text."""
    modules = [importlib.import_module(name) for name in MODULES]
    parts = [HEADER, *map(_contents, modules), f"- commands: {', '.join(map(_link, COMMANDS))}\n"]
    described: set[int] = set()
    for module in modules:
        parts += [f"\n## {module.__name__}\n", _markdown(module.__doc__)]
        for name in _names(module):
            value = getattr(module, name)
            if inspect.ismodule(value):
                continue
            # A name that stands in a module above too is described there.
            if id(value) not in described:
                parts.append(_entry(_heading(module, name), value))
            described.add(id(value))
    parts.append("\n## Commands\n")
    for name in COMMANDS:
        parts += [f"### {name}\n", _markdown(importlib.import_module(name).__doc__)]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(parts)).rstrip() + "\n"


def _names(module: ModuleType) -> list[str]:
    return sorted(module.__all__, key=str.lower)


def _contents(module: ModuleType) -> str:
    names = (name for name in _names(module) if not inspect.ismodule(getattr(module, name)))
    return f"- {_link(module.__name__)}: {', '.join(_link(_heading(module, name)) for name in names)}"


def _heading(module: ModuleType, name: str) -> str:
    """Modules are called ``nn.Restrict``: anchors do not tell upper from lower case, and there is a function too."""
    return f"nn.{name}" if module.__name__ == "gcnn_kernels.nn" else name


def _link(heading: str) -> str:
    """To the heading, whose anchor GitHub makes so."""
    return f"[`{heading}`](#{re.sub('[^a-z0-9_-]', '', heading.lower())})"


def _entry(name: str, value: object) -> str:
    lines = [f"### {name}\n", f"```python\n{_signature(name, value)}\n```\n", _markdown(value.__doc__)]
    if inspect.isclass(value) and value.__module__ == "gcnn_kernels.groups":
        lines += _members(value)
    return "\n".join(lines)


def _signature(name: str, value: object) -> str:
    """As it stands in the source, on one line or with a line for each parameter."""
    if inspect.isclass(value) and value.__init__ is nn.Module.__init__:
        return f"{name}()"
    signature = inspect.signature(value)
    # Annotations are strings: as written, whatever version of Python or torch prints them.
    parameters = [_parameter(p) for p in signature.parameters.values()]
    kinds = [p.kind for p in signature.parameters.values()]
    if inspect.Parameter.KEYWORD_ONLY in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds:
        parameters.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
    returns = "" if inspect.isclass(value) else f" -> {_plain(signature.return_annotation)}"
    line = f"{name}({', '.join(parameters)}){returns}"
    if len(line) <= 100:
        return line
    return f"{name}(\n" + "".join(f"    {parameter},\n" for parameter in parameters) + f"){returns}"


def _parameter(parameter: inspect.Parameter) -> str:
    star = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    text = f"{star}{parameter.name}"
    if parameter.annotation is not parameter.empty:
        text += f": {_plain(parameter.annotation)}"
    return text if parameter.default is parameter.empty else f"{text} = {_literal(parameter.default)}"


def _literal(value: object) -> str:
    return json.dumps(value) if isinstance(value, str) else repr(value)


def _plain(annotation: str) -> str:
    return annotation.replace("torch.Tensor", "Tensor")


def _members(kind: type) -> list[str]:
    """A table of the public methods and properties, with the first sentence of each."""
    rows = []
    for name, member in vars(kind).items():
        documented = inspect.getdoc(member)
        if name.startswith("_") or documented is None or not (callable(member) or hasattr(member, "__get__")):
            continue
        parameters = ""
        if callable(member):
            parameters = f"({', '.join(list(inspect.signature(member).parameters)[1:])})"
        first = " ".join(documented.split("\n\n")[0].split())
        cell = _inline(first).replace("|", "\\|")
        rows.append(f"| `{name}{parameters}` | {cell} |")
    return ["| | |\n|---|---|", *rows, ""] if rows else []


def _markdown(docstring: str | None) -> str:
    """A docstring as Markdown: sections become lists, what is indented stays a block, names become links."""
    out, section = [], None
    for line in inspect.cleandoc(docstring or "").splitlines():
        indented, text = line.startswith("    "), line.strip()
        if not indented and text.endswith(":") and text[:-1] in SECTIONS:
            section = text[:-1]
            out.append(f"\n**{section}**\n")
        elif text.startswith(">>>"):  # an example is a block already
            out.append(f"    {text}")
        elif text and not indented:
            section = None
            out.append(_inline(text))
        elif section is None or not text:
            out.append(line)
        elif line.startswith("     "):
            out.append(f"  {_inline(text)}")
        elif section == "Returns":
            out.append(_inline(text))
        else:
            name, _, rest = text.partition(": ")
            out.append(f"- `{name}`: {_inline(rest)}")
    return "\n".join(out) + "\n"


def _inline(text: str) -> str:
    text = re.sub(r":\w+:`(?:[\w.]*\.)?(\w+)`", lambda match: _reference(match[1]), text)
    return text.replace("``", "`")


def _reference(name: str) -> str:
    modules = (importlib.import_module(module) for module in MODULES)
    found = next((module for module in modules if name in module.__all__), None)
    return f"`{name}`" if found is None else _link(_heading(found, name))


if __name__ == "__main__":
    (HERE / "api.md").write_text(page(), "utf-8")
