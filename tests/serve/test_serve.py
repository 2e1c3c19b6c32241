"""The server: its responses, refused requests, and recovery from errors."""

from __future__ import annotations

import concurrent.futures
import io
import json
import os
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from helpers.served import Server, serving
from PIL import Image

import geovision
from geovision.errors import OptionError
from geovision.models.geomodel import GeoModel
from geovision.serve import ServerLimits


def image_bytes(seed: int = 0, size: tuple[int, int] = (96, 128), kind: str = "JPEG", **options) -> bytes:
    values = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    written = io.BytesIO()
    Image.fromarray(values).resize(size[::-1], Image.Resampling.BICUBIC).save(written, kind, **options)
    return written.getvalue()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> GeoModel:
    import torch

    torch.manual_seed(0)
    return geovision.create("cloud-tiny", size=(64, 64))


@pytest.fixture(scope="module")
def exported(model: GeoModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from geovision.export import export_onnx

    return export_onnx(model, tmp_path_factory.mktemp("exported") / "tiny.onnx")


@pytest.fixture(scope="module")
def server(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(exported, tmp_path_factory.mktemp("site")) as running:
        yield running


# --- responses ----------------------------------------------------------------------------------


def test_a_response_contains_the_prediction_of_the_model(server: Server, model: GeoModel, tmp_path: Path):
    (tmp_path / "a.jpg").write_bytes(image_bytes())
    reply = server.predict(image_bytes())
    assert reply.status == 200
    (expected,) = model.predict(tmp_path / "a.jpg")
    assert reply.json["label"] == expected.label
    assert reply.json["word"]["en"] == expected.word
    assert list(reply.json["probabilities"]) == list(expected.probabilities)
    for name, share in expected.probabilities.items():
        assert reply.json["probabilities"][name] == pytest.approx(share, abs=2e-4)
    assert reply.json["class_activation_map"] is None


def test_the_activation_map_is_returned_on_request(server: Server):
    reply = server.request("POST", "/api/predict?map=true", image_bytes())
    where = np.array(reply.json["class_activation_map"])
    assert where.ndim == 2
    assert (where >= 0).all()
    assert reply.json | {"class_activation_map": None} == server.predict(image_bytes()).json


def test_a_form_is_equivalent_to_a_raw_body(server: Server):
    body = (
        b'--x\r\nContent-Disposition: form-data; name="photo"; filename="../../etc/passwd"\r\n'
        b"Content-Type: image/jpeg\r\n\r\n" + image_bytes() + b"\r\n--x--\r\n"
    )
    reply = server.request("POST", "/api/predict", body, {"Content-Type": "multipart/form-data; boundary=x"})
    assert reply.json == server.predict(image_bytes()).json


def test_the_content_type_of_a_form_is_case_insensitive(server: Server):
    body = b'--x\r\nContent-Disposition: form-data; name="photo"; filename="a"\r\n\r\n%s\r\n--x--\r\n'
    kind = {"Content-Type": "Multipart/Form-Data; boundary=x"}
    assert (
        server.request("POST", "/api/predict", body % image_bytes(), kind).json
        == server.predict(image_bytes()).json
    )


def test_an_array_is_predicted_as_by_predict(server: Server, model: GeoModel):
    values = np.random.default_rng(3).random((3, 64, 64), np.float32)
    reply = server.predict(array(values))
    (expected,) = model.predict(values, precision="float32")
    assert reply.json["label"] == expected.label
    assert reply.json["probabilities"] == pytest.approx(expected.probabilities, abs=1e-4)


def test_concurrent_images_are_predicted_as_alone(server: Server):
    images = [image_bytes(seed) for seed in range(12)]
    alone = [server.predict(each).json for each in images]
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        together = [reply.json for reply in pool.map(server.predict, images)]
    for one, other in zip(alone, together, strict=True):
        assert one["label"] == other["label"]
        assert one["confidence"] == pytest.approx(other["confidence"], abs=1e-5)


def test_rotated_images_are_turned_upright_and_no_exif_is_returned(server: Server):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    exif.get_ifd(0x8825)[1] = "N"
    exif.get_ifd(0x8825)[2] = (69.0, 39.0, 7.0)
    upright = image_bytes(kind="PNG")
    with Image.open(io.BytesIO(upright)) as opened:
        turned = io.BytesIO()
        opened.transpose(Image.Transpose.ROTATE_90).save(turned, "PNG", exif=exif)
    reply = server.predict(turned.getvalue())
    assert reply.json == server.predict(upright).json
    assert b"69.0" not in reply.body


def test_the_served_model_is_described(server: Server):
    (about,) = server.request("GET", "/api/models").json
    assert about["model"] == "cloud-tiny"
    assert {"en", "zh"} <= set(about["target"]["cards"][0]["name"])
    assert server.request("GET", "/healthz").json == {"status": "ok", "model": "cloud-tiny"}


def test_metrics_contain_counts_without_addresses(server: Server):
    server.predict(image_bytes())
    server.predict(b"no picture")
    text = server.request("GET", "/metrics").body.decode()
    assert re.search(r'geovision_pictures_total\{status="200"\} [1-9]', text)
    assert re.search(r'geovision_pictures_total\{status="415"\} [1-9]', text)
    assert "geovision_waiting 0.0" in text
    assert "geovision_bytes 0.0" in text
    assert "127.0.0.1" not in text


def test_every_response_has_security_headers(server: Server):
    for reply in (
        server.request("GET", "/"),
        server.predict(image_bytes()),
        server.request("GET", "/nowhere"),
    ):
        assert "default-src 'none'" in reply.headers["content-security-policy"]
        assert reply.headers["cross-origin-embedder-policy"] == "require-corp"
        assert "server" not in reply.headers or "uvicorn" not in reply.headers["server"]


def test_the_page_loads_nothing_from_other_sites(server: Server):
    for name in ("", "page.js", "page.css", "answer.js", "words.js", "page.json", "manifest.webmanifest"):
        reply = server.request("GET", f"/{name}")
        assert reply.status == 200
        if name not in ("page.json",):
            assert b"://" not in reply.body.replace(b"http://www.w3.org", b"")


# --- refused requests ---------------------------------------------------------------------------


def header_of(width: int, height: int) -> bytes:
    """Return a PNG that declares this size and contains almost no data."""
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0),
        b"IDAT": zlib.compress(b"nothing"),
    }
    written = b"\x89PNG\r\n\x1a\n"
    for name, content in chunks.items():
        check = zlib.crc32(name + content)
        written += struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)
    return written


