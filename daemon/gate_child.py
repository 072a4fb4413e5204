"""The process behind the gatekeeper: reads files from its standard input, checks each, and answers with a code.

    request    u32 length of the order | order, JSON | u64 length of the file | the file        all big-endian
    answer     u8 length | the code, empty where the file may come in

It has bounded memory, CPU time per file, no core file, no files to write, and an audit hook that ends it at once should
anything in it unpickle, start a program or open a connection. It loads the library's gate without the library, hence
without torch.
"""

import importlib
import importlib.util
import json
import math
import os
import resource
import struct
import sys
import warnings
from collections import OrderedDict
from types import ModuleType
from typing import BinaryIO

LENGTHS = struct.Struct(">IQ")
MEMORY_BYTES = 1 << 30
CPU_S = 5
BASES_KEPT = 8
PIECE = 1 << 20
FORBIDDEN = (
    *("pickle.find_class", "marshal.", "exec", "compile", "import", "ctypes.", "socket.", "subprocess.", "open"),
    *("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.spawn", "shutil."),
)
ENDED = 70

Known = OrderedDict[str, tuple[str, int]]
"""By fingerprint of a Basis: the base model and the length of a user vector."""


def load_gate() -> ModuleType:
    """`plora.gate`, whose package is found but never run."""
    found = importlib.util.find_spec("plora")
    if found is None:
        raise ModuleNotFoundError("plora")
    sys.modules["plora"] = importlib.util.module_from_spec(found)
    return importlib.import_module("plora.gate")


def confine() -> None:
    """Give up what checking a file does not need."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    for what in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
        resource.setrlimit(what, (0, 0))

    def refuse(event: str, _: tuple[object, ...]) -> None:
        if event.startswith(FORBIDDEN):
            os._exit(ENDED)

    sys.addaudithook(refuse)


def allow_cpu(seconds: int) -> None:
    """So many from now on; the kernel ends the process when they are used up."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    until = math.ceil(usage.ru_utime + usage.ru_stime) + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (until, resource.RLIM_INFINITY))


def judge(gate: ModuleType, order: dict[str, object], data: bytes, known: Known) -> str:
    """The code by which the file is refused; empty where it may come in."""
    kind, told = gate.FileKind(order["kind"]), dict(order["expected"])  # type: ignore[call-overload]
    try:
        if told["basis"] in known:
            base, told["dimensions"] = known[told["basis"]]
            if told["base"] not in {None, base}:
                return "wrong_base"
            told["base"] = base
        expected = gate.Expected(**told)
        if kind is not gate.FileKind.BASIS:
            gate.check(kind, data, expected)
        else:
            spec = gate.check_basis(data, expected)
            known[told["fingerprint"]] = (spec.base, spec.dimensions)
            while len(known) > BASES_KEPT:
                known.popitem(last=False)
    except gate.AdapterRejected as rejected:
        return str(rejected.code)
    except MemoryError:
        return "memory"
    except Exception as error:  # noqa: BLE001 - whatever it is, the file does not come in
        return f"gate_{type(error).__name__}"
    return ""


def warm(gate: ModuleType) -> None:
    """Have everything loaded that a check needs, before nothing can be any more."""
    warnings.simplefilter("ignore")
    gate.np.seterr(all="ignore")
    gate.warm()


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Until the requests end."""
    gate, known = load_gate(), Known()
    warm(gate)
    confine()
    code = b""  # the first answer says that we are ready
    while True:
        answers.write(bytes([len(code)]) + code)
        answers.flush()
        head = requests.read(LENGTHS.size)
        if len(head) < LENGTHS.size:
            return
        order_bytes, file_bytes = LENGTHS.unpack(head)
        order = json.loads(requests.read(order_bytes))
        allow_cpu(CPU_S)
        if file_bytes > gate.MAX_BYTES[gate.FileKind(order["kind"])]:
            _skip(requests, file_bytes)
            code = b"too_large"
        else:
            code = judge(gate, order, requests.read(file_bytes), known).encode()[:255]


def _skip(requests: BinaryIO, count: int) -> None:
    while count > 0 and (piece := requests.read(min(count, PIECE))):
        count -= len(piece)


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
