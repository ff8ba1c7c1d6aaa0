"""The project in `examples/poll`, tested by its own suite with the package as a user installs it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "poll"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def run(*command: str | Path, cwd: Path) -> str:
    # Nothing of this checkout may be found on the import path.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environ.pop("PYTHONPATH", None)
    return _run(command, cwd, environ)


def _run(command: tuple[str | Path, ...], cwd: Path, environ: dict[str, str]) -> str:
    ran = subprocess.run(command, check=False, capture_output=True, text=True, cwd=cwd, env=environ)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with our wheel, and the packages of this one behind it."""
    folder = tmp_path_factory.mktemp("installed")
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    no_network = ("--no-index", "--no-deps")
    _run(
        (*pip, "wheel", *no_network, "--no-build-isolation", "--wheel-dir", folder, ROOT),
        folder,
        dict(os.environ),
    )
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", symlinks=True)
    interpreter = folder / "venv" / "bin" / "python"
    (site_packages,) = (folder / "venv" / "lib").glob("*/site-packages")
    behind = sysconfig.get_path("purelib")
    (site_packages / "behind.pth").write_text(f"import site; site.addsitedir({behind!r})\n")
    _run(
        (*pip, "--python", interpreter, "install", *no_network, "--ignore-installed", wheel),
        folder,
        dict(os.environ),
    )
    return interpreter


def test_the_wheel_is_what_is_imported(python, tmp_path) -> None:
    code = """
import json, wsgateway
from importlib.metadata import distribution
installed = distribution("wsgateway")
plugins = [entry.value for entry in installed.entry_points if entry.group == "pytest11"]
print(json.dumps([wsgateway.__file__, installed.metadata.get_all("Provides-Extra"), plugins]))
"""

    file, extras, plugins = json.loads(run(python, "-c", code, cwd=tmp_path))

    assert Path(file).is_relative_to(python.parents[1])
    assert "testing" in extras
    assert plugins == ["wsgateway.pytest_plugin"]


def test_its_tests_pass(python, tmp_path) -> None:
    project = tmp_path / "poll"
    shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns("__pycache__", ".*"))

    options = ("-W", "error", "--strict-markers", "--strict-config", "-p", "no:cacheprovider")
    output = run(python, "-m", "pytest", *options, cwd=project)

    tests = re.findall(
        r"^async def test_", (project / "tests/test_poll.py").read_text(), re.MULTILINE
    )
    assert f"{len(tests)} passed" in output, output
    assert "plugins:" in output
    assert "wsgateway-" in output
