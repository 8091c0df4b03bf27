"""CORE bundles: both layouts, invalid ones, and downloads of the published archive from a local test server."""

from __future__ import annotations

import http.server
import json
import stat
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nanochat.evaluation import bundle_download
from nanochat.evaluation.bundle import CHOICE, CORE_TASKS, LANGUAGE, SCHEMA, open_bundle
from nanochat.evaluation.bundle_download import download_bundle, find_bundle, unpack
from tests.evaluation.models import CORE, choice, language, needs_core, schema, write_bundle

TASKS = {
    "winograd": (SCHEMA, [schema(["a", "b"], "c", 1)]),
    "piqa": (CHOICE, [choice("q", ["a", "b"], 0), choice("q\u2028r", ["a", "b"], 1)]),
    "squad": (LANGUAGE, [language("a", "b")]),
}


@pytest.mark.parametrize("level", ["", "eval_data"])
def test_both_layouts_are_read(tmp_path: Path, level: str) -> None:
    folder = write_bundle(tmp_path / "eval_bundle", TASKS, shots=5, baselines={"piqa": 50}, level=level)
    for given in (folder, tmp_path):  # the archive unpacks into a subfolder
        bundle = open_bundle(given)
        assert [task.name for task in bundle.tasks] == ["piqa", "winograd", "squad"]  # in CORE's order
        assert [(task.kind, task.shots, task.delimiter, task.baseline) for task in bundle.tasks] == [
            (CHOICE, 5, " ", 0.5),
            (SCHEMA, 5, " ", 0.0),
            (LANGUAGE, 5, " ", 0.0),
        ]
        assert len(bundle.missing) == 19
        assert sorted(line["query"] for line in bundle.tasks[0].lines) == ["q", "q\u2028r"]


def test_there_are_22_tasks() -> None:
    assert len(set(CORE_TASKS)) == 22


@needs_core
def test_published_bundle() -> None:
    bundle = open_bundle(CORE)
    assert len(bundle.tasks) == 18
    assert set(bundle.missing) == {"hellaswag", "hellaswag_zeroshot", "squad", "coqa"}
    about = {task.name: task for task in bundle.tasks}
    assert (about["boolq"].baseline, about["commonsense_qa"].baseline) == pytest.approx((0.62, 0.403))
    assert about["arc_easy"].delimiter == "\nAnswer: "
    assert sum(len(task.lines) for task in bundle.tasks) == 52_400


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "core.yaml").unlink(), "is not a CORE bundle: it has no core.yaml"),
        (lambda f: (f / "eval_meta_data.csv").unlink(), "it has no eval_meta_data.csv"),
        (lambda f: (f / "some" / "piqa.jsonl").unlink(), "there is no .*piqa.jsonl, which .*core.yaml lists for piqa"),
        (lambda f: (f / "core.yaml").write_text("a: [1"), "core.yaml is not YAML, line 1"),
        (lambda f: (f / "core.yaml").write_text("[" * 5000), "core.yaml is not YAML"),
        (lambda f: (f / "core.yaml").write_text("a: 1"), "has no list icl_tasks"),
        (lambda f: (f / "core.yaml").write_text("icl_tasks: [{label: mine}]"), "has none of the 22 CORE tasks"),
        (lambda f: (f / "core.yaml").write_text("icl_tasks: [3]"), "entry 1 of icl_tasks has no label"),
        (lambda f: replace(f / "core.yaml", "schema", "rhyme"), "winograd has the icl_task_type rhyme"),
        (lambda f: replace(f / "core.yaml", "[0]", "[-1]"), "has the num_fewshot -1"),
        (lambda f: replace(f / "core.yaml", "some/piqa", "../piqa"), "has the dataset_uri ../piqa.jsonl"),
        (lambda f: replace(f / "eval_meta_data.csv", "piqa,any,0", "piqa,any,much"), "line 9: piqa has the Random"),
        (lambda f: replace(f / "eval_meta_data.csv", "piqa,", "pique,"), "has no line for piqa"),
    ],
)
def test_invalid_bundles_are_refused(tmp_path: Path, damage: Callable[[Path], object], message: str) -> None:
    folder = write_bundle(tmp_path, TASKS)
    damage(folder)
    with pytest.raises(ValueError, match=message) as error:
        open_bundle(folder)
    assert "\n" not in str(error.value)


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 is not JSON"),
        ("[" * 100_000, "line 2 is not JSON"),
        ("[]", "line 2: it is not an object"),
        ('{"query": 3, "choices": ["a", "b"], "gold": 0}', "line 2: query is not a string"),
        ('{"query": "q", "choices": ["a"], "gold": 0}', "line 2: choices is not a list of at least two strings"),
        ('{"query": "q", "choices": ["a", "b"], "gold": 2}', "line 2: gold is 2, not an index into the 2 choices"),
        ('{"query": "q", "choices": ["a", "b"]}', "line 2: gold is None"),
    ],
)
def test_invalid_lines_are_reported(tmp_path: Path, line: str, message: str) -> None:
    folder = write_bundle(tmp_path, TASKS)
    path = folder / "some" / "piqa.jsonl"
    path.write_text(f"{json.dumps(choice('q', ['a', 'b'], 0))}\n{line}\n")
    task = next(task for task in open_bundle(folder).tasks if task.name == "piqa")
    with pytest.raises(ValueError, match=f"piqa.jsonl, {message}"):
        _ = task.lines


