"""Make the rig: the real torch_npu wheel beside this environment, and a stub of the CANN libraries that it links against.

    python tests/npu_rig/build.py FOLDER        needs gcc, nm and ldd; torch of the version that the wheel belongs to

FOLDER gets `site` (the wheel), `lib` (the stub) and `activate` (shell lines that make any process, a notebook kernel too, use them).
"""

import os
import re
import subprocess
import sys
from importlib import metadata, util
from pathlib import Path

RIG = Path(__file__).resolve().parent
# Every library that torch_npu's shared objects name; one file stands for all of them.
LIBRARIES = (
    "ascendcl",
    "hccl",
    "acl_op_compiler",
    "ge_runner",
    "graph",
    "acl_tdt_channel",
    "fmk_parser",
    "ascend_protobuf",
)
# Resolved by Python, the compiler's runtime or the loader, not by CANN.
FROM_ELSEWHERE = re.compile(r"_?Py|_ITM|__gmon|_ZTH|__cxa_finalize")


def output(*command: object) -> str:
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=False).stdout


def symbols(library: Path, kind: str) -> set[str]:
    """The names of one shared object's dynamic symbols; kind: "undefined" or "defined"."""
    listed = output("nm", "-D", f"--{kind}-only", library).splitlines()
    return {line.split()[-1].split("@")[0] for line in listed if line.strip()}


def wanted_of_cann(torch: Path, npu: Path) -> set[str]:
    """What torch_npu needs and neither torch nor the system has: CANN's part."""
    own = [*npu.glob("lib/*.so"), *npu.glob("_C*.so"), *npu.glob("dynamo/torchair/core/*.so")]
    system = [Path(path) for path in re.findall(r"(?:=> )?(/\S+) \(", output("ldd", torch / "lib/libtorch_cpu.so"))]
    needed = set().union(*(symbols(library, "undefined") for library in own))
    for library in [*own, *(torch / "lib").glob("*.so"), *system]:
        needed -= symbols(library, "defined")
    return {name for name in needed if not FROM_ELSEWHERE.match(name)}


def compile_stub(torch: Path, npu: Path, lib: Path) -> None:
    lib.mkdir(parents=True, exist_ok=True)
    written, rest, library = lib / "cann.o", lib / "rest.c", lib / "libascendcl.so"
    subprocess.run(["gcc", "-O1", "-fPIC", "-c", RIG / "cann.c", "-o", written], check=True)
    defined = {line.split()[-1] for line in output("nm", "--defined-only", written).splitlines() if " T " in line}
    missing = sorted(wanted_of_cann(torch, npu) - defined)
    rest.write_text("".join(f"long {name}(void) {{ return 0; }}\n" for name in missing))
    subprocess.run(
        [
            "gcc",
            "-O1",
            "-w",
            "-shared",
            "-fPIC",
            "-Wl,-soname,libascendcl.so",
            written,
            rest,
            "-lpthread",
            "-o",
            library,
        ],
        check=True,
    )
    for name in LIBRARIES[1:]:
        link = lib / f"lib{name}.so"
        link.unlink(missing_ok=True)
        link.symlink_to(library.name)


def activation(folder: Path) -> str:
    """Shell lines; TASK_QUEUE_ENABLE=0 because the arithmetic runs in the thread that calls the operator."""
    paths = ":".join(map(str, [folder / "site", RIG / "site"]))
    values = {
        "PYTHONPATH": f"{paths}:${{PYTHONPATH:-}}",
        "LD_LIBRARY_PATH": f"{folder / 'lib'}:${{LD_LIBRARY_PATH:-}}",
        "TORCH_DEVICE_BACKEND_AUTOLOAD": "0",
        "TASK_QUEUE_ENABLE": "0",
        "NPU_RIG": str(folder),
    }
    return "".join(f'export {name}="{value}"\n' for name, value in values.items())


def main(folder: Path) -> None:
    public = metadata.version("torch").partition("+")[0]
    site = folder / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target", site]
    subprocess.run([*map(str, pip), f"torch-npu=={public}"], check=True)
    [torch] = util.find_spec("torch").submodule_search_locations  # type: ignore[union-attr, misc]
    compile_stub(Path(torch), site / "torch_npu", folder / "lib")
    (folder / "activate").write_text(activation(folder))


if __name__ == "__main__":
    os.environ["TORCH_DEVICE_BACKEND_AUTOLOAD"] = "0"
    main(Path(sys.argv[1]).resolve())
