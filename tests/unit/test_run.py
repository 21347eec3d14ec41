"""Set-up that is interrupted, damaged or refused, and commands that must not pass by accident.

No network: installers are real commands that fail, or are recorded instead of run.
"""

import ast
import errno
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import run

SCRIPT = Path(run.__file__)
NEWER_SYNTAX = (
    ast.JoinedStr,
    ast.AnnAssign,
    ast.NamedExpr,
    ast.Match,
    ast.AsyncFunctionDef,
    ast.Nonlocal,
)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty repository in place of ours."""
    monkeypatch.setattr(run, "APART", ())
    monkeypatch.setattr(run, "IN_NEWER", ())
    for name in ("VENV", "HOST", "OLD", "OTHERS", "DATA"):
        monkeypatch.setattr(run, name, tmp_path / getattr(run, name).name)
    monkeypatch.setattr(run, "ROOT", tmp_path)
    for name in ("COMFYUI_PATH", "COMFYUI_HOSTS"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "requirements-test.txt").write_text("pytest\n")
    return tmp_path


@pytest.fixture
def steps(root, monkeypatch):
    """The names of the installing steps instead of their effects; one of them may be `fatal`."""

    class Steps(list):
        fatal = None

        def record(self, purpose, command=None):
            if purpose == self.fatal:
                raise KeyboardInterrupt
            self.append(purpose)
            if purpose == "make .venv":
                write(python_of(root), "")
            if purpose.startswith("install av"):
                write(run.OLD / "av.py", "")

    steps = Steps()

    def fetch_host(python):
        steps.record("fetch the host")
        write(run.HOST / run.STAMP, run.SDIST_SHA256)

    monkeypatch.setattr(run, "step", steps.record)
    monkeypatch.setattr(run, "fetch_host", fetch_host)
    return steps


def python_of(root):
    return root / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def message(function, *arguments):
    """The sentence with which a command ends; a traceback or a success fails the test."""
    with pytest.raises(SystemExit) as stop:
        function(*arguments)
    assert isinstance(stop.value.code, str), "an exit status without a sentence"
    assert "\n" not in stop.value.code
    return stop.value.code


# --- the interpreter ------------------------------------------------------------------------------


def test_an_old_python_is_told_what_it_needs():
    old = "import runpy, sys; sys.version_info = (3, 9, 18); runpy.run_path(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", old, SCRIPT], capture_output=True, text=True)
    assert done.returncode == 1
    assert "needs Python 3.10" in done.stderr
    assert "this is Python 3.9" in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_old_python_can_parse_the_file():
    for node in ast.walk(ast.parse(SCRIPT.read_text())):
        assert not isinstance(node, NEWER_SYNTAX), ast.unparse(node)
        if isinstance(node, ast.FunctionDef):
            assert not node.returns and not any(a.annotation for a in node.args.args)
            assert not node.args.kwonlyargs and not node.args.posonlyargs
        if isinstance(node, ast.Tuple | ast.List):
            assert not any(isinstance(item, ast.Starred) for item in node.elts), ast.unparse(node)
        if isinstance(node, ast.Raise):
            assert node.cause is None


# --- installing -----------------------------------------------------------------------------------


def test_a_complete_installation_is_used_as_it_is(root, steps):
    first = run.prepare()
    assert steps == ["make .venv", "fetch the host", "install the packages"]
    assert run.prepare() == first == (str(python_of(root)), root / ".comfyui")
    assert len(steps) == 3


@pytest.mark.parametrize("fatal", ["make .venv", "install the packages"])
def test_an_interrupted_installation_begins_again(steps, fatal):
    steps.fatal = fatal
    with pytest.raises(KeyboardInterrupt):
        run.prepare()
    steps.fatal = None
    steps.clear()
    run.prepare()
    assert steps[0] == "make .venv"
    assert steps[-1] == "install the packages"


def test_new_pins_are_installed_into_the_old_venv(root, steps):
    run.prepare()
    steps.clear()
    write(root / "requirements-test.txt", "pytest\nhypothesis\n")
    run.prepare()
    assert steps == ["install the packages"]


def test_a_venv_of_the_users_own_is_kept(root, steps):
    write(python_of(root), "")
    write(root / ".venv/theirs", "")
    run.prepare()
    assert steps == ["fetch the host", "install the packages"]
    assert (root / ".venv/theirs").exists()


def test_comfyui_path_needs_a_host(root, monkeypatch):
    monkeypatch.setenv("COMFYUI_PATH", str(root / "nowhere"))
    assert "no main.py" in message(run.prepare)
    write(root / "nowhere/main.py", "")
    assert run.prepare() == (sys.executable, root / "nowhere")


def test_packages_apart_are_installed_once_and_after_an_interrupt_again(steps):
    steps.fatal = "install av==16.0.0"
    with pytest.raises(KeyboardInterrupt):
        run.install_apart("python", run.OLD, ("av==16.0.0",))
    steps.fatal = None
    for python in ("python", "python", "another python"):
        run.install_apart(python, run.OLD, ("av==16.0.0",))
    assert steps == ["install av==16.0.0"] * 2
    run.install_apart("another python", run.OLD, ("av==15.0.0",))
    assert len(steps) == 3


# --- unpacking ------------------------------------------------------------------------------------


def archive_of(root, monkeypatch, names):
    """A source distribution with these members, which is the one that is wanted."""
    path = root / "archive.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(name)
            tar.addfile(member, io.BytesIO(name.encode()))
    monkeypatch.setattr(run, "SDIST_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path


def files_in(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_only_the_host_is_unpacked(root, monkeypatch):
    names = [run.SDIST_HOST + "main.py", run.SDIST_HOST + "comfy/sd.py", "pyproject.toml"]
    run.unpack_host(archive_of(root, monkeypatch, names))
    assert files_in(root / ".comfyui") == ["comfy/sd.py", "main.py", run.STAMP]
    assert (root / ".comfyui/main.py").read_text() == names[0]


def test_another_file_than_the_pinned_one_is_refused(root, monkeypatch):
    path = archive_of(root, monkeypatch, [run.SDIST_HOST + "main.py"])
    path.write_bytes(path.read_bytes() + b"\0")
    assert "SHA-256" in message(run.unpack_host, path)
    assert not (root / ".comfyui").exists()


def test_no_member_leaves_the_folder(root, monkeypatch):
    path = archive_of(root, monkeypatch, [run.SDIST_HOST + "../../outside.py"])
    assert "outside" in message(run.unpack_host, path)
    assert not list(root.rglob("outside.py"))


def test_a_full_disk_while_unpacking_leaves_the_old_host(root, monkeypatch):
    write(root / ".comfyui/main.py", "old")
    path = archive_of(root, monkeypatch, [run.SDIST_HOST + "main.py"])

    def full(source, copy):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", full)
        patch.setitem(run.COMMANDS, "serve", lambda arguments: run.unpack_host(path))
        assert "the disk is full" in message(run.main, ["serve"])
    assert (root / ".comfyui/main.py").read_text() == "old"
    run.unpack_host(path)
    assert files_in(root / ".comfyui") == ["main.py", run.STAMP]


# --- other hosts ----------------------------------------------------------------------------------

VERSION = '__version__ = "9.9.9"\n'


@pytest.fixture
def other(root):
    """Another host in a folder, which pins nothing."""
    write(root / "other/comfyui_version.py", VERSION)
    write(root / "other/requirements.txt", "")
    return root / "other"


@pytest.mark.parametrize("packing", ["", "gz", "xz"])
def test_a_host_is_found_in_a_folder_and_in_an_archive(root, other, monkeypatch, packing):
    given = other.parent / "around"
    given.mkdir()
    other.rename(given / "ComfyUI")
    if packing:
        with tarfile.open(root / "host.tar", f"w:{packing}") as tar:
            tar.add(given, "package-1.0/vendor")
        given = root / "host.tar"
    monkeypatch.setenv("COMFYUI_HOSTS", os.pathsep.join((str(given), "")))
    monkeypatch.setattr(run, "environment_of", lambda python, host: python)
    ((version, _, host),) = found = run.other_hosts("python")
    assert version == "9.9.9"
    assert (host / "comfyui_version.py").read_text() == VERSION
    assert host.is_relative_to(run.OTHERS) == bool(packing)
    monkeypatch.setattr(run, "extract", None)  # all is there
    assert run.other_hosts("python") == found


def test_what_a_host_pins_gets_an_environment_of_its_own(root, other, monkeypatch):
    made = []

    def make(purpose, command):
        made.append(purpose)
        if purpose.startswith("make"):
            Path(command[-1]).mkdir(parents=True)

    monkeypatch.setattr(run, "step", make)
    monkeypatch.setattr(subprocess, "check_output", lambda command, **_: str(root))
    first = run.environment_of("python", other)
    assert run.environment_of("python", other) == first
    assert len(made) == 2
    write(other / "requirements.txt", "comfyui-frontend-package==1.58.1\n")
    assert run.environment_of("python", other) != first
    assert len(made) == 4


def test_what_holds_no_host_is_named(root, monkeypatch):
    (root / "nothing").mkdir()
    with tarfile.open(root / "nothing.tar", "w") as tar:
        tar.add(root / "requirements-test.txt", "requirements.txt")
    for name in ("nothing", "nothing.tar"):
        monkeypatch.setenv("COMFYUI_HOSTS", str(root / name))
        said = message(run.other_hosts, sys.executable)
        assert str(root / name) in said and "comfyui_version.py" in said


def test_the_quick_tests_run_on_each_other_host(root, other, monkeypatch, capfd):
    """In an environment that is made for it, and that sees ours."""
    monkeypatch.setattr(run, "IN_TWO", ())
    monkeypatch.setattr(run, "QUICK_TESTS", ("quick.py",))
    path = "os.environ['COMFYUI_PATH']"
    test = f"import os\n\n\ndef test_it():\n    assert {path} == {str(other)!r}\n"
    write(root / "quick.py", test + "\n\ndef test_that():\n    assert not os.environ.get('FAIL')\n")
    monkeypatch.setenv("COMFYUI_HOSTS", str(other))
    assert run.test_other_hosts(sys.executable, dict(os.environ)) == 0
    assert "ComfyUI 9.9.9: 2 tests, " in (said := capfd.readouterr().out)
    assert "No other ComfyUI" not in said
    assert run.test_other_hosts(sys.executable, dict(os.environ, FAIL="1")) == 1
    assert "ComfyUI 9.9.9: 2 tests, 1 failed, " in capfd.readouterr().out
    write(root / "quick.py", "")  # nothing to run is no success
    assert run.test_other_hosts(sys.executable, dict(os.environ)) == 1


@pytest.mark.usefixtures("one_tier")
def test_another_host_that_fails_fails_the_test_command(monkeypatch):
    monkeypatch.setattr(run, "test_other_hosts", lambda *_: 1)
    monkeypatch.setattr(run, "types", lambda: ["this"])
    monkeypatch.setattr(subprocess, "call", lambda *_, **__: 0)
    assert run.main(["test"]) == 1


def test_where_no_other_host_is_given_a_line_says_so(root, capsys):
    assert run.test_other_hosts(sys.executable, {}) == 0
    assert capsys.readouterr().out.startswith("No other ComfyUI was given in COMFYUI_HOSTS")


# --- reasons --------------------------------------------------------------------------------------


def download(*arguments):
    pip = run.pip(sys.executable, "download", "--isolated", *arguments)
    run.step("download it", [*pip, "--retries", "1", "no-such-package"])


def test_a_package_that_is_not_there_is_named():
    assert "No matching distribution found for no-such-package" in message(download, "--no-index")


def test_a_network_that_does_not_answer_is_named():
    assert "the network did not answer" in message(download, "-i", "http://127.0.0.1:9/simple")


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("ERROR: Could not install: [Errno 28] No space left on device\n\n", "the disk is full"),
        ("not created because ensurepip is not\navailable\n", "install python3-venv"),
        ("", "it said nothing"),
        (
            "  error: command 'gcc' failed: No such file or directory\n"
            "error: metadata-generation-failed\nhint: See above for details.\n",
            "command 'gcc' failed",
        ),
    ],
)
def test_a_failed_step_says_why(root, said, sentence):
    fail = "import sys; print(sys.argv[1]); sys.exit(1)"
    told = message(run.step, "do it", [sys.executable, "-c", fail, said])
    assert sentence in told
    log = root / "data" / "setup.log"
    assert told.endswith(str(log))
    assert log.read_text().strip() == said.strip()


# --- the host and the commands --------------------------------------------------------------------


def test_the_pack_is_linked_once_and_follows_a_move(root, monkeypatch):
    link = root / "data/custom_nodes/ComfyUI-RelaxForcing"
    for _ in range(2):
        run.install_pack()
        assert link.samefile(root)
    moved = root.with_name("moved")
    root.rename(moved)
    monkeypatch.setattr(run, "ROOT", moved)
    monkeypatch.setattr(run, "DATA", moved / "data")
    run.install_pack()
    assert (moved / "data/custom_nodes/ComfyUI-RelaxForcing").samefile(moved)


def test_a_host_that_does_not_start_points_to_its_log(root):
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    process.wait()
    log = root / "demo.log"
    assert str(log) in message(run.wait_until_ready, process, "http://127.0.0.1:9", log)


@pytest.fixture(scope="module", autouse=True)
def types_of_python(tmp_path_factory):
    """What the type checker knows of Python itself, read once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MYPY_CACHE_DIR", str(tmp_path_factory.mktemp("types")))
        yield


