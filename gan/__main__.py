"""The entry point: ``python -m gan VERB [options]``."""

from __future__ import annotations

import importlib
import sys

VERBS = {
    "train": "train a GAN, or resume its training",
    "sample": "draw images of a trained generator, and interpolations",
    "evaluate": "Frechet and kernel distance, precision and recall of a run",
    "export": "write a generator as an ONNX or torch.export file",
    "invariance": "test whether the distribution of a generator's images is invariant",
    "classify": "train classifiers",
    "compare": "tabulate and plot the classifiers of a folder",
    "grid": "train and print a table of the papers",
    "data": "prepare a data set, or show it",
    "networks": "print the parameter counts of all networks",
}


def main(arguments: list[str] | None = None) -> int:
    verb, *rest = (sys.argv[1:] if arguments is None else arguments) or [""]
    if verb in VERBS:
        return importlib.import_module(f"gan.commands.{verb}").main(rest)
    lines = [f"  {name:<11} {text}" for name, text in VERBS.items()]
    usage = "\n".join(["usage: python -m gan VERB [options]", "", *lines, "", "python -m gan VERB --help: its options"])
    if verb in ("", "-h", "--help"):
        print(usage)
        return 0
    print(f"error: expected one of {', '.join(VERBS)}, got {verb!r}\n\n{usage}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