def test_unknown_tasks_are_ignored(tmp_path: Path) -> None:
    bundle = open_bundle(write_bundle(tmp_path, {**TASKS, "triviaqa": (LANGUAGE, [language("a", "b")])}))
    assert bundle.unknown == ("triviaqa",)
    assert len(bundle.tasks) == 3


def test_fingerprint_covers_settings_and_content(tmp_path: Path) -> None:
    def fingerprint(folder: str, **options: object) -> str:
        bundle = open_bundle(write_bundle(tmp_path / folder, TASKS, **options))  # type: ignore[arg-type]
        return bundle.fingerprint(bundle.tasks[0])

    first = fingerprint("a")
    assert fingerprint("b") == first
    assert len({first, fingerprint("c", shots=1), fingerprint("d", delimiter="\n")}) == 3
    (tmp_path / "a" / "some" / "piqa.jsonl").write_text(json.dumps(choice("q", ["a", "c"], 0)))
    bundle = open_bundle(tmp_path / "a")
    assert bundle.fingerprint(bundle.tasks[0]) != first


# ------------------------------------------------------------------------------------------------ the archive


def zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, Path("eval_bundle") / file.relative_to(folder))
        archive.writestr("__MACOSX/eval_bundle/._core.yaml", b"\0")
        archive.writestr("eval_bundle/readme.sh", b"rm -rf /")
    return path


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return zipped(write_bundle(tmp_path / "source", TASKS, level="eval_data"), tmp_path / "eval_bundle.zip")


@pytest.fixture
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NANOCHAT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "core"


@pytest.fixture
def server(archive: Path) -> Iterator[dict[str, object]]:
    """Serves the archive locally; the dictionary configures the response and counts the requests."""
    response: dict[str, object] = {"body": archive.read_bytes(), "requests": 0}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            response["requests"] = int(str(response["requests"])) + 1
            body = response["body"]
            assert isinstance(body, bytes)
            self.send_response(int(str(response.get("status", 200))))
            self.send_header("Content-Length", str(response.get("length", len(body))))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    served = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=served.serve_forever, args=(0.01,))
    thread.start()
    response["url"] = f"http://127.0.0.1:{served.server_port}/eval_bundle.zip"
    yield response
    served.shutdown()
    served.server_close()
    thread.join()


def test_published_bundle_is_downloaded_once(
    server: dict[str, object], cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_download, "BUNDLE_URL", server["url"])
    assert [task.name for task in find_bundle().tasks] == ["piqa", "winograd", "squad"]
    assert len(find_bundle().tasks[0].lines) == 2
    assert server["requests"] == 1
    assert [path.name for path in cache_folder.iterdir()] == ["published"]
    assert {path.suffix for path in cache_folder.rglob("*") if path.is_file()} == {".yaml", ".csv", ".jsonl"}


@pytest.mark.parametrize(
    ("response", "message"),
    [
        ({"status": 404}, "returned HTTP status 404: check the network, or give --bundle"),
        ({"length": 10_000_000}, "incomplete|IncompleteRead"),
        ({"body": b"<html>please log in</html>"}, "is damaged or not a zip file"),
    ],
)
def test_failed_downloads_are_not_kept(
    server: dict[str, object], cache_folder: Path, response: dict[str, object], message: str
) -> None:
    server.update(response)
    with pytest.raises(ValueError, match=message):
        download_bundle(str(server["url"]))
    assert list(cache_folder.iterdir()) == []


def test_no_network_is_one_line(cache_folder: Path) -> None:
    with pytest.raises(ValueError, match="cannot be downloaded from http://127.0.0.1:9/.*--bundle") as error:
        download_bundle("http://127.0.0.1:9/eval_bundle.zip")
    assert "\n" not in str(error.value)
    assert list(cache_folder.iterdir()) == []


def test_zip_file_as_bundle(archive: Path, cache_folder: Path) -> None:
    for _ in range(2):
        assert len(find_bundle(str(archive)).tasks) == 3
    assert len(list(cache_folder.iterdir())) == 1


@pytest.mark.parametrize("name", ["../outside.jsonl", "/tmp/outside.jsonl", "eval_bundle/../../o.jsonl", "C:\\o.jsonl"])
def test_paths_outside_of_the_folder_are_refused(archive: Path, tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(name, "{}")
    with pytest.raises(ValueError, match="is unsafe and was not unpacked: it would write to"):
        unpack(archive, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_links_are_refused(archive: Path, tmp_path: Path) -> None:
    link = zipfile.ZipInfo("eval_bundle/link.jsonl")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(link, "/etc/passwd")
    with pytest.raises(ValueError, match="is unsafe"):
        unpack(archive, tmp_path / "target")


def test_damaged_archive_leaves_no_folder(archive: Path, tmp_path: Path) -> None:
    content = bytearray(archive.read_bytes())
    content[60:90] = bytes(30)
    archive.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged|is not a CORE bundle"):
        unpack(archive, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_zip_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_download, "MAX_BYTES", 10_000)
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("eval_bundle/core.yaml", " " * 20_000)
    with pytest.raises(ValueError, match="is far larger"):
        unpack(path, tmp_path / "target")