@pytest.fixture
def one_tier(root, monkeypatch):
    """A repository whose tests are one file, tested in one process."""
    monkeypatch.setenv("COMFYUI_PATH", str(root))
    monkeypatch.setattr(run, "TIERS", ("parity",))
    monkeypatch.setattr(run, "IN_TWO", ())
    repository_with_tests(root, run.TIERS)


def repository_with_tests(root, tiers):
    write(root / "main.py", "")
    for package in ("relax_memory", "nodes"):
        write(root / package / "__init__.py", "")
    for tier in run.TIERS:
        (root / "tests" / tier).mkdir(parents=True)
    for tier in tiers:
        write(root / f"tests/{tier}/test_it.py", "def test_it():\n    pass\n")


@pytest.mark.parametrize("missing", [None, "parity"])
def test_a_tier_that_collects_nothing_fails(root, monkeypatch, capfd, missing):
    monkeypatch.setattr(run, "TIERS", ("unit", "parity"))
    repository_with_tests(root, [tier for tier in run.TIERS if tier != missing])
    monkeypatch.setenv("COMFYUI_PATH", str(root))
    assert run.main(["test"]) == (missing is not None)
    assert capfd.readouterr().out.count("1 passed") == len(run.tiers()) - (missing is not None)


def test_the_browser_tier_is_required_on_linux_and_elsewhere_its_absence_is_said(
    monkeypatch, capsys
):
    monkeypatch.setattr(sys, "platform", "linux")
    assert run.tiers() == ("unit", "parity", "host", "device", "browser")
    assert not capsys.readouterr().out
    monkeypatch.setattr(sys, "platform", "win32")
    assert run.tiers() == ("unit", "parity", "host", "device")
    assert capsys.readouterr().out.count("\n") == 1