def bomb() -> bytes:
    """Return an image of 20,000 pixels per side that compresses to almost nothing."""
    written = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(written, "PNG")
    return written.getvalue()


def many_scans() -> bytes:
    """Return a JPEG of two hundred scans, each of which is decoded over the whole image."""
    content = image_bytes(progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:last] + 200 * content[last:-2] + content[-2:]


def array(values: np.ndarray) -> bytes:
    written = io.BytesIO()
    np.save(written, values)
    return written.getvalue()


def array_header(shape: str) -> bytes:
    """Return a .npy file that declares this size and contains almost no data."""
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + b"nothing"


BAD = {
    "empty": (b"", 422, "the file is empty"),
    "text": (b"a text called sky.jpg", 415, "not an accepted image"),
    "svg": (
        b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        415,
        "not an accepted image",
    ),
    "html": (b"<!doctype html><p>sky.jpg", 415, "not an accepted image"),
    "zip": (b"PK\x03\x04" + bytes(100), 415, "not an accepted image"),
    "truncated": (image_bytes()[:900], 422, "damaged"),
    "tiny": (image_bytes(size=(4, 4), kind="PNG"), 422, "needs at least 8 on each side"),
    "huge header": (header_of(100_000, 100_000), 413, "million pixels"),
    "bomb": (bomb(), 413, "million pixels"),
    "scans": (many_scans(), 413, "scans, more than 100"),
    "array of another shape": (array(np.zeros((3, 8, 8), np.float32)), 422, "has shape (3, 64, 64)"),
    "array in another unit": (array(np.full((3, 64, 64), 200.0)), 422, "looks like 0-255"),
    "array of objects": (array(np.array([{}, print], object)), 422, "not a readable array file"),
    "huge array": (array_header("(3, 1000000, 1000000)"), 422, "not a readable array file"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_in_one_line_and_the_next_is_predicted(server: Server, name: str):
    body, status, words = BAD[name]
    reply = server.predict(body)
    assert reply.status == status
    assert words in reply.json["detail"]
    assert "\n" not in reply.json["detail"]
    assert server.predict(image_bytes()).status == 200


def test_a_form_without_an_image_is_refused(server: Server):
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    body = b'--x\r\nContent-Disposition: form-data; name="other"\r\n\r\n1\r\n--x--\r\n'
    assert "no file 'photo'" in server.request("POST", "/api/predict", body, kind).json["detail"]
    reply = server.request("POST", "/api/predict", b"broken", {"Content-Type": "multipart/form-data"})
    assert reply.status == 400
    assert "form cannot be parsed" in reply.json["detail"]


def test_two_hundred_megabytes_are_refused_before_they_arrive(server: Server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        head = b"POST /api/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 200000000\r\n\r\n"
        connection.sendall(head + bytes(1000))
        response = b"".join(
            iter(lambda: connection.recv(4096), b"")
        )  # until the server closes the connection
    assert b" 413 " in response
    assert b"more than 20 MB" in response


def test_an_upload_without_a_declared_length_is_stopped(server: Server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(b"POST /api/predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b"100000\r\n" + bytes(0x100000) + b"\r\n"
        sent = 0
        try:
            for _ in range(200):
                connection.sendall(piece)
                sent += 1
        except OSError:
            pass  # the server has closed the connection
    assert sent < 100
    assert server.predict(image_bytes()).status == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
def test_a_wrong_method_returns_the_allowed_one(server: Server, method: str):
    reply = server.request(method, "/api/predict", image_bytes() if method == "PUT" else None)
    assert reply.status == 405
    assert reply.headers["allow"] == "POST"
    assert server.request("DELETE", "/healthz").headers["allow"] == "GET"
    assert server.request("POST", "/page.js", b"x").status == 405
    assert server.request("GET", "/nowhere").status == 404


def test_an_invalid_option_is_reported_in_one_line(server: Server):
    reply = server.request("POST", "/api/predict?map=perhaps", image_bytes())
    assert reply.status == 422
    assert reply.json["detail"].startswith("map='perhaps': ")


@pytest.mark.parametrize(
    "path", ["/../pyproject.toml", "/%2e%2e/%2e%2e/etc/passwd", "/..%5c..%5cetc/passwd", "//etc/passwd"]
)
def test_paths_outside_of_the_page_are_not_served(server: Server, path: str):
    reply = server.request("GET", path)
    assert reply.status in (404, 405)
    assert b"root:" not in reply.body


def test_a_slow_upload_is_closed(exported: Path, tmp_path: Path):
    with serving(exported, tmp_path, limits=ServerLimits(rate_limit=0, upload_timeout=0.3)) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            connection.sendall(b"POST /api/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\nabc")
            response = b"".join(
                iter(lambda: connection.recv(4096), b"")
            )  # until the server closes the connection
        assert b" 408 " in response
        assert b"did not arrive within 0.3 s" in response
        assert server.predict(image_bytes()).status == 200


HALF = b"POST /api/predict HTTP/1.1\r\nHost:"


@pytest.mark.parametrize(("begun", "after_another"), [(b"", False), (HALF, False), (HALF, True)])
def test_an_idle_connection_is_closed(exported: Path, tmp_path: Path, begun: bytes, after_another: bool):
    with serving(exported, tmp_path, limits=ServerLimits(rate_limit=0, upload_timeout=0.3)) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=8) as connection:
            if after_another:
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                assert b" 200 " in connection.recv(4096)
            connection.sendall(begun)
            response = b"".join(
                iter(lambda: connection.recv(4096), b"")
            )  # until the server closes the connection
        assert b" 408 " in response
        assert b"did not arrive in time" in response
        assert server.predict(image_bytes()).status == 200


def test_the_rate_of_one_address_is_limited(exported: Path, tmp_path: Path):
    with serving(exported, tmp_path, limits=ServerLimits(rate_limit=3)) as server:
        replies = [server.predict(image_bytes()) for _ in range(5)]
        assert [reply.status for reply in replies] == [200, 200, 200, 429, 429]
        assert 1 <= int(replies[-1].headers["retry-after"]) <= 60
        assert "more than 3 images per minute" in replies[-1].json["detail"]
        assert server.request("GET", "/healthz").status == 200


# --- load ---------------------------------------------------------------------------------------


def test_excess_requests_are_refused_with_a_retry_time(exported: Path, tmp_path: Path):
    free = threading.Event()

    def slow(requests):
        free.wait(20)
        return real(requests)

    from geovision.serve.predictor import BatchPredictor

    limits = ServerLimits(rate_limit=0, max_queue_size=4, num_threads=1, max_batch_size=2)
    real = BatchPredictor(exported, limits).predict_batch
    with serving(exported, tmp_path, limits=limits, predict_batch=slow) as server:
        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            futures = [pool.submit(server.predict, image_bytes()) for _ in range(24)]
            while sum(each.done() for each in futures) < 16:
                time.sleep(0.02)
            free.set()
            replies = [each.result() for each in futures]
        statuses = [reply.status for reply in replies]
        assert set(statuses) == {200, 503}
        assert 4 <= statuses.count(200) <= 8
        assert all(int(r.headers["retry-after"]) > 0 for r in replies if r.status == 503)
        assert server.predict(image_bytes()).status == 200


def test_a_prediction_timeout_is_reported(exported: Path, tmp_path: Path):
    free = threading.Event()

    def stuck(requests):
        free.wait(20)
        return [ValueError("late")] * len(requests)

    limits = ServerLimits(rate_limit=0, num_threads=1, prediction_timeout=0.3)
    with serving(exported, tmp_path, limits=limits, predict_batch=stuck) as server:
        reply = server.predict(image_bytes())
        free.set()
    assert reply.status == 503
    assert "no prediction within 0.3 s" in reply.json["detail"]


def test_an_internal_error_is_reported_without_details(exported: Path, tmp_path: Path, caplog):
    def broken(requests):
        raise RuntimeError("secret")

    with serving(exported, tmp_path, predict_batch=broken) as server:
        reply = server.predict(image_bytes())
        assert server.request("GET", "/healthz").status == 200
    assert reply.status == 500
    assert b"secret" not in reply.body
    assert "secret" in caplog.text


def test_a_thousand_connections_at_once(exported: Path, tmp_path: Path):
    with serving(
        exported, tmp_path, limits=ServerLimits(rate_limit=0, max_connections=64, max_queue_size=16)
    ) as server:
        body = image_bytes()
        head = f"POST /api/predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        connections = [socket.create_connection(("127.0.0.1", server.port), timeout=60) for _ in range(1000)]
        for connection in connections:
            connection.sendall(head + body)
        first = [connection.recv(64) for connection in connections]
        for connection in connections:
            connection.close()
        statuses = {line.split()[1] for line in first}
        assert b"200" in statuses
        assert statuses <= {b"200", b"503"}
        assert server.predict(body).status == 200


def test_no_image_is_written_to_disk(server: Server, monkeypatch: pytest.MonkeyPatch):
    def refused(*_):
        raise AssertionError("a picture was about to be written to disk")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", refused)
    large = image_bytes(size=(1400, 1400), kind="PNG")
    assert len(large) > 3_000_000
    body = (
        b'--x\r\nContent-Disposition: form-data; name="photo"; filename="a"\r\n\r\n'
        + large
        + b"\r\n--x--\r\n"
    )
    reply = server.request("POST", "/api/predict", body, {"Content-Type": "multipart/form-data; boundary=x"})
    assert reply.status == 200


# --- OpenAPI document and command ---------------------------------------------------------------


def test_the_server_conforms_to_its_openapi_document(server: Server):
    import schemathesis

    schema = schemathesis.openapi.from_url(f"{server.url}openapi.json")
    operations = [each.ok() for each in schema.get_all_operations()]
    assert {each.path for each in operations} == {"/api/predict", "/api/models", "/healthz", "/metrics"}
    # A body of arbitrary bytes conforms to the document, although it is not an image.
    excluded = [schemathesis.checks.positive_data_acceptance]
    modes = schemathesis.GenerationMode
    wrong = [each for each in operations if each.path == "/api/predict"]  # the others take no input

    for operation, mode in [(each, modes.POSITIVE) for each in operations] + [
        (each, modes.NEGATIVE) for each in wrong
    ]:

        @hypothesis.settings(max_examples=15, deadline=None, database=None, derandomize=True)
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        def check(case: schemathesis.Case) -> None:
            case.call_and_validate(excluded_checks=excluded)

        check()


def test_the_graph_without_map_predicts_like_the_complete_one(model: GeoModel, tmp_path: Path):
    from geovision.serve.batching import PredictionRequest
    from geovision.serve.exported_models import export_models
    from geovision.serve.predictor import BatchPredictor

    folder = model.save(tmp_path / "model")
    graphs = export_models(tmp_path, partial(geovision.load, folder))
    predictor = BatchPredictor(graphs.with_map, ServerLimits(), graphs.without_map)
    with_map, without = predictor.predict_batch(
        [PredictionRequest(image_bytes(), with_map=True), PredictionRequest(image_bytes())]
    )
    assert with_map["class_activation_map"] is not None
    assert with_map | {"class_activation_map": None} == without
    assert graphs.without_map.stat().st_size <= graphs.with_map.stat().st_size


def test_invalid_limits_are_refused():
    with pytest.raises(OptionError, match="limit max_queue_size=0: expected"):
        ServerLimits(max_queue_size=0)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    if not shutil.which("openssl"):
        pytest.skip("no openssl here to make a certificate")
    made = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
            "-out",
            made[0],
            "-keyout",
            made[1],
        ],
        check=True,
        capture_output=True,
    )
    return made


def test_the_command_serves_with_tls_until_interrupted(
    model: GeoModel, certificate: tuple[Path, Path], tmp_path: Path
):
    folder = model.save(tmp_path / "model")
    geovision_command = Path(sys.executable).with_name("geovision")
    command = [
        geovision_command,
        "serve",
        folder,
        "--port",
        "0",
        "--tls-cert",
        certificate[0],
        "--tls-key",
        certificate[1],
    ]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": str(tmp_path)}
    )
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        url = re.search(r"https://localhost:\d+/", line)
        assert url, line + process.stderr.read()
        trusted = ssl.create_default_context(cafile=str(certificate[0]))
        request = urllib.request.Request(f"{url[0]}api/predict", data=image_bytes(), method="POST")
        with urllib.request.urlopen(request, timeout=60, context=trusted) as reply:
            assert json.loads(reply.read())["label"] in model.target.classes
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        process.stderr.close()
    assert not list(tmp_path.glob("geovision-serve-*"))
