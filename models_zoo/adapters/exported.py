"""torch.export programs (.pt2) from strangers.

`torch.export.load` is not safe on files from others: it unpickles weights and constants marked `use_pickle`, falls back
to full unpickling where restricted unpickling fails, loads compiled libraries, evaluates symbolic expressions through
sympy's parser and compiles guard code. So the archive is never handed over as it came: it is read as a plain zip, every
string that could become code is held against an allow-list, and a new archive is written that contains only the graph
(metadata and guards removed), raw tensors, and sample inputs that restricted unpickling accepts. That one is loaded.
"""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models_zoo.adapters.spec import VersionRefused

_SIZE_LIMIT = 8 << 30
_OPERATOR = re.compile(
    r"torch\.ops\.(aten|prims|torchvision|_c10d_functional)\.\w+\.\w+"
    r"|_operator\.(add|sub|mul|floordiv|truediv|mod|neg|getitem|eq|ne|lt|le|gt|ge|pow|and_|or_|not_)"
    r"|math\.(ceil|floor|trunc|sqrt)"
    r"|torch\.sym_(int|float|max|min|ite|not|sqrt|sum)"
)
_DANGEROUS_OPERATORS = re.compile(r"torch\.ops\.aten\.(from_file|_from_file|set_data)\b")
_EXPRESSION = re.compile(r"[\w\s()+\-*/%,.<>=]*")
_FUNCTIONS = {
    *("Max", "Min", "Mod", "PythonMod", "FloorDiv", "CeilDiv", "CleanDiv", "IntTrueDiv", "FloatTrueDiv", "Eq", "Ne"),
    *("Ge", "Gt", "Le", "Lt", "And", "Or", "Not", "true", "false", "True", "False", "oo", "int_oo", "Where"),
    *(
        "Add",
        "Mul",
        "Pow",
        "Rational",
        "Float",
        "ModularIndexing",
        "TruncToInt",
        "FloorToInt",
        "CeilToInt",
        "RoundToInt",
        "ToFloat",
        "PowByNatural",
        "Integer",
    ),
}
_SYMBOL = re.compile(r"(?:s|u|zf|zuf)\d+")
_SYMBOL_CALL = re.compile(r"Symbol\('(\w+)'(?:, (?:positive|integer|nonnegative|real|zero)=(?:True|False))*\)")
_WORD = re.compile(r"[\w.:/+\-]*")
_TREE_NODES = {"builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"}


def read_exported(path: Path) -> "torch.export.ExportedProgram":
    """The program of a .pt2 file, rebuilt from its checked parts.

    Raises VersionRefused for anything but a graph of ATen operators over raw tensors.
    """
    archive = _sanitised(path)
    try:
        return torch.export.load(io.BytesIO(archive))
    except Exception as error:
        raise VersionRefused(f'"{path.name}" is not a usable torch.export program: {error}') from error


