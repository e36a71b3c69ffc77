"""Parsing in a process of its own, with limits, for formats whose parsers can crash or fill the memory.

The parent asks by name for one of the kit's own functions, which gives bytes. Nothing that is unpickled crosses the pipe. A parser
that crashes, takes too much or takes too long ends its own process, and the parent says so in one sentence.
"""

import functools
import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
import weakref
from importlib import import_module
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

MIB = 2**20
SECONDS = 120
"""Processor time of one call: the names of a parquet shard take less than a second, a row group of 100 images 0.1 s"""
PATIENCE = 10 * SECONDS
"""Seconds until an answer is no longer waited for: a slow disk takes no processor time"""
ANSWER, REFUSAL = b"a", b"r"
ENVIRONMENT = {
    "ARROW_DEFAULT_MEMORY_POOL": "system"
}  # pyarrow's own allocator reserves 1 GiB ahead, which counts against the limit
START = "from ivit_helpers.images.apart import serve; serve()"


class ParserError(ValueError):
    """What a parser said of the data, or how it ended."""


class Apart:
    """A process that parses; it is started at the first call, and again after it has ended."""

    def __init__(self, memory: int) -> None:
        self.memory = memory
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection[Any, Any] | None = None
        self._turn = threading.Lock()
        self._failed: dict[tuple[Any, ...], str] = {}

    def call(self, function: str, *given: Any, unit: tuple[Any, ...] = ()) -> bytes:
        """What `module:function` of this wing gives for arguments that JSON can hold. Raises ParserError.

        unit: what is parsed as one, for example a row group; where it has failed once, it is not tried again.
        """
        if unit in self._failed:
            raise ParserError(self._failed[unit])
        try:
            return self._call(function, given)
        except ParserError as error:
            if unit:
                self._failed[unit] = str(error)
            raise

    def _call(self, function: str, given: tuple[Any, ...]) -> bytes:
        with self._turn:
            try:
                answer = self._answered(json.dumps([function, given]).encode())
            except BaseException as error:  # an answer that nobody waits for would be taken for that to the next call
                ended = self._ended(f"gave no answer in {PATIENCE} s" if isinstance(error, TimeoutError) else "")
                if isinstance(error, (EOFError, OSError)):
                    raise ParserError(ended) from None
                raise
        if answer[:1] == REFUSAL:
            raise ParserError(answer[1:].decode(errors="replace"))
        return answer[1:]

    def _answered(self, request: bytes) -> bytes:
        pipe = self._started()
        pipe.send_bytes(request)
        if not pipe.poll(PATIENCE):
            raise TimeoutError
        return pipe.recv_bytes()

    def _started(self) -> "Connection[Any, Any]":
        if self._pipe is None:
            self._pipe, theirs = Pipe()
            environment = os.environ | ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            words = [sys.executable, "-c", START, str(theirs.fileno()), str(self.memory)]
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()], env=environment, start_new_session=True,
            )  # fmt: skip
            theirs.close()
            weakref.finalize(self, _finish, self._process, self._pipe, os.getpid())
        return self._pipe

    def _ended(self, reason: str = "") -> str:
        """End the process and say how it ended."""
        if self._pipe:
            self._pipe.close()
        self._pipe, process = None, self._process
        if process is None:
            return "the process that parses it could not be started"
        if reason:
            process.kill()
        try:
            code = process.wait(1)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        if not reason and -code in {signal.SIGXCPU, signal.SIGKILL}:
            reason = f"took more than {SECONDS} s of processor time, or the system ended it to free memory"
        return f"the process that parses it {reason or f'crashed (exit code {code}), most often at its limit of {self.memory // MIB:,} MiB'}"


def _finish(process: "subprocess.Popen[bytes]", pipe: "Connection[Any, Any]", parent: int) -> None:
    """End a process that is no longer needed. A fork of the parent leaves it to the parent."""
    pipe.close()
    if parent != os.getpid():
        process.returncode = 0
    elif process.poll() is None:
        process.kill()
        process.wait()


@functools.lru_cache(maxsize=4)
def apart(memory: int) -> Apart:
    """The process that may take so many bytes beyond what its libraries have. Each process of the kit has one of its own."""
    return Apart(memory)


os.register_at_fork(after_in_child=apart.cache_clear)


def serve() -> None:
    """Answer calls until the parent closes the pipe. Runs in the process of its own."""
    handle, memory = map(int, sys.argv[1:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipe: Connection[Any, Any] = Connection(handle)
    limited = False
    while True:
        try:
            function, given = json.loads(pipe.recv_bytes())
        except EOFError:
            return
        module, name = function.split(":")
        wanted = getattr(import_module(f"ivit_helpers.images.{module}"), name)
        if not limited:  # what the libraries themselves take is not counted
            limited = _limit_memory(memory)
        _limit_time(SECONDS)
        try:
            answer = ANSWER + wanted(*given)
        except MemoryError:
            answer = REFUSAL + f"it takes more than {memory // MIB:,} MiB".encode()
        except Exception as error:
            answer = REFUSAL + ((str(error).strip() or type(error).__name__).splitlines()[0][:300]).encode(
                errors="replace"
            )
        pipe.send_bytes(answer)


def _limit_memory(memory: int) -> bool:
    """Bound what this process may allocate beyond what it has; not where the system does not say what it has."""
    try:
        own = re.search(r"VmData:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return True
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = (int(own[1]) * 1024 if own else 0) + memory
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))
    return True


def _limit_time(seconds: int) -> None:
    """Bound the processor time from now on."""
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    wanted = int(time.process_time()) + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))