@pytest.mark.usefixtures("one_tier")
@pytest.mark.parametrize("wanted", ["old", "new"])
def test_tests_apart_run_with_packages_of_their_own(root, monkeypatch, wanted):
    monkeypatch.setattr(run, "APART", ((run.OLD, ("av==16.0.0",), ("lowest.py",)),))
    write(root / "lowest.py", f'import av\n\n\ndef test_it():\n    assert av.AGE == "{wanted}"\n')
    write(run.OLD / "av.py", 'AGE = "old"\n')
    write(run.OLD / run.STAMP, "\n".join(("av==16.0.0", sys.executable)))
    assert run.main(["test"]) == (wanted == "new")


@pytest.mark.usefixtures("one_tier")
@pytest.mark.parametrize("processes", [(), run.IN_TWO], ids=["in one", "in two"])
def test_a_test_run_that_is_killed_fails(root, monkeypatch, processes):
    monkeypatch.setattr(run, "IN_TWO", processes)
    kill = "import os\n\n\ndef test_it():\n    os.kill(os.getpid(), 9)\n"
    write(root / "tests/parity/test_it.py", kill)
    assert run.main(["test"]) == 1


@pytest.mark.usefixtures("one_tier")
def test_lint_fails_the_test_command(root):
    write(root / "crooked.py", "x=1\n")
    assert run.main(["test"]) == 1


