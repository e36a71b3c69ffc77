"""Downloads from a hub that the test itself serves, on the loopback interface, by a process of its own: HF_ENDPOINT is read at import."""

import http.server
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ivit_helpers.errors import InputError
from ivit_helpers.weights import checkpoint, hub, loading

REVISION = "0" * 40


class Hub(http.server.BaseHTTPRequestHandler):
    """The three answers of a hub that a download needs; each file's first transfer may break off half-way."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self._answer(body=True)

    def do_HEAD(self):
        self._answer(body=False)

    def _answer(self, body):
        files, path = self.server.files, self.path.partition("?")[0]
        if path.startswith("/api/models/owner/model/tree/"):
            tree = [
                {"type": "file", "path": name, "size": len(content), "oid": name} for name, content in files.items()
            ]
            return self._send(json.dumps(tree).encode(), body)
        if path.startswith("/api/models/owner/model"):
            siblings = [{"rfilename": name} for name in files]
            return self._send(json.dumps({"id": "owner/model", "sha": REVISION, "siblings": siblings}).encode(), body)
        name = path.rpartition("/")[2]
        if path.startswith("/owner/model/resolve/") and name in files:
            return self._send_file(name, files[name], body)
        return self._send(b'{"error": "Repository not found"}', body, 404, {"X-Error-Code": "RepoNotFound"})

    def _send_file(self, name, content, body):
        headers = {"ETag": f'"{name}"', "X-Repo-Commit": REVISION, "Accept-Ranges": "bytes"}
        asked = re.match(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if not asked or not body:
            if body:
                self.server.log.append((name, 0))
            broken = body and name in self.server.breaks and self.server.breaks.remove(name) is None
            return self._send(content, body, 200, headers, cut=len(content) // 2 if broken else None)
        begin = int(asked.group(1))
        self.server.log.append((name, begin))
        headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        return self._send(content[begin:], body, 206, headers)

    def _send(self, content, body, status=200, headers=None, cut=None):
        self.send_response(status)
        for key, value in ({"Content-Type": "application/json"} | (headers or {})).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content[:cut])
        if cut is not None:
            self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def served(model_folder):
    """A hub with the fixture's model, and a file of code that nobody should ask for."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.files = {path.name: path.read_bytes() for path in model_folder.iterdir()} | {
            "modeling_intern_vit.py": b"raise SystemExit"
        }
        server.breaks, server.log = [], []
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


PROGRAM = """
import sys
from ivit_helpers.weights import hub
from ivit_helpers.errors import InputError
try:
    print(hub.download(sys.argv[1]))
except InputError as error:
    sys.exit(str(error))
"""


def found(server, home, model="owner/model", **variables):
    """Load a model of the served hub in a process of its own."""
    command = [sys.executable, "-c", PROGRAM, model]
    return subprocess.run(command, capture_output=True, text=True, env=environment(server, home) | variables)


def environment(server, home):
    """Of a process that takes the served hub for its own."""
    endpoint = {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_address[1]}",
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
    }
    proxies = {name: "" for name in os.environ if name.lower().endswith("_proxy")}
    return os.environ | proxies | endpoint


def test_an_interrupted_file_is_gone_on_with_and_comes_whole(served, tmp_path):
    large = os.urandom(24 * 2**20)  # huggingface_hub writes 10 MiB at a time
    served.files = {"config.json": b"{}", "pytorch_model.bin": large}
    served.breaks.append("pytorch_model.bin")
    # huggingface_hub tries again by itself from version 1 on; before that the user does.
    done = next(done for done in (found(served, tmp_path / "home") for _ in range(2)) if done.returncode == 0)
    assert Path(done.stdout.strip(), "pytorch_model.bin").read_bytes() == large
    assert any(begin > 0 for _, begin in served.log)


def test_configuration_and_weights_are_downloaded_once_and_no_code(served, tmp_path):
    first = found(served, tmp_path / "home")
    assert first.returncode == 0, first.stderr
    assert {name for name, _ in served.log} == set(served.files) - {"modeling_intern_vit.py"}
    served.log.clear()
    again = found(served, tmp_path / "home", HF_HUB_OFFLINE="1")
    assert again.returncode == 0, again.stderr
    assert again.stdout == first.stdout
    assert not served.log


def test_safetensors_are_preferred_and_pickles_left_where_they_are(served, model_folder, tmp_path):
    tensors = [torch.load(path, weights_only=True) for path in sorted(model_folder.glob("*.bin"))]
    save_file(tensors[0] | tensors[1], tmp_path / "model.safetensors")
    served.files["model.safetensors"] = (tmp_path / "model.safetensors").read_bytes()
    done = found(served, tmp_path / "home")
    assert done.returncode == 0, done.stderr
    asked = {name for name, _ in served.log}
    assert "model.safetensors" in asked
    assert not any(name.endswith(".bin") for name in asked)


