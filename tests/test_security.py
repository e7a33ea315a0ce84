"""What could run somebody else's code: the sources do none of it, or only what a checksum has vouched for."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("src", "tools", "docs", "examples", "benchmarks")
SOURCES = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]

# (file, function): where what is unpickled is known to be one's own.
VOUCHED_FOR = {
    # Its checksum is compared first: test_sweep.py, test_a_task_that_was_altered_on_its_way. Dask's workers use it too.
    ("src/inna/experiments/sweep/workers.py", "decode_task"),
}


def calls(path: Path) -> Iterator[tuple[str, str, ast.Call]]:
    """(function around it, dotted name, call) of every call in a file."""

    def visit(node: ast.AST, function: str) -> Iterator[tuple[str, str, ast.Call]]:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            function = node.name
        if isinstance(node, ast.Call):
            yield function, ast.unparse(node.func), node
        for child in ast.iter_child_nodes(node):
            yield from visit(child, function)

    yield from visit(ast.parse(path.read_text(encoding="utf-8")), "")


def keyword(call: ast.Call, name: str) -> object:
    """The constant given for a keyword; None if it is not given, or no constant."""
    value = next((word.value for word in call.keywords if word.arg == name), None)
    return value.value if isinstance(value, ast.Constant) else None


def objection(name: str, call: ast.Call) -> str:
    """What is wrong with a call; empty where nothing is."""
    last = name.rpartition(".")[2]
    if name in ("eval", "exec", "compile", "__import__", "os.system", "os.popen"):
        return f"{name} runs a string as code"
    if name == "torch.load" and keyword(call, "weights_only") is not True:
        return "torch.load without weights_only=True unpickles anything"
    if name == "np.load" or name == "numpy.load":
        return "np.load of an object array unpickles" if keyword(call, "allow_pickle") else ""
    if last in ("load", "loads", "Unpickler") and name.split(".")[0] in ("pickle", "cloudpickle", "dill", "shelve"):
        return "unpickling runs code"
    if last in ("read_pickle", "open_shelf") or name in ("joblib.load", "shelve.open", "marshal.loads"):
        return "unpickling runs code"
    if keyword(call, "shell"):
        return "shell=True takes a string apart"
    if last in ("extractall", "extract") and keyword(call, "filter") != "data":
        return "members of an archive may leave their folder without filter='data'"
    if last == "unpack_archive" and keyword(call, "filter") != "data":
        return "members of an archive may leave their folder without filter='data'"
    if name in ("yaml.load", "tempfile.mktemp"):
        return f"{name} is not safe"
    return ""


def test_the_sources_do_nothing_that_runs_others_code() -> None:
    assert len(SOURCES) > 50
    found = {
        (str(path.relative_to(ROOT)), function): f"{name}, line {call.lineno}: {why}"
        for path in SOURCES
        for function, name, call in calls(path)
        if (why := objection(name, call))
    }
    assert {place: text for place, text in found.items() if place not in VOUCHED_FOR} == {}
    assert found.keys() == VOUCHED_FOR, "an exception that nothing needs any more"


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        ("eval(text)", True),
        ("torch.load(file)", True),
        ("torch.load(file, weights_only=False)", True),
        ("torch.load(file, weights_only=True)", False),
        ("pickle.loads(content)", True),
        ("pickle.dumps(content)", False),
        ("json.loads(content)", False),
        ("subprocess.run(command, shell=True)", True),
        ("subprocess.run(command)", False),
        ("archive.extractall(folder)", True),
        ("archive.extractall(folder, filter='fully_trusted')", True),
        ("archive.extractall(folder, filter='data')", False),
        ("model.eval()", False),
        ("re.compile(pattern)", False),
        ("torch.compile(model)", False),
    ],
)
def test_the_check_tells_what_is_dangerous(code: str, wrong: bool) -> None:
    call = ast.parse(code, mode="eval").body
    assert isinstance(call, ast.Call)
    assert bool(objection(ast.unparse(call.func), call)) is wrong


def test_the_workflows_pin_every_action_and_may_only_read():
    workflows = list((ROOT / ".github" / "workflows").glob("*.yml"))
    assert workflows
    for path in workflows:
        text = path.read_text(encoding="utf-8")
        used = re.findall(r"uses: *(\S+)", text)
        assert used
        assert [action for action in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action)] == []
        assert re.search(r"^permissions:\n  contents: read\n\n", text, re.MULTILINE)
