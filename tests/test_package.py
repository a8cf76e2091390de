"""What an installed package promises to those who import it."""

import subprocess
import sys
from importlib.resources import files

import onnxsal


def test_type_checkers_are_told_that_the_package_is_typed():
    assert (files("onnxsal") / "py.typed").is_file()


def test_public_names_are_there_and_listed_before_they_are_used():
    code = "import onnxsal; print(*(set(onnxsal.__all__) - set(dir(onnxsal)))); from onnxsal import *"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


def test_what_type_checkers_read_and_what_python_imports_are_the_same_names():
    source = (files("onnxsal") / "__init__.py").read_text(encoding="utf-8")
    typed = source.partition("if TYPE_CHECKING:")[2].partition("\n\n")[0]
    assert sorted(line.split()[-1] for line in typed.splitlines() if line) == sorted(onnxsal.__all__)