def as_a_chat_model(files):
    """The served shards as those of a chat model, of which a third shard holds the language model only."""
    index = json.loads(files["pytorch_model.bin.index.json"])
    where = {f"vision_model.{name}": file for name, file in index["weight_map"].items()}
    where["language_model.norm.weight"] = "pytorch_model-00003-of-00003.bin"
    return {
        **files,
        "pytorch_model.bin.index.json": json.dumps(index | {"weight_map": where}).encode(),
        "pytorch_model-00003-of-00003.bin": b"language",
    }


def test_of_a_chat_model_only_the_shards_of_the_vision_network_are_downloaded(served, tmp_path):
    served.files = as_a_chat_model(served.files)
    done = found(served, tmp_path / "home")
    assert done.returncode == 0, done.stderr
    asked = {name for name, _ in served.log}
    assert {"pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"} < asked
    assert "pytorch_model-00003-of-00003.bin" not in asked


def test_of_another_model_no_shard_is_downloaded(served, tmp_path):
    index = {"weight_map": {"lm_head.weight": "pytorch_model-00001-of-00002.bin"}}
    served.files["pytorch_model.bin.index.json"] = json.dumps(index).encode()
    served.files.pop("pytorch_model-00002-of-00002.bin")
    done = found(served, tmp_path / "home")
    assert "holds no InternViT: its tensors (lm_head.weight" in done.stderr
    assert not any(name.startswith("pytorch_model-") for name, _ in served.log)


@pytest.mark.parametrize(
    ("model", "variables"),
    [("owner/other", {}), ("owner/model", {"HF_HUB_OFFLINE": "1"})],
    ids=["unknown", "offline"],
)
def test_a_model_that_cannot_be_had_is_told_with_what_to_do(served, tmp_path, model, variables):
    done = found(served, tmp_path / "home", model, **variables)
    assert f"model='{model}' is not a folder here and could not be downloaded from the hub" in done.stderr
    assert "set HF_ENDPOINT for a mirror, or give the path of a folder." in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_of_the_hub_is_loaded_from_where_it_was_brought_under_its_own_name(model_folder, cpu, monkeypatch):
    monkeypatch.setattr(checkpoint, "download", lambda model: model_folder)
    loaded = loading.load(checkpoint.find("owner/model"), cpu, torch.float32)
    assert loaded.facts().name == "model"


def test_only_owner_and_name_are_a_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert hub.is_hub_id("OpenGVLab/InternViT-6B-224px")
    for other in (
        "tiny",
        "random:6b-224",
        "/weights/model",
        "./weights/model",
        "a/b/c",
        "../model",
        "~/model",
        "a/",
        "/a",
    ):
        assert not hub.is_hub_id(other), other
    (tmp_path / "owner" / "model").mkdir(parents=True)
    assert not hub.is_hub_id("owner/model")


def checked(server, home, model="owner/model", **variables):
    """`ivit check` of a model of the served hub."""
    command = [sys.executable, "-m", "ivit_helpers", "check", "-pdevice=cpu", f"-pmodel={model}"]
    return subprocess.run(command, capture_output=True, text=True, env=environment(server, home) | variables)


def test_before_a_notebook_starts_only_the_configuration_is_downloaded(served, tmp_path):
    done = checked(served, tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert {name for name, _ in served.log} == {"config.json", "preprocessor_config.json"}


def test_a_hub_that_cannot_be_reached_is_said_before_a_notebook_starts(served, tmp_path):
    done = checked(served, tmp_path / "home", HF_HUB_OFFLINE="1")
    assert done.returncode == 2
    assert "model='owner/model' is not a folder here and could not be downloaded from the hub" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def cache(tmp_path, model_folder):
    """A model in a hub cache: its root, and the folder of its one snapshot."""
    root = tmp_path / "models--owner--InternViT-small"
    (root / "snapshots").mkdir(parents=True)
    (root / "refs").mkdir()
    snapshot = model_folder.rename(root / "snapshots" / REVISION)
    return root, snapshot


def test_a_model_in_a_hub_cache_is_named_by_its_name_and_not_by_its_hash(cache, tmp_path):
    root, snapshot = cache
    (tmp_path / "link").symlink_to(snapshot)
    for place in (root, snapshot, tmp_path / "link"):
        found = checkpoint.find(str(place))
        assert found.name == "InternViT-small"
        assert found.shards[0].parent == snapshot


def test_of_several_snapshots_the_main_one_is_taken_and_else_one_is_asked_for(cache):
    root, snapshot = cache
    (root / "snapshots" / ("1" * 40)).mkdir()
    with pytest.raises(
        InputError,
        match="models--owner--InternViT-small holds 2 snapshots and none is its main one: give the path of one",
    ):
        checkpoint.find(str(root))
    (root / "refs" / "main").write_text(f"{REVISION}\n")
    assert checkpoint.find(str(root)).shards[0].parent == snapshot


def test_a_cache_whose_download_has_not_begun_is_told(tmp_path):
    (tmp_path / "models--owner--model").mkdir()
    with pytest.raises(InputError, match="holds 0 snapshots"):
        checkpoint.find(str(tmp_path / "models--owner--model"))
