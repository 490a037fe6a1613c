"""`./start` and `./check`, run for real on a tiny course in a folder with a space in its name.

The tiny course has the real scripts, no dependencies, and builds without a network, so that these tests need none. Its
`pip install` is the real one; only failures that a test cannot bring about are played by a stand-in for python3 or df.
"""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from course.paths import ROOT

PYPROJECT = """[build-system]
requires = []
build-backend = "tiny_backend"
backend-path = ["."]
[project]
name = "tiny-course"
version = "0.1"
dependencies = [{dependencies}]
[project.optional-dependencies]
dev = []
"""
# The least that pip asks of a build backend for `pip install -e`: a wheel with a .pth file.
BACKEND = """
import os, re, time, zipfile

def build_editable(folder, config_settings=None, metadata_directory=None):
    time.sleep(float(os.environ.get("TINY_BUILD_SECONDS", 0)))
    name, info = "tiny_course-0.1-py3-none-any.whl", "tiny_course-0.1.dist-info"
    needs = re.findall('"(.+?)"', re.search("^dependencies = (.*)$", open("pyproject.toml").read(), re.MULTILINE)[1])
    files = {"tiny_course.pth": os.getcwd() + "\\n",
             info + "/METADATA": "Metadata-Version: 2.1\\nName: tiny-course\\nVersion: 0.1\\nProvides-Extra: dev\\n"
                                 + "".join(f"Requires-Dist: {need}\\n" for need in needs),
             info + "/WHEEL": "Wheel-Version: 1.0\\nGenerator: tiny\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"}
    files[info + "/RECORD"] = "".join(f"{path},,\\n" for path in [*files, info + "/RECORD"])
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
    return name
"""
COURSE = "import sys\nprint('ran course', *sys.argv[1:])\n"
PYTEST = "import sys\nprint('ran pytest', *sys.argv[1:])\n"


def write_tiny_course(folder: Path) -> Path:
    """The real scripts around a course without dependencies. Its Python is the one that runs these tests."""
    (folder / "tools").mkdir(parents=True)
    for name in ("start", "check", "tools/setup.sh"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "pyproject.toml").write_text(PYPROJECT.format(dependencies=""))
    (folder / "tiny_backend.py").write_text(BACKEND)
    for name, text in (("course", COURSE), ("pytest", PYTEST)):
        (folder / name).mkdir()
        (folder / name / "__main__.py").write_text(text)
        (folder / name / "__init__.py").write_text("")
    return folder


