"""Entry point of the `jaxcg` command: picks the verb and turns exceptions into exit codes."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import NoReturn

from ..errors import InputError, ResultError
from . import backmap, check, gle, memory, sample
from . import map as map_verb
from .exit_codes import BAD_INPUT, BAD_RESULT, INTERRUPTED, SUCCESS, TERMINATED
from .interrupts import Terminated, prompt_interrupts

_EPILOG = """\
exit codes: 0 done; 2 the input cannot be used (one line says why, nothing is written); 3 the run ended badly (the
report says how); 130 interrupted. Documentation: docs/ in the source, or `jaxcg VERB --help`.
"""


class Parser(argparse.ArgumentParser):
    """An `argparse.ArgumentParser` whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Raises `InputError`, so that a wrong option is reported as every other bad input is."""
        raise InputError(f"{message} (see {self.prog} --help)")


def build_parser() -> Parser:
    """The parser of the whole command line."""
    parser = Parser(
        prog="jaxcg",
        description="Between coarse-grained and all-atom models of molecules.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"jaxcg {version('jaxcg')}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", dest="verb", parser_class=Parser)
    backmap.add_parser(verbs)
    map_verb.add_parser(verbs)
    sample.add_parser(verbs)
    memory.add_parser(verbs)
    gle.add_parser(verbs)
    check.add_parser(verbs)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Arguments:
        arguments: words after the program's name; those of the process when None.

    Returns:
        The exit code, which the console script hands to `sys.exit`.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in words
    try:
        with prompt_interrupts():
            parser = build_parser()
            parsed = parser.parse_args(words)
            if parsed.verb is None:
                parser.print_help()
                return SUCCESS
            return parsed.run(parsed)
    except InputError as error:
        return _fail(str(error), BAD_INPUT, as_json)
    except ResultError as error:
        return _fail(str(error), BAD_RESULT, as_json)
    except KeyboardInterrupt:
        return _fail("interrupted; nothing was written.", INTERRUPTED, as_json)
    except Terminated:
        return _fail("terminated; nothing was written.", TERMINATED, as_json)
    except BrokenPipeError:
        # The reader of our output has gone: nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return SUCCESS


def _fail(message: str, code: int, as_json: bool) -> int:
    line = " ".join(message.split())
    print(f"jaxcg: {line}", file=sys.stderr)
    if as_json:
        print(json.dumps({"error": line, "exit_code": code}))
    return code