@pytest.mark.usefixtures("one_tier")
def test_a_type_that_is_a_lie_fails_the_test_command(root, capfd):
    write(root / "relax_memory/half.py", "def half(x: int) -> str:\n    return x // 2\n")
    assert run.main(["test"]) == 1
    assert "half.py:2: error: Incompatible return value type" in capfd.readouterr().out


def test_an_unknown_benchmark_is_answered_with_the_known_ones(root):
    for name in ("memory", "gpu"):
        write(root / f"benchmarks/{name}.py", 'if __name__ == "__main__":')
    write(root / "benchmarks/common.py", "")
    assert "gpu, memory" in message(run.main, ["bench", "speed"])
    assert "gpu, memory" in message(run.main, ["bench"])


def test_a_benchmark_imports_the_host_before_the_pack(root, monkeypatch, capfd):
    write(root / "host/main.py", "")
    write(root / "host/nodes.py", "print('host nodes', end=' ')")
    write(root / "nodes/__init__.py", "print('pack nodes', end=' ')")
    write(
        root / "benchmarks/it.py",
        "import nodes, sys  # __main__\nprint(*sys.argv[1:])\nsys.exit(7)",
    )
    monkeypatch.setenv("COMFYUI_PATH", str(root / "host"))
    assert run.main(["bench", "it", "--frames", "9"]) == 7
    assert capfd.readouterr().out == "host nodes --frames 9\n"