def environment(**more: str) -> dict[str, str]:
    """No pip settings of this machine, no package index, the Python of these tests."""
    kept = {
        name: value for name, value in os.environ.items() if not name.upper().startswith(("PIP_", "HTTP", "ALL_PROXY"))
    }
    return {**kept, "PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "COURSE_PYTHON": sys.executable, **more}


def run(folder: Path, command: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        text=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        env=environment(**more),
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> tuple[Path, str]:
    """A tiny course after its first `./start`, and what that printed."""
    folder = write_tiny_course(tmp_path_factory.mktemp("start") / "my course")
    done = run(folder, "./start --no-lab")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


@pytest.fixture(scope="module")
def quick_python(installed, tmp_path_factory) -> str:
    """A Python that makes a virtual environment by copying a fresh one: `ensurepip` takes seconds each time."""
    folder = tmp_path_factory.mktemp("quick")
    shutil.copytree(installed[0] / ".venv", folder / "fresh", symlinks=True)
    for path in [
        *folder.glob("fresh/installed-*"),
        folder / "fresh" / "place",
        *folder.glob("fresh/lib/python3*/site-packages/tiny*"),
    ]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    python = folder / "python"
    python.write_text(
        f'#!/bin/bash\nif [ "$2" = venv ]; then exec cp -a "{folder}/fresh" "$3"; fi\nexec "{sys.executable}" "$@"\n'
    )
    python.chmod(0o755)
    return str(python)


@pytest.fixture
def stand_ins(tmp_path):
    """Puts a script in front of PATH: stand_ins("df", "echo full") -> value for PATH."""
    folder = tmp_path / "stand-ins"
    folder.mkdir()

    def add(name: str, text: str) -> str:
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
        return f"{folder}:{os.environ['PATH']}"

    return add


def failure(done: subprocess.CompletedProcess[str]) -> tuple[str, str, str]:
    """What went wrong, the cause, and the next step."""
    found = re.search(r"\n(.+)\n  Cause: (.+)\n  Next step: (.+)\n$", done.stderr)
    assert done.returncode == 1 and found, (done.stdout, done.stderr)
    return found.groups()


def test_start_installs_looks_and_converts(installed):
    folder, output = installed
    steps = ["Making .venv", "Installing the course", "ran course doctor", "ran course first", "./start lab"]
    assert [output.index(step) for step in steps] == sorted(output.index(step) for step in steps)
    assert (folder / ".venv" / "installed-course").is_file() and not (folder / ".venv" / "tmp").exists()


def test_second_start_installs_nothing(installed):
    folder, _ = installed
    began = time.monotonic()
    done = run(folder, "./start --no-lab")
    assert done.returncode == 0 and "Installing" not in done.stdout and "ran course first" in done.stdout
    assert time.monotonic() - began < 5


def test_start_lab_goes_straight_to_the_lessons(installed):
    done = run(installed[0], "./start lab")
    assert done.stdout.splitlines() == ["ran course lab"]


def test_start_stops_where_the_doctor_says_no(tmp_path, installed):
    folder = tmp_path / "copy"
    shutil.copytree(installed[0], folder, symlinks=True)
    (folder / ".venv" / "place").write_text(f"{folder}\n")
    (folder / "course" / "__main__.py").write_text(COURSE + "sys.exit(sys.argv[1] == 'doctor')\n")
    done = run(folder, "./start --no-lab")
    assert done.returncode == 1 and "ran course doctor" in done.stdout and "ran course first" not in done.stdout


def test_start_from_another_folder_and_with_a_wrong_word(installed, tmp_path):
    assert run(tmp_path, f"'{installed[0]}/start' --help").returncode == 0
    done = run(tmp_path, f"'{installed[0]}/start' --fast")
    assert done.returncode == 2 and '"--fast"' in done.stderr and "./start lab" in done.stderr


def test_check_passes_its_arguments_to_pytest(installed):
    done = run(installed[0], "./check tests/test_x.py -k 'a b'")
    assert done.returncode == 0 and done.stdout.splitlines()[-1].endswith("tests/test_x.py -k a b")
    again = run(installed[0], "./check")
    assert "Installing" not in again.stdout and "ran pytest" in again.stdout
    assert "Installing" not in run(installed[0], "./start --no-lab").stdout  # [dev] holds the plain install


def test_changed_requirements_are_installed(tmp_path, installed):
    folder = tmp_path / "copy"
    shutil.copytree(installed[0], folder, symlinks=True)
    (folder / ".venv" / "place").write_text(f"{folder}\n")
    with open(folder / "pyproject.toml", "a") as file:
        file.write("# changed\n")
    assert "Installing the course" in run(folder, "./start --no-lab").stdout


def test_moved_and_half_made_environments_are_made_again(tmp_path, installed, quick_python):
    folder = tmp_path / "moved course"
    shutil.copytree(installed[0], folder, symlinks=True)
    done = run(folder, "./start --no-lab", COURSE_PYTHON=quick_python)
    assert "making it again" in done.stdout and "ran course first" in done.stdout
    assert Path((folder / ".venv" / "place").read_text().strip()) == folder

    shutil.rmtree(next((folder / ".venv" / "lib").glob("python3*")) / "site-packages" / "pip")
    assert "making it again" in run(folder, "./start --no-lab", COURSE_PYTHON=quick_python).stdout


def obey_ctrl_c() -> None:
    """A job that was started in the background ignores Ctrl-C, and so would all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_interrupted_install_goes_on(tmp_path, quick_python):
    folder = write_tiny_course(tmp_path / "my course")
    process = subprocess.Popen(
        ["./start", "--no-lab"],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=obey_ctrl_c,
        env=environment(TINY_BUILD_SECONDS="60", COURSE_PYTHON=quick_python),
    )
    while "Installing" not in process.stdout.readline():
        assert process.poll() is None
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)  # what Ctrl-C on a terminal does
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and "Run ./start again" in errors
    assert not (folder / ".venv" / "installed-course").exists()

    # What a killed pip leaves: a package with METADATA but no RECORD, which pip takes for installed.
    packages = next((folder / ".venv" / "lib").glob("python3*")) / "site-packages"
    half = packages / "tiny_course-0.1.dist-info"
    half.mkdir(exist_ok=True)
    (half / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-course\nVersion: 0.1\n")
    (packages / "~iny_course").mkdir()
    done = run(folder, "./start --no-lab")
    assert done.returncode == 0, done.stderr
    assert "Making .venv" not in done.stdout and (half / "RECORD").is_file() and not (packages / "~iny_course").exists()


def test_python_too_old(tmp_path, stand_ins):
    folder = write_tiny_course(tmp_path / "course")
    for name in ("python3", "python3.10", "python3.11", "python3.12", "python3.13"):
        path = stand_ins(name, 'if [ "$1" = --version ]; then echo Python 3.8.1; else echo 3.8; fi')
    what, cause, step = failure(run(folder, "./start", PATH=path, COURSE_PYTHON=""))
    assert "3.10" in what and "Python 3.8.1" in cause and "apt-get install python3" in step
    assert not (folder / ".venv").exists()


def test_python_too_new_is_passed_over(tmp_path, stand_ins):
    folder = write_tiny_course(tmp_path / "course")
    for name in ("python3", "python3.10", "python3.11", "python3.12", "python3.13"):
        path = stand_ins(name, "echo 3.14")
    assert "No Python from 3.10" in failure(run(folder, "./start", PATH=path, COURSE_PYTHON=""))[0]


def test_python_without_venv(tmp_path, stand_ins):
    folder = write_tiny_course(tmp_path / "course")
    for name in ("python3", "python3.10", "python3.11", "python3.12", "python3.13"):
        path = stand_ins(
            name, 'case "$2" in *ensurepip*) echo "No module named ensurepip" >&2; exit 1;; *) echo 3.12;; esac'
        )
    what, _, step = failure(run(folder, "./start", PATH=path, COURSE_PYTHON=""))
    assert "Python 3.12" in what and step.startswith("sudo apt-get install python3-venv python3.12-venv")


def test_shim_of_a_version_manager_without_that_python(tmp_path, stand_ins, quick_python):
    folder = write_tiny_course(tmp_path / "course")
    for name in ("python3.10", "python3.11", "python3.12", "python3.13"):
        path = stand_ins(name, "echo 'pyenv: command not found' >&2; exit 127")
    path = stand_ins("python3", f'exec "{quick_python}" "$@"')
    assert "ran course first" in run(folder, "./start --no-lab", PATH=path, COURSE_PYTHON="").stdout


def test_disk_too_small_is_said_before_anything_is_made(tmp_path, stand_ins):
    folder = write_tiny_course(tmp_path / "course")
    path = stand_ins("df", r'printf "Filesystem 1024-blocks Used Available\n/dev/x 9000000 1000000 7600000 12%% /\n"')
    what, cause, step = failure(run(folder, "./start", PATH=path))
    assert "disk" in what and "12 GB" in cause and "7 GB are free" in cause and "Free 5 GB" in step
    assert not (folder / ".venv").exists()


class _Broken(BaseHTTPRequestHandler):
    """A package index on this machine: every answer is an error of the server, or a package with a wrong hash."""

    def do_GET(self) -> None:
        if self.path.startswith("/error/"):
            self.send_error(503)
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream" if self.path.endswith(".whl") else "text/html")
        self.end_headers()
        if self.path.endswith(".whl"):
            self.wfile.write(b"not a wheel")
        else:
            self.wfile.write(
                b'<a href="/nowhere_package-1.0-py3-none-any.whl#sha256=%s">nowhere_package-1.0-py3-none-any.whl</a>'
                % (b"0" * 64)
            )

    def log_message(self, *_: object) -> None:
        """Nothing: the server's log is not the test's output."""


@pytest.fixture(scope="module")
def server():
    with HTTPServer(("127.0.0.1", 0), _Broken) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    "settings, cause, step",
    [
        ({"PIP_INDEX_URL": "http://127.0.0.1:9/simple"}, "does not answer", "Check the connection"),
        ({"PIP_INDEX_URL": "https://index.invalid/simple"}, "cannot be resolved", "Check the connection"),
        (
            {"PIP_INDEX_URL": "https://index.invalid/simple", "HTTPS_PROXY": "http://127.0.0.1:9"},
            "proxy refuses",
            "Set HTTPS_PROXY",
        ),
        ({"PIP_INDEX_URL": "SERVER/simple"}, "arrived damaged", "pip cache purge"),
        ({"PIP_INDEX_URL": "SERVER/error/simple"}, "has no nowhere-package", "Try again in a few minutes"),
        (
            {"PIP_INDEX_URL": "SERVER/old/simple"},
            "No matching distribution found for nowhere-package>=2",
            "docs/versions.md",
        ),
    ],
)
def test_pip_failures_are_explained(tmp_path_factory, installed, server, settings, cause, step):
    """The real pip meets real failures: no server, no name, no proxy, a wrong hash, a broken server, an old package."""
    folder = tmp_path_factory.mktemp("pip") / "my course"
    shutil.copytree(installed[0], folder, symlinks=True)
    (folder / ".venv" / "place").write_text(f"{folder}\n")
    (folder / "pyproject.toml").write_text(
        PYPROJECT.format(dependencies='"nowhere-package>=2"' if "old" in str(settings) else '"nowhere-package"')
    )
    settings = {name: value.replace("SERVER", server) for name, value in settings.items()}
    found = failure(
        run(folder, "./start", **{"PIP_NO_INDEX": "0", "PIP_RETRIES": "1", "PIP_NO_CACHE_DIR": "1", **settings})
    )
    assert ".venv/install.log" in found[0] and cause in found[1] and step in found[2], found
    assert not (folder / "course" / "installed-course").exists()


@pytest.mark.parametrize(
    "said, cause",
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk is full"),
        (
            "SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed",
            "certificate",
        ),
        ("error: command 'x86_64-linux-gnu-gcc' failed: No such file or directory", "compiled"),
        (
            "ERROR: Could not install packages due to an OSError: [Errno 13] Permission denied: '/x'",
            "may not be written",
        ),
        ("ERROR: HTTP error 503 while getting https://index.example/torch.whl", "error of its own"),
        ("ERROR: something that nobody foresaw", "something that nobody foresaw"),
    ],
)
def test_pip_failures_that_a_test_cannot_bring_about(tmp_path, said, cause):
    """Lines that pip 23 and 24 print, given to the function that explains them."""
    folder = write_tiny_course(tmp_path / "course")
    (folder / ".venv").mkdir()
    (folder / ".venv" / "install.log").write_text(f"Collecting torch\n{said}\n")
    assert cause in failure(run(folder, "source tools/setup.sh; explain_pip_failure 1"))[1]


def test_killed_pip_is_named_as_such(tmp_path, quick_python):
    folder = write_tiny_course(tmp_path / "course")
    process = subprocess.Popen(
        ["./start", "--no-lab"],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        env=environment(TINY_BUILD_SECONDS="30", COURSE_PYTHON=quick_python),
    )
    pip = None
    while pip is None and process.poll() is None:
        time.sleep(0.2)
        pip = next((pid for pid in children(process.pid) if "\0install\0" in command_of(pid)), None)
    os.kill(pip, signal.SIGKILL)  # what the kernel does when memory runs out
    output, errors = process.communicate(timeout=30)
    assert "out of memory" in failure(subprocess.CompletedProcess((), process.returncode, output, errors))[1]


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:  # it has ended meanwhile
        return ""


def children(parent: int) -> list[int]:
    """Process ids of all children and their children, from Linux's /proc."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                found += [int(path.parent.name), *children(int(path.parent.name))]
        except OSError:  # it has ended meanwhile
            continue
    return found


def test_two_installs_at_the_same_time_wait_for_each_other(tmp_path, quick_python):
    folder = write_tiny_course(tmp_path / "course")
    command = "TINY_BUILD_SECONDS=1 ./start --no-lab > one.log 2>&1 & sleep 0.3; ./check > two.log 2>&1; wait %1; cat one.log two.log"
    done = run(folder, command, COURSE_PYTHON=quick_python)
    assert done.stdout.count("Making .venv") == 1 and "waiting" in done.stdout
    assert "ran course first" in done.stdout and "ran pytest" in done.stdout


PIP_SAYS = """Collecting torch<2.15,>=2.11
  Downloading torch-2.14.1-cp312-cp312-manylinux_2_28_x86_64.whl.metadata (30 kB)
  Downloading torch-2.14.1-cp312-cp312-manylinux_2_28_x86_64.whl (551.3 MB)
Processing /opt/wheels/typer-0.29.2-py3-none-any.whl
  Using cached nvidia_cudnn_cu13-9.24.0.43-py3-none-manylinux_2_27_x86_64.whl (366 MB)
Installing collected packages: typer, nvidia-cudnn-cu13, torch
"""


def test_progress_in_a_log_file_names_the_long_steps(installed):
    done = run(installed[0], 'source tools/setup.sh; show_progress <<< "$PIP_SAYS"', PIP_SAYS=PIP_SAYS)
    lines = [line.split("s  ", 1)[1] for line in done.stdout.splitlines()]
    assert (
        lines[0] == "fetching torch-2.14.1 (551.3 MB)" and lines[1] == "fetching nvidia_cudnn_cu13-9.24.0.43 (366 MB)"
    )
    assert lines[2].startswith("installing, about ") and lines[3] == "pip has ended"
    assert PIP_SAYS in (installed[0] / ".venv" / "install.log").read_text()


def test_progress_on_a_terminal_is_one_changing_line(installed):
    reader, writer = pty.openpty()
    subprocess.run(
        ["bash", "-c", 'source tools/setup.sh; (printf %s "$PIP_SAYS"; sleep 2.5) | show_progress'],
        cwd=installed[0],
        stdout=writer,
        stdin=subprocess.DEVNULL,
        timeout=60,
        env=environment(PIP_SAYS=PIP_SAYS),
    )
    os.close(writer)
    shown = b""
    while True:
        try:
            shown += os.read(reader, 65536)
        except OSError:  # the terminal has no more
            break
        if b"pip has ended" in shown:
            break
    assert shown.count(b"\n") == 1, shown  # the last line only
    assert b"\r" in shown and re.search(rb"2 s  installing, \d+ of about \d+ packages", shown), shown
