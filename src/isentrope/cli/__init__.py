"""The command line. Each command is one module, imported only when it is called."""

import os
import sys

from cyclopts import App, CycloptsError
from rich.console import Console

import isentrope
from isentrope._threads import settle_threads

app = App(
    name="isentrope",
    help="Measure, follow and control entropy.",
    version=isentrope.__version__,
    help_format="markdown",
    # `main` says what an interrupt means; cyclopts would exit by itself, without a word.
    suppress_keyboard_interrupt=False,
)
app.command("isentrope.cli.train:train", name="train")
app.command("isentrope.cli.compare:compare", name="compare")
app.command("isentrope.cli.measure:measure", name="measure")
app.command("isentrope.cli.recipes:recipes", name="recipes")
app.command("isentrope.cli.report:report", name="report")
app.command("isentrope.cli.papers:papers", name="papers")
app.command("isentrope.cli.papers:cite", name="cite")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; a user's mistake gives one line on stderr and exit code 2, a failure exit code 1.

    Set ``ISENTROPE_TRACEBACK=1`` to see the traceback of an error all the same.
    """
    settle_threads()
    # The command line draws its own progress; other libraries' bars would run through it.
    os.environ.setdefault("TQDM_DISABLE", "1")
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (`head`, say) has seen enough. What is still buffered has nowhere to go at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except CycloptsError as error:
        errors.print(f"isentrope: {_one_line(error)}", style="red", markup=False)
        sys.exit(2)
    except (ValueError, TypeError, OSError, ImportError, MemoryError) as error:
        if os.environ.get("ISENTROPE_TRACEBACK"):
            raise
        errors.print(f"isentrope: {_one_line(error)}", style="red", markup=False)
        sys.exit(2)
    except (RuntimeError, ArithmeticError) as error:
        if os.environ.get("ISENTROPE_TRACEBACK"):
            raise
        errors.print(f"isentrope: {_one_line(error)} (ISENTROPE_TRACEBACK=1 shows where)", style="red", markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        errors.print("isentrope: interrupted", style="red")
        sys.exit(130)


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{where}"
    return " ".join(str(error).split()) or type(error).__name__