def test_what_can_be_trained_is_named_without_its_prefix(root):
    write(root / "lab/train_vae.py", 'if __name__ == "__main__":')
    assert "one of: vae." in message(run.main, ["train"])


@pytest.mark.parametrize("arguments", [[], ["--help"], ["tset"]])
def test_anything_else_is_answered_with_the_usage(arguments):
    with pytest.raises(SystemExit) as stop:
        run.main(arguments)
    assert stop.value.code == run.USAGE


def test_templates_find_the_files_that_they_ask_for_and_a_users_own_stay(root):
    """`serve` puts them into the served input folder, unless there are such."""
    (root / "host/input").mkdir(parents=True)
    (root / "host/input/example.png").write_bytes(b"picture")
    (root / "lab").mkdir()
    (root / "lab/my_video.mp4").write_bytes(b"video")
    run.give_examples(root / "host")
    (run.DATA / "input/my_video.mp4").write_bytes(b"of the user")
    run.give_examples(root / "host")
    assert (run.DATA / "input/example.png").read_bytes() == b"picture"
    assert (run.DATA / "input/my_video.mp4").read_bytes() == b"of the user"


def test_the_example_video_is_small_and_in_the_repository():
    video = SCRIPT.parent / "lab/my_video.mp4"
    assert 5_000 < video.stat().st_size < 100_000