def exported_module(path: Path) -> tuple[nn.Module, int | None]:
    """The program as a module, and its fixed batch size (None where any batch goes).

    Raises VersionRefused when the program does not take exactly one image batch (N, C, H, W).
    """
    program = read_exported(path)
    names = program.graph_signature.user_inputs
    inputs = [node.meta["val"] for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    if len(inputs) != 1 or not isinstance(inputs[0], torch.Tensor) or inputs[0].dim() != 4:
        raise VersionRefused(
            f'"{path.name}": the program takes {len(inputs)} inputs, not one batch of images (N, C, H, W)'
        )
    batch = inputs[0].shape[0]
    return program.module(check_guards=False), batch if isinstance(batch, int) else None


def _sanitised(path: Path) -> bytes:
    try:
        with zipfile.ZipFile(path) as source:
            if sum(entry.file_size for entry in source.infolist()) > _SIZE_LIMIT:
                raise VersionRefused(f'"{path.name}" unpacks to more than {_SIZE_LIMIT >> 30} GiB')
            return _rewritten(path.name, source)
    except (zipfile.BadZipFile, OSError, KeyError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise VersionRefused(f'"{path.name}" is not a torch.export program (.pt2): {error}') from error


def _rewritten(name: str, source: zipfile.ZipFile) -> bytes:
    files = {entry.filename.partition("/")[2]: entry for entry in source.infolist()}
    raw = _raw_tensor_files(name, source, files)
    kept = io.BytesIO()
    writer = torch._C.PyTorchFileWriter(kept)
    for inner in ("archive_format", "archive_version"):
        _put(writer, inner, source.read(files[inner]))
    graph = json.loads(source.read(files["models/model.json"]))
    _put(writer, "models/model.json", json.dumps(_checked_graph(name, graph)).encode())
    for inner, content in raw.items():
        _put(writer, inner, content)
    samples = source.read(files["data/sample_inputs/model.pt"])
    _put(writer, "data/sample_inputs/model.pt", _checked_samples(name, samples))
    writer.write_end_of_file()
    return kept.getvalue()


def _put(writer: Any, inner: str, content: bytes) -> None:
    writer.write_record(inner, content, len(content))


def _raw_tensor_files(name: str, source: zipfile.ZipFile, files: dict[str, zipfile.ZipInfo]) -> dict[str, bytes]:
    """The weights, the constants and their two tables; refuses every entry that would be unpickled."""
    kept: dict[str, bytes] = {}
    for kind in ("weights", "constants"):
        table_name = f"data/{kind}/model_{kind}_config.json"
        if table_name not in files:
            raise VersionRefused(f'"{name}" keeps its {kind} in an old, pickled form: save it with a newer torch')
        table = json.loads(source.read(files[table_name]))
        kept[table_name] = json.dumps(table).encode()
        for key, entry in table["config"].items():
            inner = entry["path_name"]
            if entry.get("use_pickle") or not re.fullmatch(r"(weight|tensor)_\d+", inner):
                raise VersionRefused(
                    f'"{name}" is refused: {kind[:-1]} "{key}" would have to be unpickled; it was not executed. '
                    "Export plain dense tensors only"
                )
            kept[f"data/{kind}/{inner}"] = source.read(files[f"data/{kind}/{inner}"])
    return kept


def _checked_samples(name: str, content: bytes) -> bytes:
    """Sample inputs as restricted unpickling sees them, written anew."""
    if not content:
        return content
    try:
        samples = torch.load(io.BytesIO(content), weights_only=True)
    except Exception as error:
        raise VersionRefused(
            f'"{name}" is refused: its sample inputs are a pickle that wants to run code; it was not executed'
        ) from error
    buffer = io.BytesIO()
    torch.save(samples, buffer)
    return buffer.getvalue()


def _checked_graph(name: str, graph: dict[str, Any]) -> dict[str, Any]:
    """The graph without metadata and guards. Raises VersionRefused for a string that could become code."""
    graph["guards_code"] = []
    _drop_metadata(graph)
    for key, text in _strings(graph, ""):
        if not _is_harmless(key, text):
            raise VersionRefused(f'"{name}" is refused: {text[:80]!r} is not an ATen operator, a name or a size')
    return graph


def _drop_metadata(part: Any) -> None:
    children = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    if isinstance(part, dict) and "metadata" in part:
        part["metadata"] = {}
    for child in children:
        _drop_metadata(child)


def _strings(part: Any, key: str) -> Iterator[tuple[str, str]]:
    """Every string of a JSON value with the key it stands under; keys themselves come as ("", key)."""
    if isinstance(part, str):
        yield key, part
    elif isinstance(part, list):
        for child in part:
            yield from _strings(child, key)
    elif isinstance(part, dict):
        for inner, child in part.items():
            yield "key", inner
            yield from _strings(child, inner)


def _is_harmless(key: str, text: str) -> bool:
    if key == "expr_str":
        return _is_expression(text)
    if key == "target" and "." in text:
        return bool(_OPERATOR.fullmatch(text)) and not _DANGEROUS_OPERATORS.match(text)
    if key in {"in_spec", "out_spec", "treespec"}:
        return text == "" or _is_plain_tree(text)
    if key in {"name", "target", "forward_arg_names"}:
        return text == "" or (text.isidentifier() and not text.startswith("__"))
    return bool(_WORD.fullmatch(text))


def _is_expression(text: str) -> bool:
    """Arithmetic over symbols and known functions."""
    bare = _SYMBOL_CALL.sub(r"\1", text)
    words = re.findall(r"[A-Za-z_]\w*", bare)
    return bool(_EXPRESSION.fullmatch(bare)) and all(word in _FUNCTIONS or _SYMBOL.fullmatch(word) for word in words)


def _is_plain_tree(text: str) -> bool:
    """A pytree specification of nothing but tuples, lists and dicts."""
    words = set(re.findall(r'"type": "([^"]*)"', text))
    return "__enum__" not in text and words <= _TREE_NODES
