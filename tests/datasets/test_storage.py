"""Where files are looked for, and what is said when they are missing."""

from __future__ import annotations

import hashlib
import http.server
import threading

import pytest

from lavis_clone.common.blocks import AnnotationBlock
from lavis_clone.common.files import FileError
from lavis_clone.datasets.storage import annotation_paths, media_root, storage_path

WHERE = "datasets.x.build_info.annotations.val"
URL = "https://example.org/val.json"


def test_relative_storage_lies_under_the_cache(cache, tmp_path, monkeypatch):
    assert storage_path("coco/images") == cache / "coco" / "images"
    assert storage_path(str(tmp_path)) == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path))
    assert storage_path("~/x") == tmp_path / "x"
    assert storage_path("asset://bert-base-uncased").is_dir()
    with pytest.raises(FileError, match="ships no asset://nothing"):
        storage_path("asset://nothing")


def test_media_root_names_folder_and_builder(cache):
    with pytest.raises(FileError) as caught:
        media_root("coco/images/", builder="coco_caption", data_type="images")
    message = str(caught.value)
    assert str(cache / "coco" / "images") in message and "'coco_caption'" in message
    assert "datasets.coco_caption.build_info.images.storage" in message
    (cache / "coco" / "images").mkdir(parents=True)
    found = media_root("coco/images/", builder="coco_caption", data_type="images")
    assert found == cache / "coco" / "images"


def test_annotations_that_are_there_are_used(cache):
    for name in ("a.json", "b.json"):
        cache.mkdir(exist_ok=True)
        (cache / name).write_text("[]")
    block = AnnotationBlock(url=[URL, URL], storage=["a.json", "b.json"])
    assert annotation_paths(block, where=WHERE) == [cache / "a.json", cache / "b.json"]
    assert annotation_paths(AnnotationBlock(storage="a.json"), where=WHERE) == [cache / "a.json"]


def test_offline_says_which_file_to_place_where(cache):
    with pytest.raises(FileError) as caught:
        annotation_paths(AnnotationBlock(url=URL, storage="x/val.json"), where=WHERE)
    assert URL in str(caught.value) and str(cache / "x" / "val.json") in str(caught.value)


def test_without_a_url_the_place_is_named(cache):
    with pytest.raises(FileError, match=rf"{WHERE}: no such annotation file: .*x.json; place"):
        annotation_paths(AnnotationBlock(storage="x.json"), where=WHERE)


def test_url_may_be_a_local_path(cache, tmp_path):
    (tmp_path / "own.json").write_text("[]")
    block = AnnotationBlock(url=str(tmp_path / "own.json"), storage="x.json")
    assert annotation_paths(block, where=WHERE) == [tmp_path / "own.json"]
    with pytest.raises(FileError, match="neither .*x.json nor its url: no such file: /none.json"):
        annotation_paths(AnnotationBlock(url="/none.json", storage="x.json"), where=WHERE)


def test_lists_must_be_of_one_length(cache):
    with pytest.raises(ValueError, match="2 of storage, 1 of url"):
        annotation_paths(AnnotationBlock(url=[URL], storage=["a.json", "b.json"]), where=WHERE)


@pytest.fixture
def server():
    """Serves ``[]`` under every path."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"[]")

        def log_message(self, *args):
            """Keeps the test's output clean."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


def test_annotations_are_downloaded_to_their_storage_and_checked(cache, server, monkeypatch):
    monkeypatch.delenv("LAVIS_CLONE_OFFLINE")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    good = hashlib.md5(b"[]").hexdigest()
    block = AnnotationBlock(url=f"{server}/val.json", storage="x/val.json", md5=good)
    assert annotation_paths(block, where=WHERE) == [cache / "x" / "val.json"]
    assert (cache / "x" / "val.json").read_text() == "[]"
    bad = AnnotationBlock(url=f"{server}/val.json", storage="y/val.json", md5="0" * 32)
    with pytest.raises(FileError, match="md5"):
        annotation_paths(bad, where=WHERE)
    assert not (cache / "y" / "val.json").exists()
