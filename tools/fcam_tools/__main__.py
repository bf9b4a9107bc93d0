"""The command line: `fcam-tools VERB ...`, one verb a module, with `add_arguments` and `run`, in the folder that VERBS
names."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
import traceback
import warnings

from fcam_tools import __version__
from fcam_tools.common import malloc
from fcam_tools.common.errors import ToolError, note_bug

ABOUT = "Makes a bundle for the camera out of labelled pictures. `fcam-tools VERB --help` tells a verb's options."
FIRST = "First: inspect PICTURES (ok/ and a folder of rejects), then pilot, train, export (tools/README.md)."
DEBUG = "print the traceback of an error too"
VERBS = {
    "synth": ("synth", "make a procedural inspection data set with exact masks"),
    "inspect": ("judge", "say what is in a data set, and what is wrong with it"),
    "pilot": ("judge", "say whether it is worth it: a small cross-validated run, and one HTML report"),
    "train": ("train", "train a classifier and a decoder on image labels"),
    "tune": ("train", "search a small space for a better recipe, within a budget"),
    "runs": ("train", "list the runs that training left, with their metrics"),
    "evaluate": ("judge", "score maps and verdicts on a test split"),
    "table": ("judge", "compare maps and decoders over backbones on one data set: CSV, Markdown, plot"),
    "adapt": ("ship", "fit a bundle to a new site, or refuse to make it worse"),
    "compare": ("judge", "score two networks side by side, and show the pictures on which they disagree"),
    "export": ("export", "quantise a checkpoint and write it as a bundle with its proof"),
    "deploy": ("ship", "bring a signed bundle to several cameras over ssh, the canary first"),
    "redeploy": ("ship", "train, export, sign and deploy: one command from new pictures to the cameras"),
    "nets": ("bench", "write bundles of well-known backbones with random weights, to test and time engines on"),
    "peers": ("bench", "time fcam beside ONNX Runtime, OpenVINO and stock tract"),
    "verify": ("export", "compare PyTorch, ONNX Runtime and the camera on a bundle's golden pictures"),
}


def main(argv: list[str] | None = None) -> int:
    """Parses, runs one verb, prints an error once, in one line. Exit codes: 0 done, 2 refused or failed, 130 stopped by
    Ctrl-C; 1 is each verb's own."""
    argv = sys.argv[1:] if argv is None else argv
    chosen = next((word for word in argv if not word.startswith("-")), "")
    try:
        return one(argv, chosen)
    except KeyboardInterrupt as stop:
        print(f"fcam-tools {chosen}: {str(stop) or 'stopped'}", file=sys.stderr)
        return 130


def one(argv: list[str], chosen: str) -> int:
    """Runs one verb, `chosen` by the words of the command line."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("fcam_tools").setLevel(logging.INFO)  # others tell too much at that level
    for noisy in ("torch.onnx", "torch.utils.flop_counter", "onnxscript", "onnx_ir", "torchcam", "huggingface_hub"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    parser = argparse.ArgumentParser("fcam-tools", description=ABOUT, epilog=FIRST)
    parser.add_argument("--version", action="version", version=f"fcam-tools {__version__}")
    parser.add_argument("--debug", action="store_true", help=DEBUG)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, (folder, summary) in VERBS.items():
        verb = verbs.add_parser(name, help=summary, description=summary)
        verb.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=DEBUG)
        if name == chosen:  # torch takes seconds to import: only the verb that runs pays
            importlib.import_module(f"fcam_tools.{folder}.{name}").add_arguments(verb)
    if not argv:
        parser.print_help(sys.stderr)
        return 2
    args = parser.parse_args(argv)
    if args.debug:
        logging.getLogger("fcam_tools").setLevel(logging.DEBUG)
    malloc.keep_freed()
    try:
        return importlib.import_module(f"fcam_tools.{VERBS[args.verb][0]}.{args.verb}").run(args)
    except Exception as error:
        if args.debug:
            traceback.print_exception(error)
        print(f"fcam-tools {args.verb}: {told(error)}", file=sys.stderr)
        return 2


def told(error: Exception) -> str:
    """What a user can mend, as it is; of anything else, that it is a bug, and where its traceback is."""
    of_a_file = isinstance(error, OSError) and error.filename is not None
    gone = isinstance(error, BrokenPipeError)  # whoever read standard output has seen enough
    return str(error) if isinstance(error, ToolError) or of_a_file or gone else note_bug(error)


if __name__ == "__main__":
    sys.exit(main())
